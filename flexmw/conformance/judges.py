"""Judge one response. Pure: values in, faults out; no fault means that the response passes.

>>> envelope_faults(Response(status=404, headers={"content-type": "text/plain"}, body=b"Not Found"), (404,))
["content-type is 'text/plain', not application/json", 'the body is not the error object of the contract: "Not Found"']
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from flexmw.conformance.values import Response
from flexmw.contract import ErrorBody, LimitReading, read_limits, redact, wait_of
from flexmw.contract.dates import http_date
from flexmw.contract.idempotent_stream import ends_in_blank_line

__all__ = [
    "envelope_faults",
    "error_code",
    "excerpt",
    "limit_faults",
    "media_faults",
    "names_in",
    "refusal_faults",
    "request_id",
    "stream_faults",
]

_PARTS: Final = ("limit", "remaining", "reset")
_QUOTA: Final = tuple(f"x-ratelimit-{part}-requests" for part in _PARTS)
_EARLY_SECONDS: Final = 2.0
"""How much earlier than ``Retry-After`` a reset header may be, in seconds.

A server that means the moment ``now + wait`` in both sends ``Retry-After = ceil(wait)`` and
``reset = ceil(now + wait)``. The reader subtracts ``Date``, which is ``floor(now)`` or older, because servers cache it
for about a second. So the reset seems later than ``Retry-After`` by up to three seconds, and earlier by less than one,
which is the rounding of ``Retry-After``. One more second is for a proxy whose own clock writes the ``Date``. A later
reset is no fault: it may name the moment when the whole quota is back, and whoever obeys it is not refused. An earlier
one sends its reader back too soon. (Two seconds both ways made a check of flexmw itself fail one run in three.)
"""
_LONGEST_DAYS: Final = 366
_EXCERPT: Final = 60
_UNSAFE: Final = re.compile(r"[^\x20-\x7e]+")
_EVENT: Final = re.compile(rb"(?:\r\n|\n|\r){2,}")
_LINE: Final = re.compile(rb"\r\n|\n|\r")


def excerpt(body: bytes) -> str:
    """The beginning of a body in printable ASCII, in quotes, without credentials."""
    text = _UNSAFE.sub(" ", redact(body[: 4 * _EXCERPT].decode("utf-8", "replace"))).strip()
    return f'"{text if len(text) <= _EXCERPT else text[: _EXCERPT - 3] + "..."}"' if body else "empty"


def envelope_faults(
    response: Response, statuses: tuple[int, ...], type: str | None = None, code: str | None = None
) -> list[str]:
    """Judge an error response by the contract.

    :param statuses: the statuses that pass.
    :param type: the ``error.type`` that passes; ``None`` for any.
    :param code: the ``error.code`` that passes; ``None`` for any.
    """
    faults: list[str] = []
    if response.status not in statuses:
        faults.append(f"status is {response.status}, not {_listed(statuses)}")
    faults += media_faults(response, "application/json")
    error = ErrorBody.decode(response.body)
    if error is None:
        faults.append(f"the body is not the error object of the contract: {excerpt(response.body)}")
    elif response.status in statuses:
        for name, value, required in (("type", error.type, type), ("code", error.code, code)):
            if required is not None and value != required:
                faults.append(f"error.{name} is {_shown(value)}, not {required!r}")
    if error is not None and not error.message.strip():
        faults.append("error.message is empty")
    return faults


def _listed(statuses: tuple[int, ...]) -> str:
    *first, last = map(str, statuses)
    return f"{', '.join(first)} or {last}" if first else last


def _shown(value: str | None) -> str:
    return "null" if value is None else repr(value[:_EXCERPT])


def media_faults(response: Response, required: str) -> list[str]:
    """Judge the media type; parameters such as ``charset`` do not count."""
    media = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    return [] if media == required else [f"content-type is {media[:_EXCERPT] or 'missing'!r}, not {required}"]


def error_code(response: Response) -> str | None:
    """The code of an error of the contract; ``None`` for any other body."""
    error = ErrorBody.decode(response.body)
    return error.code if error else None


def request_id(response: Response) -> str:
    """The id that a response names, or an empty text."""
    return response.headers.get("x-request-id", "") or response.headers.get("request-id", "")


def names_in(value: str) -> set[str]:
    """The names of a header that lists names, in lower case."""
    return {name.strip().lower() for name in value.split(",") if name.strip()}


def refusal_faults(headers: Mapping[str, str], *, now: float) -> list[str]:
    """Judge the headers of a 429: one is missing, or two contradict each other.

    :param now: Unix seconds, to compute the wait of a response without a ``Date``.
    """
    readings = read_limits(headers, now=_clock(headers, now))
    if not any(_is_whole(reading) for reading in readings):
        missing = [name for name in ("retry-after", *_QUOTA) if name not in headers]
        if missing:
            return [f"a 429 without {', '.join(missing)}"]
    elif "retry-after" not in headers:
        return ["a 429 without retry-after"]
    wait = wait_of(headers, now=now)
    reset = wait_of({name: value for name, value in headers.items() if "retry-after" not in name}, now=now)
    if wait is None or wait.source == "reset":
        return [f"Retry-After is {headers['retry-after'][:_EXCERPT]!r}, which is no time"]
    if reset is None:
        values = [value for name, value in headers.items() if name.endswith("reset-requests")]
        return [f"the reset header is {''.join(values)[:_EXCERPT]!r}, which is no time"]
    if reset.seconds < wait.seconds - _EARLY_SECONDS:
        asked = f"Retry-After asks for {wait.seconds:g} s, the reset header for {reset.seconds:g} s"
        return [f"{asked}: whoever obeys the reset comes too early"]
    return []


def limit_faults(headers: Mapping[str, str], *, now: float) -> list[str] | None:
    """Judge the limit headers of a response that was admitted; ``None`` where it has none.

    :param now: Unix seconds, to read a reset of a response without a ``Date``.
    """
    readings = read_limits(headers, now=_clock(headers, now))
    if not readings:
        return None
    faults: list[str] = []
    if not any(map(_is_whole, readings)):  # a prepaid credit beside them never resets
        names = ", ".join(reading.dimension or reading.unit for reading in readings)
        faults.append(f"no limit ({names}) has a readable {', '.join(_PARTS)}")
    for reading in readings:
        name = reading.dimension or reading.unit
        if reading.limit is not None and reading.remaining is not None and reading.remaining > reading.limit:
            faults.append(f"of {reading.limit} {name}, {reading.remaining} are said to remain")
        if reading.reset_after is not None and reading.reset_after > _LONGEST_DAYS * 86400:
            faults.append(f"the limit of {name} resets in {reading.reset_after / 86400:.0f} days")
    return faults


def _clock(headers: Mapping[str, str], now: float) -> float:
    """Unix seconds by the server's clock: its ``Date``, else those of this machine."""
    date = http_date(headers.get("date", ""))
    return now if date is None else date


def _is_whole(reading: LimitReading) -> bool:
    return None not in (reading.limit, reading.remaining, reading.reset)


def stream_faults(body: bytes, *, with_usage: bool = False) -> list[str]:
    """Judge the event stream of a chat completion: data lines of JSON, then ``data: [DONE]``.

    :param with_usage: the caller has asked for ``stream_options.include_usage``.
    """
    faults: list[str] = []
    if not ends_in_blank_line(body):
        faults.append("the stream does not end in a blank line: its last event was cut")
    events = [_data_of(event) for event in _EVENT.split(body.strip(b"\r\n"))]
    events = [data for data in events if data]
    if not events:
        return [*faults, f"the stream has no event with data: {excerpt(body)}"]
    if events[-1] != b"[DONE]":
        faults.append(f"the last event is not [DONE]: {excerpt(events[-1])}")
    chunks = [(data, _object(data)) for data in events if data != b"[DONE]"]
    for data, chunk in chunks:
        if chunk is None:
            return [*faults, f"an event is not a JSON object: {excerpt(data)}"]
        if "error" in chunk:
            return [*faults, f"the stream holds an error: {excerpt(data)}"]
    if not any(chunk and chunk.get("choices") for _, chunk in chunks):
        faults.append("no event has choices")
    if with_usage and not any(chunk and isinstance(chunk.get("usage"), dict) for _, chunk in chunks):
        faults.append("stream_options.include_usage was asked for, and no event has usage")
    return faults


def _data_of(event: bytes) -> bytes:
    lines = [line[5:].removeprefix(b" ") for line in _LINE.split(event) if line.startswith(b"data:")]
    return b"\n".join(lines).strip()


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
