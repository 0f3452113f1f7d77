"""Requests and responses of a client library, as flows see them: the parts that httpx and httpx2 have in common."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Protocol

__all__ = ["URL", "Request", "Response"]


class URL(Protocol):
    """The part of httpx's ``URL`` that flows use."""

    @property
    def scheme(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int | None: ...
    @property
    def path(self) -> str: ...
    @property
    def query(self) -> bytes: ...


class Request(Protocol):
    """A request before it is sent: the client library's own object. A flow may change its headers and extensions."""

    method: str
    extensions: MutableMapping[str, Any]
    stream: Any

    @property
    def url(self) -> URL: ...
    @property
    def headers(self) -> MutableMapping[str, str]: ...


class Response(Protocol):
    """A response whose head has arrived: the client library's own object. Its body has not been read."""

    status_code: int
    extensions: MutableMapping[str, Any]
    stream: Any

    @property
    def headers(self) -> MutableMapping[str, str]: ...
