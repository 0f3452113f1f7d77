"""The judged API: its base URL, the route for the probes, and the requests that may be sent. Pure.

>>> parse_base("https://api.example.com"), parse_base("http://localhost:8000/openai/?api-version=1")
(Base(url='https://api.example.com/v1', query=''), Base(url='http://localhost:8000/openai', query='api-version=1'))
>>> parse_route("POST /orders")
('POST', '/orders')
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from flexmw.errors import ConfigError

__all__ = ["CHAT", "MODELS", "NO_MODEL", "Base", "Target", "masked_query", "parse_base", "parse_body", "parse_route"]

CHAT: Final = "/chat/completions"
MODELS: Final = "/models"
NO_MODEL: Final = "flexmw-check-no-such-model"
_PROMPT: Final = "Count from one to twenty in words."
_LLM_ROUTES: Final = (CHAT, "/completions", "/responses", "/messages", MODELS, "/embeddings")


@dataclass(frozen=True, slots=True)
class Base:
    """The base URL without its query; ``query`` is sent with each request."""

    url: str
    query: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What the probes ask.

    :param method: method of the route.
    :param path: path of the route, below the base URL.
    :param read_path: a path to read by GET, which does no work; ``None`` where none is known.
    :param is_llm: the route is OpenAI's ``POST /chat/completions``.
    :param has_key: the user has given an API key.
    :param model: the model of paid calls; ``None`` without ``--paid``.
    :param body: the JSON body of paid calls of another route; ``None`` without ``--paid``.
    :param origin: the browser origin of the probes for CORS.
    :param nonce: a text that no other run has; it makes idempotency keys and unknown names unique.
    :param burst: most requests of a burst.
    :param patience: longest time in seconds that one probe of a burst waits for the limiter.
    """

    method: str = "POST"
    path: str = CHAT
    read_path: str | None = MODELS
    is_llm: bool = True
    has_key: bool = False
    model: str | None = None
    body: Mapping[str, Any] | None = None
    origin: str = "https://flexmw-check.example"
    nonce: str = "0"
    burst: int = 200
    patience: float = 180.0

    @property
    def takes_body(self) -> bool:
        """Whether the route reads a body."""
        return self.method != "GET"

    def call(self, **fields: Any) -> bytes:
        """The body of a valid call, with the fields of an LLM call replaced or added."""
        if self.body is not None:
            return _json(self.body)
        messages = [{"role": "user", "content": _PROMPT}]
        return _json({"model": self.model, "messages": messages, "max_tokens": 64, **fields})

    def call_of_no_model(self, **fields: Any) -> bytes:
        """The body of a call of a model that does not exist: no server does work for it."""
        return _json({"model": NO_MODEL, "messages": [{"role": "user", "content": "."}], "max_tokens": 1, **fields})


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value).encode()


def masked_query(url: str) -> str:
    """A URL for output, with the names of its query and without their values: a value may be a key.

    >>> masked_query("https://x/v1?api-version=1&code=s3cret")
    'https://x/v1?api-version=***&code=***'
    """
    head, mark, query = url.partition("?")
    fields = (name + equals for name, equals, _ in (field.partition("=") for field in query.split("&")))
    return head + mark + "&".join(f"{field}***" if field.endswith("=") else "***" for field in fields if query)


def parse_base(url: str) -> Base:
    """Read the URL of an API; ``/v1`` is added to a URL without a path.

    :raises ConfigError: it is not an http or https URL, it holds credentials or a fragment, or it ends in a route.
    """
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname is not None and parts.port != 0
    except ValueError:
        raise ConfigError("check", masked_query(url), "a URL such as https://api.example.com/v1") from None
    if not valid or not url.isascii() or any(character <= " " for character in url):
        raise ConfigError("check", masked_query(url), "a URL such as https://api.example.com/v1")
    if "@" in parts.netloc:
        host = parts.netloc.rpartition("@")[2]
        raise ConfigError("check", f"{parts.scheme}://***@{host}", "a URL without credentials: use --key-env")
    if parts.fragment:
        raise ConfigError("check", masked_query(url), "a URL without a fragment (#): it is never sent to a server")
    path = parts.path.rstrip("/")
    for route in _LLM_ROUTES:
        if path.endswith(route):
            base = f"{parts.scheme}://{parts.netloc}{path.removesuffix(route)}"
            raise ConfigError("check", masked_query(url), f"the base URL, {base}: the route {route} is added to it")
    return Base(f"{parts.scheme}://{parts.netloc}{path or '/v1'}", parts.query)


def parse_route(text: str) -> tuple[str, str]:
    """Read a route such as ``POST /orders``.

    :returns: method and path.
    :raises ConfigError: it has another form, or a method whose requests could do harm.
    """
    method, _, path = text.strip().partition(" ")
    path = path.strip()
    if method.upper() not in ("GET", "POST", "PUT", "PATCH") or not path.startswith("/") or not path.isascii():
        raise ConfigError("--route", text, "GET, POST, PUT or PATCH and a path, such as 'POST /orders'")
    if any(character in path for character in "?# {}"):
        raise ConfigError("--route", text, "a path as it is sent: no query, no template; a query belongs into the URL")
    return method.upper(), path


def parse_body(text: str) -> dict[str, Any]:
    """Read a JSON object.

    :raises ConfigError: it is anything else.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ConfigError("--body", text, """a JSON object, such as '{"item": 1}'""")
    return value
