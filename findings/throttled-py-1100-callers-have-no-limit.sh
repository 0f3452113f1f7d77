#!/usr/bin/env bash
# The memory store of throttled-py limits nobody when there are more than 1024 callers.
# Expected: of 1100 callers with two requests a minute each, each is admitted twice, whatever the others do.
# Seen: the store keeps 1024 keys and forgets the counter of the caller who came longest ago, without a line in the log:
# with 1100 callers in turn each of their five requests is admitted, with 1000 two of five. So it is with each of the
# five algorithms (two of them here). The size is documented, as that of a cache.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'throttled-py==3.5.0'
"$work/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from throttled import RateLimiterType, Throttled, rate_limiter, store


def admitted_each(algorithm, callers):
    """How many of five requests are admitted per caller, who come in turn."""
    limiter = Throttled(using=algorithm.value, quota=rate_limiter.per_min(2), store=store.MemoryStore())
    admitted = sum(not limiter.limit(f"caller-{caller}").limited for _ in range(5) for caller in range(callers))
    return admitted / callers


algorithms = (RateLimiterType.TOKEN_BUCKET, RateLimiterType.GCRA)
seen = {a.value: [admitted_each(a, callers) for callers in (1000, 1100)] for a in algorithms}
print(f"throttled-py {version('throttled-py')}: admitted of 5 with a limit of 2; 1000 and 1100 callers: {seen}")
expected = {algorithm.value: [2.0, 5.0] for algorithm in algorithms}
raise SystemExit(0 if seen == expected else "changed: a limit holds for each caller")
PYTHON
