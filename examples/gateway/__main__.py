"""`python -m examples.gateway`: the gateway on loopback, with its own model backend in a child process."""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from urllib.parse import urlsplit

import flexmw
from examples.gateway.app import Gateway, Settings, build
from examples.gateway.processes import Server, bind, child, port_number, until_stdin_closes
from examples.gateway.store import StoreError, place_of

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = arguments_parser()
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # an exception, so that the blocks below are left in order
    with ExitStack() as stack:
        try:
            listener = stack.enter_context(bind(options.port))
        except OSError as exc:
            parser.error(f"port {options.port}: {os.strerror(exc.errno or 0)}; choose another, or 0 for any free one")
        upstreams = options.upstream or [
            stack.enter_context(child("examples.gateway.backend")) for _ in range(options.backends)
        ]
        settings = Settings(
            upstream=upstreams[0],
            others=tuple(upstreams[1:]),
            upstream_key=options.upstream_key,
            storage=options.storage,
            timeout=options.timeout,
            admin_token=options.admin_token or f"admin-{secrets.token_urlsafe(16)}",
            demo_key=options.demo_key or f"sk-demo-{secrets.token_urlsafe(12)}",
            faults=options.faults or options.upstream is None,
        )
        gateway = Gateway(settings)
        try:
            asyncio.run(opened_once(gateway))
            app = build(gateway)
        except (StoreError, flexmw.FlexmwError) as exc:
            parser.error(str(exc))
        server = Server(app, listener, ready=lambda url: announce(url, settings))
        if options.child:
            until_stdin_closes(server)
        server.run()


def arguments_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m examples.gateway", description=__doc__)
    parser.add_argument("--port", type=port_number, default=8000, help="8000 unless given; 0 takes any free port")
    parser.add_argument(
        "--upstream",
        type=base_url,
        action="append",
        help="an OpenAI-compatible server, in place of the embedded one; given again: asked when the first one refuses",
    )
    parser.add_argument("--upstream-key", help="the API key that the first upstream asks for")
    parser.add_argument("--backends", type=int, choices=(1, 2, 3), default=1, help="embedded backends; 1 unless given")
    parser.add_argument("--storage", default="sqlite:///gateway.db", help="sqlite:///gateway.db or redis://host:port/0")
    parser.add_argument("--timeout", type=seconds, default=30.0, help="seconds that the upstream may be silent")
    parser.add_argument("--admin-token", help="made up unless given")
    parser.add_argument("--demo-key", help="made up unless given; its account has the free tier and one dollar")
    parser.add_argument(
        "--faults", action="store_true", help="let callers order faults from upstreams of yours as well"
    )
    parser.add_argument("--child", action="store_true", help="stop when standard input closes, as with a parent")
    return parser


def base_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise argparse.ArgumentTypeError(f"{text!r} is not a base URL: expected one such as http://127.0.0.1:11434")
    return text.rstrip("/").removesuffix("/v1")


def seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0 and up to 3600")
    return value


async def opened_once(gateway: Gateway) -> None:
    """Find out what does not work before the server starts."""
    async with gateway.open():
        pass


def announce(url: str, settings: Settings) -> None:
    lines = (
        f"gateway ready at {url}",
        f"  upstream     {', then '.join((settings.upstream, *settings.others))}",
        f"  playground   {url}/playground",
        f"  demo key     {settings.demo_key}   (free tier: 10 requests a minute, one dollar)",
        f"  admin token  {settings.admin_token}",
        f"  records      {place_of(settings.storage)}",
        f"  try          curl -H 'Authorization: Bearer {settings.demo_key}' {url}/v1/models",
    )
    print(*lines, sep="\n", flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(0)
