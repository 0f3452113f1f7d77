"""The kinds of errors: a wrong call says how the class is called, and the page of kinds is what the code has."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import flexmw
from flexmw.errors import CallError
from scripts.kinds_page import PAGE_FILE, kinds, written

make: Any = flexmw


@pytest.mark.parametrize(
    ("call", "problem", "usage"),
    [
        (lambda: make.SubsystemOffline(), "missing 1 required positional argument: 'name'", "SubsystemOffline(name, "),
        (lambda: make.ModelNotFound(), "missing 1 required positional argument: 'model'", "ModelNotFound(model, "),
        (lambda: make.RateLimitExceeded(), "'retry_after'", "RateLimitExceeded(retry_after, "),
        (lambda: make.InvalidAPIKey("No."), "takes 1 positional argument", "InvalidAPIKey(message=..., "),
        (lambda: make.SubsystemOffline("x", foo=1), "unexpected keyword argument 'foo'", "headers=...)"),
        (lambda: make.InvalidRequest("m", message="n"), "multiple values", "InvalidRequest(message=None, param=None"),
        (lambda: make.APIError(404, "x"), "positional arguments", "APIError(message=None, status=..., "),
    ],
)
def test_a_wrong_call_says_what_is_wrong_and_how_the_class_is_called(
    call: Callable[[], object], problem: str, usage: str
) -> None:
    with pytest.raises(TypeError) as caught:
        call()
    assert isinstance(caught.value, flexmw.ConfigError)
    assert problem in str(caught.value)
    assert usage in str(caught.value)
    for twin in (copy.copy(caught.value), pickle.loads(pickle.dumps(caught.value))):
        assert str(twin) == str(caught.value)


def test_a_wrong_call_shows_what_was_given_without_secrets() -> None:
    with pytest.raises(CallError, match=r"'x', 'foo=sk-\*\*\*'|'x', \"foo='sk-\*\*\*'\"") as caught:
        make.SubsystemOffline("x", foo="sk-canary-0123456789")
    assert "canary" not in str(caught.value)


def test_a_status_in_the_place_of_the_message_is_refused() -> None:
    with pytest.raises(
        flexmw.ConfigError, match=r"APIError\(message\) = 404: expected a text; the status is a keyword"
    ):
        make.APIError(404)


def test_a_type_error_of_a_subclass_of_the_app_is_the_apps_own() -> None:
    class Broken(flexmw.APIError):
        def __init__(self) -> None:
            len(7)  # type: ignore[arg-type]

    with pytest.raises(TypeError, match="has no len") as caught:
        Broken()
    assert not isinstance(caught.value, CallError)


def test_a_subclass_of_the_app_explains_its_own_arguments() -> None:
    class SeatTaken(flexmw.APIError):
        def __init__(self, seat: int) -> None:
            super().__init__(f"Seat {seat} is taken.", status=409)

    assert SeatTaken(12).message == "Seat 12 is taken."
    make_seat: Any = SeatTaken
    with pytest.raises(CallError, match=r"SeatTaken\(seat, "):
        make_seat()


def test_the_page_of_kinds_is_what_the_code_has() -> None:
    page = PAGE_FILE.read_text()
    assert written(page) == page, "run: python -m scripts.kinds_page"
    assert all(f"`{kind.__name__}(" in page for kind in kinds())


@pytest.mark.parametrize("key", [flexmw.SubsystemOffline, "subsystem_offline"])
def test_the_message_of_a_kind_is_used_before_that_of_its_code(key: Any) -> None:
    from flexmw.contract.messages import key_of, reword

    messages = {str(key_of(key)): "{name} sleeps.", "service_unavailable": "We sleep."}
    assert reword(flexmw.SubsystemOffline("Speech").body, messages).message == "Speech sleeps."
    assert reword(flexmw.APIError(status=503).body, messages).message == "We sleep."
    assert flexmw.Envelope(messages={key: "{name} sleeps."})._rules(()).messages == {
        "subsystem_offline": "{name} sleeps."
    }


def test_a_key_that_is_neither_code_nor_kind_is_refused_by_name() -> None:
    with pytest.raises(flexmw.ConfigError, match="did you mean 'subsystem_offline'"):
        flexmw.Envelope(messages={"subsystem_ofline": "x"})
    with pytest.raises(flexmw.ConfigError, match="to be one of"):
        flexmw.Envelope(messages={flexmw.APIError: "x"})
    with pytest.raises(flexmw.ConfigError, match="no placeholder"):
        flexmw.Envelope(messages={flexmw.JobNotFound: "{name}"})
