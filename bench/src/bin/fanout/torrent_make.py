"""Makes a torrent of a file: its path, that of the torrent, and the bytes of a piece are the arguments."""

import os
import sys

import libtorrent as lt

image, torrent, piece_bytes = sys.argv[1:]
made = lt.create_torrent(lt.list_files(image), piece_size=int(piece_bytes))
lt.set_piece_hashes(made, os.path.dirname(image))
with open(torrent, "wb") as file:
    file.write(lt.bencode(made.generate()))
