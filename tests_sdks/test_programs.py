"""Every program of ``docs/clients.md``, run as it stands there."""

from __future__ import annotations

import os

import pytest

from tests.clients.programs import PROGRAMS, run_program

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # read when a program imports litellm: no download

pytestmark = pytest.mark.filterwarnings("default")  # of the SDKs: not ours to mend


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_executes_its_post_once_and_knows_when_that_is_ambiguous(name: str) -> None:
    run = run_program(name, then="rst")
    assert run.executions == 1
    assert run.error is not None
    assert run.outcome == "ambiguous"


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_gets_its_response_after_a_refusal_that_names_a_wait(name: str) -> None:
    run = run_program(name, script=("429:ms=0.05",))
    assert (run.executions, run.error) == (1, None)
