-- The CA lives with the rest of the context's data: one place, one backup, the same for a hub of several replicas.
CREATE TABLE authority (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    certificate BYTEA NOT NULL,
    private_key BYTEA NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE host_token (
    id TEXT PRIMARY KEY,
    secret_sha256 BYTEA NOT NULL,
    host TEXT,
    labels TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    spent_at BIGINT,
    spent_by TEXT,
    spent_key_sha256 BYTEA,
    spent_serial TEXT
);
CREATE INDEX host_token_by_expiry ON host_token (expires_at);

CREATE TABLE host_certificate (
    serial TEXT PRIMARY KEY,
    host TEXT NOT NULL,
    certificate BYTEA NOT NULL,
    issued_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    revoked_at BIGINT
);
CREATE INDEX host_certificate_by_host ON host_certificate (host, expires_at);
CREATE INDEX host_certificate_by_expiry ON host_certificate (expires_at);
