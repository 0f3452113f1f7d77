#!/usr/bin/env bash
# redis-py takes redis://host/limits for database 0, and redis://host/1/2 for database 12.
# Expected: a path that is no number of a database is refused, as ?db=limits is.
# Seen: a text is dropped without a word, so that keys land among those of another program; slashes are dropped too.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'redis==8.1.0'
"$work/venv/bin/python" - <<'PYTHON'
import redis


def database(url):
    try:
        return redis.Redis.from_url(url).connection_pool.connection_kwargs.get("db", 0)
    except ValueError as error:
        return str(error)


urls = ("redis://127.0.0.1/3", "redis://127.0.0.1/limits", "redis://127.0.0.1/1/2", "redis://127.0.0.1?db=limits")
seen = {url: database(url) for url in urls}
print(f"redis-py {redis.__version__}: {seen}")
known, text, slashes, query = seen.values()
raise SystemExit(0 if (known, text, slashes) == (3, 0, 12) and "Invalid" in str(query) else "changed: it is refused")
PYTHON
