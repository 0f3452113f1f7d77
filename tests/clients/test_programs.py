"""The programs of ``docs/clients.md``, run as they stand there. ``tests_sdks`` runs those whose SDKs are not here."""

from __future__ import annotations

import pytest

from tests.clients.programs import PROGRAMS, run_program

pytestmark = pytest.mark.filterwarnings("default")  # of the SDKs: not ours to mend

ELSEWHERE = {
    "huggingface_sdk.py", "langchain_openai_sdk.py", "langchain_anthropic_sdk.py", "pydantic_ai_sdk.py",
    "litellm_sdk.py",
}  # fmt: skip
"""Their SDKs are in the environment ``sdks``."""


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name not in ELSEWHERE])
def test_a_program_executes_its_post_once_and_knows_when_that_is_ambiguous(name: str) -> None:
    lost = run_program(name, then="rst")
    assert lost.executions == 1
    assert lost.error is not None
    assert lost.outcome == "ambiguous"
    refused = run_program(name, script=("429:ms=0.05",))
    assert (refused.executions, refused.error) == (1, None)


def test_the_page_has_no_program_that_no_test_runs() -> None:
    assert set(PROGRAMS) >= ELSEWHERE
    assert len(PROGRAMS) > len(ELSEWHERE) + 9
