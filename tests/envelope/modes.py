"""The failure modes as a table: what to ask for, and what must come back. The tests run it, the docs print it."""

# ruff: noqa: E501
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.envelope.apps import ENVELOPE

__all__ = ["MODES", "Mode"]


@dataclass(frozen=True, kw_only=True)
class Mode:
    """One failure. ``only`` names the host where it can happen; ``sdk`` is the openai SDK's exception class."""

    number: int
    what: str
    path: str
    status: int
    code: str | None = None
    type: str | None = None
    param: str | None = None
    says: str | None = None
    method: str = "GET"
    send: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    back: Mapping[str, str] = field(default_factory=dict)
    gone: tuple[str, ...] = ()
    raw: bytes | None = None
    sdk: str | None = None
    only: str | None = None

    @property
    def id(self) -> str:
        return f"{self.number:02d} {self.what}"


JSON = {"content-type": "application/json"}
ORIGIN = {"origin": "https://ui.example"}
BIG = b'{"n": "' + b"9" * 100_000 + b'", "api_key": "k"}'

MODES = [
    Mode(number=1, what="unknown route", path="/nowhere", status=404, code="unknown_url", sdk="NotFoundError"),
    Mode(
        number=2, what="wrong method", path="/ok", method="DELETE", status=405, code="method_not_allowed",
        back={"allow": "*"}, sdk="APIStatusError",
    ),
    Mode(
        number=3, what="malformed JSON, read by the app", path="/read-json", method="POST", send=b'{"a":', headers=JSON,
        status=400, code="invalid_json", sdk="BadRequestError",
    ),
    Mode(
        number=3, what="malformed JSON, read by FastAPI", path="/validate", method="POST", send=b'{"a":', headers=JSON,
        status=400, code="invalid_json", sdk="BadRequestError", only="fastapi",
    ),
    Mode(
        number=3, what="the same exception from the server's own parsing", path="/foreign-json", status=500,
        code="internal_error", sdk="InternalServerError",
    ),
    Mode(
        number=4, what="request body that is no UTF-8", path="/read-json", method="POST", send=b'{"a": "\xff"}',
        headers=JSON, status=400, code="invalid_json", sdk="BadRequestError",
    ),
    Mode(
        number=5, what="failed validation", path="/validate", method="POST", send=b'{"n": "x"}', headers=JSON, status=422,
        code="validation_error", param="n", says="api_key: Field required", sdk="UnprocessableEntityError",
        only="fastapi",
    ),
    Mode(
        number=6, what="failed validation of 1e999", path="/validate-number", method="POST", send=b'{"n": 1e999}',
        headers=JSON, status=422, code="validation_error", param="n", sdk="UnprocessableEntityError", only="fastapi",
    ),
    Mode(
        number=7, what="failed validation of 100 KB", path="/validate", method="POST", send=BIG, headers=JSON, status=422,
        code="validation_error", sdk="UnprocessableEntityError", only="fastapi",
    ),
    Mode(
        number=8, what="no bearer token", path="/bearer", status=401, code="invalid_api_key",
        back={"www-authenticate": "Bearer"}, sdk="AuthenticationError", only="fastapi",
    ),
    Mode(
        number=9, what="HTTPException with headers", path="/http-headers", status=429, code="rate_limit_exceeded",
        says="Slow down, please.", back={"retry-after": "7", "x-own": "yes"}, sdk="RateLimitError",
    ),
    Mode(
        number=10, what="HTTPException with an envelope as detail", path="/dict-detail", status=402, code="no_money",
        type="insufficient_quota", says="Top up.", back={"x-should-retry": "false"}, sdk="APIStatusError",
    ),
    Mode(
        number=11, what="HTTPException with a list as detail", path="/list-detail", status=409, code="conflict", says="first; second",
        sdk="ConflictError",
    ),
    Mode(number=12, what="HTTPException(204)", path="/http-204", status=204, raw=b""),
    Mode(number=12, what="HTTPException(304)", path="/http-304", status=304, raw=b"", sdk="APIStatusError"),
    Mode(
        number=13, what="unhandled exception", path="/crash", status=500, code="internal_error",
        says="Internal server error.", headers=ORIGIN, back={"access-control-allow-origin": "https://ui.example"},
        sdk="InternalServerError",
    ),
    Mode(number=15, what="mounted sub-app raises", path="/sub/crash", status=500, code="internal_error", sdk="InternalServerError"),
    Mode(number=15, what="mounted sub-app: unknown route", path="/sub/nowhere", status=404, sdk="NotFoundError"),
    Mode(
        number=24, what="ExceptionGroup of one HTTPException", path="/group", status=404, code="not_found",
        says="No such row.", sdk="NotFoundError",
    ),
    Mode(number=27, what="timeout", path="/timeout", status=500, code="upstream_timeout", sdk="InternalServerError"),
    Mode(number=28, what="httpx connect error", path="/connect", status=502, code="bad_gateway", sdk="InternalServerError"),
    Mode(
        number=28, what="httpx2 read timeout", path="/read-timeout", status=500, code="upstream_timeout",
        sdk="InternalServerError",
    ),
    Mode(
        number=29, what="an upstream's 429 escapes", path="/upstream-429", status=429, code="tpm", type="tokens",
        back={"retry-after": "9"}, sdk="RateLimitError",
    ),
    Mode(number=29, what="an upstream's 401 escapes", path="/upstream-401", status=502, code="bad_gateway", sdk="InternalServerError"),
    Mode(
        number=30, what="empty body with Retry-After", path="/empty", status=503, code="service_unavailable",
        back={"retry-after": "3"}, sdk="InternalServerError",
    ),
    Mode(number=31, what="HTML page", path="/html", status=502, code="bad_gateway", says="Bad gateway.", sdk="InternalServerError"),
    Mode(
        number=32, what="plain text", path="/text", status=503, code="service_unavailable",
        says="The queue is full. Come back later.", sdk="InternalServerError",
    ),
    Mode(
        number=33, what="compressed body", path="/gzip", status=400, says="Packed.", gone=("content-encoding",),
        sdk="BadRequestError",
    ),
    Mode(
        number=34, what="already an envelope", path="/envelope", status=418, code="custom", raw=ENVELOPE,
        back={"x-own": "1", "etag": '"v1"'}, sdk="APIStatusError",
    ),
    Mode(
        number=35, what='{"error": "text"}', path="/error-text", status=429, code="rate_limit_exceeded",
        says="Rate limit exceeded: 5 per 1 minute", back={"x-ratelimit-limit": "5"}, sdk="RateLimitError",
    ),
    Mode(number=36, what='{"message"}', path="/message", status=404, code="no_cat", says="No such cat.", sdk="NotFoundError"),
    Mode(
        number=36, what="flat vLLM body", path="/flat", status=400, code="invalid_request", type="invalid_request_error",
        param="max_tokens", says="Too long.", sdk="BadRequestError",
    ),
    Mode(number=36, what="Google's list", path="/google", status=400, code="invalid_argument", says="Bad field.", sdk="BadRequestError"),
    Mode(
        number=36, what="REST framework's field map", path="/field-map", status=400, param="email",
        says="email: Enter a valid email.; age: Required.", sdk="BadRequestError",
    ),
    Mode(number=36, what="OAuth's own body passes", path="/oauth", status=400, raw=b'{"error":"invalid_grant","error_description":"Expired."}'),
    Mode(number=36, what="JSON-RPC passes", path="/rpc", status=404, raw=b'{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"No."}}'),
    Mode(number=36, what="GraphQL passes", path="/graphql", status=400, raw=b'{"errors":[{"message":"No.","path":["a"]}],"data":null}'),
    Mode(
        number=37, what="problem+json", path="/problem", status=409, code="conflict", type="invalid_request_error",
        says="No seats left.", sdk="ConflictError",
    ),
    Mode(
        number=38, what="int code, None as text", path="/int-code", status=400, code="invalid_request",
        type="invalid_request_error", says="No.", sdk="BadRequestError",
    ),
    Mode(number=39, what="8 MB error body", path="/huge", status=400, code="invalid_request", says="Bad request.", sdk="BadRequestError"),
    Mode(number=40, what="error body in pieces", path="/streamed-error", status=400, says="In parts.", sdk="BadRequestError"),
    Mode(number=40, what="error body that never ends", path="/endless", status=503, code="service_unavailable", sdk="InternalServerError"),
    Mode(number=41, what="body that is no UTF-8", path="/bad-utf8", status=400, says="caf� closed", sdk="BadRequestError"),
    Mode(number=42, what="latin-1 body", path="/latin-1", status=400, says="café fermé", sdk="BadRequestError"),
    Mode(number=43, what="HEAD", path="/nowhere", method="HEAD", status=404, raw=b""),
    Mode(number=44, what="redirect", path="/redirect", status=307, raw=b"", back={"location": "/ok"}),
    Mode(number=44, what="204", path="/no-content", status=204, raw=b""),
    Mode(number=45, what="wrong content-length", path="/wrong-length", status=400, says="Repaired.", sdk="BadRequestError"),
    Mode(number=46, what="error start, then exception", path="/start-then-crash", status=400, code="invalid_request", sdk="BadRequestError"),
    Mode(number=47, what="two starts", path="/two-starts", status=400, says="The first.", sdk="BadRequestError"),
    Mode(number=48, what="no response at all", path="/silent", status=500, code="internal_error", sdk="InternalServerError"),
    Mode(number=49, what="no content-type", path="/no-type", status=400, says="Sniffed.", sdk="BadRequestError"),
    Mode(number=50, what="status 600", path="/status-600", status=500, sdk="InternalServerError"),
    Mode(
        number=51, what="headers that come twice", path="/twice", status=400,
        back={"set-cookie": "a=1, b=2", "link": "<1>, <2>"}, sdk="BadRequestError",
    ),
    Mode(
        number=52, what="headers of the old body", path="/stale", status=400, back={"x-kept": "1"},
        gone=("etag", "repr-digest", "content-range", "accept-ranges"), sdk="BadRequestError",
    ),
    Mode(number=53, what="background task fails after an error", path="/background", status=400, says="Answered.", sdk="BadRequestError"),
    Mode(number=33, what="text through GZipMiddleware", path="/zip/text", status=503, says="The queue is full. Come back later.", gone=("content-encoding",), sdk="InternalServerError"),
    Mode(number=54, what="text through BaseHTTPMiddleware", path="/base/text", status=503, says="The queue is full. Come back later.", sdk="InternalServerError"),
    Mode(number=54, what="crash through BaseHTTPMiddleware", path="/base/crash", status=500, code="internal_error", sdk="InternalServerError"),
    Mode(number=54, what="timeout through BaseHTTPMiddleware", path="/base/timeout", status=500, code="upstream_timeout", sdk="InternalServerError"),
    Mode(number=54, what="a kind through BaseHTTPMiddleware", path="/base/kind", status=400, code="model_not_found", sdk="BadRequestError"),
    Mode(
        number=55, what="untrusted host", path="/ok", headers={"host": "evil.example"}, status=400,
        says="Invalid host header",
    ),
    Mode(
        number=55, what="refused CORS preflight", path="/ok", method="OPTIONS", status=400, says="Disallowed CORS origin",
        headers={"origin": "https://evil.example", "access-control-request-method": "GET"},
    ),
    Mode(number=55, what="missing static file", path="/static/none.txt", status=404, code="not_found", sdk="NotFoundError"),
    Mode(
        number=55, what="range that cannot be", path="/range", headers={"range": "bytes=99999999-"}, status=416,
        code="range_not_satisfiable", back={"content-range": "*"},
    ),
    Mode(number=61, what="trailers of a rewritten body", path="/hints", status=400, says="No.", gone=("x-t",), sdk="BadRequestError"),
    Mode(
        number=63, what="the host's own exception handler", path="/handled", status=409, says="Handled by the host.",
        sdk="ConflictError",
    ),
    Mode(number=64, what="200 with an error body", path="/ok-error", status=200, raw=b'{"error":{"message":"hm"}}'),
    Mode(
        number=65, what="secret in an explicit message", path="/secret-text", status=400,
        says="Cannot use sk-*** at redis://***@cache", sdk="BadRequestError",
    ),
    Mode(number=65, what="secret in a 500", path="/secret-500", status=500, sdk="InternalServerError"),
    Mode(
        number=66, what="a raised kind", path="/kind", status=400, code="model_not_found", param="model",
        type="invalid_request_error", back={"x-kind": "1"}, sdk="BadRequestError",
    ),
    Mode(number=66, what="a raised kind that is a 500", path="/kind-500", status=500, code="upstream_timeout", sdk="InternalServerError"),
    Mode(
        number=66, what="a kind raised in a thread", path="/in-thread", status=402, code="402", type="insufficient_quota",
        back={"x-credit": "0", "x-should-retry": "false"}, sdk="APIStatusError",
    ),
    Mode(number=66, what="a kind raised in a sub-app", path="/sub/kind", status=400, code="model_not_found", back={"x-kind": "1"}, sdk="BadRequestError"),
    Mode(number=66, what="a kind raised in a bare ASGI app", path="/raw/x", status=404, code="job_not_found", sdk="NotFoundError"),
    Mode(
        number=66, what="a kind raised in a dependency", path="/dependency", status=401, code="invalid_api_key",
        back={"www-authenticate": "Bearer"}, sdk="AuthenticationError", only="fastapi",
    ),
]  # fmt: skip
