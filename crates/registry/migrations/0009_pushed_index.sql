-- Whoever looks at all that enters goes on after the last that it has seen.
CREATE INDEX manifests_by_push ON manifests (pushed_at, repository, digest);
