-- Text is compared by the rules of a place in PostgreSQL and byte by byte in SQLite. What is listed in order has its
-- bytes in a column `sort`, which both compare alike.
CREATE TABLE repository (
    name TEXT PRIMARY KEY,
    sort BYTEA NOT NULL UNIQUE,
    created_at BIGINT NOT NULL
);

CREATE TABLE manifest (
    repository TEXT NOT NULL REFERENCES repository (name),
    digest TEXT NOT NULL,
    sort BYTEA NOT NULL,
    media_type TEXT NOT NULL,
    artifact_type TEXT,
    subject TEXT,
    annotations TEXT NOT NULL,
    size BIGINT NOT NULL,
    content BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (repository, digest)
);
CREATE INDEX manifest_by_subject ON manifest (repository, subject, sort);

-- What a manifest needs: blobs, and other manifests of the same repository.
CREATE TABLE manifest_reference (
    repository TEXT NOT NULL,
    manifest TEXT NOT NULL,
    digest TEXT NOT NULL,
    is_blob BIGINT NOT NULL,
    PRIMARY KEY (repository, manifest, digest, is_blob),
    FOREIGN KEY (repository, manifest) REFERENCES manifest (repository, digest)
);
CREATE INDEX manifest_reference_by_digest ON manifest_reference (repository, digest);

CREATE TABLE tag (
    repository TEXT NOT NULL,
    name TEXT NOT NULL,
    sort BYTEA NOT NULL,
    digest TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (repository, name),
    UNIQUE (repository, sort),
    FOREIGN KEY (repository, digest) REFERENCES manifest (repository, digest)
);
CREATE INDEX tag_by_digest ON tag (repository, digest);

-- A blob can be read only through a repository that has it.
CREATE TABLE blob_link (
    repository TEXT NOT NULL REFERENCES repository (name),
    digest TEXT NOT NULL,
    size BIGINT NOT NULL,
    linked_at BIGINT NOT NULL,
    PRIMARY KEY (repository, digest)
);
CREATE INDEX blob_link_by_digest ON blob_link (digest);

-- Blobs that no repository has, and since when.
CREATE TABLE orphan (
    digest TEXT PRIMARY KEY,
    since BIGINT NOT NULL
);

CREATE TABLE pin (
    repository TEXT NOT NULL,
    digest TEXT NOT NULL,
    holder TEXT NOT NULL,
    pinned_at BIGINT NOT NULL,
    PRIMARY KEY (repository, digest, holder),
    FOREIGN KEY (repository, digest) REFERENCES manifest (repository, digest)
);

CREATE TABLE upload (
    name TEXT PRIMARY KEY,
    repository TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
