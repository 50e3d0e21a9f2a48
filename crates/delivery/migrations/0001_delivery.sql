-- What delivery keeps. Times are microseconds since the epoch; documents are JSON of the wire types.

CREATE TABLE facts (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE hosts (
    name TEXT NOT NULL PRIMARY KEY,
    labels TEXT NOT NULL,
    enrolled_at BIGINT NOT NULL,
    seen_at BIGINT,
    mesh TEXT NOT NULL DEFAULT '',
    report TEXT,
    -- The number of its desired state: rises for ever.
    number BIGINT NOT NULL
);

CREATE TABLE releases (
    id TEXT NOT NULL PRIMARY KEY,
    app TEXT NOT NULL,
    service TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX releases_by_time ON releases (created_at, id);
CREATE INDEX releases_by_service ON releases (app, service);

-- The newest release of each service that the app's newest builds have.
CREATE TABLE newest (
    app TEXT NOT NULL,
    service TEXT NOT NULL,
    release TEXT NOT NULL REFERENCES releases (id),
    commit_id TEXT NOT NULL,
    recorded_at BIGINT NOT NULL,
    PRIMARY KEY (app, service)
);

CREATE TABLE environments (
    name TEXT NOT NULL PRIMARY KEY,
    spec TEXT NOT NULL,
    revision BIGINT NOT NULL,
    position BIGINT NOT NULL,
    applied_at BIGINT NOT NULL
);

CREATE TABLE environment_history (
    name TEXT NOT NULL,
    revision BIGINT NOT NULL,
    spec TEXT NOT NULL,
    file_name TEXT NOT NULL,
    applied_at BIGINT NOT NULL,
    PRIMARY KEY (name, revision)
);

-- What an environment has: changes only when a plan succeeds.
CREATE TABLE current_releases (
    env TEXT NOT NULL,
    app TEXT NOT NULL,
    service TEXT NOT NULL,
    release TEXT NOT NULL REFERENCES releases (id),
    since BIGINT NOT NULL,
    PRIMARY KEY (env, app, service)
);

-- What hosts are to run.
CREATE TABLE placements (
    env TEXT NOT NULL,
    app TEXT NOT NULL,
    service TEXT NOT NULL,
    host TEXT NOT NULL REFERENCES hosts (name),
    release TEXT NOT NULL REFERENCES releases (id),
    instances BIGINT NOT NULL CHECK (instances > 0),
    PRIMARY KEY (env, app, service, host)
);
CREATE INDEX placements_by_host ON placements (host);

CREATE TABLE plans (
    id TEXT NOT NULL PRIMARY KEY,
    env TEXT NOT NULL,
    app TEXT NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    changes TEXT NOT NULL,
    policy TEXT NOT NULL,
    error TEXT,
    requested_by TEXT NOT NULL,
    reason TEXT,
    created_at BIGINT NOT NULL,
    finished_at BIGINT
);
CREATE INDEX plans_by_project ON plans (env, app, id);
-- Two plans never work on one app in one environment.
CREATE UNIQUE INDEX plans_under_way ON plans (env, app) WHERE finished_at IS NULL;

CREATE TABLE steps (
    plan TEXT NOT NULL REFERENCES plans (id),
    number BIGINT NOT NULL,
    wave BIGINT NOT NULL,
    action TEXT NOT NULL,
    host TEXT NOT NULL,
    service TEXT NOT NULL,
    release TEXT NOT NULL,
    instances BIGINT NOT NULL,
    state TEXT NOT NULL,
    started_at BIGINT,
    finished_at BIGINT,
    detail TEXT,
    before_release TEXT,
    before_instances BIGINT,
    told BIGINT NOT NULL,
    -- NULL: not undone; 0: undone; else the time at which the host was told to go back.
    undo_at BIGINT,
    PRIMARY KEY (plan, number)
);

CREATE TABLE promotions (
    plan TEXT NOT NULL REFERENCES plans (id),
    env TEXT NOT NULL,
    app TEXT NOT NULL,
    service TEXT NOT NULL,
    -- NULL: the service was taken away.
    release TEXT,
    -- NULL: the service was new there.
    from_release TEXT,
    kind TEXT NOT NULL,
    at BIGINT NOT NULL,
    requested_by TEXT NOT NULL,
    reason TEXT,
    PRIMARY KEY (plan, service)
);

CREATE TABLE job_successes (
    env TEXT NOT NULL,
    app TEXT NOT NULL,
    service TEXT NOT NULL,
    release TEXT NOT NULL,
    run TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (env, app, service)
);

-- Never reused: virtual addresses are made from them.
CREATE TABLE service_numbers (
    env TEXT NOT NULL,
    app TEXT NOT NULL,
    service TEXT NOT NULL,
    number BIGINT NOT NULL,
    PRIMARY KEY (env, app, service),
    UNIQUE (env, app, number)
);

-- What hosts were told, project by project; hosts.number counts its changes.
CREATE TABLE desired_projects (
    host TEXT NOT NULL REFERENCES hosts (name),
    env TEXT NOT NULL,
    app TEXT NOT NULL,
    content TEXT NOT NULL,
    PRIMARY KEY (host, env, app)
);
CREATE INDEX desired_by_project ON desired_projects (env, app);
