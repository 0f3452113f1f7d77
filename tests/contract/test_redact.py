from __future__ import annotations

import base64
import json
import re
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flexmw.contract import redact
from flexmw.contract.redact import _RULES
from tests.contract.backtracking import Matcher

WORD = string.ascii_letters + string.digits
LETTERS = st.text(WORD, min_size=12, max_size=60)
PASSWORD = st.text(WORD + "-._~!$*+=@:%", min_size=12, max_size=40).filter(lambda text: text[-1] != ":")
QUOTABLE = st.text(WORD + "-._~!$*+=@:%/ ,;&{}", min_size=12, max_size=40)
NAMES = st.sampled_from(
    [
        "api_key",
        "apiKey",
        "API-KEY",
        "X-API-Key",
        "OPENAI_API_KEY",
        "password",
        "DB_PASSWORD",
        "passwd",
        "client_secret",
        "access_token",
        "refresh_token",
        "AWS_SECRET_ACCESS_KEY",
        "secret",
        "signature",
        "private_key",
    ]
)


def base64url(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@given(
    password=PASSWORD,
    user=st.sampled_from(["", "app", "a.b"]),
    scheme=st.sampled_from(["redis", "rediss", "x_1", "http"]),
)
def test_no_password_of_a_url_survives(password: str, user: str, scheme: str) -> None:
    shown = redact(f"cannot reach {scheme}://{user}:{password}@cache:6379/0 now")
    assert shown == f"cannot reach {scheme}://***@cache:6379/0 now"


@given(head=LETTERS, tail=LETTERS, between=st.sampled_from("/?#"))
def test_a_password_with_an_unescaped_slash_does_not_survive(head: str, tail: str, between: str) -> None:
    shown = redact(f"redis://:x{head}{between}{tail}@cache:6379")
    assert shown == "redis://***@cache:6379"


@given(
    prefix=st.sampled_from(
        ["sk-", "sk-proj-", "sk_live_", "pk-", "rk_", "gsk_", "xai-", "hf_", "glpat-", "xoxb-", "ghp_"]
    ),
    token=LETTERS,
)
@pytest.mark.parametrize("place", ["{}", "key {} is wrong", "OPENAI={}", "('{}',)", "my_{}", "?k={}&x=1", "{}."])
def test_no_prefixed_key_survives(prefix: str, token: str, place: str) -> None:
    shown = redact(place.format(prefix + token))
    assert token not in shown
    assert shown.startswith(place.partition("{}")[0])
    assert shown.endswith(place.partition("{}")[2])


@given(
    token=st.text(WORD + "-._~+/=:!", min_size=8, max_size=2000), scheme=st.sampled_from(["Bearer", "bearer", "BASIC"])
)
@example(token="AUTH:000", scheme="Bearer")
@example(token="credentials", scheme="BASIC")
def test_no_authorization_survives(token: str, scheme: str) -> None:
    assert redact(f"authorization: {scheme} {token}") == f"authorization: {scheme} ***"


@pytest.mark.parametrize("token", ["AUTH:000", "authabcdef", "tokens-of-mine", "Authorization==", "credentials.x"])
def test_a_token_that_begins_like_prose_does_not_survive(token: str) -> None:
    assert redact(f"sent Bearer {token} to it") == "sent Bearer *** to it"
    assert redact(repr([(b"authorization", f"Bearer {token}".encode())])) == "[(b'authorization', b'Bearer ***')]"


@given(name=NAMES, secret=QUOTABLE)
@pytest.mark.parametrize("quote", ["'", '"'])
def test_no_quoted_value_of_a_telling_name_survives(quote: str, name: str, secret: str) -> None:
    for text in (
        f"{{{quote}{name}{quote}: {quote}{secret}{quote}, {quote}n{quote}: 1}}",
        f"{name}={quote}{secret}{quote} n",
    ):
        assert redact(text) == text.replace(secret, "***")
    assert secret not in redact(repr([(name.lower().encode(), secret.encode())]))


@given(
    name=NAMES,
    secret=st.text(WORD + "-._~!$*+=@:%/", min_size=12, max_size=900).filter(lambda text: text[0] not in "=:"),
)
def test_no_plain_value_of_a_telling_name_survives(name: str, secret: str) -> None:
    assert secret not in redact(f"GET /x?{name}={secret}&limit=2", limit=4096)
    assert redact(f"{name}: {secret}").startswith(f"{name}: ***")


@given(claims=st.dictionaries(LETTERS, LETTERS, min_size=1, max_size=4), signature=LETTERS)
def test_no_jwt_survives(claims: dict[str, str], signature: str) -> None:
    payload = base64url(json.dumps(claims))
    shown = redact(f"got {base64url(json.dumps({'alg': 'HS256', 'typ': 'JWT'}))}.{payload}.{signature} from it")
    assert shown == "got eyJ*** from it"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("AKIAIOSFODNN7EXAMPLE and ASIAIOSFODNN7EXAMPLE", "AKIA*** and ASIA***"),
        ("key AIza" + "b" * 35, "key AIza***"),
        ("password=b'a b'", "password=b'***'"),
        (r"'password': 'it\'s long'", "'password': '***'"),
        ("password: ''", "password: ''"),
    ],
)
def test_other_credentials(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "Missing bearer or basic authentication in header",
        "Basic authentication is not supported.",
        "Bearer tokens are required",
        "Use bearer authentication, or basic credentials.",
        "Invalid token: expected a string",
        "You asked for max_tokens=5; the signature of f(x) differs",
        "see https://unpkg.com/react@18/index.js and https://medium.com/@user/post",
        "http://localhost:8080/users/a@b.example",
        "Add funds at https://tokens.flex.ai/dashboard/billing to continue.",
        "mail support@flex.ai",
        "the disk-full task-runner sk- sk-abc",
        "the secret is safe",
        "",
    ],
)
def test_what_is_no_secret_stays_as_it_is(text: str) -> None:
    assert redact(text, limit=max(1, len(text))) == text


@given(text=st.text(max_size=80), limit=st.integers(1, 60))
def test_a_long_text_is_cut_and_says_so(text: str, limit: int) -> None:
    shown = redact("." * limit + "x" + text, limit=limit)
    assert shown == "." * limit + "..."


@given(padding=st.integers(200, 330), password=st.text(WORD, min_size=60, max_size=60))
def test_a_password_that_the_cut_goes_through_does_not_survive(padding: int, password: str) -> None:
    shown = redact(f"{'.' * padding} redis://app:{password}@cache:6379", limit=300)
    assert not any(password[at : at + 6] in shown for at in range(len(password) - 6))


PIECES = st.sampled_from(
    [
        "redis://u:p@h",
        "https://h/x@y",
        "Bearer ",
        "abcdefgh",
        "password",
        "=",
        ":",
        "'",
        '"',
        " ",
        "sk-abcdefg",
        "***",
        "@",
        "://",
        "sig=a",
        "basic ",
        "eyJhbGciOi.eyJzdWIiOi.x",
        "\\",
        ",",
        "b'",
        "x_",
        "AKIAIOSFODNN7EXAMPLE",
    ]
)


@given(pieces=st.lists(PIECES, max_size=12))
@example(pieces=["://", "https://h/x@y", "'", "@"])
def test_a_text_that_was_redacted_is_not_redacted_again(pieces: list[str]) -> None:
    once = redact("".join(pieces))
    assert redact(once) == once


ADVERSARIES = [
    "a",
    " ",
    "://",
    "://a",
    "://a:",
    "://a:1/",
    "bearer ",
    "bearer",
    "sk-",
    "-eyJ",
    "eyJaaaaaaaa.",
    "-eyJaaaaaaaa",
    "password",
    "password=",
    "password='",
    "password='a",
    'password="\\',
    "password = ",
    "secret-key_",
    "AIza-",
]


@pytest.mark.parametrize("piece", ADVERSARIES)
def test_the_work_grows_no_faster_than_the_text(piece: str) -> None:
    def steps(size: int) -> int:
        text = (piece * size)[:size]
        total = 0
        for pattern, _ in _RULES:
            matcher = Matcher(pattern)
            assert matcher.spans(text) == [match.span() for match in pattern.finditer(text)]
            total += matcher.steps
        return total

    # A run as long as the bound of a pattern (512) is the dearest; beyond it the cost of a character is fixed.
    assert steps(1200) <= 3.2 * steps(600)


def test_one_long_run_is_read_a_fixed_number_of_times() -> None:
    for head in ("://", "bearer ", "bearer", "eyJ", "password='", "password=", "://a:", ""):
        for fill in ("a", " ", "-", ":", "@"):
            text = head + fill * 500
            work = sum(_steps(pattern, text) for pattern, _ in _RULES)
            assert work < 500 * 120, (head, fill, work)


def _steps(pattern: re.Pattern[str], text: str) -> int:
    matcher = Matcher(pattern)
    matcher.spans(text)
    return matcher.steps
