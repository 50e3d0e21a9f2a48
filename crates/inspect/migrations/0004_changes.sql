-- How often something changed, raised by every transaction that changes it: what is kept in memory is good for as long as
-- the count is the same, whichever hub changed it.
CREATE TABLE change (
    name TEXT NOT NULL PRIMARY KEY,
    count BIGINT NOT NULL
);
INSERT INTO change (name, count) VALUES ('images', 0), ('deployments', 0);
