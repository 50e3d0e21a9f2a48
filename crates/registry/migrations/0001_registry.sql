CREATE TABLE repositories (
    name TEXT NOT NULL PRIMARY KEY,
    created_at BIGINT NOT NULL
);

-- Manifests byte for byte.
CREATE TABLE manifests (
    repository TEXT NOT NULL,
    digest TEXT NOT NULL,
    media_type TEXT NOT NULL,
    bytes BYTEA NOT NULL,
    size BIGINT NOT NULL,
    artifact_type TEXT,
    subject TEXT,
    annotations TEXT NOT NULL,
    pushed_at BIGINT NOT NULL,
    PRIMARY KEY (repository, digest)
);
CREATE INDEX manifests_by_subject ON manifests (repository, subject, digest);

-- What a manifest needs: blobs and, of an index, manifests. The subject is not among them.
CREATE TABLE manifest_needs (
    repository TEXT NOT NULL,
    manifest TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (repository, manifest, digest)
);
CREATE INDEX manifest_needs_by_digest ON manifest_needs (repository, digest);

CREATE TABLE tags (
    repository TEXT NOT NULL,
    tag TEXT NOT NULL,
    digest TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (repository, tag)
);
CREATE INDEX tags_by_digest ON tags (repository, digest);

-- A blob is read through a repository that has it, and through no other.
CREATE TABLE repository_blobs (
    repository TEXT NOT NULL,
    digest TEXT NOT NULL,
    size BIGINT NOT NULL,
    linked_at BIGINT NOT NULL,
    PRIMARY KEY (repository, digest)
);
CREATE INDEX repository_blobs_by_digest ON repository_blobs (digest);

-- An upload belongs to the repository that it was begun in.
CREATE TABLE uploads (
    upload TEXT NOT NULL PRIMARY KEY,
    repository TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

-- What may not be deleted or collected, and who says so.
CREATE TABLE pins (
    holder TEXT NOT NULL,
    repository TEXT NOT NULL,
    digest TEXT NOT NULL,
    pinned_at BIGINT NOT NULL,
    PRIMARY KEY (holder, repository, digest)
);
CREATE INDEX pins_by_digest ON pins (repository, digest);
