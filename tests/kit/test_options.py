from __future__ import annotations

import copy
import inspect
import pickle
import sys
from collections.abc import Callable
from dataclasses import MISSING, FrozenInstanceError, dataclass, field, replace
from typing import TYPE_CHECKING, Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexmw.errors import ConfigError
from flexmw.kit.options import (
    OptionDoc,
    Rule,
    check,
    documentation,
    documented,
    flag,
    function,
    one_of,
    option,
    optional,
    positional,
    seconds,
    several,
    text,
    whole,
)


@dataclass(frozen=True, kw_only=True)
class Limit:
    least: int = option(1, whole(least=1, most=9))
    needed: str = option(rule=text)
    free: object = option(None)
    pepper: str = option("p", text, secret=True)
    clock: Callable[[], float] = option(sys.intern, function, hidden=True)
    __post_init__ = check


def test_values_that_fit_are_kept() -> None:
    made = Limit(needed="x", least=9, free=object)
    assert (made.least, made.needed, made.free) == (9, "x", object)
    with pytest.raises(FrozenInstanceError):
        made.least = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"needed": ""}, "Limit(needed=...) = '': expected a text that is not empty"),
        ({"needed": "x", "least": 0}, "Limit(least=...) = 0: expected a whole number, 1 to 9"),
        ({"needed": "x", "least": 10}, "Limit(least=...) = 10: expected a whole number, 1 to 9"),
        ({"needed": "x", "clock": 3}, "Limit(clock=...) = 3: expected a function"),
        ({"needed": "x", "pepper": 3}, "Limit(pepper=...) = '***': expected a text that is not empty"),
    ],
)
def test_a_value_that_does_not_fit_names_class_option_value_and_what_would(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Limit(**options)
    assert str(caught.value) == message


def test_an_option_without_a_default_must_be_given() -> None:
    with pytest.raises(TypeError, match="needed"):
        Limit()  # type: ignore[call-arg]


def test_a_repr_shows_neither_secrets_nor_what_is_hidden() -> None:
    assert repr(Limit(needed="x", pepper="hunter2")) == "Limit(least=1, needed='x', free=None)"


def test_what_is_hidden_makes_no_difference_and_a_secret_does() -> None:
    assert Limit(needed="x", clock=len) == Limit(needed="x")  # type: ignore[arg-type]
    assert hash(Limit(needed="x", clock=len)) == hash(Limit(needed="x"))  # type: ignore[arg-type]
    assert Limit(needed="x", pepper="a") != Limit(needed="x", pepper="b")


def test_options_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(Limit(needed="x"))) == Limit(needed="x")


@dataclass(frozen=True, kw_only=True)
class Probe:
    url: str = option(rule=text, doc="Where to ask.", secret=True)
    timeout: float = option(5.0, seconds(above=0), doc="Longest wait.", unit="seconds")
    limit: int = option(10, whole(least=1), doc="Longest body.", unit="bytes")
    weight: int = option(1, doc="Weight of the probe.", unit="points")
    label: str = option("")
    plain: int = 3
    state: object = field(default=None, init=False)
    __post_init__ = check


def test_the_documentation_of_an_option_is_what_stands_at_the_option() -> None:
    assert documentation(Probe) == [
        OptionDoc("url", "Where to ask.", "a text that is not empty", MISSING, secret=True, hidden=False),
        OptionDoc("timeout", "Longest wait.", "a number of seconds above 0", 5.0, secret=False, hidden=False),
        OptionDoc("limit", "Longest body.", "a whole number, at least 1 (bytes)", 10, secret=False, hidden=False),
        OptionDoc("weight", "Weight of the probe.", "points", 1, secret=False, hidden=False),
        OptionDoc("label", "", "", "", secret=False, hidden=False),
        OptionDoc("plain", "", "", 3, secret=False, hidden=False),
    ]


def test_a_class_that_is_not_a_dataclass_has_no_documented_options() -> None:
    assert documentation(dict) == []


def test_a_description_ends_with_the_values_unless_true_or_false_are_all() -> None:
    assert [option.description for option in documentation(Probe)[:3]] == [
        "Where to ask. Value: a text that is not empty.",
        "Longest wait. Value: a number of seconds above 0.",
        "Longest body. Value: a whole number, at least 1 (bytes).",
    ]
    assert OptionDoc("raw", "Keep it raw.", flag.expected, default=False, secret=False, hidden=False).description == (
        "Keep it raw."
    )
    assert OptionDoc("raw", "", flag.expected, default=False, secret=False, hidden=False).description == flag.expected


def test_a_documented_rule_accepts_every_value() -> None:
    rule = documented("a storage URL")
    assert rule.expected == "a storage URL"
    assert all(rule.test(value) for value in (None, 1, "", object()))


@positional("rates")
@dataclass(frozen=True, kw_only=True)
class Limited:
    rates: tuple[str, ...] | str = option((), documented("a list of rates"))
    lease: float = option(60.0, seconds(least=1))
    clock: object = option(None, hidden=True)
    __post_init__ = check

    if TYPE_CHECKING:

        def __init__(
            self, *rates_: Any, rates: tuple[str, ...] | str = (), lease: float = 60.0, clock: object = None
        ) -> None: ...


def test_positional_arguments_are_collected_in_front_of_the_keyword() -> None:
    assert Limited("1/minute", "2/hour").rates == ("1/minute", "2/hour")
    assert Limited(rates="1/minute").rates == ("1/minute",)
    assert Limited("1/minute", rates=["2/hour"]).rates == ("1/minute", "2/hour")
    assert Limited().rates == ()


def test_a_class_with_positional_arguments_stays_a_frozen_dataclass() -> None:
    made = Limited("1/minute", lease=5.0)
    with pytest.raises(FrozenInstanceError):
        made.lease = 2.0  # type: ignore[misc]
    assert repr(made) == "Limited(rates=('1/minute',), lease=5.0)"
    assert made == Limited("1/minute", lease=5.0, clock=3)
    assert pickle.loads(pickle.dumps(made)) == copy.deepcopy(made) == made
    assert replace(made, lease=6.0) == Limited("1/minute", lease=6.0)
    with pytest.raises(ConfigError, match="lease"):
        Limited("1/minute", lease=0)


def test_a_class_with_positional_arguments_has_a_precise_signature() -> None:
    parameters = inspect.signature(Limited).parameters
    kinds = {name: parameter.kind.name for name, parameter in parameters.items()}
    assert kinds == {
        "rates_": "VAR_POSITIONAL",
        "rates": "KEYWORD_ONLY",
        "lease": "KEYWORD_ONLY",
        "clock": "KEYWORD_ONLY",
    }
    assert parameters["lease"].default == 60.0
    assert get_type_hints(Limited.__init__)["lease"] is float
    with pytest.raises(TypeError, match="leas"):
        Limited(leas=5.0)  # type: ignore[call-arg]


GOOD: list[tuple[Rule, list[Any], list[Any]]] = [
    (
        seconds(),
        [0, 0.0, 1.5, 10**30],
        [-1, -0.1, "1", None, True, float("nan"), float("inf"), 10**400, -(10**400), 1j],
    ),
    (seconds(least=2), [2, 2.5], [1.9]),
    (seconds(above=0), [0.1, 1], [0, -1, False]),
    (whole(least=1), [1, 10**40], [0, 1.0, "1", True, None]),
    (whole(least=0, most=3), [0, 3], [-1, 4, False]),
    (one_of(("a", "b")), ["a", "b"], ["c", "", "ab", None, 1, ["a"]]),
    (optional(whole(least=1)), [None, 1], [0, "x", False]),
    (several(whole(least=1)), [(), [], (1, 2), [3]], [(0,), [1, "x"], "12", {1}, 1, None]),
    (flag, [True, False], [0, 1, "true", None]),
    (text, ["x", " "], ["", None, b"x", 1]),
    (function, [len, lambda: 1], [1, None, "len"]),
]


@pytest.mark.parametrize(("rule", "good", "bad"), GOOD, ids=[rule.expected for rule, _, _ in GOOD])
def test_a_rule_takes_what_it_says(rule: Rule, good: list[Any], bad: list[Any]) -> None:
    assert [value for value in good if rule.test(value) is not True] == []
    assert [value for value in bad if rule.test(value) is not False] == []


def test_rules_say_in_words_what_would_be_right() -> None:
    assert seconds().expected == "a number of seconds, at least 0"
    assert seconds(least=0.5).expected == "a number of seconds, at least 0.5"
    assert seconds(above=0).expected == "a number of seconds above 0"
    assert whole(least=1).expected == "a whole number, at least 1"
    assert one_of(("a", "b")).expected == "one of 'a', 'b'"
    assert optional(text).expected == "a text that is not empty, or None"
    assert several(text).expected == "a list, each a text that is not empty"
    assert flag.expected == "true or false"


@given(
    value=st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.lists(st.integers())
)
def test_no_rule_raises_on_any_value(value: Any) -> None:
    for rule, _, _ in GOOD:
        assert rule.test(value) in (True, False)
