"""Clients that pipeline, close half a connection, leave in an upload or come thirty times: one key, one execution.

The promise in SECURITY.md: "No second execution of a request that flexmw says it executes once".
"""

from __future__ import annotations

import socket
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import flexmw
from tests.idempotency.service import Provider
from tests.servers import Http, Serve
from tests.waiting import LONGEST_WAIT

PARSERS = pytest.mark.parametrize("http", ["h11", "httptools"])


def post(key: str, *, close: bool = True, body: bytes = b"{}") -> bytes:
    lines = [
        "POST /orders HTTP/1.1",
        "Host: x",
        f"Idempotency-Key: {key}",
        "Authorization: Bearer sk-one",
        f"Content-Length: {len(body)}",
        *(["Connection: close"] if close else []),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def send(port: int, data: bytes, *, half_close: bool = False) -> bytes:
    """Send bytes, and read until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), LONGEST_WAIT) as sock:
        sock.sendall(data)
        if half_close:
            sock.shutdown(socket.SHUT_WR)
        received = b""
        while part := sock.recv(65536):
            received += part
    return received


def served(serve: Serve, http: Http, provider: Provider, **options: Any) -> int:
    return serve(flexmw.wrap_app(provider.app(), flexmw.Idempotency(**options)), http=http).port


@PARSERS
def test_two_equal_requests_in_one_packet_run_once(serve: Serve, http: Http) -> None:
    provider = Provider()
    received = send(served(serve, http, provider), post("k", close=False) + post("k"))
    assert received.count(b"HTTP/1.1 200") == received.count(b'{"run":1}') == 2
    assert provider.runs == 1


@PARSERS
def test_a_client_that_closes_its_half_runs_once_and_gets_its_response_later(serve: Serve, http: Http) -> None:
    provider = Provider()
    port = served(serve, http, provider, wait=LONGEST_WAIT)
    send(port, post("k"), half_close=True)
    assert b'{"run":1}' in send(port, post("k"))
    assert provider.runs == 1


@PARSERS
def test_a_client_that_leaves_in_its_upload_runs_nothing(serve: Serve, http: Http) -> None:
    provider = Provider()
    port = served(serve, http, provider)
    with socket.create_connection(("127.0.0.1", port), LONGEST_WAIT) as sock:
        sock.sendall(post("k", body=b"x" * 100)[:-1])
    assert b'{"run":1}' in send(port, post("k", body=b"x" * 100))
    assert provider.runs == 1


@PARSERS
def test_thirty_requests_at_once_run_once(serve: Serve, http: Http) -> None:
    provider = Provider(seconds=0.05)
    port = served(serve, http, provider, wait=LONGEST_WAIT)
    with ThreadPoolExecutor(30) as pool:
        received = list(pool.map(lambda _: send(port, post("k")), range(30)))
    assert all(b'{"run":1}' in each for each in received)
    assert provider.runs == 1


def test_a_full_disk_lets_no_key_run_twice(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = sqlite3.connect

    def connect(*args: Any, **options: Any) -> sqlite3.Connection:
        connection = real(*args, **options)
        connection.execute("pragma max_page_count = 12")
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect)
    provider = Provider()
    port = served(serve, "h11", provider, storage=f"sqlite:///{tmp_path}/keys.db")
    seen = []
    for number in range(300):
        before = provider.runs
        seen.append([send(port, post(f"{number}")).split(b" ", 2)[1] for _ in range(2)])
        assert provider.runs - before <= 1
        if seen[-1] == [b"503", b"503"]:
            break
    assert seen[0] == [b"200", b"200"]
    assert seen[-1] == [b"503", b"503"]
