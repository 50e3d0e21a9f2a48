"""Brings the database's schema up to date, then ends. Run as often as you like.

Each file in sql/ is applied once, in the order of the names, in a transaction of its own together with the note that it
was. A lock lets only one run at a time.
"""

import hashlib
import os
import sys
import time
from pathlib import Path

import psycopg2

LOCK = 7_665_421
CONNECT_SECONDS_MAX = 60


def connect():
    deadline = time.monotonic() + CONNECT_SECONDS_MAX
    while True:
        try:
            return psycopg2.connect(os.environ["DATABASE_URL"], connect_timeout=5)
        except psycopg2.OperationalError as error:
            if time.monotonic() > deadline:
                raise
            print(f"waiting for the database: {error}", file=sys.stderr)
            time.sleep(1)


def main():
    database = connect()
    with database, database.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
    with database, database.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE IF NOT EXISTS migrations"
            " (name text PRIMARY KEY, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        cursor.execute("SELECT name, sha256 FROM migrations")
        applied = dict(cursor.fetchall())
    for path in sorted(Path("sql").glob("*.sql")):
        text = path.read_text()
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        if path.name in applied:
            if applied[path.name] != sha256:
                sys.exit(f"{path.name} was changed after it was applied; add a new file instead")
            continue
        with database, database.cursor() as cursor:
            cursor.execute(text)
            cursor.execute("INSERT INTO migrations (name, sha256) VALUES (%s, %s)", (path.name, sha256))
        print(f"applied {path.name}")
    database.close()
    print("the schema is up to date")


if __name__ == "__main__":
    main()
