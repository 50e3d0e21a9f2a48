-- Bytes of all that a manifest refers to, so that tags can be listed by size without reading a manifest.
ALTER TABLE manifests ADD COLUMN content_size BIGINT NOT NULL DEFAULT 0;
UPDATE manifests SET content_size = COALESCE((
    SELECT CAST(SUM(b.size) AS BIGINT) FROM manifest_needs n
    JOIN repository_blobs b ON b.repository = n.repository AND b.digest = n.digest
    WHERE n.repository = manifests.repository AND n.manifest = manifests.digest
), 0);
UPDATE manifests SET content_size = content_size + COALESCE((
    SELECT CAST(SUM(c.content_size) AS BIGINT) FROM manifest_needs n
    JOIN manifests c ON c.repository = n.repository AND c.digest = n.digest
    WHERE n.repository = manifests.repository AND n.manifest = manifests.digest
), 0);

ALTER TABLE tags ADD COLUMN size BIGINT NOT NULL DEFAULT 0;
UPDATE tags SET size = COALESCE((
    SELECT m.content_size FROM manifests m WHERE m.repository = tags.repository AND m.digest = tags.digest
), 0);

-- Pages of tags go on after the last one of the page before, in each order.
CREATE INDEX tags_by_age ON tags (repository, updated_at, tag);
CREATE INDEX tags_by_size ON tags (repository, size, tag);
