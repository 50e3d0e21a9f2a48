"""Moves votes from the Redis stream into PostgreSQL.

An entry is acknowledged only after its transaction was committed, and what a dead worker left unacknowledged is claimed
by another: a vote may be stored twice, which is harmless as a voter has one row, but not lost.
"""

import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path

import psycopg2
from psycopg2.extras import execute_batch
from redis import Redis
from redis.exceptions import RedisError, ResponseError

STREAM, GROUP = "votes", "workers"
REJECTED, REJECTED_ENTRIES_MAX = "votes:rejected", 1000
BATCH_ENTRIES_MAX = 200
WAIT_MS = 2000
# Longer than a batch ever takes; sooner, one worker would take another's work from under its hands.
ABANDONED_MS = 60_000
BACK_OFF_SECONDS_MIN, BACK_OFF_SECONDS_MAX = 0.2, 5.0
# Touched after every round in which both Redis and PostgreSQL answered; the healthcheck looks at its age.
HEARTBEAT = Path("/tmp/heartbeat")

UPSERT = """
    INSERT INTO votes (voter, choice, ballot) VALUES (%(voter)s, %(vote)s, %(id)s)
    ON CONFLICT (voter) DO UPDATE SET choice = excluded.choice, ballot = excluded.ballot, voted_at = now()
"""

stopping = threading.Event()


def ballot_read(fields):
    """The ballot of an entry, or None when it is not one."""
    try:
        ballot = json.loads(fields[b"ballot"])
        return {key: str(ballot[key]) for key in ("id", "voter", "vote")}
    except (KeyError, TypeError, ValueError):
        return None


def store(database, redis, entries):
    # An entry that was deleted while it was pending is claimed without fields.
    ballots = [(entry, ballot_read(fields or {})) for entry, fields in entries]
    with database, database.cursor() as cursor:
        cursor.execute("SELECT 1")
        execute_batch(cursor, UPSERT, [ballot for _, ballot in ballots if ballot])
    if not ballots:
        return
    done = redis.pipeline(transaction=True)
    for (entry, fields), (_, ballot) in zip(entries, ballots):
        if ballot is None:
            done.lpush(REJECTED, json.dumps(repr(fields)))
            done.ltrim(REJECTED, 0, REJECTED_ENTRIES_MAX - 1)
        done.xack(STREAM, GROUP, entry)
        done.xdel(STREAM, entry)
    done.execute()


def work(redis, database, consumer):
    """Goes round until it is told to stop; raises when Redis or PostgreSQL fails."""
    try:
        redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    except ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise
    # What this very consumer read and did not finish before the connection broke.
    unfinished = redis.xreadgroup(GROUP, consumer, {STREAM: "0"}, count=None)
    store(database, redis, unfinished[0][1] if unfinished else [])
    while not stopping.is_set():
        claimed = redis.xautoclaim(STREAM, GROUP, consumer, ABANDONED_MS, count=BATCH_ENTRIES_MAX)[1]
        fresh = redis.xreadgroup(GROUP, consumer, {STREAM: ">"}, count=BATCH_ENTRIES_MAX, block=WAIT_MS)
        store(database, redis, claimed + (fresh[0][1] if fresh else []))
        HEARTBEAT.touch()
    # Nothing is pending here any more, so the name can go; otherwise every replaced container would leave one behind.
    redis.xgroup_delconsumer(STREAM, GROUP, consumer)


def main():
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    consumer = socket.gethostname()
    back_off_seconds = BACK_OFF_SECONDS_MIN
    while not stopping.is_set():
        redis = database = None
        began = HEARTBEAT.stat().st_mtime if HEARTBEAT.exists() else 0
        try:
            redis = Redis(host=os.environ.get("REDIS_HOST", "redis"), socket_timeout=10, socket_connect_timeout=5)
            database = psycopg2.connect(os.environ["DATABASE_URL"], connect_timeout=5)
            print("connected", flush=True)
            work(redis, database, consumer)
        except (RedisError, psycopg2.Error) as error:
            if HEARTBEAT.exists() and HEARTBEAT.stat().st_mtime > began:
                back_off_seconds = BACK_OFF_SECONDS_MIN
            print(f"trying again in {back_off_seconds:.1f} s: {str(error).strip()}", file=sys.stderr)
            stopping.wait(back_off_seconds)
            back_off_seconds = min(back_off_seconds * 2, BACK_OFF_SECONDS_MAX)
        finally:
            for connection in (redis, database):
                if connection is not None:
                    connection.close()


if __name__ == "__main__":
    main()
