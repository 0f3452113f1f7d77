#!/usr/bin/env bash
# limits gives memcached the seconds of a window longer than thirty days, which memcached reads as a date in 1970.
# Expected: memcached takes more than 2592000 seconds for a Unix time, so that a client must send the time of the end.
# Seen: "5 per 2 months" stores its counter with the expiry 5184000: it has expired when it is stored, and each request
# is the first one.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'limits==5.8.0' 'pymemcache==4.0.0'
"$work/venv/bin/python" - <<'PYTHON'
import socket
import threading
import time
from importlib.metadata import version

from limits import parse
from limits.storage import storage_from_string
from limits.strategies import FixedWindowRateLimiter

THIRTY_DAYS = 60 * 60 * 24 * 30
counters, expiries = {}, []


def serve(listener):
    """The commands of memcached's text protocol that a counter needs, with its rule for expiry times."""
    connection, _ = listener.accept()
    lines = connection.makefile("rwb")
    for line in lines:
        command, key, *words = line.split()
        if command in (b"add", b"set"):
            expiry, value = int(words[1]), lines.readline().strip()
            expiries.append(expiry)
            ends = expiry if expiry > THIRTY_DAYS else time.time() + expiry
            counters[key] = (int(value.partition(b".")[0]), ends)
            result = b"" if words[-1] == b"noreply" else b"STORED\r\n"
        elif command == b"incr":
            value, ends = counters.get(key, (0, 0))
            if alive := ends > time.time():
                counters[key] = (value + int(words[0]), ends)
            result = b"%d\r\n" % counters[key][0] if alive else b"NOT_FOUND\r\n"
        else:
            raise SystemExit(f"changed: the command {line!r}")
        lines.write(result)
        lines.flush()


listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=serve, args=(listener,), daemon=True).start()
limiter = FixedWindowRateLimiter(storage_from_string(f"memcached://127.0.0.1:{listener.getsockname()[1]}"))
month, months = ([limiter.hit(parse(rate), "caller") for _ in range(7)] for rate in ("5 per 1 month", "5 per 2 month"))
print(f"limits {version('limits')}: admitted of 7: {sum(month)} at 5 a month, {sum(months)} at 5 in two months")
print(f"expiry times sent: {sorted(set(expiries))}")
raise SystemExit(0 if (sum(month), sum(months)) == (5, 7) else "changed: the limit of two months holds")
PYTHON
