"""Buckets: the requests to one origin with one credential that count against the same limit. Pure.

Before a request is sent, only its class is known. Its response names the bucket:

==============================  ===========================================  =======================================
request                         class                                        bucket
==============================  ===========================================  =======================================
any, with ``Pace(key=f)``       the value of ``f``                           the class
path of an SDK                  the path and the ``model`` of the body       ``x-ratelimit-resource``, else
                                                                             ``x-ratelimit-bucket``, else the class
any other path                  the path; ``*`` for numbers, UUIDs, tokens   ``x-ratelimit-resource``, else
                                                                             ``x-ratelimit-bucket``, else
                                                                             ``RateLimit-Policy``, else all such
                                                                             paths that report the same limit
==============================  ===========================================  =======================================

Two paths that report the same limit are one bucket, unless the numbers disprove it: if a path reports a full quota
although the bucket has been used in the same window, the path has a separate limit.

>>> classify("/v1/chat/completions", b'{"model": "small"}').key
'model:/v1/chat/completions small'
>>> classify("/repos/acme/issues/1347").key
'path:/repos/acme/issues/*'
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final, NamedTuple, cast

__all__ = ["MODEL_PATHS", "PATHS", "RequestClass", "bucket_name", "classify", "from_key"]

MODEL_PATHS: Final = (
    "/chat/completions",
    "/completions",
    "/responses",
    "/messages",
    "/messages/count_tokens",
    "/embeddings",
    "/rerank",
    "/moderations",
    "/images/generations",
    "/audio/speech",
    "/fim/completions",
    "/v1/chat",
    "/v2/chat",
    "/v2/embed",
    "/v2/rerank",
)
"""The ends of the paths whose requests name a model in the body."""

PATHS: Final = "paths"
"""The name of a bucket that its limit alone identifies."""

_MODEL_METHODS: Final = (
    ":generateContent",
    ":streamGenerateContent",
    ":countTokens",
    ":embedContent",
    ":batchEmbedContents",
    ":predict",
)
"""The ends of paths that contain the name of a model, such as Gemini's."""

_MODEL_PARENTS: Final = ("models", "deployments", "engines")
_NAME_CHARACTERS: Final = 120
_PATH_CHARACTERS: Final = 2048
_WHOLE_BODY_BYTES: Final = 65536
"""A body up to this size is parsed. In a longer body the two ends are searched."""

_END_BYTES: Final = 16384
_MODEL: Final = re.compile(rb'(?<!\\)"model"\s{0,8}:\s{0,8}"([^"\\]{1,200})"')
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}")
_DIGIT: Final = re.compile(r"[0-9]")
_TOKEN_CHARACTERS: Final = 16
_LONG_CHARACTERS: Final = 40
_VERSION: Final = re.compile(r"(?:api|rest|v[0-9.]{1,6}[a-z0-9]{0,8})")


class RequestClass(NamedTuple):
    """The class of a request: the information about its bucket before the request is sent.

    :param key: the name of the class.
    :param bucket: the name of the bucket, if the class decides it; empty: the limit that the response reports decides.
    :param root: the first segment of the path that is neither a version nor an identifier. Before its first response, a
        class is in the bucket of the other classes with the same root, if they have one bucket. Empty: not used.
    :param is_final: the response cannot name another bucket.
    """

    key: str
    bucket: str = ""
    root: str = ""
    is_final: bool = False

    @property
    def digest(self) -> str:
        """A short hash of the class, for lists in a store."""
        return blake2b(self.key.encode("utf-8", "replace"), digest_size=6).hexdigest()


def from_key(value: str) -> RequestClass:
    """Return the class of a request whose bucket the application names."""
    key = _short(f"key:{value}")
    return RequestClass(key, bucket=key, is_final=True)


def classify(path: str, body: bytes | None = None) -> RequestClass:
    """Return the class of a request.

    :param path: the path of the URL.
    :param body: the whole body; ``None`` if it is not held in memory.
    """
    path = path[:_PATH_CHARACTERS].rstrip("/") or "/"
    segments = path.split("/")
    if path.endswith(_MODEL_METHODS):
        key = _short("model:" + "/".join([*_folded(segments[:-1]), segments[-1]]))
        return RequestClass(key, bucket=key)
    if path.endswith(MODEL_PATHS) and body is not None and (model := _model_of(body)):
        key = _short(f"model:{'/'.join(_folded(segments))} {model}")
        return RequestClass(key, bucket=key)
    folded = _folded(segments)
    root = next((segment for segment in folded if segment not in ("", "*") and not _VERSION.fullmatch(segment)), "/")
    return RequestClass(_short("path:" + "/".join(folded)), root=_short("root:" + root))


def bucket_name(headers: Mapping[str, str], request_class: RequestClass) -> str:
    """Return the name of the bucket that a response counts against; empty: the limit that it reports decides.

    :param headers: response headers; names in lower case.
    """
    if not request_class.is_final:
        for header in ("x-ratelimit-resource", "x-ratelimit-bucket"):
            if value := headers.get(header):
                return _short(f"{header.rpartition('-')[2]}:{value}")
        if not request_class.bucket and (policy := headers.get("ratelimit-policy", "")).startswith('"'):
            return _short(f"policy:{policy}")
    return request_class.bucket


def _model_of(body: bytes) -> str:
    """Return the ``model`` of a JSON object; empty without one. The time is linear in the part of the body that is
    read.

    Quotes in the text of a message are escaped, so a message cannot set the model.
    """
    if len(body) <= _WHOLE_BODY_BYTES:
        try:
            value: Any = json.loads(body)
        except (ValueError, RecursionError):
            return ""
        model: Any = cast("dict[str, Any]", value).get("model") if isinstance(value, dict) else None
        return model if isinstance(model, str) else ""
    match = _MODEL.search(body, 0, _END_BYTES) or _MODEL.search(body, len(body) - _END_BYTES)
    return match[1].decode("utf-8", "replace") if match else ""


def _folded(segments: list[str]) -> list[str]:
    """Return the segments of a path, with ``*`` for each segment that looks like an identifier, except for a model."""
    return [
        "*" if _is_identifier(segment) and (not place or segments[place - 1] not in _MODEL_PARENTS) else segment
        for place, segment in enumerate(segments)
    ]


def _is_identifier(segment: str) -> bool:
    if segment.isdigit() or len(segment) >= _LONG_CHARACTERS or _UUID.fullmatch(segment):
        return True
    return len(segment) >= _TOKEN_CHARACTERS and _DIGIT.search(segment) is not None


def _short(name: str) -> str:
    """Bound the length of a name: a long name is replaced by its hash."""
    if len(name) <= _NAME_CHARACTERS:
        return name
    digest = blake2b(name.encode("utf-8", "replace"), digest_size=16).hexdigest()
    return f"{name.partition(':')[0]}:#{digest}"
