-- Images of which somebody states something on exploitability, as it was when they were last looked at.
CREATE TABLE voiced (
    image BIGINT NOT NULL PRIMARY KEY
);
