"""The header field ``Idempotent-Stream``, by which a client continues a response whose connection was cut. Pure.

>>> parse_stream(['"0f8fad5bd9cb469fa165";from=3844'])
StreamPosition(generation='0f8fad5bd9cb469fa165', start=3844, digest=None, confirm=False)
>>> format_stream("0f8fad5bd9cb469fa165", 3844)
'"0f8fad5bd9cb469fa165";from=3844'

``docs/streams.md`` specifies the field: an item of RFC 9651. This module also says how an event stream ends that is
whole, because most reverse proxies end a response that was cut as if it were whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from flexmw.contract.structured_fields import BareItem, Token, format_item, parse_item

__all__ = [
    "MAX_GENERATION",
    "MAX_START",
    "MIN_GENERATION",
    "STREAM",
    "TERMINAL_EVENTS",
    "StreamPosition",
    "ends_in_blank_line",
    "ends_whole",
    "format_stream",
    "last_event",
    "parse_stream",
]

STREAM: Final = "idempotent-stream"
"""The name of the field, in lower case."""

MAX_START: Final = 999_999_999_999_999
"""The largest offset in bytes: the largest integer of RFC 9651."""

MIN_GENERATION: Final = 16
MAX_GENERATION: Final = 64
"""Length of the longest generation in characters."""

_MAX_FIELD: Final = 512
"""Length of the longest field in characters. The longest field that this package writes has 160."""

_DIGEST_BYTES: Final = 32


class StreamPosition(NamedTuple):
    """The value of one field.

    :param generation: the name of one execution's response: other for each execution under a key.
    :param start: the offset of the first byte that is asked for, or that comes, in bytes of the body; ``None`` where
        the response is the first of its generation.
    :param digest: SHA-256 of the ``start`` bytes before; only in a response to a continuation.
    :param confirm: whether the server cannot make a cut of this response visible: the client asks once at its end.
    """

    generation: str
    start: int | None = None
    digest: bytes | None = None
    confirm: bool = False


def parse_stream(values: Sequence[str]) -> StreamPosition:
    """Parse the field lines of one message.

    Parameters that the specification does not name are ignored, so that later versions can add some.

    :param values: the value of each line with the name :data:`STREAM`.
    :raises ValueError: there is not exactly one line, or its value is not valid. The message is meant for the sender.
    """
    if len(values) != 1:
        raise ValueError(f"the field must occur once, and occurs {len(values)} times")
    (value,) = values
    if len(value) > _MAX_FIELD:
        raise ValueError(f"the field is longer than {_MAX_FIELD} characters")
    bare, parameters = parse_item(value)
    if not isinstance(bare, str) or isinstance(bare, Token):
        raise ValueError('the generation must be a quoted string, such as "0f8fad5bd9cb469fa165"')
    if not MIN_GENERATION <= len(bare) <= MAX_GENERATION:
        raise ValueError(f"the generation must have {MIN_GENERATION} to {MAX_GENERATION} characters, not {len(bare)}")
    start, digest, confirm = (parameters.get(name) for name in ("from", "sha256", "confirm"))
    if start is not None and not (type(start) is int and 0 <= start <= MAX_START):
        raise ValueError(f"'from' must be an integer from 0 to {MAX_START}")
    if digest is not None and not (isinstance(digest, bytes) and len(digest) == _DIGEST_BYTES):
        raise ValueError(f"'sha256' must be a byte sequence of {_DIGEST_BYTES} bytes")
    if confirm is not None and not isinstance(confirm, bool):
        raise ValueError("'confirm' must be a boolean")
    return StreamPosition(bare, start, digest, bool(confirm))


def format_stream(
    generation: str, start: int | None = None, digest: bytes | None = None, *, confirm: bool = False
) -> str:
    """Write the value of the field; the parameters are those of :class:`StreamPosition`.

    :raises ValueError: the value would not be valid.
    """
    parameters: dict[str, BareItem] = {}
    if start is not None:
        parameters["from"] = start
    if digest is not None:
        parameters["sha256"] = digest
    if confirm:
        parameters["confirm"] = True
    value = format_item(generation, parameters)
    parse_stream([value])
    return value


TERMINAL_EVENTS: Final = frozenset(
    {
        "[DONE]",  # OpenAI Chat Completions, Mistral, Groq, Cohere: the data of the last event
        "message_stop",  # Anthropic Messages
        "response.completed",  # OpenAI Responses
        "response.failed",
        "response.incomplete",
        "error",  # the error event with which flexmw ends a stream that broke, and Anthropic's
    }
)
"""What marks the last event of a stream: its name, the ``type`` or the only member of its JSON, or its whole data."""

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_BLANK_LINE: Final = re.compile(rb"(?>\r\n|\n|\r){2,}")
"""The group is atomic: CR LF is one line end, never two."""
_BLANK_ENDS: Final = (b"\n\n", b"\r\r", b"\n\r\n")
"""The ends of a body that ends in a blank line, for each line end of the standard (HTML, section 9.2.5). CR LF CR is
not among them: the last LF is missing."""

_BEGINNING: Final = re.compile(rb'\s*\{\s*"(?:type"\s*:\s*"([a-z._]{1,40})"|error"\s*:\s*\{)')
_MAX_JSON: Final = 4096


def ends_in_blank_line(tail: bytes) -> bool:
    """Whether an event stream ends where an event ends.

    :param tail: the last bytes of the body, at least the last three.
    """
    return tail.endswith(_BLANK_ENDS)


def last_event(tail: bytes) -> bytes:
    """The last event of an event stream that ends in a blank line, or the beginning of an event otherwise.

    :param tail: the last bytes of the body, from the beginning of an event on.
    """
    place = 0
    for blank in _BLANK_LINE.finditer(tail):
        if blank.end() < len(tail):
            place = blank.end()
    return tail[place:]


def ends_whole(tail: bytes) -> bool:
    """Whether the last event of an event stream is a known terminal one, so that nothing can come after it.

    :param tail: the last bytes of the body, from the beginning of an event on. The middle of a long event may be
        missing.
    """
    if not ends_in_blank_line(tail):
        return False
    lines = [line.partition(b":") for line in _LINE_END.split(last_event(tail))]
    fields = [(name, value.removeprefix(b" ")) for name, _, value in lines]
    data = b"\n".join(value for name, value in fields if name == b"data")
    names = {value for name, value in fields if name == b"event"} | {data.strip(), _type_of(data)}
    return any(name.decode("latin-1") in TERMINAL_EVENTS for name in names)


def _type_of(data: bytes) -> bytes:
    """The kind of a JSON object: its ``type``, or ``error`` if that is the name of its first member."""
    if (beginning := _BEGINNING.match(data)) is not None:
        return beginning[1] or b"error"
    if not data.startswith(b"{") or len(data) > _MAX_JSON:
        return b""
    try:
        value: Any = json.loads(data)
    except (ValueError, RecursionError):
        return b""
    name = value.get("type") if isinstance(value, dict) else None
    return name.encode("utf-8", "replace") if isinstance(name, str) else b""
