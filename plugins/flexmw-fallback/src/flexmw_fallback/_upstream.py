"""One upstream: its URL, what is sent to it, and its share of the callers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

import flexmw

__all__ = ["HeadersOption", "RewriteOption", "Upstream", "origin_of", "upstream_of"]

HeadersOption = Mapping[str, str | None] | Callable[[], Mapping[str, str | None]] | None
RewriteOption = Callable[[Any, "Upstream"], tuple[Any, Any, Any]] | None

_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Upstream:
    """A server that may take the calls of a client, with a base URL that is its own.

    The first upstream of a ``Fallback`` is the one that the client, or the SDK, is made for: its URL is the client's
    base URL, and the credentials of the client are sent to it alone. Every other upstream gets the requests without
    credentials, cookies and idempotency keys; ``headers`` gives it its own.

    :param url: the base URL, such as ``https://api.example.com/v1``: a path below the first upstream's URL is put
        below this one.
    :param headers: headers for this upstream, in place of those of the same name; ``None`` as a value removes one. Or
        a function without arguments that returns them, for credentials that are renewed; it must not block.
    :param rewrite: ``rewrite(request, upstream)`` returns ``(url, headers, body)`` for this upstream; ``None`` in any
        place leaves it as it is. The request is a copy without the credentials of other upstreams. The function is
        called before anything is sent, so that a fault in it is found before an outage. The body is bytes.
    :param weight: the share of the callers whose calls begin here, with ``Fallback(split_by=...)``; an upstream without
        one takes calls that others did not take.
    :raises flexmw.ConfigError: an option that cannot work.
    """

    url: str
    headers: HeadersOption = field(default=None, repr=False, kw_only=True)
    rewrite: RewriteOption = field(default=None, kw_only=True)
    weight: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        expected = "a base URL such as 'https://api.example.com/v1', without credentials, query and fragment"
        if not isinstance(self.url, str):
            self._refuse("url", self.url, expected)
        try:
            parts = urlsplit(self.url)
            has_host = parts.scheme in _PORTS and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            self._refuse("url", self.url, expected)
        if not has_host or parts.query or parts.fragment or "@" in parts.netloc:
            self._refuse("url", "..." if "@" in parts.netloc else self.url, expected)
        if not (self.headers is None or callable(self.headers) or _are_headers(self.headers)):
            self._refuse("headers", "***", "a mapping of header names to values, or a function that returns one")
        if not (self.rewrite is None or callable(self.rewrite)):
            self._refuse("rewrite", self.rewrite, "a function of the request and the upstream")
        if not (self.weight is None or _is_weight(self.weight)):
            self._refuse("weight", self.weight, "a number above 0, or None for an upstream without a share")

    def _refuse(self, option: str, value: object, expected: str) -> NoReturn:
        raise flexmw.ConfigError(f"Upstream({option}=...)", value, expected)

    @cached_property
    def origin(self) -> str:
        """Scheme, host and port, as ``outcome.upstream`` names the upstream."""
        return origin_of(self.url)

    @cached_property
    def path(self) -> str:
        """The path of the base URL, without a slash at its end."""
        return urlsplit(self.url).path.rstrip("/")

    def path_below(self, url: str) -> str | None:
        """The rest of a URL's path that lies below this upstream's; ``None`` for a URL of another server or path."""
        if origin_of(url) != self.origin:
            return None
        path = urlsplit(url).path
        if path == self.path or path.startswith(f"{self.path}/"):
            return path[len(self.path) :]
        return None

    def own_headers(self) -> Mapping[str, str | None]:
        """The headers for this upstream.

        :raises flexmw.ConfigError: the function returns something else.
        """
        headers = self.headers() if callable(self.headers) else self.headers
        if headers is not None and not _are_headers(headers):
            self._refuse("headers", "***", "a function that returns a mapping of header names to values")
        return headers or {}


def upstream_of(value: Any) -> Upstream:
    """An upstream, from a configuration file too, where it is a table or a URL.

    :raises flexmw.ConfigError: the value is neither, or has an option that an upstream does not have.
    """
    if isinstance(value, Upstream):
        return value
    if isinstance(value, str):
        return Upstream(value)
    known = ("url", "headers", "weight")
    if isinstance(value, Mapping) and "url" in value and set(value) <= set(known):
        return Upstream(**value)
    raise flexmw.ConfigError("Fallback(*upstreams)", value, f"Upstream(...), or a table with {', '.join(known)}")


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL, without the port that is usual for the scheme."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    host = f"[{host}]" if ":" in host else host
    port = "" if parts.port in (None, _PORTS.get(parts.scheme)) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def _are_headers(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and (content is None or isinstance(content, str)) for name, content in value.items()
    )


def _is_weight(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > 0
