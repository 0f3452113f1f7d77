"""Dialects: the formats of an error on the wire. OpenAI's is built in, others are plugins.

A dialect is chosen for each request, by path or by ``Accept``: the first dialect that serves the request writes its
errors.

>>> error = ErrorBody(message="Not found.", type="invalid_request_error", code="not_found")
>>> OpenAI().event(error, status=404, path="/v1/chat/completions", last=b"")
b'event: error\\ndata: {"error":{"message":"Not found.","type":"invalid_request_error","code":"not_found"}}\\n\\n'
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

from flexmw.contract import ErrorBody
from flexmw.contract.bodies import is_envelope
from flexmw.contract.idempotent_stream import ends_whole
from flexmw.errors import PluginError
from flexmw.kit.entry_points import claim, declared, fault
from flexmw.kit.entry_points import load as load_plugin

__all__ = ["GROUP", "Dialect", "OpenAI", "choose", "load"]

GROUP: Final = "flexmw.dialects"
"""The entry-point group of dialects. An entry point is a class that is called without arguments."""


@runtime_checkable
class Dialect(Protocol):
    """Writes and reads errors in one format. A dialect keeps no state of a request."""

    @property
    def media_type(self) -> str:
        """The ``Content-Type`` of a whole error."""
        ...

    def serves(self, path: str, accept: str) -> bool:
        """True if this dialect writes the errors of this request."""
        ...

    def keeps(self, value: object) -> bool:
        """True if a JSON value is an error of this dialect. Such a body is not changed."""
        ...

    def render(self, error: ErrorBody, *, status: int, request_id: str | None) -> bytes:
        """The body of a whole error."""
        ...

    def event(self, error: ErrorBody, *, status: int, path: str, last: bytes) -> bytes:
        """The server-sent event that ends a failed stream.

        :param last: the last events that were sent.
        """
        ...

    def finished(self, last: bytes) -> bool:
        """True if a stream that ends with the events ``last`` is complete; nothing may follow it."""
        ...


_SEQUENCE: Final = re.compile(rb'"sequence_number": ?(\d{1,15})')
_RESPONSES: Final = re.compile(r"/responses(?:/|$)")


@dataclass(frozen=True, kw_only=True)
class OpenAI:
    """The contract's own format, as OpenAI's SDKs read it.

    :param null_param: write ``"param": null`` where the field is unknown, as OpenAI's schema of ``Error`` requires.
    """

    null_param: bool = False

    media_type = "application/json"

    def serves(self, path: str, accept: str) -> bool:
        return True

    def keeps(self, value: object) -> bool:
        return is_envelope(value)

    def render(self, error: ErrorBody, *, status: int, request_id: str | None) -> bytes:
        return error.encode(null_param=self.null_param)

    def event(self, error: ErrorBody, *, status: int, path: str, last: bytes) -> bytes:
        """An event ``error`` with the data ``{"error": ...}``.

        OpenAI's, Groq's and Mistral's SDKs raise on the key ``error``, Anthropic's on the name of the event. The event
        of the Responses API has the fields of that API as well.
        """
        if not _RESPONSES.search(path):
            return b"event: error\ndata: " + error.encode(null_param=self.null_param) + b"\n\n"
        value = error.as_dict(null_param=self.null_param)
        numbers = _SEQUENCE.findall(last)
        number = int(numbers[-1]) + 1 if numbers else 0
        flat = {"type": "error", "code": error.code, "message": error.message, "param": error.param}
        text = json.dumps({**flat, "sequence_number": number, **value}, ensure_ascii=False, separators=(",", ":"))
        return b"event: error\ndata: " + text.encode("utf-8", "replace") + b"\n\n"

    def finished(self, last: bytes) -> bool:
        return ends_whole(last)


def choose(dialects: Iterable[Dialect], path: str, accept: str, default: Dialect) -> Dialect:
    """The first of ``dialects`` that serves a request, else ``default``."""
    return next((dialect for dialect in dialects if dialect.serves(path, accept)), default)


def load(dialect: Dialect | str) -> Dialect:
    """Load a dialect by the name of its entry point; a dialect object is returned as it is.

    :raises PluginError: no entry point has the name, several have it, or it does not lead to a dialect.
    """
    if not isinstance(dialect, str):
        return dialect
    plugins = declared(GROUP)
    plugin = claim(plugins, dialect)
    if plugin is None:
        known = ", ".join(sorted(plugin.name for plugin in plugins)) or "none is installed"
        problem = f"no entry point of {GROUP} has this name ({known})"
        raise PluginError(dialect, problem, fix="Install the distribution that declares it")
    make, fix = load_plugin(plugin), f"Repair or upgrade {plugin.distribution}"
    try:
        made = make()
    except (Exception, SystemExit) as error:
        raise fault(plugin, f"cannot be made: {type(error).__name__}: {error}", fix=fix) from error
    if not isinstance(made, Dialect):
        raise fault(plugin, "is no dialect: it lacks a method of flexmw.envelope.Dialect", fix=fix)
    return made


def check_dialects(value: Any) -> bool:
    """True if an option's value is a tuple or list of dialects and names."""
    items: Any = value
    return isinstance(value, (tuple, list)) and all(map(_is_dialect, items))


def _is_dialect(value: object) -> bool:
    return isinstance(value, (str, Dialect))
