"""Keep responses in memory, and respond with them without sending: a flexmw component to copy.

>>> Cache(max_entries=500).max_entries
500
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import flexmw
from acme_cache._entries import Entries, Entry
from flexmw.kit.clock import SYSTEM, Clock

__all__ = ["Cache"]

_KEYED = ("accept", "accept-encoding", "accept-language")
"""The request headers that are part of the key: a response may vary by them."""

_PRIVATE = ("authorization", "cookie", "range")
"""A request with one of these headers passes."""


@dataclass(frozen=True, kw_only=True)
class Cache:
    """Keep each 200 to a GET for as long as its ``Cache-Control: max-age`` says (RFC 9111).

    It belongs outside ``retry`` and ``pace``: a response that is kept costs neither an attempt nor a wait.

    :param max_entries: how many responses are kept, at least 1; the one that was used longest ago goes first.
    :param max_bytes: the largest body that is kept, in bytes.
    :param clock: gives monotonic seconds.
    :raises flexmw.ConfigError: an option that cannot work.
    """

    name: ClassVar[str] = "acme.cache"
    api: ClassVar[int] = 1
    order: ClassVar[flexmw.Order] = flexmw.Order(after=("tagging",), before=("retry", "pace"))

    max_entries: int = 1000
    max_bytes: int = 65536
    clock: Clock = field(default=SYSTEM, repr=False, compare=False, metadata={"hidden": True})
    _entries: Entries = field(default_factory=Entries, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for option in ("max_entries", "max_bytes"):
            value = getattr(self, option)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise flexmw.ConfigError(f"Cache({option}=...)", value, "a whole number, at least 1")

    def flow(self, request: flexmw.Request) -> flexmw.Flow:
        """Client side: respond with what is kept, or send the request and keep the response."""
        if request.method != "GET" or any(name in request.headers for name in _PRIVATE):
            return (yield from flexmw.send(request))
        key = (str(request.url), *(request.headers.get(name, "") for name in _KEYED))
        now = self.clock.monotonic()
        entry = self._entries.get(key, now)
        if entry is not None and not _directives(request.headers) & {"no-cache", "no-store"}:
            age = entry.age + int(now - entry.stored)
            yield from flexmw.emit("acme.cached", {"age": age})
            headers = [*entry.headers, ("age", str(age))]
            return flexmw.build_response(request, headers=headers, body=entry.body)
        response = yield from flexmw.send(request)
        seconds = _lifetime(request, response)
        if seconds > 0:
            body = yield from flexmw.read(response, self.max_bytes)
            if body is not None:
                age = _seconds(response.headers.get("age", "0"))
                pairs = [(name, value) for name, value in response.headers.items() if name != "age"]
                entry = Entry(headers=tuple(pairs), body=body, age=age, stored=now, until=now + seconds - age)
                self._entries.put(key, entry, self.max_entries)
        return response


def _lifetime(request: flexmw.Request, response: flexmw.Response) -> int:
    """The seconds for which a response may be kept; 0 if it may not."""
    directives = _directives(response.headers)
    if response.status_code != 200 or "set-cookie" in response.headers or "no-store" in _directives(request.headers):
        return 0
    if directives & {"private", "no-store", "no-cache"}:
        return 0
    vary = {name.strip().lower() for name in response.headers.get("vary", "").split(",")} - {""}
    if not vary <= set(_KEYED):
        return 0
    ages = [directive.removeprefix("max-age=") for directive in directives if directive.startswith("max-age=")]
    return _seconds(ages[0]) if len(ages) == 1 else 0


def _directives(headers: Mapping[str, str]) -> set[str]:
    return {directive.strip().lower() for directive in headers.get("cache-control", "").split(",")}


def _seconds(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
