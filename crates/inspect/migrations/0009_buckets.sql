-- Rows of the index have other numbers of images from here on. Until an image is read anew, it is not told as examined.
DELETE FROM posting;
UPDATE image SET state = 'waiting', due_at = 0, tries = 0 WHERE state = 'done';
