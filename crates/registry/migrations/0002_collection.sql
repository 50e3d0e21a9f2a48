-- Every blob that is kept, whoever has it. Its state is `kept`, `condemned` while it is being decided whether it goes, or
-- `damaged` when its bytes are lost or are not what its digest says.
CREATE TABLE blobs (
    digest TEXT NOT NULL PRIMARY KEY,
    size BIGINT NOT NULL,
    state TEXT NOT NULL,
    -- Since when no repository has it.
    unlinked_at BIGINT,
    -- When its bytes were last known to be right.
    scrubbed_at BIGINT NOT NULL
);
CREATE INDEX blobs_unlinked ON blobs (unlinked_at, digest) WHERE unlinked_at IS NOT NULL;
CREATE INDEX blobs_not_kept ON blobs (state, digest) WHERE state <> 'kept';
CREATE INDEX blobs_by_scrubbed_at ON blobs (scrubbed_at, digest);
INSERT INTO blobs (digest, size, state, scrubbed_at)
    SELECT digest, MAX(size), 'kept', MAX(linked_at) FROM repository_blobs GROUP BY digest;

-- Since when no manifest of the repository needs the blob.
ALTER TABLE repository_blobs ADD COLUMN unneeded_since BIGINT;
UPDATE repository_blobs SET unneeded_since = linked_at WHERE NOT EXISTS (
    SELECT 1 FROM manifest_needs n WHERE n.repository = repository_blobs.repository AND n.digest = repository_blobs.digest
);
CREATE INDEX repository_blobs_unneeded ON repository_blobs (unneeded_since) WHERE unneeded_since IS NOT NULL;

-- Since when a manifest lacks what it was there for: the last index that needed it, or its subject.
ALTER TABLE manifests ADD COLUMN orphaned_since BIGINT;
CREATE INDEX manifests_orphaned ON manifests (orphaned_since) WHERE orphaned_since IS NOT NULL;

-- Since when nothing is in the repository.
ALTER TABLE repositories ADD COLUMN empty_since BIGINT;
CREATE INDEX repositories_empty ON repositories (empty_since) WHERE empty_since IS NOT NULL;
