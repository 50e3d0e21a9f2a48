-- Images that were read, and when what is attached to each is looked at next.
CREATE TABLE attaching (
    image BIGINT NOT NULL PRIMARY KEY,
    due_at BIGINT NOT NULL,
    -- Looks in a row that failed.
    tries BIGINT NOT NULL,
    -- 1 when it was pushed since: whether what was attached is still there is looked at, too.
    is_entered BIGINT NOT NULL
);
CREATE INDEX attaching_due ON attaching (due_at, image);
INSERT INTO attaching (image, due_at, tries, is_entered) SELECT number, 0, 0, 1 FROM image WHERE state = 'done';

-- Components of which something else is known than before: images that have them are to be looked at.
CREATE TABLE attaching_component (
    component BIGINT NOT NULL PRIMARY KEY
);

-- What the hub attached to images: manifests in the image's repository.
CREATE TABLE attachment (
    repository TEXT NOT NULL,
    manifest TEXT NOT NULL,
    -- The image.
    subject TEXT NOT NULL,
    -- `cyclonedx`, `spdx` or `evidence`.
    kind TEXT NOT NULL,
    -- What it was made from: the same makes nothing new.
    says TEXT NOT NULL,
    -- `writing` until the registry has it, `there`, and `leaving` once another is in its place.
    state TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (repository, manifest)
);
CREATE INDEX attachment_by_subject ON attachment (subject, repository);
