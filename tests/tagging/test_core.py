"""Attributes and decisions of telemetry, without OpenTelemetry."""

from __future__ import annotations

import asyncio
import base64
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexmw.contract.request_secrets import LEFT_OUT, is_secret_name, remove_secrets, safe_query, secrets_in
from flexmw.tagging.core import (
    Ending,
    ExceptionTarget,
    Vocabulary,
    ending,
    error_type,
    exception_attributes,
    exception_target,
    mode_of,
    resend_count,
    retry_count,
    status_of,
)

VOCABULARY = Vocabulary(frozenset({"server_error"}), frozenset({"internal_error"}))


class Odd(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@given(st.integers(100, 599), st.booleans())
def test_a_status_is_an_error_from_500_on_the_server_and_from_400_on_the_client(status: int, server: bool) -> None:
    failed = status >= (500 if server else 400)
    assert status_of(status, server=server) == ("error" if failed else "unset")
    assert error_type(status, None, server=server) == (str(status) if failed else None)


@pytest.mark.parametrize(("status", "server"), [(499, "unset"), (500, "error"), (501, "error")])
def test_the_servers_errors_begin_at_500(status: int, server: str) -> None:
    assert status_of(status, server=True) == server


@pytest.mark.parametrize(
    ("headers", "query", "secrets"),
    [
        ([], "", set()),
        ([("x-api-key", "12345")], "", set()),
        ([("x-api-key", "123456")], "", {"123456"}),
        ([("idempotency-key", '"key-in-quotes"')], "", {'"key-in-quotes"', "key-in-quotes"}),
        ([("authorization", "Bearer sk-token")], "", {"Bearer sk-token", "Bearer", "sk-token"}),
        ([], "api_key=cGFkZGVk==&page=2", {"cGFkZGVk=="}),
        ([], "token=a%2Fb%2Fc%3D+d", {"a%2Fb%2Fc%3D+d", "a/b/c= d"}),
    ],
)
def test_credentials_of_a_request_are_known_as_sent_and_as_decoded(
    headers: list[tuple[str, str]], query: str, secrets: set[str]
) -> None:
    found = secrets_in(headers, query)
    assert set(found) == secrets
    assert list(found) == sorted(found, key=len, reverse=True)


def test_a_value_with_equals_signs_is_taken_out_of_a_query_whole() -> None:
    assert safe_query("api_key=cGFkZGVk==&x=a=b") == "api_key=REDACTED&x=a=b"
    assert safe_query(f"colour=green&next=sk-proj-{'a1B2' * 8}") == "colour=green&next=sk-***"


def test_a_credential_is_replaced_by_three_stars_and_a_text_of_just_the_limit_is_whole() -> None:
    attributes = exception_attributes(ValueError("bad sk-token!"), ("sk-token",))
    assert attributes["exception.message"] == "bad ***!"
    assert attributes["exception.stacktrace"] == "ValueError: bad ***!\n"
    assert exception_attributes(ValueError("x" * 2048))["exception.message"] == "x" * 2048
    lines = "\n".join(["first" * 300, *["y" * 99] * 20])
    assert exception_attributes(ValueError(lines))["exception.message"] == "\n".join(["y" * 99] * 20)


@pytest.mark.parametrize(("said", "count"), [("9" * 9, 100), ("0000000001", 0), ("000000001", 1)])
def test_nine_digits_of_a_retry_count_are_read(said: str, count: int) -> None:
    assert retry_count(said) == count


def test_the_error_type_is_the_exception_rather_than_the_status() -> None:
    assert error_type(200, Odd()) == f"{__name__}.Odd"
    assert error_type(200, Odd(), server=False) == "Odd"
    assert error_type(None, None) is None


@pytest.mark.parametrize(
    ("error", "complete", "disconnected", "expected"),
    [
        (None, True, True, "complete"),
        (ValueError(), True, False, "complete"),
        (None, False, False, "failed"),
        (ValueError(), False, False, "failed"),
        (OSError(), False, True, "client_disconnected"),
        (asyncio.CancelledError(), False, True, "cancelled"),
        (GeneratorExit(), False, False, "cancelled"),
    ],
)
def test_each_ending_of_a_response_has_its_own_outcome(
    error: BaseException | None, complete: bool, disconnected: bool, expected: Ending
) -> None:
    assert ending(error, complete=complete, disconnected=disconnected) == expected


@pytest.mark.parametrize(
    ("value", "mode"),
    [
        (None, "auto"),
        ("", "auto"),
        ("http", "auto"),
        ("logs", "logs"),
        ("http, logs", "logs"),
        ("logs/dup", "logs/dup"),
        ("logs,logs/dup", "logs/dup"),
    ],
)
def test_the_opt_in_variable_is_read_as_a_list(value: str | None, mode: str) -> None:
    assert mode_of(value) == mode


TARGETS: dict[tuple[str, bool, bool], ExceptionTarget] = {
    ("auto", True, True): "log",
    ("auto", True, False): "log",
    ("auto", False, True): "span",
    ("auto", False, False): "nobody",
    ("logs", True, True): "log",
    ("logs", True, False): "log",
    ("logs", False, True): "nobody",
    ("logs", False, False): "nobody",
    ("logs/dup", True, True): "both",
    ("logs/dup", True, False): "log",
    ("logs/dup", False, True): "span",
    ("logs/dup", False, False): "nobody",
}


def test_exceptions_go_to_one_signal_unless_both_are_requested() -> None:
    for mode, log, span in itertools.product(("auto", "logs", "logs/dup"), (True, False), (True, False)):
        assert exception_target(framework=False, mode=mode, log=log, span=span) == TARGETS[mode, log, span]  # type: ignore[arg-type]
        assert exception_target(framework=True, mode=mode, log=log, span=span) == "framework"  # type: ignore[arg-type]


@given(st.text(), st.text(), st.sampled_from(["passthrough", "validation"]))
def test_types_and_codes_outside_the_sets_become_other(type: str, code: str, source: str) -> None:
    attributes = VOCABULARY.attributes(type, code, source)
    assert attributes["flexmw.error.type"] in ("server_error", "_OTHER")
    assert attributes["flexmw.error.source"] == source


@pytest.mark.parametrize(
    ("code", "expected"),
    [("internal_error", "internal_error"), ("http_418", "http_418"), ("http_200", "_OTHER"), ("sk-secret", "_OTHER")],
)
def test_known_codes_are_those_of_the_contract_and_http_nnn(code: str, expected: str) -> None:
    assert VOCABULARY.attributes(None, code, None) == {"flexmw.error.code": expected}


@pytest.mark.parametrize(
    ("value", "count"), [(None, None), ("", None), ("x", None), ("-1", None), ("²", None), ("3", 3), ("99999", 100)]
)
def test_an_sdks_retry_count_is_at_most_a_hundred(value: str | None, count: int | None) -> None:
    assert retry_count(value) == count


@given(st.text())
def test_any_retry_count_is_read_without_an_exception(value: str) -> None:
    count = retry_count(value)
    assert count is None or 0 <= count <= 100


def test_the_resend_count_is_the_larger_of_scheduled_retries_and_sent_heads() -> None:
    assert resend_count(scheduled=0, sent=0) == 0
    assert resend_count(scheduled=2, sent=0) == 2
    assert resend_count(scheduled=0, sent=1) == 1


def test_credentials_of_the_request_are_found_wherever_they_travel() -> None:
    headers = [
        ("authorization", "Bearer tok-123456"),
        ("x-api-key", "plain-key-1"),
        ("idempotency-key", '"quoted-key"'),
        ("accept", "application/json"),
    ]
    found = secrets_in(headers, "api_key=query-key&page=1234567&sig=abc")
    assert {"tok-123456", "Bearer tok-123456", "plain-key-1", "quoted-key", "query-key"} <= set(found)
    assert not {"application/json", "1234567", "abc"} & set(found)
    assert list(found) == sorted(found, key=len, reverse=True)


def test_a_query_keeps_its_shape_and_loses_its_secrets() -> None:
    assert safe_query("api_key=sk-1&page=2&flag&X-Amz-Signature=ff") == (
        "api_key=REDACTED&page=2&flag&X-Amz-Signature=REDACTED"
    )


@given(st.text(alphabet=st.characters(codec="ascii", exclude_characters="&="), min_size=12, max_size=40))
def test_no_secret_of_the_request_survives_in_message_or_stack(secret: str) -> None:
    try:
        raise ValueError(f"cannot use {secret} here")
    except ValueError as error:
        attributes = exception_attributes(error, secrets_in([("x-api-key", secret)]))
    assert secret not in str(attributes["exception.message"])


TOKEN = "tok_Q7mZ2LsW9xKpR4vB8nT1"
BASIC = base64.b64encode(b"ada:correct-Horse7").decode()


@pytest.mark.parametrize(
    ("headers", "query", "text", "shown"),
    [
        ([("cookie", "theme=dark; sid=Zx81hjQ0pLm2")], "", "unknown session Zx81hjQ0pLm2", "unknown session ***"),
        ([("authorization", f"Basic {BASIC}")], "", "bad password correct-Horse7!", "bad password ***!"),
        ([("authorization", "Basic YTpiNHo5")], "", "pw b4z9 of b4z90", "pw *** of b4z90"),
        (
            [("authorization", 'Digest username="ada", response="6629fae49393a05397450978507c4ef1"')],
            "",
            "response 6629fae49393a05397450978507c4ef1 differs",
            "response *** differs",
        ),
        ([("authorization", f"Own {TOKEN}")], "", f"no {TOKEN.upper()} here", "no *** here"),
        ([("authorization", f"Bearer {TOKEN}")], "", f"no {TOKEN[:9]}...", "no ***..."),
        ([("authorization", f"Bearer {TOKEN}")], "", f"no ...{TOKEN[-8:]}", "no ...***"),
        ([("apikey", TOKEN)], "", TOKEN, "***"),
        ([("private-token", TOKEN)], "", TOKEN, "***"),
        ([("ocp-apim-subscription-key", TOKEN)], "", TOKEN, "***"),
        ([("x-shop-session", TOKEN)], "", TOKEN, "***"),
        ([], f"code={TOKEN}", TOKEN, "***"),
        ([], f"%74oken={TOKEN}", TOKEN, "***"),
        ([], f"a=1;token={TOKEN}", TOKEN, "***"),
        ([], f"Access-Token={TOKEN}", TOKEN, "***"),
        ([("accept", "application/json")], "page=1234567890ab", "1234567890ab", "1234567890ab"),
    ],
)
def test_the_credentials_of_a_request_are_removed_in_every_form(
    headers: list[tuple[str, str]], query: str, text: str, shown: str
) -> None:
    assert remove_secrets(text, secrets_in(headers, query)) == shown


def test_more_credentials_than_any_request_has_leave_the_text_out() -> None:
    many = secrets_in([("cookie", "; ".join(f"c{number}=value{number:06}" for number in range(5000)))])
    assert remove_secrets("anything", many) == LEFT_OUT
    attributes = exception_attributes(ValueError("anything"), many)
    assert attributes["exception.message"] == attributes["exception.stacktrace"] == LEFT_OUT


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        *((name, True) for name in ("token", "%74oken", "accessToken", "x-amz-signature", "X-Goog-Signature", "sig")),
        *(
            (name, True)
            for name in ("api_key", "API-KEY", "apikey", "key", "AWSAccessKeyId", "code", "pwd", "client_secret")
        ),
        *(
            (name, False)
            for name in ("page", "monkey", "design", "postcode", "decode", "limit", "encoding", "tokens", "")
        ),
    ],
)
def test_a_parameter_is_secret_by_its_name(name: str, secret: bool) -> None:
    assert is_secret_name(name) is secret


def test_a_query_written_in_another_way_loses_its_secrets_too() -> None:
    assert safe_query("a=1;%74oken=abc&x;Code=abc") == "a=1;%74oken=REDACTED&x;Code=REDACTED"


def test_a_long_stack_keeps_its_end() -> None:
    def raises() -> None:
        raise ValueError("the end " + "x" * 3000)

    call = raises
    for n in range(80):
        name = f"f{'x' * 250}{n}"
        space: dict[str, Any] = {"inner": call}
        exec(f"def {name}():\n    inner()", space)
        call = space[name]
    with pytest.raises(ValueError, match="the end") as caught:
        call()
    attributes = exception_attributes(caught.value)
    assert len(str(attributes["exception.stacktrace"])) <= 16 * 1024 + 3
    assert "the end" in str(attributes["exception.stacktrace"])
    assert len(str(attributes["exception.message"])) <= 2048 + 3


def test_an_unprintable_message_is_replaced_and_unwanted_text_is_left_out() -> None:
    assert exception_attributes(Odd())["exception.message"] == "<unprintable>"
    assert exception_attributes(ValueError("text"), text=False) == {"exception.type": "ValueError"}


def test_a_stack_of_one_long_line_is_cut_to_the_limit() -> None:
    attributes = exception_attributes(ValueError("x" * 40_000))
    assert len(str(attributes["exception.stacktrace"])) <= 16 * 1024 + 3


def test_what_an_error_response_does_not_state_is_left_out() -> None:
    assert VOCABULARY.attributes("server_error", None, None) == {"flexmw.error.type": "server_error"}


def test_a_stack_that_cannot_be_formatted_is_replaced() -> None:
    class Hidden(Exception):
        @property
        def __cause__(self) -> BaseException | None:  # Python 3.13 survives __notes__ that raise
            raise RuntimeError("no cause")

    attributes = exception_attributes(Hidden("text"))
    assert attributes["exception.message"] == "text"
    assert "no cause" not in str(attributes["exception.stacktrace"])
