#!/usr/bin/env bash
# pymemcache's `add` says that it has stored a key that exists, and its `set` that it has stored what memcached refuses.
# Expected: add() is False for a key that exists: it is memcached's command for a lock or a reservation.
# Seen: a client without options asks memcached not to reply, and returns True whatever happens, so that two workers
# get one lock. `default_noreply=False`, or `noreply=False` in the call, makes the result one; the documentation of
# each method says it, its default does not.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'pymemcache==4.0.0'
"$work/venv/bin/python" - <<'PYTHON'
import socket
import threading
from importlib.metadata import version

from pymemcache.client.base import Client

MEGABYTE = 1 << 20
stored = {}


def answer(connection):
    """Serve the commands ``add``, ``set`` and ``get`` of memcached's text protocol, with its limit for an item."""
    stream = connection.makefile("rwb")
    for line in stream:
        command, key, *words = line.split()
        if command == b"get":
            found = b"VALUE %s 0 %d\r\n%s\r\n" % (key, len(stored[key]), stored[key]) if key in stored else b""
            stream.write(found + b"END\r\n")
        else:
            value = stream.read(int(words[2]) + 2)[:-2]
            if len(value) > MEGABYTE:
                reply = b"SERVER_ERROR object too large for cache\r\n"
            elif command == b"add" and key in stored:
                reply = b"NOT_STORED\r\n"
            else:
                stored[key], reply = value, b"STORED\r\n"
            stream.write(b"" if words[3:] == [b"noreply"] else reply)
        stream.flush()


def serve(listener):
    while True:
        threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()


listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=serve, args=(listener,), daemon=True).start()
first, second = (Client(listener.getsockname(), timeout=20) for _ in range(2))
locks = first.add("lock", "first"), (first.get("lock"), second.add("lock", "second"))[1]
owner = second.get("lock")
asked = second.add("lock", "second", noreply=False)
large = first.set("report", b"x" * 2 * MEGABYTE), first.get("report")
print(f"pymemcache {version('pymemcache')}: two workers add one lock: {locks}, its owner is {owner}")
print(f"the second one with noreply=False: {asked}")
print(f"set() of two megabytes: {large[0]}, get(): {large[1]}")
as_stated = (locks, owner, asked, large) == ((True, True), b"first", False, (True, None))
raise SystemExit(0 if as_stated else "changed: add() tells whether it has stored")
PYTHON
