"""The front: shows the two options, and puts each vote on a Redis stream for the workers."""

import json
import os
import time
import uuid

from flask import Flask, render_template, request
from redis import Redis
from redis.exceptions import ConnectionError, RedisError, TimeoutError

VERSION = "1"
COLOUR = "steelblue"

OPTIONS = {"cats": "Cats", "dogs": "Dogs"}
STREAM = "votes"
REDIS_TIMEOUT_SECONDS = 5
# A Redis that is being replaced is waited for, about ten seconds; sending a vote twice is harmless, as the last one of a
# voter counts.
BACK_OFF_SECONDS = (0, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 3)
VOTER_COOKIE_SECONDS = 365 * 24 * 3600

app = Flask(__name__)
host = os.environ.get("REDIS_HOST", "redis")
redis = Redis(host=host, socket_timeout=REDIS_TIMEOUT_SECONDS, socket_connect_timeout=REDIS_TIMEOUT_SECONDS)
# A probe wants to know how it is now.
redis_probe = Redis(host=host, socket_timeout=1, socket_connect_timeout=1)


def page(voted=None, status=200, problem=None):
    return render_template(
        "index.html", options=OPTIONS, voted=voted, problem=problem, version=VERSION, colour=COLOUR
    ), status


def ballot_send(ballot):
    problem = None
    for seconds in BACK_OFF_SECONDS:
        time.sleep(seconds)
        try:
            return redis.xadd(STREAM, {"ballot": json.dumps(ballot)})
        except (ConnectionError, TimeoutError) as error:
            problem = error
    raise problem


@app.get("/")
def form():
    return page()


@app.post("/")
def vote():
    choice = request.form.get("vote", "")
    if choice not in OPTIONS:
        return page(status=400, problem="Choose one of the two.")
    voter = request.cookies.get("voter", "")
    try:
        voter = str(uuid.UUID(voter))
    except ValueError:
        voter = str(uuid.uuid4())
    ballot = {"id": str(uuid.uuid4()), "voter": voter, "vote": choice}
    try:
        ballot_send(ballot)
    except RedisError as error:
        app.logger.error("vote not taken: %s", error)
        return page(status=503, problem="Your vote could not be taken. Please try again.")
    body, status = page(voted=choice)
    response = app.make_response((body, status))
    response.set_cookie("voter", voter, max_age=VOTER_COOKIE_SECONDS, httponly=True, samesite="Lax")
    return response


@app.get("/healthz")
def healthz():
    try:
        redis_probe.ping()
    except RedisError as error:
        return {"redis": str(error)}, 503
    return {"redis": "ok", "version": VERSION}
