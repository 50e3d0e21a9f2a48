-- What a layer lists: its entries with sizes, modes and hashes, sorted by path; none where that is too much.
ALTER TABLE layer ADD COLUMN files BYTEA;

-- Keys and tokens that lie in an image's layers; none where they were not looked for.
ALTER TABLE image ADD COLUMN secrets BIGINT;
CREATE INDEX image_unsearched ON image (number) WHERE state = 'done' AND secrets IS NULL;
