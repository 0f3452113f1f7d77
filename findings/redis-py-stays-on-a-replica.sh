#!/usr/bin/env bash
# redis-py keeps a connection whose server has become a read-only replica.
# Expected: a server that refuses writes with READONLY is not the primary any more, so that the client connects anew;
# the name of the primary leads to another server by then.
# Seen: the pool gives the same connection out again, and each write fails until the program closes it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'redis==8.1.0'
"$work/venv/bin/python" - <<'PYTHON'
import socket
import threading

import redis

failed_over = threading.Event()
writes = []


def command(lines):
    """Read one command of the protocol; empty at the end of the connection."""
    header = lines.readline()
    words = []
    for _ in range(int(header[1:] or 0)):
        words.append(lines.read(int(lines.readline()[1:])).upper())
        lines.read(2)
    return words


def serve(connection, number):
    """The primary for what connects first, until the failover; for what connects later, the new primary."""
    lines = connection.makefile("rwb")
    while words := command(lines):
        refused = failed_over.is_set() and number == 0
        if words[0] == b"SET":
            writes.append((number, "READONLY" if refused else "OK"))
        response = b"-READONLY You can't write against a read only replica." if refused else b"+OK"
        lines.write(response + b"\r\n")
        lines.flush()


def accept(listener):
    number = 0
    while True:
        connection, _ = listener.accept()
        connection.settimeout(30)
        threading.Thread(target=serve, args=(connection, number), daemon=True).start()
        number += 1


listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=accept, args=(listener,), daemon=True).start()
client = redis.Redis(port=listener.getsockname()[1], protocol=2)
client.connection_pool.connection_kwargs.update(lib_name=None, lib_version=None)
client.set("key", "1")
failed_over.set()
for _ in range(5):
    try:
        client.set("key", "2")
    except redis.ReadOnlyError:
        pass
client.connection_pool.disconnect()
client.set("key", "3")
print(f"redis-py {redis.__version__}: writes (connection, response): {writes}")
expected = [(0, "OK"), *[(0, "READONLY")] * 5, (1, "OK")]
raise SystemExit(0 if writes == expected else "changed: the client connects anew")
PYTHON
