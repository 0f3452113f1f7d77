"""A continuation is no new request for RateLimit, and its header is no way around a limit."""

from __future__ import annotations

from typing import Any, Final

import anyio
import pytest

import flexmw
from flexmw.idempotency import Idempotency
from flexmw.ratelimit import RateLimit
from tests.idempotency.calls import KEYED, Caller, Host
from tests.waiting import LONGEST_WAIT

pytestmark = pytest.mark.anyio

EVENTS: Final = [b"data: %d\n\n" % number for number in range(5)]
STREAM: Final = [(b"content-type", b"text/event-stream")]
UNKNOWN: Final = '"0123456789abcdef01234567";from=3'


def host() -> Host:
    return Host(parts=(*EVENTS, b""), headers=STREAM)


def field(first: Caller, start: int) -> dict[str, str]:
    return {**KEYED, "idempotent-stream": f"{first.answer_headers['idempotent-stream']};from={start}"}


@pytest.mark.parametrize("options", [{}, {"tokens": "100/minute", "token_cost": 100}], ids=["requests", "tokens"])
async def test_a_continuation_is_neither_counted_nor_refused(options: Any) -> None:
    app = flexmw.wrap_app(host(), flexmw.Envelope(), RateLimit("1/minute", **options), Idempotency())
    first = await Caller(app, headers=KEYED)()
    for start in (0, 3, 9, 12, 40):
        rest = await Caller(app, headers=field(first, start))()
        assert (rest.status, rest.answer) == (200, b"".join(EVENTS)[start:])
    assert (await Caller(app, headers=KEYED)()).status == 429


async def test_a_continuation_needs_no_slot_while_its_execution_holds_one() -> None:
    work = host().hold()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": STREAM})
        await send({"type": "http.response.body", "body": EVENTS[0], "more_body": True})
        work.started.set()
        await work.proceed.wait()
        await send({"type": "http.response.body", "body": EVENTS[1]})

    limited = flexmw.wrap_app(app, RateLimit("9/minute", concurrency=1), Idempotency())
    first = second = Caller(limited, headers=KEYED)
    with anyio.fail_after(LONGEST_WAIT):
        async with anyio.create_task_group() as group:
            group.start_soon(first)
            await work.started.wait()
            second = Caller(limited, headers=field(first, 3))
            group.start_soon(second)
            while len(second.sent) < 2:
                await anyio.lowlevel.checkpoint()
            assert (second.status, second.answer) == (200, EVENTS[0][3:])
            assert (await Caller(limited, headers={"idempotency-key": "another"})()).status == 429
            work.proceed.set()
    assert second.answer == (EVENTS[0] + EVENTS[1])[3:]


async def test_asking_for_keys_that_do_not_exist_is_limited() -> None:
    work = host()
    app = flexmw.wrap_app(work, RateLimit("2/minute"), Idempotency())
    statuses = [(await Caller(app, headers={**KEYED, "idempotent-stream": UNKNOWN})()).status for _ in range(4)]
    assert statuses == [410, 410, 429, 429]
    assert work.runs == 0
    assert (await Caller(app, headers=KEYED)()).status == 200


@pytest.mark.parametrize(
    ("components", "method"),
    [
        ([], "POST"),
        ([Idempotency()], "GET"),
        ([Idempotency()], "PUT"),
        ([Idempotency(exempt="/orders")], "POST"),
    ],
    ids=["no Idempotency", "GET", "unprotected method", "exempt"],
)
async def test_the_field_on_a_request_that_runs_the_app_changes_nothing(components: Any, method: str) -> None:
    app = flexmw.wrap_app(host(), RateLimit("1/minute"), *components)
    headers = {**KEYED, "idempotent-stream": UNKNOWN}
    assert [(await Caller(app, headers=headers, method=method)()).status for _ in range(2)] == [200, 429]
