"""``python -m benchmarks.startup``: what importing flexmw and scanning for plugins cost, each in fresh processes.

CPU time, the median of the rounds; the scan is timed inside the process, over all distributions that are installed.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from importlib import metadata

from rich.console import Console
from rich.table import Table

__all__ = ["main"]

TIMED = "import time; began = time.process_time(); {code}; print(time.process_time() - began)"
ROWS = {
    "import flexmw": "import flexmw",
    "flexmw.wrap_app(app): Tagging, Envelope": "import flexmw; flexmw.wrap_app(lambda scope, receive, send: None)",
    "import starlette.applications": "import starlette.applications",
    "import httpx": "import httpx",
    "import fastapi": "import fastapi",
}
SCAN = """
import time, flexmw.registry as registry
began = time.process_time()
registry.installed()
print(time.process_time() - began)
began = time.process_time()
for _ in range(1000):
    registry.installed()
print((time.process_time() - began) / 1000)
"""


def run(code: str) -> list[float]:
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [float(value) for value in answer.stdout.split()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = range(parser.parse_args().rounds)
    table = Table("what", "CPU")
    for what, code in ROWS.items():
        seconds = statistics.median(run(TIMED.format(code=code))[0] for _ in rounds)
        table.add_row(what, f"{seconds * 1e3:.0f} ms")
    scans = [run(SCAN) for _ in rounds]
    first, again = (statistics.median(column) for column in zip(*scans, strict=True))
    count = len(list(metadata.distributions()))
    table.add_row(f"flexmw.installed(), first time, {count} distributions", f"{first * 1e3:.1f} ms")
    table.add_row("flexmw.installed(), again", f"{again * 1e6:.1f} us")
    Console().print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
