"""Usage in the formats of OpenAI, Anthropic, Google, Cohere and Bedrock: JSON bodies, and events of streams. Pure.

>>> OpenAIUsage().read({"model": "gpt-x", "usage": {"prompt_tokens": 3, "completion_tokens": 5}}, None)
Usage(input_tokens=3, output_tokens=5, total_tokens=8, cached_tokens=0, model='gpt-x')
>>> start = AnthropicUsage().read({"message": {"usage": {"input_tokens": 3, "output_tokens": 1}}}, None)
>>> AnthropicUsage().read({"type": "message_delta", "usage": {"output_tokens": 9}}, start).total_tokens
12
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from flexmw.ratelimit.usage import Usage, UsageReader, count_of
from flexmw.ratelimit.usage_estimate import output_tokens, prompt_tokens

__all__ = [
    "FORMATS",
    "AnthropicUsage",
    "BedrockUsage",
    "CohereUsage",
    "FunctionUsage",
    "GoogleUsage",
    "OpenAIUsage",
    "UsageFunction",
]

_OUTPUT: Final = re.compile(
    rb'"(?:content|text|delta|reasoning|reasoning_content|refusal|arguments|partial_json|thinking|transcript)"\s*:\s*"[^"]'
)
"""A text of the model that is not empty, in an event of one of the APIs."""

_WITHOUT_OUTPUT: Final = re.compile(
    r"/(?:embeddings|embed|rerank|moderations|tokenize|count_tokens|input_tokens)/?$"
    r"|:(?:countTokens|embedContent|batchEmbedContents)$"
)
"""The ends of paths whose responses contain no output of a model."""


def _parts(value: Mapping[str, Any], *names: str) -> Iterator[Mapping[str, Any]]:
    """An object, and those of its fields that may hold usage."""
    yield value
    for name in names:
        part = value.get(name)
        if isinstance(part, Mapping):
            yield cast("Mapping[str, Any]", part)


def _details(usage: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    return next((part for part in _parts(usage, *names) if part is not usage), {})


def _model(part: Mapping[str, Any], before: str) -> str:
    model = part.get("model")
    return model if isinstance(model, str) else before


def _estimate(value: Mapping[str, Any], path: str) -> Usage:
    output = 0 if not value or _WITHOUT_OUTPUT.search(path) else output_tokens(value)
    return Usage(input_tokens=prompt_tokens(value), output_tokens=output, model=_model(value, ""))


_STORED: Final = re.compile(r"/(?:responses|completions)/[^/]+/?$")
"""The ends of paths of what an earlier request has made."""

_KEPT: Final = re.compile(r"/completions/chatcmpl-[^/]+/?$")
"""Those of them to which a POST changes only what is kept beside the output. A POST to ``/responses/compact`` runs the
model."""


@dataclass(frozen=True)
class OpenAIUsage:
    """Chat completions (also with ``stream_options.include_usage``, or with usage in each chunk), completions,
    responses, embeddings, images and transcriptions of OpenAI's API, and of the many servers that speak it.

    A later report replaces an earlier one: servers that report usage in each chunk report the total so far.
    """

    marker = b'"usage"'

    def read(self, value: Mapping[str, Any], usage: Usage | None) -> Usage | None:
        before = "" if usage is None else usage.model
        for part in _parts(value, "response", "x_groq"):
            before = _model(part, before)
            report = part.get("usage")
            if isinstance(report, Mapping) and (read := self._report(cast("Mapping[str, Any]", report), before)):
                usage = read
        return usage

    def has_output(self, data: bytes) -> bool:
        return _OUTPUT.search(data) is not None

    def estimate(self, value: Mapping[str, Any], path: str) -> Usage:
        return _estimate(value, path)

    def of_stored(self, method: str, path: str) -> UsageReader | None:
        """The reader of a response that an earlier request has made, and has paid for; ``None`` for a request that runs
        the model."""
        is_stored = (_KEPT if method == "POST" else _STORED).search(path)
        return _StoredUsage() if is_stored else None

    def _report(self, report: Mapping[str, Any], model: str) -> Usage | None:
        read, written = (
            count_of(report, "prompt_tokens", "input_tokens"),
            count_of(report, "completion_tokens", "output_tokens"),
        )
        total = count_of(report, "total_tokens")
        if read is None and written is None and total is None:
            return None
        details = _details(report, "prompt_tokens_details", "input_tokens_details")
        return Usage(
            input_tokens=read or 0,
            output_tokens=written or 0,
            total_tokens=-1 if total is None else total,
            cached_tokens=count_of(details, "cached_tokens") or 0,
            model=model,
            details=report,
        )


@dataclass(frozen=True)
class _StoredUsage(OpenAIUsage):
    """What a stored response of OpenAI's API costs: nothing, unless it was made in the background. The request that has
    begun such a one has got no usage, so the usage is charged when the response is retrieved."""

    def read(self, value: Mapping[str, Any], usage: Usage | None) -> Usage | None:
        is_background = any(part.get("background") is True for part in _parts(value, "response"))
        return super().read(value, usage) if is_background else usage


@dataclass(frozen=True)
class AnthropicUsage:
    """Anthropic's messages. ``message_start`` reports what was read, ``message_delta`` what was written so far, so the
    fields of all events are put together. Anthropic counts cached input apart; here it is a part of the input, as in
    OpenTelemetry's conventions.
    """

    marker = b'"usage"'

    def read(self, value: Mapping[str, Any], usage: Usage | None) -> Usage | None:
        for part in _parts(value, "message"):
            report = part.get("usage")
            if isinstance(report, Mapping):
                usage = self._report(cast("Mapping[str, Any]", report), usage, part) or usage
        return usage

    def has_output(self, data: bytes) -> bool:
        return b"_delta" in data and _OUTPUT.search(data) is not None

    def estimate(self, value: Mapping[str, Any], path: str) -> Usage:
        return _estimate(value, path)

    def _report(self, report: Mapping[str, Any], before: Usage | None, part: Mapping[str, Any]) -> Usage | None:
        known = {} if before is None else before.details
        details = {**known, **{name: count for name, count in report.items() if count is not None}}
        if count_of(details, "input_tokens", "output_tokens") is None:
            return None
        cached = count_of(details, "cache_read_input_tokens") or 0
        created = count_of(details, "cache_creation_input_tokens") or 0
        return Usage(
            input_tokens=(count_of(details, "input_tokens") or 0) + cached + created,
            output_tokens=count_of(details, "output_tokens") or 0,
            cached_tokens=cached,
            model=_model(part, "" if before is None else before.model),
            details=details,
        )


@dataclass(frozen=True)
class GoogleUsage:
    """``generateContent`` and ``streamGenerateContent`` of the Gemini API and Vertex AI, with ``alt=sse`` or as one
    JSON array. Each part of a stream reports the total so far. Thoughts are a part of the output, the results of
    Google's own tools a part of the input; cached content is in the prompt's count already.
    """

    marker = b'"usageMetadata"'

    def read(self, value: Mapping[str, Any], usage: Usage | None) -> Usage | None:
        report = _details(value, "usageMetadata")
        counts = [count_of(report, name) for name in _GOOGLE_COUNTS]
        if counts == [None] * len(counts):
            return usage
        prompt, of_tools, written, thoughts, total = counts
        model = value.get("modelVersion")
        return Usage(
            input_tokens=(prompt or 0) + (of_tools or 0),
            output_tokens=(written or 0) + (thoughts or 0),
            total_tokens=-1 if total is None else total,
            cached_tokens=count_of(report, "cachedContentTokenCount") or 0,
            model=model if isinstance(model, str) else "" if usage is None else usage.model,
            details=report,
        )

    def has_output(self, data: bytes) -> bool:
        return _OUTPUT.search(data) is not None

    def estimate(self, value: Mapping[str, Any], path: str) -> Usage:
        if not value:
            return _estimate(value, path)
        settings = _details(value, "generationConfig")
        fields = {
            "model": model[1] if (model := _GOOGLE_MODEL.search(path)) else "",
            "messages": [value.get(name) for name in ("contents", "content", "requests")],
            "system": value.get("systemInstruction"),
            "tools": value.get("tools"),
            "prompt": value.get("prompt"),
            "max_tokens": settings.get("maxOutputTokens", value.get("max_tokens")),
            "n": settings.get("candidateCount"),
        }
        return _estimate(fields, path)


_GOOGLE_MODEL: Final = re.compile(r"/models/([^/:]+):[A-Za-z]+$")
_GOOGLE_COUNTS: Final = (
    "promptTokenCount",
    "toolUsePromptTokenCount",
    "candidatesTokenCount",
    "thoughtsTokenCount",
    "totalTokenCount",
)


@dataclass(frozen=True)
class CohereUsage:
    """Chat, embed and the further calls of Cohere's API. What the model has processed counts (``tokens``), and what is
    billed (``billed_units``) only where nothing else is reported; ``Usage.details`` has both.
    """

    marker = b'_tokens"'

    def read(self, value: Mapping[str, Any], usage: Usage | None) -> Usage | None:
        for part in _parts(value, "delta", "response"):
            report = _details(part, "usage", "meta")
            counts = _whole(_details(report, "tokens") or _details(report, "billed_units"))
            read, written = count_of(counts, "input_tokens"), count_of(counts, "output_tokens")
            if read is None and written is None:
                continue
            usage = Usage(
                input_tokens=read or 0,
                output_tokens=written or 0,
                cached_tokens=count_of(_whole(report), "cached_tokens") or 0,
                details=report,
            )
        return usage

    def has_output(self, data: bytes) -> bool:
        return b"-delta" in data and _OUTPUT.search(data) is not None

    def estimate(self, value: Mapping[str, Any], path: str) -> Usage:
        texts = [value.get(name) for name in ("message", "query", "texts", "inputs", "documents")]
        return _estimate({**value, "input": texts} if value else value, path)


@dataclass(frozen=True)
class BedrockUsage:
    """``Converse`` and ``ConverseStream`` of Amazon Bedrock. Cached input is counted apart there; here it is a part of
    the input."""

    marker = b'"usage"'

    def read(self, value: Mapping[str, Any], usage: Usage | None) -> Usage | None:
        report = _details(value, "usage")
        read, written = count_of(report, "inputTokens"), count_of(report, "outputTokens")
        if read is None and written is None:
            return usage
        cached = count_of(report, "cacheReadInputTokens") or 0
        total = count_of(report, "totalTokens")
        return Usage(
            input_tokens=(read or 0) + cached + (count_of(report, "cacheWriteInputTokens") or 0),
            output_tokens=written or 0,
            total_tokens=-1 if total is None else total,
            cached_tokens=cached,
            details=report,
        )

    def has_output(self, data: bytes) -> bool:
        return _OUTPUT.search(data) is not None

    def estimate(self, value: Mapping[str, Any], path: str) -> Usage:
        model = _BEDROCK_MODEL.search(path)
        settings = _details(value, "inferenceConfig")
        fields = {"model": model[1] if model else "", "max_tokens": settings.get("maxTokens", value.get("max_tokens"))}
        return _estimate({**value, **fields} if value else value, path)


_BEDROCK_MODEL: Final = re.compile(r"/model/([^/]+)/converse(?:-stream)?$")


def _whole(report: Mapping[str, Any]) -> dict[str, Any]:
    """A report with whole counts: Cohere's API describes them as numbers with a fraction, and may write 7.0."""
    return {name: int(n) if isinstance(n, float) and n.is_integer() else n for name, n in report.items()}


UsageFunction = Callable[[Mapping[str, Any]], "Usage | int | None"]
"""An application's own reader: takes a JSON object, and returns its usage, a number of tokens, or ``None``."""


@dataclass(frozen=True)
class FunctionUsage:
    """Calls a function of the application with each JSON object. The last usage that the function returns counts."""

    function: UsageFunction
    marker = b""

    def read(self, value: Mapping[str, Any], usage: Usage | None) -> Usage | None:
        read = self.function(value)
        if read is None:
            return usage
        return read if isinstance(read, Usage) else Usage(total_tokens=read)

    def has_output(self, data: bytes) -> bool:
        return True

    def estimate(self, value: Mapping[str, Any], path: str) -> Usage:
        return _estimate(value, path)


FORMATS: Final[Mapping[str, UsageReader]] = {
    "openai": OpenAIUsage(),
    "anthropic": AnthropicUsage(),
    "google": GoogleUsage(),
    "cohere": CohereUsage(),
    "bedrock": BedrockUsage(),
}
"""The readers that need no entry point, by name."""
