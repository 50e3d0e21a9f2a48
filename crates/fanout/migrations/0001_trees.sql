-- The tree of hashes of each blob that a host was granted: a function of the blob's bytes, so it may be made again.
CREATE TABLE blob_tree (
    digest TEXT PRIMARY KEY,
    length_bytes BIGINT NOT NULL,
    root BYTEA NOT NULL,
    leaves BYTEA NOT NULL,
    made_at BIGINT NOT NULL
);

-- For which repositories it was asked for: who may pull from one of them may have it.
CREATE TABLE blob_tree_repository (
    digest TEXT NOT NULL,
    repository TEXT NOT NULL,
    PRIMARY KEY (digest, repository)
);

-- Images that the hosts of an environment are to have, whether or not anything runs from them yet.
CREATE TABLE preheat (
    env TEXT NOT NULL,
    repository TEXT NOT NULL,
    digest TEXT NOT NULL,
    release TEXT NOT NULL,
    requested_by TEXT NOT NULL,
    requested_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL,
    PRIMARY KEY (env, repository, digest)
);
CREATE INDEX preheat_by_end ON preheat (ends_at);
