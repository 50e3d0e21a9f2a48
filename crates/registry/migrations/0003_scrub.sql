-- How far the passes over all bytes and all manifests are: behind `position` comes what is looked at next.
CREATE TABLE passes (
    name TEXT NOT NULL PRIMARY KEY,
    position TEXT NOT NULL,
    began_at BIGINT NOT NULL
);

-- SQLite takes an index of some rows only where the query says in the same words which.
DROP INDEX blobs_not_kept;
CREATE INDEX blobs_condemned ON blobs (digest) WHERE state = 'condemned';
CREATE INDEX blobs_damaged ON blobs (digest) WHERE state = 'damaged';
