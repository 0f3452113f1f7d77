from __future__ import annotations

import pytest

from flexmw.contract.credentials import (
    is_lasting_scheme,
    is_signature,
    is_tenant,
    lasting_part,
    shows_caller,
    split_query,
)


@pytest.mark.parametrize(
    "name",
    [
        *("authorization", "proxy-authorization", "x-api-key", "api-key", "apikey", "x-apikey", "x-mbx-apikey"),
        *("private-token", "ocp-apim-subscription-key", "x-auth-token", "x-access-token", "x-session-id", "session"),
        *("x-shopify-access-token", "ok-access-sign", "ok-access-passphrase", "x-signature", "signature", "dpop"),
        *("signature-input", "x-amz-security-token", "client-cert", "x-forwarded-client-cert", "x-ssl-client-s-dn"),
        *("x-forwarded-user", "remote-user", "x-auth-request-email", "x-goog-iap-jwt-assertion", "x-amzn-oidc-data"),
        *("phpsessid", "jsessionid", "connect.sid", "sessionid", "x_api_key", "x-client-secret", "x-user-id"),
    ],
)
def test_a_header_named_like_a_credential_shows_the_caller(name: str) -> None:
    assert shows_caller(name)
    assert not is_tenant(name)


@pytest.mark.parametrize(
    "name",
    [
        *("host", "x-forwarded-host", "openai-organization", "openai-project", "x-tenant-id", "x-org-id", "x-account"),
        *("stripe-account", "x-workspace", "x-client-id", "anthropic-workspace-id"),
    ],
)
def test_a_header_can_name_what_the_caller_acts_for(name: str) -> None:
    assert shows_caller(name)
    assert is_tenant(name)


@pytest.mark.parametrize(
    "name",
    [
        *("user-agent", "x-user-agent", "x-stripe-client-user-agent", "accept", "accept-encoding", "content-type"),
        *("content-length", "idempotency-key", "x-idempotency-key", "sec-websocket-key", "sec-fetch-user", "cache-key"),
        *("x-csrf-token", "x-xsrf-token", "csrftoken", "x-csrftoken", "x-recaptcha-token", "cf-turnstile-token"),
        *(
            "surrogate-key",
            "traceparent",
            "x-request-id",
            "x-amzn-trace-id",
            "x-forwarded-for",
            "x-real-ip",
            "forwarded",
        ),
        *("x-stainless-retry-count", "x-stainless-lang", "x-stainless-package-version", "x-stainless-read-timeout"),
        *("x-monkey", "x-author", "x-keyword", "x-vercel-proxy-signature", "anthropic-version", "anthropic-beta"),
        *("_ga", "awsalb", "__cf_bm", "theme", "cf-ray", "x-cloud-trace-context", "via", "date", "x-amz-date"),
    ],
)
def test_other_headers_show_no_caller(name: str) -> None:
    assert not shows_caller(name)


@pytest.mark.parametrize(
    "name", ["dpop", "signature", "signature-input", "x-signature", "x-hub-signature-256", "x-hmac"]
)
def test_a_signature_is_made_for_each_request(name: str) -> None:
    assert is_signature(name)


@pytest.mark.parametrize("value", [b"Bearer a", b"bearer a", b"Basic YTpi", b"Token a", b"sk-one", b"ApiKey a"])
def test_usual_schemes_last(value: bytes) -> None:
    assert is_lasting_scheme(value)


@pytest.mark.parametrize(
    "scheme",
    [
        *("Digest", "AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256", "Signature", "DPoP", "Hawk", "OAuth", "MAC", "AWS"),
        *("SharedKey", "HMAC", "hmac-sha256", "Negotiate", "NTLM", "GOOG4-RSA-SHA256", "TC3-HMAC-SHA256", "PoP"),
    ],
)
def test_schemes_that_may_sign_each_request_do_not_last(scheme: str) -> None:
    assert not is_lasting_scheme(f"{scheme} something".encode())


SIGNED = {
    "oauth1": 'OAuth oauth_consumer_key="k", oauth_nonce="{n}", oauth_signature="{n}{n}", oauth_token="{who}"',
    "aws": "AWS4-HMAC-SHA256 Credential={who}/202611{n}/us-east-1/s3/aws4_request, SignedHeaders=host, Signature={n}",
    "azure": "HMAC-SHA256 Credential={who}&SignedHeaders=date;host&Signature={n}",
    "digest": 'Digest username="{who}", realm="r", nonce="{n}", uri="/{n}", response="{n}{n}"',
    "hawk": 'Hawk id="{who}", ts="{n}", nonce="{n}", mac="m{n}"',
    "signature": 'Signature keyId="{who}",algorithm="hs2019",created={n},signature="{n}"',
}


@pytest.mark.parametrize("scheme", SIGNED)
def test_of_a_credential_that_signs_each_request_the_name_of_the_signer_lasts(scheme: str) -> None:
    mine, others = ({lasting_part(SIGNED[scheme].format(who=who, n=n)) for n in range(10, 31)} for who in ("a", "b"))
    assert len(mine) == len(others) == 1
    assert mine != others


@pytest.mark.parametrize(
    "value", ["Bearer sk-1 id=2", "Basic bWU6cHc=", "sk-1", "Negotiate YII", "", " ", "OAuth", "\ud800 x"]
)
def test_any_other_credential_is_kept_whole(value: str) -> None:
    assert lasting_part(value) == value


def test_the_parameters_of_a_signed_url_are_told_from_those_of_the_app() -> None:
    query = b"a=1&X-Amz-Date=2&key=3&X-Amz-Signature=4"
    assert split_query(query) == (b"a=1&key=3", (b"X-Amz-Date=2", b"X-Amz-Signature=4"))
    assert split_query(b"X-Goog-Signature=4&b=") == (b"b=", (b"X-Goog-Signature=4",))
    for other in (b"", b"a=1&X-Amz-Date=2", b"signature=1&sig=2", b"x=X-Amz-Signature"):
        assert split_query(other) == (other, ())
