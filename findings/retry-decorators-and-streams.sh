#!/usr/bin/env bash
# A decorator for retries on a function that yields a stream retries nothing, or repeats what was yielded.
# Expected: a stream that fails before its first token is retried; one that fails later is not, or goes on where it was.
# Seen: tenacity and backoff call the function, get its generator and are done, without a warning: no retry at all.
# stamina begins the generator again at whatever point it failed, so that the caller gets the first tokens twice.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'tenacity==9.2.1' 'backoff==2.2.1' 'stamina==26.1.0'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
import logging
from importlib.metadata import version

import backoff
import stamina
import tenacity

logging.disable(logging.CRITICAL)
DECORATORS = {
    "tenacity": tenacity.retry(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_none()),
    "backoff": backoff.on_exception(backoff.constant, ConnectionError, max_tries=3, interval=0),
    "stamina": stamina.retry(on=ConnectionError, attempts=3, wait_initial=0.01, wait_jitter=0),
}


async def tokens_of(decorator, fails_after):
    """The tokens that a caller gets if the first attempt fails after so many."""
    attempts = 0

    async def stream():
        nonlocal attempts
        attempts += 1
        for number, token in enumerate(("You", "owe", "5")):
            if attempts == 1 and number == fails_after:
                raise ConnectionError
            yield token

    tokens = []
    try:
        async for token in decorator(stream)():
            tokens.append(token)
    except ConnectionError as error:
        tokens.append(type(error).__name__)
    return tokens


async def main():
    return {name: [await tokens_of(decorator, after) for after in (0, 2)] for name, decorator in DECORATORS.items()}


seen = asyncio.run(main())
print({f"{name} {version(name)}": tokens for name, tokens in seen.items()})
no_retry = [["ConnectionError"], ["You", "owe", "ConnectionError"]]
twice = [["You", "owe", "5"], ["You", "owe", "You", "owe", "5"]]
changed = "changed: a stream is retried in another way"
raise SystemExit(0 if seen == {"tenacity": no_retry, "backoff": no_retry, "stamina": twice} else changed)
PYTHON
