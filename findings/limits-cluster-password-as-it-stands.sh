#!/usr/bin/env bash
# limits sends the password of a redis+cluster:// URL percent-encoded as it stands in the URL.
# Expected: "p%40ss" in a URL is the password "p@ss", as it is in limits' redis:// URLs.
# Seen: the same user info is decoded for redis:// and not for redis+cluster://, where the server refuses it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'limits==5.8.0' 'redis==8.1.0'
"$work/venv/bin/python" - <<'PYTHON'
import re
import socket
import threading
from importlib.metadata import version

from limits.storage import storage_from_string
from redis.exceptions import RedisClusterException, RedisError

sent = []


def serve(listener):
    """A server that takes no password, and keeps what was sent."""
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(20)
            sent.append(connection.recv(65536))
            connection.sendall(b"-WRONGPASS invalid username-password pair or user is disabled.\r\n")


listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=serve, args=(listener,), daemon=True).start()


def password(scheme):
    try:
        storage_from_string(f"{scheme}://user:p%40ss@127.0.0.1:{listener.getsockname()[1]}").incr("key", 60)
    except (RedisError, RedisClusterException):
        pass
    return re.search(rb"user\r\n\$\d+\r\n(.*?)\r\n", sent[-1])[1].decode()


single, cluster = password("redis"), password("redis+cluster")
print(f"limits {version('limits')}: p%40ss is sent as {single} for redis://, as {cluster} for redis+cluster://")
raise SystemExit(0 if (single, cluster) == ("p@ss", "p%40ss") else "changed: both are decoded in the same way")
PYTHON
