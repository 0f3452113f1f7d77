"""The release workflow publishes what was tested and checked, by trusted publishing, and keeps no secret."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import flexmw
from tests.waiting import LONGEST_WAIT

ROOT = Path(__file__).parents[1]
TEXT = ROOT.joinpath(".github", "workflows", "release.yml").read_text(encoding="utf-8")
JOBS: dict[str, Any] = yaml.safe_load(TEXT)["jobs"]


def needed(job: str) -> set[str]:
    """The jobs that must have passed before a job."""
    direct = set(JOBS[job].get("needs", ()))
    return direct | {each for other in direct for each in needed(other)}


def test_nothing_is_published_that_was_not_built_tested_and_attested() -> None:
    assert needed("publish") == {"build", "test", "attest"}
    assert needed("attest") == {"build", "test"}


def test_no_secret_is_kept_and_only_two_jobs_may_ask_for_an_identity() -> None:
    assert "secrets." not in TEXT
    assert "password" not in TEXT
    assert yaml.safe_load(TEXT)["permissions"] == {}
    assert {name for name, job in JOBS.items() if "id-token" in job["permissions"]} == {"attest", "publish"}
    assert JOBS["publish"]["permissions"] == {"id-token": "write"}
    assert JOBS["publish"]["environment"] == "release"


def test_no_checkout_leaves_a_credential_behind() -> None:
    checkouts = [step for job in JOBS.values() for step in job["steps"] if "actions/checkout" in step.get("uses", "")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


@pytest.mark.parametrize(("tag", "fits"), [(f"v{flexmw.__version__}", True), ("v99.0", False)])
def test_the_tag_is_compared_with_the_version_of_the_package(tag: str, fits: bool) -> None:
    (step,) = [step for step in JOBS["build"]["steps"] if step.get("name", "").startswith("The tag")]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environ = {**os.environ, "GITHUB_REF_NAME": tag, "PATH": path}
    done = subprocess.run(["bash", "-c", step["run"]], cwd=ROOT, env=environ, timeout=LONGEST_WAIT, check=False)
    assert (done.returncode == 0) is fits


def test_the_workflow_runs_what_is_there() -> None:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "tox.ini")
    for name in re.findall(r"tox run -e (\w+)", TEXT):
        assert f"testenv:{name}" in parser.sections()
    assert "{env_tmp_dir}/dist" in parser["testenv:release"]["commands"]
    assert JOBS["build"]["steps"][-1]["with"]["path"] == ".tox/release/tmp/dist/"
    assert ROOT.joinpath(".ci", "run").exists()
