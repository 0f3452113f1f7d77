"""A real Prometheus scrapes the gateway under load: the rules load, and every query, theirs and the dashboard's, has an
answer. Not collected by default: ``pytest tests_nightly``. Needs ``prometheus`` and ``promtool`` on the PATH."""
# ruff: noqa: S101, S603

from __future__ import annotations

import math
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
import yaml

from flexmw.testing.hostile.ports import HOST, Port
from tests.examples.watched import EXPRESSIONS, HERE, Watched, load, watched
from tests.servers import redis_binary, redis_process, skip_unless

SECONDS = 60
ALERTS = [name for name in EXPRESSIONS if name.startswith("Flexmw")]


def until(look: Callable[[], Any]) -> Any:
    """What ``look`` finds, once it finds something."""
    ends = time.monotonic() + SECONDS
    while not (found := look()):
        assert time.monotonic() < ends, "nothing was found in time"
        time.sleep(0.25)
    return found


class Prometheus:
    """Its HTTP API."""

    def __init__(self, url: str) -> None:
        self.client = httpx2.Client(base_url=url)

    def ready(self) -> bool:
        try:
            return self.client.get("/-/ready").is_success
        except httpx2.TransportError:
            return False

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """The series that an instant query finds."""
        answer = self.client.get("/api/v1/query", params={"query": expression})
        assert answer.is_success, answer.text
        return list(answer.json()["data"]["result"])

    def rules(self) -> list[dict[str, Any]]:
        groups = self.client.get("/api/v1/rules").raise_for_status().json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that has scraped a gateway before, between and after two waves of load."""
    binary = shutil.which("prometheus")
    skip_unless(binary, "prometheus")
    redis = redis_binary()
    skip_unless(redis, "redis-server")
    folder = tmp_path_factory.mktemp("prometheus")
    with (
        redis_process(str(redis), tmp_path_factory.mktemp("redis")) as store,
        watched(store) as gateway,
        Port() as port,
        (folder / "log").open("wb") as log,
    ):
        command = [
            str(binary),
            f"--config.file={_configure(folder, gateway)}",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address={HOST}:{port.number}",
        ]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            server = Prometheus(f"http://{HOST}:{port.number}")
            until(lambda: process.poll() is not None or server.ready())
            assert process.poll() is None, (folder / "log").read_text("utf-8")
            for _ in range(2):
                anyio.run(load, gateway)
                _scraped(server, gateway)
            yield server
            server.client.close()
        finally:
            process.terminate()
            process.wait(SECONDS)


def _configure(folder: Path, gateway: Watched) -> Path:
    """The example's own configuration, but for the address, and scraped more often."""
    settings = yaml.safe_load((HERE / "prometheus.yml").read_text("utf-8"))
    settings["global"] = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "1s"}
    settings["rule_files"] = [str(HERE / name) for name in settings["rule_files"]]
    settings["scrape_configs"][0]["static_configs"] = [
        {"targets": [gateway.metrics.removeprefix("http://").removesuffix("/metrics")]}
    ]
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(settings), "utf-8")
    return path


def _scraped(server: Prometheus, gateway: Watched) -> None:
    """Until Prometheus has seen all that the gateway shows now."""
    shown = sum(
        float(line.rsplit(" ", 1)[1])
        for line in httpx2.get(gateway.metrics).text.splitlines()
        if line.startswith("flexmw_server_error_responses_total{")
    )
    assert shown > 0
    until(
        lambda: (
            (found := server.ask("sum(flexmw_server_error_responses_total)")) and float(found[0]["value"][1]) >= shown
        )
    )


@pytest.mark.parametrize("title", EXPRESSIONS)
def test_a_query_has_a_result(title: str, prometheus: Prometheus) -> None:
    series = prometheus.ask(EXPRESSIONS[title].replace("$__rate_interval", "1m"))
    assert series
    assert any(math.isfinite(float(each["value"][1])) and float(each["value"][1]) > 0 for each in series), series


@pytest.mark.parametrize("alert", ALERTS)
def test_a_rule_is_evaluated_and_its_alert_is_pending(alert: str, prometheus: Prometheus) -> None:
    def rule() -> dict[str, Any] | None:
        (found,) = (each for each in prometheus.rules() if each["name"] == alert)
        assert found["health"] != "err", found
        return found if found["state"] != "inactive" else None

    pending = until(rule)
    assert pending["alerts"][0]["annotations"]["summary"]


@pytest.mark.parametrize(("kind", "file"), [("rules", "alerts.yml"), ("config", "prometheus.yml")])
def test_promtool_accepts_the_files(kind: str, file: str) -> None:
    promtool = shutil.which("promtool")
    skip_unless(promtool, "promtool")
    done = subprocess.run([str(promtool), "check", kind, str(HERE / file)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout
