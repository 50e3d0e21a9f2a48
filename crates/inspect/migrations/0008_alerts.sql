-- What a file of advisories changed for what is known here and was not told yet: components that became affected, and
-- vulnerabilities that got worse (component 0). An empty id stands for the first file.
CREATE TABLE alert_pending (
    id TEXT NOT NULL,
    component BIGINT NOT NULL,
    -- `affected`, `exploited`, `severity` or `first`.
    reason TEXT NOT NULL,
    -- The severity before.
    was TEXT NOT NULL,
    PRIMARY KEY (id, component, reason)
);

-- What was told. Rows come with the transaction that takes the above away; numbers rise in the order of sending.
CREATE TABLE alert (
    number BIGINT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    message TEXT NOT NULL,
    news TEXT NOT NULL,
    -- `none` without a webhook, `waiting`, `sent` or `dead`.
    state TEXT NOT NULL,
    tries BIGINT NOT NULL,
    -- Not before then.
    due_at BIGINT NOT NULL,
    -- When it was sent, or given up.
    ended_at BIGINT,
    why TEXT NOT NULL
);
CREATE INDEX alert_by_time ON alert (at, number);
CREATE INDEX alert_waiting ON alert (number) WHERE state = 'waiting';
CREATE INDEX alert_dead ON alert (number) WHERE state = 'dead';
INSERT INTO numbers (name, last) VALUES ('alert', 0);

-- A component that is to be compared anew keeps the version with which it was compared, negative; 0 stands for none yet.
DROP INDEX component_unmatched;
CREATE INDEX component_unmatched ON component (id) WHERE matched <= 0;
