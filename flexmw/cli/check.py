"""``flexmw check URL``: judge an OpenAI-compatible endpoint by the error contract, from outside.

The command sends a handful of invalid requests, each once. None of them makes a server do any work. It does not retry,
follows no redirect, and sends no key except the one of ``--key-env``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPMessage
from typing import IO, Any, Final, TextIO
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from flexmw import __version__
from flexmw.cli.judge import Expected, judge
from flexmw.cli.table import table
from flexmw.errors import ConfigError

__all__ = ["HELP", "PROBES", "Probe", "Row", "arguments", "command", "examine"]

HELP = "judge an OpenAI-compatible endpoint by the error contract; exits with 1 if it is broken"
_MAX_BODY_BYTES: Final = 64 * 1024
_MAX_TIMEOUT: Final = 3600
_CHAT: Final = "/chat/completions"
_NO_MODEL: Final = "flexmw-check-no-such-model"
_AUTH: Final = Expected((401,), "authentication_error", "invalid_api_key")


@dataclass(frozen=True, slots=True)
class Probe:
    """One invalid request. ``key``: ``"given"`` sends the key of the user, ``"wrong"`` a key that cannot exist,
    ``"none"`` no key."""

    name: str
    method: str
    path: str
    expected: Expected
    body: bytes | None = None
    key: str = "given"


@dataclass(frozen=True, slots=True)
class Row:
    """The result of one probe. ``state``: ``ok``, ``broken``, or ``skipped`` (the response could not be judged, and
    ``faults`` say why)."""

    name: str
    request: str
    response: str
    state: str
    faults: list[str] = field(default_factory=list[str])


def _json(**value: Any) -> bytes:
    return json.dumps(value).encode()


PROBES: Final = (
    Probe("no key", "POST", _CHAT, _AUTH, _json(model=_NO_MODEL), key="none"),
    Probe("wrong key", "POST", _CHAT, _AUTH, _json(model=_NO_MODEL), key="wrong"),
    Probe("unknown route", "GET", "/flexmw-check/no-such-route", Expected((404,), "invalid_request_error")),
    Probe("unknown route, HEAD", "HEAD", "/flexmw-check/no-such-route", Expected((404,))),
    Probe("wrong method", "PUT", "/models", Expected((404, 405), "invalid_request_error"), b"{}"),
    Probe("malformed JSON", "POST", _CHAT, Expected((400,), "invalid_request_error"), b'{"model": '),
    Probe("no JSON object", "POST", _CHAT, Expected((400, 422), "invalid_request_error"), b'"text"'),
    Probe("missing field", "POST", _CHAT, Expected((400, 422), "invalid_request_error"), _json(model=_NO_MODEL)),
    Probe(
        "unknown model",
        "POST",
        _CHAT,
        Expected((400,), "invalid_request_error", "model_not_found"),
        _json(model=_NO_MODEL, messages=[{"role": "user", "content": "."}], max_tokens=1),
    ),
)
"""The probes in the order of sending. The last one names a model that does not exist, so that nothing is generated."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", help="the endpoint; /v1 is added to a URL without a path")
    parser.add_argument("--key-env", metavar="NAME", help="environment variable with an API key to send")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds for each request")
    parser.add_argument("--json", action="store_true", help="the rows as JSON")


def command(arguments: argparse.Namespace, out: TextIO) -> int:
    key = None
    if arguments.key_env and not (key := os.environ.get(arguments.key_env)):
        raise ConfigError("--key-env", arguments.key_env, "an environment variable that is set")
    rows = list(examine(arguments.url, key=key, timeout=arguments.timeout))
    broken = any(row.state == "broken" for row in rows)
    if arguments.json:
        shown = [{name: getattr(row, name) for name in Row.__slots__} for row in rows]
        out.write(json.dumps({"url": arguments.url, "broken": broken, "rows": shown}, indent=2) + "\n")
    else:
        cells = [(row.state, row.name, row.request, row.response, "; ".join(row.faults)) for row in rows]
        out.write(table(("", "probe", "request", "response", ""), cells))
    return 1 if broken else 0


def examine(url: str, *, key: str | None = None, timeout: float = 10.0) -> Iterator[Row]:
    """Send every probe once and judge the responses.

    :param url: the endpoint with its base path; ``/v1`` is added to a URL without a path.
    :param key: an API key to send; ``None`` sends no key.
    :param timeout: seconds for each request.
    :raises ConfigError: ``url`` is not an http URL, no server responds there, or ``timeout`` is out of range.
    """
    if not 0 < timeout <= _MAX_TIMEOUT:
        raise ConfigError("timeout", timeout, f"a number of seconds above 0, at most {_MAX_TIMEOUT}")
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname is not None and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise ConfigError("check", url, "a URL such as https://api.example.com/v1")
    base = url.rstrip("/") + ("" if urlsplit(url).path.strip("/") else "/v1")
    for probe in PROBES:
        sent = {"given": key, "wrong": "sk-flexmw-check-not-a-key", "none": None}[probe.key]
        try:
            status, headers, body = _send(base, probe, sent, timeout)
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            if probe is PROBES[0]:
                raise ConfigError("check", url, f"a server that responds ({reason})") from error
            fault = f"no response: {type(error).__name__}: {reason}"
            yield Row(probe.name, f"{probe.method} {probe.path}", "", "broken", [fault])
            continue
        yield _row(probe, key, status, headers, body)


def _row(probe: Probe, key: str | None, status: int, headers: Mapping[str, str], body: bytes) -> Row:
    expected, skipped = probe.expected, ""
    if probe.key == "given" and key is None and status == 401:
        expected, skipped = _AUTH, "needs a key: --key-env"
    elif probe.key != "given" and status in (400, 404, 422):
        expected, skipped = Expected((status,)), "asks for no key, or looks at the body first"
    elif status == 429:
        skipped = "rate limited: all that it shows is a 429"
    faults = judge(status, headers, body, expected, head=probe.method == "HEAD", now=time.time())
    state = "broken" if faults else "skipped" if skipped else "ok"
    return Row(probe.name, f"{probe.method} {probe.path}", str(status), state, faults or [skipped] * bool(skipped))


class _NoRedirect(HTTPRedirectHandler):
    """Judge a redirect like any other response, and do not send the key to another host."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        return None


_opener = build_opener(_NoRedirect)


def _send(base: str, probe: Probe, key: str | None, timeout: float) -> tuple[int, dict[str, str], bytes]:
    request = Request(base + probe.path, data=probe.body, method=probe.method)  # noqa: S310  only http and https get here
    request.add_header("User-Agent", f"flexmw-check/{__version__}")
    request.add_header("Accept", "application/json")
    if probe.body is not None:
        request.add_header("Content-Type", "application/json")
    if key is not None:
        request.add_unredirected_header("Authorization", f"Bearer {key}")
    try:
        with _opener.open(request, timeout=timeout) as response:
            return response.status, _lower(response.headers), response.read(_MAX_BODY_BYTES)
    except HTTPError as error:
        with error:
            return error.code, _lower(error.headers), error.read(_MAX_BODY_BYTES)


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): ", ".join(headers.get_all(name)) for name in headers}
