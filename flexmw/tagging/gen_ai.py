"""Attributes ``gen_ai.*`` of requests to language models, as far as they are in the head and the frame of the messages.

Prompts and completions are never recorded. Names follow the OpenTelemetry semantic conventions for generative AI of
``opentelemetry-semantic-conventions`` 0.66. Usage is read from a JSON response, or from the last events of a stream.

>>> request_attributes("POST", "/v1/chat/completions", "api.openai.com", b'{"model": "gpt-x", "messages": []}')
{'gen_ai.operation.name': 'chat', 'gen_ai.provider.name': 'openai', 'gen_ai.request.model': 'gpt-x'}
>>> response_attributes([{"model": "gpt-x-1", "usage": {"prompt_tokens": 3, "completion_tokens": 5}}])
{'gen_ai.response.model': 'gpt-x-1', 'gen_ai.usage.input_tokens': 3, 'gen_ai.usage.output_tokens': 5}
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple, Self

from flexmw.contract import redact
from flexmw.tagging.call_body import has_readable_body, is_event_stream
from flexmw.tagging.core import Attributes

__all__ = [
    "GenAi",
    "body_in_memory",
    "request_attributes",
    "response_attributes",
    "usage_attributes",
]

MAX_BODY_BYTES: Final = 1024 * 1024
"""Bodies up to this length are parsed; the attributes that a longer one has are left out."""

_MAX_MODEL: Final = 128
"""Characters of the longest name of a model. A longer text is not the name of a model."""

_HEAD_BYTES: Final = 16 * 1024
_TAIL_BYTES: Final = 64 * 1024


class _Api(NamedTuple):
    """The end of a path that SDKs call.

    :param operation: ``gen_ai.operation.name``.
    :param provider: ``gen_ai.provider.name`` where the host is not a known one: whose API this is.
    """

    path: re.Pattern[str]
    operation: str
    provider: str


_APIS: Final = tuple(
    _Api(re.compile(path), operation, provider)
    for path, operation, provider in (
        (r"/(?:deployments/(?P<model>[^/]+)/)?chat/completions$", "chat", "openai"),
        (r"/(?:deployments/(?P<model>[^/]+)/)?completions$", "text_completion", "openai"),
        (r"/(?:deployments/(?P<model>[^/]+)/)?embeddings$", "embeddings", "openai"),
        (r"/v\d+/responses$", "chat", "openai"),
        (r"/v\d+/messages$", "chat", "anthropic"),
        (r"/models/(?P<model>[^/:]+):(?:stream)?[gG]enerateContent$", "generate_content", "gcp.gemini"),
        (r"/models/(?P<model>[^/:]+):(?:embedContent|batchEmbedContents)$", "embeddings", "gcp.gemini"),
        (r"/model/(?P<model>[^/]+)/converse(?:-stream)?$", "chat", "aws.bedrock"),
        (r"/v2/chat$", "chat", "cohere"),
        (r"/v2/embed$", "embeddings", "cohere"),
    )
)
"""The first row that matches the end of the path of a POST."""

_HOSTS: Final = (
    ("api.openai.com", "openai"),
    (".openai.azure.com", "azure.ai.openai"),
    (".services.ai.azure.com", "azure.ai.inference"),
    ("api.anthropic.com", "anthropic"),
    ("generativelanguage.googleapis.com", "gcp.gemini"),
    ("aiplatform.googleapis.com", "gcp.vertex_ai"),
    (".amazonaws.com", "aws.bedrock"),
    ("api.cohere.com", "cohere"),
    ("api.cohere.ai", "cohere"),
    ("api.deepseek.com", "deepseek"),
    ("api.groq.com", "groq"),
    ("api.mistral.ai", "mistral_ai"),
    ("api.perplexity.ai", "perplexity"),
    ("api.x.ai", "x_ai"),
    (".ml.cloud.ibm.com", "ibm.watsonx.ai"),
)
"""The end of a host name to ``gen_ai.provider.name``."""

_TOKENS: Final = (
    ("gen_ai.usage.input_tokens", ("prompt_tokens", "input_tokens", "promptTokenCount", "inputTokens")),
    ("gen_ai.usage.output_tokens", ("completion_tokens", "output_tokens", "candidatesTokenCount", "outputTokens")),
)
"""An attribute to the names of the number in the ``usage`` of the APIs."""

_ANTHROPICS_CACHED: Final = ("cache_read_input_tokens", "cache_creation_input_tokens")
"""Anthropic counts these apart from ``input_tokens``; by the conventions they are part of the input tokens."""


def request_attributes(method: str, path: str, host: str | None, body: bytes | None) -> Attributes:
    """The attributes of a request; none for a request that is not to a known API.

    :param host: the called host; ``None`` on the server, whose own API the path is.
    :param body: the body of the request, ``None`` where it is not known.
    """
    for api in _APIS if method == "POST" else ():
        if (match := api.path.search(path)) is not None:
            attributes: Attributes = {
                "gen_ai.operation.name": api.operation,
                "gen_ai.provider.name": _provider_of(host) or api.provider,
            }
            (fields,) = _json_objects(body or b"") or ({},)
            if (model := _model(fields.get("model")) or _model(match.groupdict().get("model"))) is not None:
                attributes["gen_ai.request.model"] = model
            return attributes
    return {}


def response_attributes(objects: Iterable[Mapping[str, Any]]) -> Attributes:
    """The attributes of a response: of its JSON object, or of the objects in the events of a stream, in their order."""
    attributes: Attributes = {}
    for fields in objects:
        for part in (fields, fields.get("message"), fields.get("response")):
            if isinstance(part, Mapping):
                attributes |= _of_object(part)
    return attributes


def usage_attributes(details: Mapping[str, Any]) -> Attributes:
    """The attributes of the usage that a limiter has read, also of an API that is not known here.

    :param details: those of the event ``flexmw.rate_limiting.settled``.
    """
    attributes: Attributes = {
        "gen_ai.usage.input_tokens": details["input_tokens"],
        "gen_ai.usage.output_tokens": details["output_tokens"],
    }
    if (model := _model(details["model"])) is not None:
        attributes["gen_ai.response.model"] = model
    return attributes


def _of_object(fields: Mapping[str, Any]) -> Attributes:
    attributes: Attributes = {}
    if (model := _model(fields.get("model")) or _model(fields.get("modelVersion"))) is not None:
        attributes["gen_ai.response.model"] = model
    usage: Any = fields.get("usage") or fields.get("usageMetadata")
    if isinstance(usage, Mapping):
        for attribute, names in _TOKENS:
            if (count := next((usage[name] for name in names if _is_count(usage.get(name))), None)) is not None:
                cached = _ANTHROPICS_CACHED if attribute == "gen_ai.usage.input_tokens" else ()
                attributes[attribute] = count + sum(usage[name] for name in cached if _is_count(usage.get(name)))
    return attributes


def _json_objects(body: bytes) -> list[dict[str, Any]]:
    """The JSON object that a body is, in a list; an empty list for anything else."""
    if len(body) > MAX_BODY_BYTES:
        return []
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        return []
    return [value] if isinstance(value, dict) else []


def body_in_memory(request: Any) -> bytes:
    """The body of a client's request; empty where it is generated while it is sent."""
    try:
        return bytes(request.content)
    except Exception:  # the library's RequestNotRead; another library may have no such attribute
        return b""


def _provider_of(host: str | None) -> str | None:
    return next((provider for end, provider in _HOSTS if host is not None and host.endswith(end)), None)


def _model(value: object) -> str | None:
    is_name = isinstance(value, str) and 0 < len(value) <= _MAX_MODEL and value.isprintable()
    return redact(str(value)) if is_name else None


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


class GenAi:
    """What is copied of one request to a known API and of its response, up to bounds, while they pass.

    :param host: the called host; ``None`` on the server.
    """

    __slots__ = ("_head", "_host", "_is_read", "_is_stream", "_path", "_request", "_tail")

    def __init__(self, path: str, host: str | None) -> None:
        self._path, self._host = path, host
        self._request, self._head, self._tail = bytearray(), bytearray(), b""
        self._is_read = self._is_stream = False

    @classmethod
    def of(cls, method: str, path: str, host: str | None) -> Self | None:
        """``None`` for a request that is not to a known API."""
        return cls(path, host) if request_attributes(method, path, host, None) else None

    @classmethod
    def of_scope(cls, scope: Mapping[str, Any]) -> Self | None:
        """The same on the server."""
        return cls.of(scope.get("method", ""), scope.get("path", ""), None)

    def add_request(self, chunk: bytes) -> None:
        """Take the next chunk of the body of the request."""
        if len(self._request) <= MAX_BODY_BYTES:
            self._request += chunk

    def begin(self, headers: Mapping[str, str]) -> None:
        """The response begins.

        :param headers: the headers of the response, names in lower case.
        """
        self._is_stream = is_event_stream(headers)
        self._is_read = self._is_stream or has_readable_body(headers)

    def begin_message(self, message: Mapping[str, Any]) -> None:
        """The same on the server.

        :param message: the ASGI message ``http.response.start``.
        """
        self.begin(
            {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in message.get("headers", ())}
        )

    def add(self, chunk: bytes) -> None:
        """Take the next chunk of the body of the response."""
        if self._is_read:
            limit = _HEAD_BYTES if self._is_stream else MAX_BODY_BYTES + 1
            room = limit - len(self._head)
            self._head += chunk[:room] if room > 0 else b""
            if self._is_stream and len(chunk) > room:
                self._tail = (self._tail + chunk[max(0, room) :])[-_TAIL_BYTES:]

    def request_attributes(self) -> Attributes:
        """The attributes of the request, as far as its body was copied."""
        return request_attributes("POST", self._path, self._host, bytes(self._request))

    def response_attributes(self) -> Attributes:
        """The attributes of the response, as far as its body was copied."""
        if not self._is_stream:
            return response_attributes(_json_objects(bytes(self._head)))
        return response_attributes(_events(bytes(self._head) + self._tail))


def _events(text: bytes) -> Iterable[dict[str, Any]]:
    """The JSON objects in the data of the events of a stream that name a model or a usage."""
    for line in re.split(rb"\r\n|\n|\r", text):
        if line.startswith(b"data:") and (b'"usage' in line or b'"model' in line):
            yield from _json_objects(line[5:])
