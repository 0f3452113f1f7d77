#!/usr/bin/env bash
# Mangum returns an error body of application/problem+json as Base64.
# Expected: JSON is text, whatever its subtype: the result has the body as it is and "isBase64Encoded": false.
# Seen: only the types of a fixed list are text. Behind a gateway that decodes nothing (a REST API without binary media
# types) the client reads eyJ0aXRsZSI6... instead of the error.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'mangum==0.22.0'
"$work/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from mangum import Mangum


async def app(scope, receive, send):
    headers = [(b"content-type", b"application/" + scope["path"][1:].encode())]
    await send({"type": "http.response.start", "status": 429, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"title":"Too Many Requests"}'})


def invoke(subtype):
    """What the function returns to API Gateway for one GET (payload format 1.0)."""
    event = {
        "resource": "/{proxy+}",
        "path": f"/{subtype}",
        "httpMethod": "GET",
        "headers": {"host": "shop.example"},
        "multiValueHeaders": {"host": ["shop.example"]},
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "requestContext": {"resourcePath": "/{proxy+}", "identity": {"sourceIp": "192.0.2.1"}},
        "body": None,
        "isBase64Encoded": False,
    }
    result = Mangum(app, lifespan="off")(event, {})
    return result["isBase64Encoded"], result["body"]


plain, problem = invoke("json"), invoke("problem+json")
print(f"mangum {version('mangum')}: application/json: {plain}; application/problem+json: {problem}")
raise SystemExit(0 if not plain[0] and problem[0] else "changed: both types are encoded in the same way")
PYTHON
