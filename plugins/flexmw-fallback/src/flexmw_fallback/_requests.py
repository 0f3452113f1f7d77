"""The requests of one call: for each upstream the caller's request with that upstream's URL, headers and body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import flexmw
from flexmw_fallback._credentials import KEY, derived_key, query_without_credentials, without_credentials
from flexmw_fallback._upstream import Upstream, origin_of

__all__ = ["body_of", "request_for", "with_key"]

_FRAMING: Final = ("content-length", "transfer-encoding")


def body_of(request: Any) -> bytes | None:
    """The body of a request where the client holds it in memory; ``None`` for a generator, a file or a multipart."""
    try:
        body = request.content
    except Exception:  # the library's RequestNotRead; nothing is read here
        return None
    return body if isinstance(body, bytes) else None


def request_for(upstream: Upstream, request: Any, path: str, *, own: bool) -> Any:
    """The request of the caller for one upstream.

    :param path: the path below the URL of the first upstream.
    :param own: whether the credentials of the caller are this upstream's.
    :raises flexmw.ConfigError: ``rewrite`` or ``headers`` of the upstream raises, or returns what cannot be sent.
    """
    own_headers = _own_headers(upstream)
    if own and not own_headers and upstream.rewrite is None:
        return request
    pairs: list[tuple[str, str]] = list(request.headers.multi_items())
    key = request.headers.get(KEY)
    url = str(request.url)
    if not own:
        pairs = [pair for pair in without_credentials(pairs) if pair[0].lower() != "host"]
        if key is not None:
            pairs.append((KEY, derived_key(key, upstream.origin)))
        url = _url_for(upstream, urlsplit(url).query, path)
    pairs = _with(pairs, own_headers)
    if upstream.rewrite is None:
        return _copy(request, url, pairs)
    return _rewritten(upstream, request, url, pairs)


def with_key(request: Any, key: str) -> Any:
    """The same request under an idempotency key."""
    return _copy(request, str(request.url), [*request.headers.multi_items(), (KEY, key)])


def _own_headers(upstream: Upstream) -> Mapping[str, str | None]:
    try:
        return upstream.own_headers()
    except flexmw.ConfigError:
        raise
    except Exception as error:
        expected = f"a function that returns headers; it raised {type(error).__name__}"
        raise flexmw.ConfigError("Upstream(headers=...)", "***", expected) from error


def _url_for(upstream: Upstream, query: str, path: str) -> str:
    kept = query_without_credentials(query)
    return f"{upstream.origin}{upstream.path}{path}" + (f"?{kept}" if kept else "")


def _with(pairs: list[tuple[str, str]], headers: Mapping[str, str | None]) -> list[tuple[str, str]]:
    if not headers:
        return pairs
    replaced = {name.lower() for name in headers}
    added = [(name, value) for name, value in headers.items() if value is not None]
    return [pair for pair in pairs if pair[0].lower() not in replaced] + added


def _copy(request: Any, url: str, pairs: list[tuple[str, str]], body: bytes | None = None) -> Any:
    """The same request with another URL, other headers and, where it is given, another body."""
    if body is not None:
        headers = [pair for pair in pairs if pair[0].lower() not in _FRAMING]
        return type(request)(request.method, url, headers=headers, content=body)
    copy: Any = type(request)(request.method, url, headers=pairs, stream=request.stream)
    return copy if "host" in copy.headers else _with_host(copy)


def _with_host(request: Any) -> Any:
    """Put ``Host`` in front: a request that is made with a stream gets none."""
    host = request.url.netloc.decode("ascii")
    request.headers = type(request.headers)([("Host", host), *request.headers.multi_items()])
    return request


def _rewritten(upstream: Upstream, request: Any, url: str, pairs: list[tuple[str, str]]) -> Any:
    body = body_of(request)
    copy = _copy(request, url, pairs, body)
    try:
        result: Any = upstream.rewrite(copy, upstream) if upstream.rewrite is not None else None
    except Exception as error:
        expected = f"a function that returns (url, headers, body); for {upstream.origin} it raised {error!r}"
        raise flexmw.ConfigError("Upstream(rewrite=...)", upstream.rewrite, expected) from error
    if not (isinstance(result, tuple) and len(result) == 3):
        raise flexmw.ConfigError("Upstream(rewrite=...)", result, "a function that returns (url, headers, body)")
    new_url, new_headers, new_body = result
    if not (new_body is None or isinstance(new_body, bytes)):
        raise flexmw.ConfigError("Upstream(rewrite=...)", new_body, "a function whose body is bytes, or None")
    if new_body is not None and body is None:
        expected = "no body: that of the request is not in memory, and cannot be replaced"
        raise flexmw.ConfigError("Upstream(rewrite=...)", new_body, expected)
    target = url if new_url is None else str(new_url)
    if origin_of(target) != upstream.origin:
        expected = f"a URL of {upstream.origin}: circuits and credentials are kept by upstream"
        raise flexmw.ConfigError("Upstream(rewrite=...)", target, expected)
    headers = list(copy.headers.multi_items()) if new_headers is None else _pairs(new_headers)
    if body is None and new_headers is not None:
        headers = [pair for pair in headers if pair[0].lower() not in _FRAMING]
        headers += [(name, request.headers[name]) for name in _FRAMING if name in request.headers]
    return _copy(request, target, headers, body if new_body is None else new_body)


def _pairs(headers: Any) -> list[tuple[str, str]]:
    """Headers as pairs: of a mapping, of the library's own class, or of a list of pairs."""
    items = headers.multi_items() if hasattr(headers, "multi_items") else None
    if items is None:
        items = headers.items() if isinstance(headers, Mapping) else headers
    try:
        pairs = [(name, value) for name, value in items]
    except (TypeError, ValueError):
        pairs = [("", None)]
    if not all(isinstance(name, str) and isinstance(value, str) for name, value in pairs):
        raise flexmw.ConfigError("Upstream(rewrite=...)", "headers", "a mapping of header names to values, or pairs")
    return pairs
