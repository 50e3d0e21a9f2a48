-- When a manifest of an upstream was last pulled.
CREATE TABLE upstream_manifests (
    repository TEXT NOT NULL,
    digest TEXT NOT NULL,
    used_at BIGINT NOT NULL,
    PRIMARY KEY (repository, digest)
);
CREATE INDEX upstream_manifests_by_use ON upstream_manifests (used_at, repository, digest);
