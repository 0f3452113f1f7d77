"""The log of one response: bytes by offset, waiting readers, and the bound on what is kept."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexmw.idempotency.log import ResponseLog, RunningLogs

pytestmark = pytest.mark.anyio

GENERATION = "g0123456789abcde"


def log_of(*chunks: bytes, max_body: int = 1000) -> ResponseLog:
    log = ResponseLog(GENERATION, max_body=max_body)
    for chunk in chunks:
        log.append(chunk)
    return log


@given(st.lists(st.binary(max_size=9), max_size=9), st.integers(0, 90), st.integers(0, 90))
def test_a_read_is_a_slice_of_the_body_wherever_the_chunks_end(chunks: list[bytes], start: int, limit: int) -> None:
    log, body = log_of(*chunks), b"".join(chunks)
    assert log.read(start, limit) == body[start : start + limit]
    assert log.size == len(body)
    assert log.digest(start) == hashlib.sha256(body[:start]).digest()


@given(st.lists(st.integers(0, 40), max_size=9).map(sorted))
def test_pieces_that_are_read_one_after_another_are_the_body(offsets: list[int]) -> None:
    body = bytes(range(40))
    log = log_of(body[:7], body[7:8], body[8:30], body[30:])
    pieces = [log.read(start, end - start) for start, end in pairwise([0, *offsets, 40])]
    assert b"".join(pieces) == body


async def test_a_chunk_that_comes_between_a_look_and_a_wait_ends_the_wait() -> None:
    log = log_of(b"one")
    seen = log.size
    log.append(b"two")
    await log.wait_beyond(seen)
    assert log.read(seen, 10) == b"two"


async def test_all_waiting_readers_wake_at_a_chunk_and_at_the_end() -> None:
    log, read = log_of(), list[bytes]()

    async def reader() -> None:
        position = 0
        while True:
            await log.wait_beyond(position)
            piece = log.read(position, 2)
            if not piece:
                return
            position += len(piece)
            read.append(piece)

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(reader)
        await anyio.wait_all_tasks_blocked()
        log.append(b"abc")
        await anyio.wait_all_tasks_blocked()
        log.append(b"d")
        await anyio.wait_all_tasks_blocked()
        log.end()
    assert sorted(read) == [b"ab"] * 3 + [b"c"] * 3 + [b"d"] * 3


async def test_a_body_above_max_body_is_dropped_and_its_readers_wake() -> None:
    log = log_of(b"x" * 10, max_body=10)
    assert (log.is_continuable, len(log.read(0, 100))) == (True, 10)
    async with anyio.create_task_group() as group:
        group.start_soon(log.wait_beyond, 10)
        await anyio.wait_all_tasks_blocked()
        log.append(b"y")
    log.append(b"z")
    assert (log.is_continuable, log.read(0, 100), log.size) == (False, b"", 12)


async def test_followers_above_max_followers_are_not_counted() -> None:
    now = [5.0]
    log = ResponseLog(GENERATION, max_body=1, max_followers=2, clock=lambda: now[0])
    assert [log.attach(), log.attach(), log.attach(), log.followers] == [True, True, False, 2]
    now[0] = 7.0
    log.detach()
    assert (log.followers, log.wanted_at, log.attach()) == (1, 7.0, True)


def test_a_key_that_is_claimed_anew_has_the_log_of_its_new_generation() -> None:
    logs, stale, fresh = RunningLogs(), log_of(), ResponseLog("another", max_body=1)
    logs.add("k", stale)
    logs.add("k", fresh)
    logs.remove("k", stale)
    assert (logs.find("k", GENERATION), logs.find("k", "another"), logs.find("k")) == (None, fresh, fresh)
