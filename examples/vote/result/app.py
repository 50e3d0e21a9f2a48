"""The results: counts what the workers stored in PostgreSQL."""

import os
import threading
import time

import psycopg2
from flask import Flask, render_template

OPTIONS = {"cats": "Cats", "dogs": "Dogs"}
CONNECT_TIMEOUT_SECONDS = 5
# Reading twice is harmless, so a PostgreSQL that is being replaced is waited for, about six seconds.
BACK_OFF_SECONDS = (0, 0.1, 0.3, 0.6, 1, 2, 2)

app = Flask(__name__)
local = threading.local()


def query(sql, back_off_seconds=BACK_OFF_SECONDS):
    """All rows; on this thread's own connection, which is made anew when it broke."""
    problem = None
    for seconds in back_off_seconds:
        time.sleep(seconds)
        try:
            if getattr(local, "database", None) is None:
                local.database = psycopg2.connect(os.environ["DATABASE_URL"], connect_timeout=CONNECT_TIMEOUT_SECONDS)
                local.database.autocommit = True
            with local.database.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall()
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            problem = error
            if getattr(local, "database", None) is not None:
                local.database.close()
                local.database = None
    raise problem


def counts():
    found = dict(query("SELECT choice, count(*) FROM votes GROUP BY choice"))
    return {key: found.get(key, 0) for key in OPTIONS}


@app.get("/")
def results():
    number = counts()
    total = sum(number.values())
    rows = [(name, number[key], 100 * number[key] / total if total else 0) for key, name in OPTIONS.items()]
    return render_template("index.html", rows=rows, total=total)


@app.get("/counts")
def counts_json():
    return counts()


@app.get("/healthz")
def healthz():
    try:
        query("SELECT 1", back_off_seconds=(0, 0.1))
    except psycopg2.Error as error:
        return {"database": str(error)}, 503
    return {"database": "ok"}


@app.errorhandler(psycopg2.Error)
def unavailable(error):
    app.logger.error("no answer from the database: %s", error)
    return "The results are not to be had right now. Please try again.\n", 503
