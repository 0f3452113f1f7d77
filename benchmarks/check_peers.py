"""``flexmw check`` against the servers that people run, each as its documentation starts it.

FastAPI without and inside flexmw, the example gateway, and LiteLLM's proxy before the gateway's model backend. Every
probe is sent, those of a burst and the paid ones too, and the states are written as JSON::

    python -m benchmarks.check_peers --json docs/check.json && python -m scripts.check_page

A server that is not installed is left out, and the file keeps what it has of it. ``tox -e check-peers`` installs
LiteLLM's proxy, with the prisma without which it turns a missing key into a 500. Loopback only. vLLM and llama.cpp are
not among them: their servers have no wheel that runs on a plain machine, and llama-cpp-python was still compiling after
fifty minutes on one core.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

import flexmw
from examples.gateway.processes import in_thread
from examples.gateway.serve import backend, gateway
from flexmw.conformance.check import Check, Settings
from flexmw.testing.hostile.ports import HOST, Port

__all__ = ["main"]

START_SECONDS = 180.0
MODEL = "alice-3gram"


class Chat(BaseModel):
    model: str
    messages: list[dict[str, Any]]
    stream: bool = False


def shop() -> FastAPI:
    """An API with OpenAI's two routes, as one writes it with FastAPI."""
    app = FastAPI()

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": MODEL, "object": "model"}]}

    @app.post("/v1/chat/completions")
    async def chat(body: Chat) -> Any:
        if body.model != MODEL:
            raise HTTPException(404, f"no model {body.model}")
        if body.stream:
            return StreamingResponse(events(), media_type="text/event-stream")
        message = {"role": "assistant", "content": "one"}
        return {"id": secrets.token_hex(8), "choices": [{"index": 0, "message": message}]}

    async def events() -> AsyncIterator[str]:
        for word in ("one ", "two ", "three "):
            yield f"data: {json.dumps({'choices': [{'index': 0, 'delta': {'content': word}}]})}\n\n"
        yield f"data: {json.dumps({'choices': [], 'usage': {'total_tokens': 3}})}\n\n"
        yield "data: [DONE]\n\n"

    return app


@contextmanager
def bare() -> Iterator[Settings]:
    with in_thread(shop()) as url:
        yield Settings(url=url, model=MODEL)


@contextmanager
def wrapped() -> Iterator[Settings]:
    components = (flexmw.Envelope(validation_status=400), flexmw.RateLimit("100/minute"), flexmw.Idempotency())
    with in_thread(flexmw.wrap_app(shop(), *components)) as url:
        yield Settings(url=url, model=MODEL, key="sk-any")


@contextmanager
def example_gateway() -> Iterator[Settings]:
    with backend() as models, gateway(models.url) as running:
        key, _ = running.admin.create_key(tier="paid")
        yield Settings(url=running.url, model=MODEL, key=key)


@contextmanager
def litellm_proxy(executable: str) -> Iterator[Settings]:
    key = "sk-litellm-master"
    with ExitStack() as stack:
        models = stack.enter_context(backend())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        config = folder / "config.yaml"
        config.write_text(
            f"model_list:\n- model_name: {MODEL}\n  litellm_params:\n    model: openai/{MODEL}\n"
            f"    api_base: {models.url}/v1\n    api_key: sk-none\n"
        )
        port = stack.enter_context(Port())
        command = (executable, "--config", str(config), "--host", HOST, "--port", str(port.number))
        environment = {**os.environ, "LITELLM_MASTER_KEY": key, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        stack.enter_context(served(command, f"http://{HOST}:{port.number}/health/liveliness", folder, environment))
        yield Settings(url=f"http://{HOST}:{port.number}", model=MODEL, key=key)


@contextmanager
def served(command: tuple[str, ...], ready: str, folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """Run a server until the block ends; it is ready when a URL of it responds."""
    log = folder / "log.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=folder, env=environment)
        try:
            ends = time.monotonic() + START_SECONDS
            while not _responds(ready):
                if process.poll() is not None or time.monotonic() > ends:
                    raise RuntimeError(f"{command[0]} did not start: {log.read_text(errors='replace')[-2000:]}")
                time.sleep(0.5)
            yield
        finally:
            process.terminate()
            process.wait(START_SECONDS)


def _responds(url: str) -> bool:
    try:
        with urlopen(url, timeout=5.0) as response:  # loopback
            return bool(response.status == 200)
    except (URLError, OSError):
        return False


def judged(name: str, version: str, settings: Settings) -> dict[str, Any]:
    """The states of all probes against one server."""
    fields = {field: getattr(settings, field) for field in Settings.__dataclass_fields__}
    check = Check(
        Settings(**{**fields, "burst": True, "paid": True, "timeout": 60.0, "patience": 300.0}),
        progress=lambda line: print(f"{name}: {line}", file=sys.stderr),
    )
    rows = list(check.rows())
    for row in rows:
        if row.state != "passed":
            print(f"  {row.state}  {row.probe.id}: {'; '.join(row.notes)}")
    return {"name": name, "version": version, "states": {row.probe.id: row.state for row in rows}}


def version_in(python: str, distribution: str) -> str:
    """The version of a distribution in the environment of an interpreter."""
    program = f"from importlib.metadata import version; print(version({distribution!r}))"
    return subprocess.run([python, "-c", program], check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.check_peers", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the states to this file")
    parser.add_argument("--litellm", default=shutil.which("litellm"), help="the executable of LiteLLM's proxy")
    parser.add_argument("--only", help="the name of one server")
    options = parser.parse_args()
    own = flexmw.__version__
    fastapi = importlib.metadata.version("fastapi")
    servers: list[tuple[str, Callable[[], str], Callable[[], Any]]] = [
        ("FastAPI", lambda: fastapi, bare),
        ("FastAPI in flexmw", lambda: own, wrapped),
        ("the example gateway", lambda: own, example_gateway),
    ]
    if options.litellm:
        python = str(Path(options.litellm).with_name("python"))
        servers.append(
            ("LiteLLM's proxy", lambda: version_in(python, "litellm"), lambda: litellm_proxy(options.litellm))
        )
    known = json.loads(options.json.read_text()) if options.json and options.json.exists() else {"servers": []}
    results = {server["name"]: server for server in known["servers"]}
    for name, version, start in servers:
        if options.only in (None, name):
            with start() as settings:
                print(f"{name} {version()}")
                results[name] = judged(name, version(), settings)
    if options.json:
        options.json.write_text(json.dumps({"servers": list(results.values())}, indent=1) + "\n")


if __name__ == "__main__":
    main()
