"""Response head: the headers that an execution adds to the app's response, and what it records of the head."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from flexmw.contract.content import EVENT_STREAM
from flexmw.contract.idempotent_stream import STREAM
from flexmw.idempotency.completion import stores
from flexmw.idempotency.log import ResponseLog
from flexmw.idempotency.plan import Plan
from flexmw.idempotency.recording import ResponseRecorder
from flexmw.idempotency.stored import lasting_headers
from flexmw.kit.asgi import Message, Scope
from flexmw.kit.exchange import Exchange, Header

__all__ = [
    "HTTP_1_0",
    "NO_RETRY",
    "RESULT",
    "TTL_HEADER",
    "announce_ttl",
    "hide_file_bodies",
    "is_stream",
    "response_log",
    "stream_field",
    "write_head",
]

RESULT: Final = "flexmw.idempotency.result"
"""The span attribute that says what happened to a request."""

TTL_HEADER: Final = b"idempotency-key-ttl"
"""Announces that keys are honoured. A request that runs without the store must not have it in its response: the client
would rely on the key."""

NO_RETRY: Final = (b"x-should-retry", b"false")

_STREAM: Final = STREAM.encode()
_TYPE: Final = b"content-type"
_LENGTH: Final = b"content-length"

_EVENT_STREAM_HEADERS: Final = (
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
)
"""Ask proxies to pass on each event at once, and unchanged: a proxy that compresses moves the offsets."""

_SHORT_BYTES: Final = 16 * 1024
"""Longest ``Content-Length`` of a response in several messages that the app's own task sends. An inner middleware often
splits a whole response, and no server waits for the client before it has taken so many bytes."""

HTTP_1_0: Final = frozenset({"1.0", "1"})
"""The spellings of HTTP/1.0 in ``scope["http_version"]``. A server may end a body by closing the connection there, so
that a body that is cut looks like a whole one."""

_FILE_EXTENSIONS: Final = frozenset({"http.response.pathsend", "http.response.zerocopysend"})
"""ASGI extensions that send a body without showing it to middleware."""


def hide_file_bodies(scope: Scope) -> None:
    """Hide the extensions from the app that send a body without showing it, so that the body can be recorded."""
    extensions = scope["extensions"]
    if _FILE_EXTENSIONS & extensions.keys():
        scope["extensions"] = {name: value for name, value in extensions.items() if name not in _FILE_EXTENSIONS}


def announce_ttl(exchange: Exchange, header: Header | None) -> None:
    """Set ``Idempotency-Key-TTL`` of the response, or remove it. The innermost Idempotency sets the header last.

    :param header: the name and the value; ``None`` removes the header.
    """
    headers = exchange.headers
    for name, _ in headers:
        if name == TTL_HEADER:
            headers[:] = [pair for pair in headers if pair[0] != TTL_HEADER]
            break
    if header is not None:
        headers.append(header)


def stream_field(generation: str, *, confirm: bool = False) -> bytes:
    """The value of ``Idempotent-Stream`` in the first response of a generation.

    A generation has only hexadecimal digits, so the value needs neither escapes nor a check.

    :param confirm: whether a cut of the response cannot be seen by the client.
    """
    return f'"{generation}";confirm'.encode() if confirm else f'"{generation}"'.encode()


def write_head(
    message: Message,
    recorder: ResponseRecorder,
    plan: Plan,
    scope: Scope,
    exchange: Exchange,
    generation: str,
    is_keyed: bool,
    is_anonymous: bool,
) -> Message:
    """Record the head that the app has sent, and return the head to send.

    :param generation: the generation of the execution.
    :param is_keyed: the request has a key.
    :param is_anonymous: the caller has shown no credential.
    """
    status: int = message["status"]
    headers: list[Header] = []
    fields: dict[bytes, bytes] = {}
    for name, value in message.get("headers", ()):
        if type(name) is not bytes or type(value) is not bytes:
            name, value = bytes(name), bytes(value)
        headers.append((name, value))
        fields[name.lower()] = value
    if is_keyed and fields.get(_TYPE, b"").lower().startswith(EVENT_STREAM):
        headers += [pair for pair in _EVENT_STREAM_HEADERS if pair[0] not in fields]
    declared = fields.get(_LENGTH, b"")
    length = _length(declared)
    recorder.start(status, headers, length if declared.isdigit() and scope["method"] != "HEAD" else None)
    will_store = stores(status, headers, exchange, is_anonymous=is_anonymous)
    exchange.facts[RESULT] = "stored" if will_store else "released"
    if is_anonymous and b"set-cookie" in fields:
        # The next request brings the cookie, and so comes from another caller: the client must not rely on keys.
        held = exchange.headers
        held[:] = [pair for pair in held if pair[0] != TTL_HEADER]
    elif is_keyed:
        if _STREAM in fields:  # of another server, further inside
            headers = [pair for pair in headers if pair[0].lower() != _STREAM]
        if plan.continues and 200 <= status < 300 and length <= plan.max_body:
            confirm = _LENGTH not in fields and scope.get("http_version") in HTTP_1_0
            headers.append((_STREAM, stream_field(generation, confirm=confirm)))
    is_final = (will_store and status >= 500) or (status == 409 and b"retry-after" not in fields)
    if is_final and NO_RETRY[0] not in fields:
        headers.append(NO_RETRY)
    return {**message, "headers": headers}


def response_log(plan: Plan, recorder: ResponseRecorder, generation: str) -> ResponseLog:
    """The log of a stream whose head was recorded.

    :param generation: the generation of the execution.
    """
    return ResponseLog(
        generation,
        status=recorder.status,
        headers=lasting_headers(recorder.headers),
        max_body=plan.max_body,
        max_followers=plan.followers.limit,
        clock=plan.claims.clock.monotonic,
    )


def _content_length(headers: Iterable[Header]) -> int:
    """The ``Content-Length`` in bytes; 0 where there is none."""
    return _length(next((value for name, value in headers if name.lower() == _LENGTH), b""))


def _length(value: bytes) -> int:
    return int(value) if value.isdigit() and len(value) <= 15 else 0


def is_stream(recorder: ResponseRecorder) -> bool:
    """Whether a response whose first body message says that more follows is sent as a stream."""
    return 200 <= recorder.status < 300 and not 0 < _content_length(recorder.headers) <= _SHORT_BYTES
