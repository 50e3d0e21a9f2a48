-- What delivery tells: releases, which environment had which of them from when to when, and what hosts run.
CREATE TABLE release_known (
    id TEXT NOT NULL PRIMARY KEY,
    app TEXT NOT NULL,
    service TEXT NOT NULL,
    repository TEXT NOT NULL,
    -- Of an image, or of an index.
    digest TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX release_known_by_digest ON release_known (digest);
CREATE INDEX release_known_by_service ON release_known (app, service, created_at);

CREATE TABLE exposure (
    env TEXT NOT NULL,
    app TEXT NOT NULL,
    service TEXT NOT NULL,
    since BIGINT NOT NULL,
    -- NULL while the environment has it.
    until BIGINT,
    release TEXT NOT NULL,
    PRIMARY KEY (env, app, service, since)
);
CREATE INDEX exposure_by_release ON exposure (release);
CREATE INDEX exposure_now ON exposure (release) WHERE until IS NULL;

CREATE TABLE host_told (
    host TEXT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL
);

CREATE TABLE running (
    host TEXT NOT NULL,
    env TEXT NOT NULL,
    app TEXT NOT NULL,
    service TEXT NOT NULL,
    release TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (host, env, app, service, release, digest)
);
CREATE INDEX running_by_release ON running (release, env, host);
CREATE INDEX running_by_digest ON running (digest);
