"""Which parts of a request show who its caller is, by their names.

A header shows the caller if its name says so: ``x-api-key``, ``PRIVATE-TOKEN``, ``Ocp-Apim-Subscription-Key``,
``X-Session-Id``, ``OpenAI-Organization``, ``X-Forwarded-User``, ``Host``. A header too many splits the callers more
finely; a header too few lets one caller get the response of another. The rule therefore goes by words, not by a list.

>>> [name for name in ("apikey", "private-token", "openai-organization", "user-agent") if shows_caller(name)]
['apikey', 'private-token', 'openai-organization']
>>> is_lasting_scheme(b"Bearer abc"), is_lasting_scheme(b"AWS4-HMAC-SHA256 Credential=AK/...")
(True, False)
>>> split_query(b"part=1&X-Amz-Signature=abc&X-Amz-Date=20260101T000000Z")
(b'part=1', (b'X-Amz-Signature=abc', b'X-Amz-Date=20260101T000000Z'))
"""

from __future__ import annotations

import re
from typing import Final

__all__ = [
    "TENANT_WORDS",
    "is_lasting_scheme",
    "is_signature",
    "is_tenant",
    "lasting_part",
    "shows_caller",
    "split_query",
]

_SEPARATORS: Final = re.compile(r"[-_.]+")

# fmt: off
_ENDINGS: Final = (
    "apikey", "auth", "authentication", "authorization", "bearer", "cert", "certificate", "credential", "credentials",
    "jwt", "passwd", "password", "secret", "session", "sessid", "sessionid", "sid", "signature", "signed", "token",
)
"""A word that ends in one of these names a credential: ``authtoken``, ``phpsessid``, ``oauth``."""

_WORDS: Final = frozenset({
    "consumer", "dn", "dpop", "email", "fingerprint", "hmac", "identity", "key", "login", "oidc", "pass", "passcode",
    "passphrase", "pin", "principal", "proof", "sig", "sign", "subject", "uid", "user", "userid", "username", "usr",
})
"""Whole words that name a credential or a user whom a proxy has authenticated."""

TENANT_WORDS: Final = frozenset({
    "account", "clientid", "company", "customer", "host", "member", "merchant", "org", "organisation", "organization",
    "orgid", "partner", "project", "realm", "subscription", "team", "tenant", "tenantid", "workspace",
})
"""Whole words that name what the caller acts for: the same credential may stand for several of them."""

_OTHERS: Final = frozenset({
    "agent", "browser", "cache", "captcha", "challenge", "csrf", "csrftoken", "csrfmiddlewaretoken", "encryption",
    "fetch", "hcaptcha", "idempotency", "nonce", "recaptcha", "surrogate", "turnstile", "websocket", "xcsrftoken",
    "xsrf",
})
"""Words of names that show no caller although another word says so: ``x-csrf-token``, ``sec-websocket-key``."""

_PREFIXES_OF_OTHERS: Final = ("accept-", "access-control-", "content-", "if-", "sec-", "x-vercel-")
"""Beginnings of names that show no caller. Vercel's proxy signs each request anew."""

_IDS: Final = re.compile(r"(?:^|[-_])(?:app|application|client|device|installation|seller|shop|store|vendor)[-_]id$")
"""The ends of names such as ``x-client-id``, which name what the caller acts for."""

_SIGNATURES: Final = frozenset({"dpop", "hmac", "proof", "sig", "sign", "signature", "signed"})

_LASTING_SCHEMES: Final = frozenset({
    b"api-key", b"apikey", b"api_key", b"apitoken", b"basic", b"bearer", b"bot", b"geniekey", b"jwt", b"key",
    b"private-token", b"token",
})
# fmt: on
"""Schemes of ``Authorization`` whose value is the same in every request. All others may sign each request (Digest,
AWS4-HMAC-SHA256, Signature, DPoP, Hawk, OAuth, SharedKey, Negotiate)."""

_PRESIGNED: Final = (
    (b"x-amz-signature", (b"x-amz-",)),
    (b"x-goog-signature", (b"x-goog-",)),
)
"""For signed URLs: the parameter with the signature, and the beginnings of the parameters that belong to it. Neither
AWS nor Google Cloud lets an application have parameters of its own with that beginning."""


def shows_caller(name: str) -> bool:
    """Whether a header with this name, in lower case, shows who the caller is or what the caller acts for."""
    if name.startswith(_PREFIXES_OF_OTHERS):
        return False
    words = _SEPARATORS.split(name)
    return _OTHERS.isdisjoint(words) and (
        _IDS.search(name) is not None
        or any(word in _WORDS or word in TENANT_WORDS or word.endswith(_ENDINGS) for word in words)
    )


def is_tenant(name: str) -> bool:
    """Whether a header that shows the caller names what the caller acts for, such as an organization or the host."""
    words = _SEPARATORS.split(name)
    is_credential = any(word.endswith(_ENDINGS) or word in _WORDS for word in words)
    return not is_credential and (not TENANT_WORDS.isdisjoint(words) or _IDS.search(name) is not None)


def is_signature(name: str) -> bool:
    """Whether a header with this name holds what a client makes anew for each request."""
    return not _SIGNATURES.isdisjoint(_SEPARATORS.split(name))


def is_lasting_scheme(authorization: bytes) -> bool:
    """Whether a value of ``Authorization`` is the same in every request of a caller, by its scheme.

    A value without a scheme is a token. An unknown scheme may sign each request.
    """
    scheme, space, _ = authorization.strip().partition(b" ")
    return not space or scheme.lower() in _LASTING_SCHEMES


_NAMES_OF_SIGNERS: Final = re.compile(
    r"(?:^|[\s,;&])(oauth_consumer_key|oauth_token|credential|username|id|keyid|client_id)=\"?([^\",\s/;&]+)",
    re.IGNORECASE,
)
"""The parameters by which schemes that sign each request name the signer: OAuth 1.0, AWS and its kind (whose credential
has a date behind the slash), Digest, Hawk, HTTP signatures."""


def lasting_part(authorization: str) -> str:
    """The part of a value of ``Authorization`` that is the same in every request of a caller: all of it, or of a scheme
    that signs each request the scheme and the names of the signer.

    >>> lasting_part('OAuth oauth_consumer_key="k", oauth_nonce="7d8f", oauth_signature="tnn%3D", oauth_token="t"')
    'OAuth oauth_consumer_key=k oauth_token=t'
    >>> lasting_part("Bearer sk-1"), lasting_part("Unknown 7d8f")
    ('Bearer sk-1', 'Unknown 7d8f')
    """
    if is_lasting_scheme(authorization.encode("utf-8", "replace")):
        return authorization
    scheme, _, parameters = authorization.strip().partition(" ")
    names = " ".join(f"{name}={value}" for name, value in _NAMES_OF_SIGNERS.findall(parameters))
    return f"{scheme} {names}" if names else authorization


def split_query(query: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """A query without the parameters of a signed URL, and these parameters.

    A URL that is signed again names the same request under another signature.
    """
    lower = query.lower()
    for mark, beginnings in _PRESIGNED:
        if mark + b"=" in lower:
            parts = query.split(b"&")
            signed = tuple(part for part in parts if part.lower().startswith(beginnings))
            return b"&".join(part for part in parts if not part.lower().startswith(beginnings)), signed
    return query, ()
