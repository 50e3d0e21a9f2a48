-- How far something is: what enters the registry is looked at from here on.
CREATE TABLE progress (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

-- The last number that was given, by what has numbers.
CREATE TABLE numbers (
    name TEXT NOT NULL PRIMARY KEY,
    last BIGINT NOT NULL
);
INSERT INTO numbers (name, last) VALUES ('image', 0), ('component', 0), ('place', 0), ('licence', 0);

-- What each layer says: a function of its bytes and of the format, so it may be made again.
CREATE TABLE layer (
    digest TEXT NOT NULL PRIMARY KEY,
    format BIGINT NOT NULL,
    report BYTEA NOT NULL,
    tree BYTEA NOT NULL,
    read_at BIGINT NOT NULL
);

-- Images of one platform. The state is `waiting`, `done`, `failed`, or `other` for what is no image after all.
CREATE TABLE image (
    number BIGINT NOT NULL PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    format BIGINT NOT NULL,
    -- Readings that were begun since it last changed its state.
    tries BIGINT NOT NULL,
    -- Not before then.
    due_at BIGINT NOT NULL,
    -- When its state changed last.
    at BIGINT NOT NULL,
    why TEXT NOT NULL,
    system TEXT,
    unexamined BIGINT NOT NULL,
    components BIGINT NOT NULL
);
CREATE INDEX image_waiting ON image (due_at, number) WHERE state = 'waiting';
CREATE INDEX image_by_format ON image (format, number);

-- What was found in an image: a document of our own, compressed; and its components and licences by number, rising.
CREATE TABLE image_contents (
    number BIGINT NOT NULL PRIMARY KEY,
    contents BYTEA NOT NULL,
    subjects BYTEA NOT NULL
);

-- The layers of an image from the lowest.
CREATE TABLE image_layer (
    image BIGINT NOT NULL,
    position BIGINT NOT NULL,
    digest TEXT NOT NULL,
    diff_id TEXT NOT NULL,
    -- 1 for the highest.
    is_last BIGINT NOT NULL,
    PRIMARY KEY (image, position)
);
CREATE INDEX image_layer_by_digest ON image_layer (digest);
CREATE INDEX image_layer_last ON image_layer (diff_id, position) WHERE is_last = 1;

-- Where an image is.
CREATE TABLE image_repository (
    digest TEXT NOT NULL,
    repository TEXT NOT NULL,
    -- A tag that led to it, or to an index of it, when it entered; empty for none.
    tag TEXT NOT NULL,
    PRIMARY KEY (digest, repository)
);

-- The manifests of an index.
CREATE TABLE index_child (
    child TEXT NOT NULL,
    parent TEXT NOT NULL,
    PRIMARY KEY (child, parent)
);
CREATE INDEX index_child_by_parent ON index_child (parent);

-- Components that differ in anything that advisories or people tell apart. Never removed: a name takes little room.
CREATE TABLE component (
    id BIGINT NOT NULL PRIMARY KEY,
    -- Of all of the following.
    hash BYTEA NOT NULL UNIQUE,
    ecosystem TEXT NOT NULL,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    architecture TEXT,
    source_name TEXT,
    source_version TEXT,
    -- Whose package it is, `debian:12`; empty for what is the same everywhere.
    platform TEXT NOT NULL,
    -- The forms of its names by which it is sought.
    name_key TEXT NOT NULL,
    artifact_key TEXT NOT NULL,
    source_key TEXT NOT NULL
);
CREATE INDEX component_by_name ON component (name_key);
CREATE INDEX component_by_artifact ON component (artifact_key) WHERE artifact_key <> '';
CREATE INDEX component_by_source ON component (source_key) WHERE source_key <> '';

CREATE TABLE licence (
    id BIGINT NOT NULL PRIMARY KEY,
    spdx TEXT NOT NULL UNIQUE
);

-- The paths under which components lie.
CREATE TABLE place (
    id BIGINT NOT NULL PRIMARY KEY,
    hash BYTEA NOT NULL UNIQUE,
    chain TEXT NOT NULL
);

-- Which images have a component (a number from 1) or something under a licence (a number from -1 down), with where it
-- lies or which components they are: images by number, as many in a row as a bucket has.
CREATE TABLE posting (
    subject BIGINT NOT NULL,
    bucket BIGINT NOT NULL,
    images BYTEA NOT NULL,
    PRIMARY KEY (subject, bucket)
);
