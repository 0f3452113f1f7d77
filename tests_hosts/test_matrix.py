"""Every framework on every server, under the components. What does not work is a row of ``limits.py``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests_hosts.checks import BARE_CHECKS
from tests_hosts.limits import limits_of
from tests_hosts.matrix import ALL_CHECKS, CELLS, failures, untried
from tests_hosts.page import COMMAND, PAGE, surprises, written

pytestmark = pytest.mark.filterwarnings("default")  # of the frameworks and servers: not ours to mend


@pytest.mark.parametrize(("host", "server"), CELLS)
def test_a_framework_keeps_the_contract_on_a_server(host: str, server: str, tmp_path: Path) -> None:
    failed = failures(host, server, tmp_path, checks=ALL_CHECKS)
    assert surprises(host, server, failed) == []


LIMITED = [
    (host, server, checks)
    for host, server in CELLS
    if (
        checks := sorted(
            BARE_CHECKS.intersection(check for limit in limits_of(host, server) for check in limit.checks)
            - untried(host, server)
        )
    )
]


@pytest.mark.parametrize(("host", "server", "checks"), LIMITED, ids=[f"{row[0]}-{row[1]}" for row in LIMITED])
def test_a_limit_is_there_without_the_components_too(host: str, server: str, checks: list[str], tmp_path: Path) -> None:
    assert sorted(failures(host, server, tmp_path, checks=checks, bare=True)) == checks


def test_the_table_in_the_docs_is_the_one_of_this_run() -> None:
    page = PAGE.read_text("utf-8")
    assert page == written(page), f"run: {COMMAND}"
