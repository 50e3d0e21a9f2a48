# Lists archives with tarfile: a path a line in, entries and a verdict out.
import sys, os, tarfile

KINDS = {b"0": "f", b"\0": "f", b"7": "f", b"S": "f", b"1": "h", b"2": "l", b"3": "c", b"4": "b", b"5": "d", b"6": "p"}

def list_one(path, out):
    try:
        with tarfile.open(path, "r:", encoding="utf-8", errors="surrogateescape") as archive:
            for entry in archive:
                name = entry.name.encode("utf-8", "surrogateescape").hex()
                link = entry.linkname.encode("utf-8", "surrogateescape").hex() if entry.type in b"12" else ""
                kind = KINDS.get(entry.type, "?")
                size = "%d,%d" % (entry.devmajor, entry.devminor) if kind in "cb" else str(entry.size)
                mtime = int(entry.mtime // 1) if entry.mtime == entry.mtime and abs(entry.mtime) < 1e18 else 0
                exact = int(isinstance(entry.mtime, int) or (entry.mtime == mtime and abs(mtime) < 2**52))
                out.append("e %s. %s %s %s. %o %d %d %d %d" % (
                    name, kind, size, link, entry.mode & 0o7777, entry.uid, entry.gid, mtime, exact))
        out.append("ok")
    except Exception as error:
        out.append("error %s" % str(error).replace("\n", " "))

for line in sys.stdin:
    out = []
    list_one(line.rstrip("\n"), out)
    sys.stdout.write("\n".join(out) + "\n")
    sys.stdout.flush()
