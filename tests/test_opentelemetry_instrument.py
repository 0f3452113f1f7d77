"""``opentelemetry-instrument``, the command itself: an untouched app and an untouched client in their own processes."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, NamedTuple

import pytest

from flexmw.testing.hostile.ports import closed_port
from tests.servers import skip_unless

COMMAND = shutil.which("opentelemetry-instrument", path=str(Path(sys.executable).parent))
SECONDS = 60

APP = """
    from fastapi import FastAPI
    from fastapi.responses import JSONResponse, StreamingResponse

    app = FastAPI()
    asked = []

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def chunks():
            yield b"data: 1\\n\\n"
            yield b"data: 2\\n\\n"

        return StreamingResponse(chunks(), media_type="text/event-stream")

    @app.get("/broken")
    async def broken() -> None:
        raise ValueError("broken")

    @app.get("/busy")
    async def busy() -> JSONResponse:
        asked.append(1)
        return JSONResponse({}, 503 if len(asked) % 2 else 200, {"retry-after": "0"})
"""

CLIENT = """
    import importlib, sys
    import flexmw

    library, url, closed = importlib.import_module(sys.argv[1]), sys.argv[2], sys.argv[3]
    with library.Client(base_url=url, trust_env=False) as client:
        print(client.get("/stream", headers={"x-stainless-retry-count": "2"}).status_code)
        print(client.get("/broken").status_code)
        try:
            client.get(closed)
        except library.ConnectError:
            print("refused")
    with flexmw.wrap_client(library.Client(base_url=url, trust_env=False), flexmw.Retry()) as client:
        print(client.get("/busy").status_code)
"""


class Told(NamedTuple):
    """What the console exporters of a process have written."""

    spans: list[dict[str, Any]]
    metrics: dict[str, list[dict[str, Any]]]
    logs: list[dict[str, Any]]

    def server(self, path: str) -> dict[str, Any]:
        (span,) = (each for each in self.spans if each["kind"].endswith("SERVER") and path in each["name"])
        return span

    @property
    def exceptions(self) -> list[str]:
        events = [event for span in self.spans for event in span["events"] if event["name"] == "exception"]
        attributes = [each["attributes"] or {} for each in (*events, *self.logs)]
        return [each["exception.type"] for each in attributes if "exception.type" in each]


def told(output: str) -> Told:
    spans, metrics, logs = list[Any](), dict[str, list[Any]](), list[Any]()
    for each in documents(output):
        if "resource_metrics" in each:
            for scope in (scope for resource in each["resource_metrics"] for scope in resource["scope_metrics"]):
                metrics |= {metric["name"]: metric["data"]["data_points"] for metric in scope["metrics"]}
        elif "severity_number" in each:
            logs.append(each)
        else:
            spans.append(each)
    return Told(spans, metrics, logs)


def documents(output: str) -> Iterator[dict[str, Any]]:
    """The JSON objects in what a process has printed."""
    decoder, place = json.JSONDecoder(), 0
    while (place := output.find("{", place)) >= 0:
        value, place = decoder.raw_decode(output, place)
        yield value


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """Nothing of the surroundings but where programs are: and nothing is exported before the end."""
    return {
        "PATH": str(Path(sys.executable).parent),
        "OTEL_SEMCONV_STABILITY_OPT_IN": "http",
        "OTEL_METRIC_EXPORT_INTERVAL": "600000",
        "OTEL_BSP_SCHEDULE_DELAY": "600000",
        "OTEL_BLRP_SCHEDULE_DELAY": "600000",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }


@pytest.fixture
def command() -> list[str]:
    skip_unless(COMMAND, "opentelemetry-instrument")
    skip_unless(find_spec("opentelemetry.distro"), "opentelemetry-distro")
    assert COMMAND is not None
    exporters = (f"--{signal}_exporter" for signal in ("traces", "metrics", "logs"))
    return [COMMAND, *(word for option in exporters for word in (option, "console"))]


def program(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(textwrap.dedent(text), "utf-8")
    return path


def serving(stream: IO[str]) -> str:
    """Uvicorn's address, once it says it."""
    for line in stream:
        if found := re.search(r"running on (http://[0-9.:]+)", line):
            return found[1]
    raise AssertionError("the server ended before it said where it listens")


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_an_untouched_app_and_client_have_telemetry_and_stop_cleanly(
    library: str, command: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    program(tmp_path, "app.py", APP)
    script = program(tmp_path, "client.py", CLIENT)
    uvicorn = ["uvicorn", "app:app", "--host", "127.0.0.1", "--port", "0", "--app-dir", str(tmp_path)]
    out = tmp_path / "out"
    with out.open("w") as output, closed_port() as closed:
        server = subprocess.Popen(
            [*command, *uvicorn], env=environment, stdout=output, stderr=subprocess.PIPE, text=True
        )
        try:
            assert server.stderr is not None
            url = serving(server.stderr)
            client = subprocess.run(
                [*command, sys.executable, str(script), library, url, closed],
                env=environment,
                capture_output=True,
                text=True,
                timeout=SECONDS,
            )
            server.send_signal(signal.SIGINT)
            _, errors = server.communicate(timeout=SECONDS)
        finally:
            server.kill()
            server.wait()
    assert server.returncode in (0, -signal.SIGINT)
    assert errors.count("Traceback") == errors.count("ValueError: broken") == 1, errors
    _check_client(client)
    _check_server(told(out.read_text("utf-8")))


def _check_server(seen: Told) -> None:
    stream, broken = seen.server("/stream"), seen.server("/broken")
    assert stream["attributes"]["flexmw.response.outcome"] == "complete"
    assert stream["attributes"]["flexmw.request.retry_count"] == 2
    assert broken["status"]["status_code"] == "ERROR"
    assert seen.exceptions == ["ValueError"]
    assert len([span for span in seen.spans if span["kind"].endswith("SERVER")]) == 4


def _check_client(client: subprocess.CompletedProcess[str]) -> None:
    assert client.returncode == 0, client.stderr
    assert client.stderr == ""
    seen = told(client.stdout)
    assert [line for line in client.stdout.splitlines() if re.fullmatch(r"[0-9]{3}|refused", line)] == [
        "200",
        "500",
        "refused",
        "200",
    ]
    spans = [span for span in seen.spans if span["kind"].endswith("CLIENT")]
    assert [span["attributes"].get("http.request.resend_count") for span in spans] == [None] * 4 + [1]
    assert spans[-1]["attributes"]["flexmw.retry.safety"] == "safe_method"
    points = seen.metrics["flexmw.client.operation.duration"]
    statuses = [point["attributes"].get("http.response.status_code") for point in points for _ in range(point["count"])]
    assert sorted(map(str, statuses)) == ["200", "200", "500", "None"]
    (failed,) = (point for point in points if "http.response.status_code" not in point["attributes"])
    assert failed["attributes"]["error.type"] == "ConnectError"
    assert [log["event_name"] for log in seen.logs if log["severity_text"] == "WARN"] == [
        "http.client.request.exception"
    ]
