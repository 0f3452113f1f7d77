"""A disk whose sync takes a known time: the same on every machine, and the same for all that are compared.

The process is started again with a library that replaces ``fsync`` and ``fdatasync`` by a wait, on files in memory. A
measurement on the disk at hand says more about the disk than about the code.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

__all__ = ["MEMORY", "restart_with_sync"]

MEMORY: Final = Path("/dev/shm")
"""A folder whose files are in memory, on Linux."""

_VARIABLE: Final = "FLEXMW_BENCHMARK_SYNC_US"
_SOURCE: Final = r"""
#include <stdlib.h>
#include <time.h>

static int wait_instead(void) {
    const char *text = getenv("FLEXMW_BENCHMARK_SYNC_US");
    long us = text ? atol(text) : 0;
    struct timespec time = {us / 1000000, us % 1000000 * 1000};
    nanosleep(&time, NULL);
    return 0;
}

int fsync(int file) { (void)file; return wait_instead(); }
int fdatasync(int file) { (void)file; return wait_instead(); }
"""


def restart_with_sync(module: str, ms: float) -> None:
    """Start this program again, where each sync takes so long. Returns in the program that was started.

    :param module: the name of the module that is run.
    :param ms: milliseconds of a sync.
    :raises SystemExit: without a C compiler, or where files cannot be kept in memory.
    """
    if _VARIABLE in os.environ:
        return
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not MEMORY.is_dir():
        raise SystemExit(f"--sync-ms needs a C compiler and {MEMORY}: this machine lacks one of them")
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "sync.c"), Path(folder, "sync.so")
        source.write_text(_SOURCE)
        subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", library, source], check=True)
        environment = {**os.environ, "LD_PRELOAD": str(library), _VARIABLE: str(round(ms * 1000))}
        done = subprocess.run([sys.executable, "-m", module, *sys.argv[1:]], env=environment)
    raise SystemExit(done.returncode)
