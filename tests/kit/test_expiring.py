from __future__ import annotations

from flexmw.kit.expiring import ExpiringTable

SECOND = 1_000_000


def test_the_number_of_keys_is_bounded_and_the_ones_in_use_survive() -> None:
    table: ExpiringTable[int] = ExpiringTable(60 * SECOND, max_entries=1_000, shards=4)
    for number in range(50_000):
        table.put("in use", number, 0)
        table.put(f"key {number}", number, 0)
    assert table.count() <= 1_000 + 4
    assert table.get("in use", 0) == 49_999


def test_a_key_is_in_one_generation_only() -> None:
    table: ExpiringTable[int] = ExpiringTable(SECOND, shards=1)
    for moment in range(0, 10 * SECOND, SECOND // 2):
        table.put("caller", moment, moment)
        assert table.count() == 1
        assert table.get("caller", moment) == moment
    table.put("another", 1, 100 * SECOND)
    assert table.get("caller", 100 * SECOND) is None


def test_a_key_that_is_touched_lives_on_and_one_that_is_unknown_stays_so() -> None:
    table: ExpiringTable[int] = ExpiringTable(SECOND, shards=1)
    table.put("caller", 7, 0)
    for moment in range(0, 10 * SECOND, SECOND // 2):
        assert table.touch("caller", moment)
        assert not table.touch("stranger", moment)
    assert table.get("caller", 10 * SECOND - 1) == 7
    assert table.count() == 1
    assert not table.touch("caller", 100 * SECOND)


def test_a_key_that_is_discarded_is_gone_from_both_generations() -> None:
    table: ExpiringTable[int] = ExpiringTable(SECOND, shards=1)
    table.put("old", 1, 0)
    table.put("young", 2, SECOND + SECOND // 2)
    assert (table.get("old", SECOND + SECOND // 2), table.count()) == (1, 2)
    table.discard("old")
    table.discard("young")
    assert table.count() == 0
