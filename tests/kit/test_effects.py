"""The typed functions of the effects, and the old names of the classes."""

from __future__ import annotations

from typing import Any

import pytest

from flexmw.kit import effects
from flexmw.kit.effects import (
    Discard,
    Emit,
    Follow,
    Read,
    Replace,
    Resume,
    RunBlocking,
    Send,
    Skip,
    Sleep,
    discard,
    emit,
    follow,
    read,
    replace,
    resume,
    run_blocking,
    send,
    skip,
    sleep,
)

REQUEST: Any = "request"
RESPONSE: Any = "response"


def nothing(*arguments: object) -> None: ...


@pytest.mark.parametrize(
    ("flow", "effect", "result"),
    [
        (send(REQUEST), Send(REQUEST), RESPONSE),
        (send(REQUEST, nothing), Send(REQUEST, nothing), RESPONSE),
        (sleep(1.5), Sleep(1.5), None),
        (discard(RESPONSE), Discard(RESPONSE), None),
        (discard(RESPONSE, seconds=0.5), Discard(RESPONSE, 0.5), None),
        (read(RESPONSE, 10), Read(RESPONSE, 10), b"body"),
        (replace(RESPONSE, b"new"), Replace(RESPONSE, b"new"), RESPONSE),
        (follow(RESPONSE, nothing), Follow(RESPONSE, nothing), RESPONSE),
        (follow(RESPONSE, nothing, print), Follow(RESPONSE, nothing, print), RESPONSE),
        (emit("acme.counted", {"count": 1}), Emit("acme.counted", {"count": 1}), None),
        (run_blocking(nothing), RunBlocking(nothing), 3),
        (skip(RESPONSE, 7), Skip(RESPONSE, 7), 7),
        (skip(RESPONSE, 7, nothing), Skip(RESPONSE, 7, nothing), 3),
        (resume(RESPONSE, nothing), Resume(RESPONSE, nothing), RESPONSE),
        (resume(RESPONSE, nothing, print), Resume(RESPONSE, nothing, print), RESPONSE),
    ],
    ids=[
        "send",
        "send observed",
        "sleep",
        "discard",
        "discard in time",
        "read",
        "replace",
        "follow",
        "follow with a tap",
        "emit",
        "run_blocking",
        "skip",
        "skip with a tap",
        "resume",
        "resume with a tap",
    ],
)
def test_a_function_yields_its_effect_once_and_returns_the_result(flow: Any, effect: object, result: object) -> None:
    assert next(flow) == effect
    with pytest.raises(StopIteration) as caught:
        flow.send(result)
    assert caught.value.value == result


def test_what_is_thrown_into_a_function_reaches_the_flow_that_uses_it() -> None:
    flow = send(REQUEST)
    next(flow)
    with pytest.raises(ConnectionError, match="lost"):
        flow.throw(ConnectionError("lost"))


@pytest.mark.parametrize(("old", "new"), [("Tell", Emit), ("Call", RunBlocking)])
def test_an_old_class_name_is_the_new_class_with_a_deprecation_warning(old: str, new: type) -> None:
    with pytest.warns(DeprecationWarning, match=rf"flexmw\.kit\.effects\.{old} is now .*\.{new.__name__}") as caught:
        assert getattr(effects, old) is new
    assert caught[0].filename == __file__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"module 'flexmw\.kit\.effects' has no attribute 'Shout'"):
        _ = effects.Shout


def test_the_old_name_of_on_end_works_with_a_deprecation_warning() -> None:
    with pytest.warns(DeprecationWarning, match=r"Follow\(watch=\.\.\.\) is now Follow\(on_end=\.\.\.\)") as caught:
        effect = Follow(RESPONSE, watch=nothing)
    assert caught[0].filename == __file__
    assert effect == Follow(RESPONSE, nothing)
    with pytest.warns(DeprecationWarning, match=r"Follow\.watch is now Follow\.on_end"):
        assert effect.watch is nothing


def test_a_follow_without_a_function_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="on_end"):
        Follow(RESPONSE)
