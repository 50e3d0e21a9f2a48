-- A run with everything that is shown of it as JSON; the columns are what it is looked up by.
CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    app TEXT,
    state TEXT NOT NULL,
    -- How often it was begun: more than once when the hub was stopped meanwhile.
    attempts BIGINT NOT NULL,
    document TEXT NOT NULL
);
CREATE INDEX runs_by_state ON runs (state, id);
CREATE INDEX runs_by_app ON runs (app, id);

-- Lines of a run's log, some at a time, as a JSON list.
CREATE TABLE log_batches (
    run TEXT NOT NULL REFERENCES runs (id),
    first_number BIGINT NOT NULL,
    end_number BIGINT NOT NULL,
    lines TEXT NOT NULL,
    PRIMARY KEY (run, first_number)
);

-- Images that were built and pushed, by what went into them.
CREATE TABLE images (
    app TEXT NOT NULL,
    service TEXT NOT NULL,
    inputs_digest TEXT NOT NULL,
    used_at BIGINT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (app, service, inputs_digest)
);
CREATE INDEX images_by_use ON images (app, service, used_at);
