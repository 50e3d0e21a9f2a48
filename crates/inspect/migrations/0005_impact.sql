-- The distribution's release that an image is of, `debian:12`; empty for none.
ALTER TABLE image ADD COLUMN platform TEXT NOT NULL DEFAULT '';
CREATE INDEX image_by_platform ON image (platform, number);
-- What was read before is put together anew, from what was kept of its layers.
UPDATE image SET format = 0 WHERE state = 'done';

-- What counts against a clean answer is counted on its own.
CREATE INDEX image_incomplete ON image (number) WHERE state IN ('waiting', 'failed') OR unexamined > 0;

-- When something was first seen is read of the index alone.
DROP INDEX finding_by_id;
CREATE INDEX finding_by_id ON finding (id, first_seen, component);
