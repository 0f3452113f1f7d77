"""The probes of ``flexmw check`` in a test suite: assertions, one test for each probe, and what cannot be judged."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette

import flexmw
from flexmw.testing.conformance import Api, check_api, each_probe, open_api
from scripts.check_page import COMMAND, PAGE, written
from tests.waiting import LONGEST_WAIT


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with open_api(flexmw.wrap_app(FastAPI()), timeout=LONGEST_WAIT) as api:
        yield api


@each_probe("ids")
def test_a_wrapped_app_passes_probe_by_probe(api: Api, probe: object) -> None:
    api.judge(probe)  # type: ignore[arg-type]


def test_a_url_is_judged_as_an_app_is(api: Api) -> None:
    check_api(api.url, groups=["ids"], timeout=LONGEST_WAIT)


def test_every_fault_is_in_one_error() -> None:
    with pytest.raises(AssertionError) as failure:
        check_api(Starlette(), groups=["ids", "methods"], timeout=LONGEST_WAIT)
    lines = str(failure.value).splitlines()
    assert lines[0].startswith("5 of 6 probes failed at http://127.0.0.1:")
    assert "ids/differ: the 404 has no x-request-id" in lines


def test_nothing_judged_is_a_failure() -> None:
    with pytest.raises(AssertionError, match="nothing was judged") as failure:
        check_api(Starlette(), groups=["idempotency"], timeout=LONGEST_WAIT)
    assert "idempotency/malformed: POST /chat/completions is not there (404)" in str(failure.value)


def test_one_probe_fails_or_skips_its_own_test() -> None:
    with open_api(Starlette(), timeout=LONGEST_WAIT) as api:
        cases = {probe.id: probe for probe in each_probe("ids", "idempotency").args[1]}
        with pytest.raises(AssertionError, match="ids/differ: two requests"):
            api.judge(cases["ids/differ"])
        with pytest.raises(pytest.skip.Exception, match="is not there"):
            api.judge(cases["idempotency/malformed"])


def test_the_cases_are_those_that_were_asked_for() -> None:
    assert each_probe.__kwdefaults__ == {"burst": False, "paid": False}
    assert [probe.id for probe in each_probe("limits").args[1]] == ["limits/headers"]
    assert len(each_probe("limits", burst=True).args[1]) == 3
    with pytest.raises(flexmw.ConfigError, match="one of errors, ids"):
        each_probe("limit")


def test_an_app_that_does_not_start_is_refused() -> None:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        raise RuntimeError("no database")
        yield

    with pytest.raises(flexmw.ConfigError, match="an app that starts"):
        check_api(Starlette(lifespan=lifespan), groups=["ids"])


def test_the_page_has_the_probes_and_the_results_as_they_are() -> None:
    assert written(Path(PAGE).read_text("utf-8")) == PAGE.read_text("utf-8"), f"run: {COMMAND}"
