-- The file of advisories that was taken in last.
CREATE TABLE advisory_data (
    id BIGINT NOT NULL PRIMARY KEY,
    version BIGINT NOT NULL,
    taken_in BIGINT NOT NULL,
    bytes BYTEA NOT NULL
);

-- The vulnerabilities in it, whether or not anything here has them. Names are a JSON list, the preferred one first.
CREATE TABLE vulnerability (
    id TEXT NOT NULL PRIMARY KEY,
    names TEXT NOT NULL,
    summary TEXT NOT NULL,
    severity TEXT NOT NULL,
    known_exploited BIGINT NOT NULL,
    published BIGINT
);
CREATE TABLE vulnerability_name (
    name TEXT NOT NULL,
    id TEXT NOT NULL,
    PRIMARY KEY (name, id)
);
CREATE INDEX vulnerability_name_by_id ON vulnerability_name (id);

-- Which components have which of them: by component and never by image.
CREATE TABLE finding (
    component BIGINT NOT NULL,
    id TEXT NOT NULL,
    -- 0 where nobody can say whether it affects the component.
    is_certain BIGINT NOT NULL,
    -- A JSON list.
    fixed_in TEXT NOT NULL,
    first_seen BIGINT NOT NULL,
    PRIMARY KEY (component, id)
);
CREATE INDEX finding_by_id ON finding (id);

-- With which version of the file a component was compared; 0 for none that counts.
ALTER TABLE component ADD COLUMN matched BIGINT NOT NULL DEFAULT 0;
CREATE INDEX component_unmatched ON component (id) WHERE matched = 0;
