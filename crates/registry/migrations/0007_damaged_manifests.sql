-- Manifests whose bytes were found to be others than their digest says, since when.
CREATE TABLE damaged_manifests (
    repository TEXT NOT NULL,
    digest TEXT NOT NULL,
    found_at BIGINT NOT NULL,
    PRIMARY KEY (repository, digest)
);
