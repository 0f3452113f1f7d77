"""A table of counters does what a table of tuples does, whatever its arrays have to do for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexmw.kit.counters import MAX_WORD, CounterTable
from flexmw.kit.expiring import ExpiringTable

LIFETIME = 60
WORD = st.sampled_from([1, 2, 2**31, 2**63, MAX_WORD])


@given(
    steps=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9), st.tuples(WORD, WORD, WORD)), max_size=80),
    shards=st.sampled_from([1, 3]),
)
def test_it_holds_the_values_that_a_table_of_tuples_holds(
    steps: list[tuple[int, int, tuple[int, int, int]]], shards: int
) -> None:
    counters = CounterTable(LIFETIME, shards=shards)
    tuples: ExpiringTable[tuple[int, int, int]] = ExpiringTable(LIFETIME, shards=shards)
    now, written = 0, dict[str, int]()
    for number, passed, value in steps:
        now += passed
        key = f"key {number}"
        # Between one and three lifetimes after it was written, a value may be there or not.
        if now - written.get(key, now) < LIFETIME:
            assert counters.get(key, now) == tuples.get(key, now)
        counters.put(key, value, now)
        tuples.put(key, value, now)
        written[key] = now


def test_many_keys_have_a_value_each_while_the_arrays_grow() -> None:
    table = CounterTable(LIFETIME, shards=3)
    for number in range(1, 3_000):
        words, index = table.locate(f"key {number}", 0)
        assert [*words[index : index + 3]] == [0, 0, 0]
        words[index] = number
    assert [table.get(f"key {number}", 1) for number in range(1, 3_000)] == [
        (number, 0, 0) for number in range(1, 3_000)
    ]
    assert table.count() == 2_999


def test_a_generation_begins_with_room_for_the_keys_of_the_one_before() -> None:
    table = CounterTable(LIFETIME, shards=1)
    for number in range(1_000):
        table.put(f"key {number}", (1,), 0)
    capacity = len(table.shards[0].young)
    table.put("key 0", (2,), LIFETIME)
    assert len(table.shards[0].young) == capacity
    assert [table.get(f"key {number}", LIFETIME) for number in range(3)] == [(2, 0, 0), (1, 0, 0), (1, 0, 0)]


def test_the_number_of_keys_is_bounded_and_the_ones_in_use_survive() -> None:
    table = CounterTable(LIFETIME, max_entries=1_000, shards=4)
    for number in range(1, 10_000):
        table.put("in use", (number,), 0)
        table.put(f"key {number}", (number,), 0)
    assert table.count() <= 1_000 + 4
    assert table.get("in use", 0) == (9_999, 0, 0)


def test_unused_shards_give_their_memory_back() -> None:
    table = CounterTable(LIFETIME, shards=8)
    for number in range(1_000):
        table.put(f"key {number}", (1,), 0)
    for now in range(4 * LIFETIME):
        table.get("another", now)
    assert all(shard.is_empty for shard in table.shards)


def test_a_sweep_that_comes_late_turns_several_shards() -> None:
    table = CounterTable(80, shards=8)
    for number in range(100):
        table.put(f"key {number}", (1,), 0)
    for now in (0, 100, 200, 300):
        table.sweep(now)
    assert table.count() == 0


class _Zero(str):
    """A text whose hash is the mark of a free entry."""

    __slots__ = ()

    def __hash__(self) -> int:
        return 0


def test_a_key_with_the_hash_zero_is_a_key() -> None:
    table = CounterTable(LIFETIME, shards=1)
    table.put(_Zero("a"), (7,), 0)
    assert (table.get(_Zero("a"), 1), table.count()) == ((7, 0, 0), 1)


@pytest.mark.parametrize("number", [MAX_WORD + 1, 10**30])
def test_a_number_that_is_too_large_is_written_as_the_largest_one(number: int) -> None:
    table = CounterTable(LIFETIME)
    table.put("a", (1, number), 0)
    assert table.get("a", 1) == (1, MAX_WORD, 0)
    words, index = table.locate("a", 1)
    with pytest.raises(OverflowError):
        words[index] = number
