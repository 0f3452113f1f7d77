from __future__ import annotations

import doctest
import math
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from examples.gateway import fields, media, model, work

PROMPT = "What did the Caterpillar say?"

UNHURRIED = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])


def say(seed: int = 1, **options: object) -> str:
    return "".join(model.load(3).generate(PROMPT, **{"seed": seed, "max_tokens": 80, **options}))


@pytest.mark.parametrize("module", [model, media, fields, work])
def test_the_examples_in_the_docstrings_run(module: object) -> None:
    failed, tried = doctest.testmod(module)
    assert (failed, tried > 0) == (0, True)


def test_a_seed_decides_every_word() -> None:
    assert say(seed=1) == say(seed=1)
    assert len({say(seed=seed) for seed in range(20)}) > 15


@UNHURRIED
@given(st.text(max_size=80), st.integers(), st.integers(1, 50), st.sampled_from([2, 3]))
def test_any_prompt_is_continued_by_as_many_tokens_as_were_counted(
    prompt: str, seed: int, limit: int, order: int
) -> None:
    generation = model.load(order).generate(prompt, seed=seed, max_tokens=limit)
    text = "".join(generation)
    assert model.count_tokens(text) == generation.tokens
    assert 1 <= generation.tokens <= limit
    assert generation.finish_reason == "stop" or generation.tokens == limit


def test_two_words_in_a_row_were_neighbours_in_the_book() -> None:
    words = model.tokenize(say(max_tokens=200, min_tokens=200).lower())
    followers = model.load(2).followers
    known = [second in map(str.lower, followers[(first,)]) for first, second in pairwise(words)]
    assert all(known)


@UNHURRIED
@given(st.integers(), st.floats(0, 2))
def test_any_temperature_draws_known_words(seed: int, temperature: float) -> None:
    known = model.load(2).followers[()]
    assert all(word in known for word in model.tokenize(say(seed=seed, max_tokens=5, temperature=temperature)))


def test_a_temperature_of_zero_needs_no_seed() -> None:
    assert say(seed=1, temperature=0) == say(seed=2, temperature=0)


def test_min_tokens_puts_off_the_end() -> None:
    generation = model.load(3).generate(PROMPT, seed=3, max_tokens=2_000, min_tokens=2_000)
    list(generation)
    assert (generation.tokens, generation.finish_reason) == (2_000, "length")


@UNHURRIED
@given(st.integers(0, 200), st.text("abcdefgh ", min_size=1, max_size=6))
def test_the_text_ends_before_the_first_stop_sequence(seed: int, stop: str) -> None:
    whole = say(seed=seed)
    generation = model.load(3).generate(PROMPT, seed=seed, max_tokens=80, stop=(stop,))
    assert "".join(generation) == whole.partition(stop)[0]
    if stop in whole:
        assert generation.finish_reason == "stop"


@UNHURRIED
@given(st.text(min_size=1, max_size=200), st.integers(1, 300))
def test_an_embedding_has_length_one(text: str, dimensions: int) -> None:
    length = math.hypot(*model.embed(model.tokenize(text), dimensions))
    assert length == pytest.approx(1) or length == 0  # nothing but white space, or marks that cancel each other


def test_texts_with_common_words_lie_closer() -> None:
    def vector(text: str) -> list[float]:
        return model.embed(model.tokenize(text), 256)

    def closeness(one: str, other: str) -> float:
        return sum(a * b for a, b in zip(vector(one), vector(other), strict=True))

    assert (
        closeness("the white rabbit ran", "the white rabbit sat") > 0.4 > closeness("the white rabbit ran", "tea time")
    )


def test_a_model_without_a_text_says_so() -> None:
    with pytest.raises(ValueError, match="no text"):
        list(model.NGram("", order=2).generate("x", seed=1, max_tokens=1))
