#!/usr/bin/env bash
# redis-py's one retry, meant for a closed connection, repeats a timeout as well.
# Expected: Retry(NoBackoff(), 1) with socket_timeout=0.5 gives a command on a silent server up after 0.5 seconds.
# Seen: the command is sent twice and given up after a second: TimeoutError is among the errors retried by default.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'redis==8.1.0'
"$work/venv/bin/python" - <<'PYTHON'
import socket
import threading
import time

import redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, TimeoutError
from redis.retry import Retry

listener = socket.create_server(("127.0.0.1", 0))
listener.settimeout(20)
accepted = []


def accept():
    """A server that accepts and says nothing, as one does that is stopped."""
    while len(accepted) < 8:
        try:
            accepted.append(listener.accept()[0])
        except OSError:
            return


threading.Thread(target=accept, daemon=True).start()


def seconds(retry):
    client = redis.Redis(port=listener.getsockname()[1], socket_timeout=0.5, protocol=2, retry=retry)
    client.connection_pool.connection_kwargs.update(lib_name=None, lib_version=None)
    began = time.monotonic()
    try:
        client.get("key")
    except TimeoutError:
        return time.monotonic() - began
    raise SystemExit("no timeout")


both, closed_only = seconds(Retry(NoBackoff(), 1)), seconds(Retry(NoBackoff(), 1, supported_errors=(ConnectionError,)))
print(f"redis-py {redis.__version__}: gave up after {both:.1f} s; with supported_errors: {closed_only:.1f} s")
raise SystemExit(0 if both >= 0.9 and closed_only < 0.9 else 1)
PYTHON
