-- Which ballot a vote came from.
ALTER TABLE votes ADD COLUMN ballot uuid;
