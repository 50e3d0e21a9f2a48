-- What is said of an image's components is kept with the image, and rows of the index hold nothing but the numbers of
-- images from here on. Until an image is read anew, it is not told as examined.
DROP TABLE posting;
-- Which images have a component (a number from 1) or something under a licence (a number from -1 down): images by number,
-- as many in a row as a bucket has.
CREATE TABLE posting (
    subject BIGINT NOT NULL,
    bucket BIGINT NOT NULL,
    images BYTEA NOT NULL,
    PRIMARY KEY (subject, bucket)
);
-- The components and licences of an image by number, with what speaks for each component and where it lies.
CREATE TABLE image_held (
    number BIGINT NOT NULL PRIMARY KEY,
    held BYTEA NOT NULL
);
ALTER TABLE image_contents DROP COLUMN subjects;
UPDATE image SET state = 'waiting', due_at = 0, tries = 0 WHERE state = 'done';
