"""One host of a libtorrent swarm. Its settings are the one argument, as JSON; lines on standard input tell it what to do.

It says "ready" once it listens, begins at "go", says "done" when it has everything, and at "end" says how many bytes of
pieces it sent.
"""

import json
import sys
import time

import libtorrent as lt

LOOK_SECONDS = 0.005

settings = json.loads(sys.argv[1])
quiet = {"enable_dht": False, "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False}
session = lt.session({"listen_interfaces": settings["listen"], "alert_mask": 0, **quiet, **settings["session"]})
torrent = lt.load_torrent_file(settings["torrent"])
torrent.save_path = settings["folder"]
torrent.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
if settings["seeds"]:
    torrent.flags |= lt.torrent_flags.seed_mode
    if settings["super_seeding"]:
        torrent.flags |= lt.torrent_flags.super_seeding
    handle = session.add_torrent(torrent)
else:
    torrent.peers = [tuple(peer) for peer in settings["peers"]]
print("ready", flush=True)
if not settings["seeds"]:
    sys.stdin.readline()
    handle = session.add_torrent(torrent)
    while not handle.status().is_seeding:
        time.sleep(LOOK_SECONDS)
    print("done", flush=True)
sys.stdin.readline()
print(handle.status().total_payload_upload, flush=True)
