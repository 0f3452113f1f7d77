"""The command line of the review: which runs, on which servers and stores, and for how long.

::

    python -m benchmarks.hostile --pairs                                   # everything, short
    python -m benchmarks.hostile soak --servers uvicorn --seconds 200      # one run, on two stores
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, cycle, product
from pathlib import Path
from typing import Final

from benchmarks.hostile import calls, flood, kill, replays, shown, soak
from benchmarks.hostile.servers import SERVERS
from benchmarks.hostile.table import Row, Settings, show

RUNS: Final[Mapping[str, Callable[[Settings], Iterator[Row]]]] = {
    "soak": soak.run,
    "kill": kill.run,
    "replays": replays.run,
    "calls": calls.run,
    "flood": flood.run,
    "shown": shown.run,
}
STORES: Final = ("redis", "sqlite")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile", description="the runs of a hostile day")
    parser.add_argument("runs", nargs="*", metavar="RUN", help=f"{', '.join(RUNS)}; all without one")
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=list(SERVERS))
    parser.add_argument("--stores", nargs="+", choices=STORES, default=list(STORES))
    parser.add_argument("--pairs", action="store_true", help="each server with one store, instead of with all")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each run that goes on for a time")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    if unknown := sorted(set(given.runs) - RUNS.keys()):
        parser.error(f"no run is named {unknown[0]!r}: choose from {', '.join(RUNS)}")
    pairs = zip(given.servers, cycle(given.stores), strict=False)
    places = list(pairs if given.pairs else product(given.servers, given.stores))
    logging.getLogger("flexmw").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(places, given.seconds, given.seed, Path(folder))
        return show(chain.from_iterable(RUNS[name](settings) for name in given.runs or RUNS))


if __name__ == "__main__":
    sys.exit(main())
