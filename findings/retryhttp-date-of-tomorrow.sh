#!/usr/bin/env bash
# retryhttp drops the days of a Retry-After that is a date.
# Expected: a date that is further away than `wait_max` (two minutes) is not waited for, as the number of seconds is:
# the fallback decides, and `fallback=None` raises ValueError.
# Seen: a date a day and a minute away is a wait of a minute, because `timedelta.seconds` has no days.
# A quota that is renewed in a day is asked for a minute later.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'retryhttp==1.5.0' 'tenacity==9.2.1' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from importlib.metadata import version

import httpx
from retryhttp import wait_retry_after
from tenacity import Future, RetryCallState


def wait(retry_after):
    """The wait in seconds before a retry of a request that was refused with this Retry-After."""
    request = httpx.Request("GET", "http://shop.example")
    response = httpx.Response(429, headers={"retry-after": retry_after}, request=request)
    state = RetryCallState(None, None, (), {})
    state.outcome = Future(1)
    state.outcome.set_exception(httpx.HTTPStatusError("429", request=request, response=response))
    try:
        return wait_retry_after(fallback=None)(state)
    except ValueError:
        return "longer than wait_max"


away = timedelta(days=1, minutes=1)
number = wait(str(int(away.total_seconds())))
date = wait(format_datetime(datetime.now(UTC) + away, usegmt=True))
print(f"retryhttp {version('retryhttp')}: a number of {away.total_seconds():.0f}: {number}; the date: {date} s")
as_stated = number == "longer than wait_max" and isinstance(date, float) and date <= 60
raise SystemExit(0 if as_stated else "changed: a date of tomorrow is tomorrow")
PYTHON
