-- What a repository holds more, or fewer, in bytes: a row a change, so that pushes do not wait for one another.
CREATE TABLE usage_changes (
    id TEXT NOT NULL PRIMARY KEY,
    repository TEXT NOT NULL,
    bytes BIGINT NOT NULL
);

-- What it holds as far as changes are folded.
CREATE TABLE repository_usage (
    repository TEXT NOT NULL PRIMARY KEY,
    bytes BIGINT NOT NULL,
    version BIGINT NOT NULL
);
CREATE INDEX repository_usage_by_version ON repository_usage (version, repository);
INSERT INTO repository_usage (repository, bytes, version)
    SELECT repository, CAST(SUM(size) AS BIGINT), 1 FROM (
        SELECT repository, size FROM repository_blobs UNION ALL SELECT repository, size FROM manifests
    ) AS held GROUP BY repository;

-- Since when a manifest has no tag.
ALTER TABLE manifests ADD COLUMN untagged_since BIGINT;
UPDATE manifests SET untagged_since = pushed_at WHERE NOT EXISTS (
    SELECT 1 FROM tags t WHERE t.repository = manifests.repository AND t.digest = manifests.digest
);
CREATE INDEX manifests_untagged ON manifests (repository, digest) WHERE untagged_since IS NOT NULL;
