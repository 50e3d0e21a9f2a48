-- With the manifest in it: who asks whether another manifest needs something was answered from all of a repository's rows.
DROP INDEX manifest_needs_by_digest;
CREATE INDEX manifest_needs_by_digest ON manifest_needs (repository, digest, manifest);
