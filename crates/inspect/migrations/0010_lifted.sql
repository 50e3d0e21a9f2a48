-- What others state of images, with what is attached to each: findings that it lifts, and who says so.
CREATE TABLE lifted (
    image BIGINT NOT NULL,
    id TEXT NOT NULL,
    -- As documents name it.
    component TEXT NOT NULL,
    why TEXT NOT NULL,
    PRIMARY KEY (image, id, component)
);
