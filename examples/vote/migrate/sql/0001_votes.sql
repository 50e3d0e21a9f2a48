CREATE TABLE votes (
    voter uuid PRIMARY KEY,
    choice text NOT NULL,
    voted_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX votes_choice ON votes (choice);
