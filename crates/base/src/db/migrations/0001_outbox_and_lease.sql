-- Numbers of the outbox come from a row and not from a sequence: a sequence's numbers become visible out of order.
CREATE TABLE base_outbox_number (id BIGINT PRIMARY KEY CHECK (id = 1), last BIGINT NOT NULL);
INSERT INTO base_outbox_number (id, last) VALUES (1, 0);

CREATE TABLE base_outbox (
    number BIGINT PRIMARY KEY,
    topic TEXT NOT NULL,
    payload TEXT NOT NULL,
    appended_at BIGINT NOT NULL
);

-- A released lease keeps its row, so that fencing numbers never repeat.
CREATE TABLE base_lease (
    name TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    fence BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
