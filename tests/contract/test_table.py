from __future__ import annotations

import json
import re
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from examples.gateway.app import MESSAGES
from flexmw import errors
from flexmw.contract import OWN, PAGE, STATUS, for_status
from flexmw.contract.messages import reword

ROWS: list[dict[str, Any]] = json.loads(Path(__file__).with_name("rows.json").read_text("utf-8"))["rows"]

RAISED: dict[int, errors.APIError] = {
    400: errors.ModelNotFound("foo"),
    401: errors.InvalidAPIKey(),
    402: errors.InsufficientCredit(),
    404: errors.JobNotFound(),
    429: errors.RateLimitExceeded(34),
    500: errors.UpstreamTimeout(),
    503: errors.SubsystemOffline("The playground"),
}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row["status"]))
def test_raising_the_kind_of_a_row_gives_the_words_of_the_page(row: dict[str, Any]) -> None:
    error = RAISED[row["status"]]
    assert error.status == row["status"]
    if row["type"] is not None:
        said = reword(error.body, MESSAGES).as_dict()["error"]
        assert {name: said[name] for name in ("message", "type", "code")} == {
            name: row[name] for name in ("message", "type", "code")
        }
    else:
        assert (error.type, error.code) == ("server_error", "service_unavailable")
        assert error.message == "The playground is temporarily offline."


@pytest.mark.parametrize("row", [row for row in ROWS if row["code"]], ids=lambda row: row["code"])
def test_every_row_of_the_page_is_a_row_of_the_table(row: dict[str, Any]) -> None:
    [ours] = [each for each in PAGE.values() if each.code == row["code"]]
    assert (ours.status, ours.type) == (row["status"], row["type"])
    pattern = re.sub(r"\\{\w+\\}", ".*", re.escape(MESSAGES.get(ours.code, ours.message)))
    assert re.fullmatch(pattern, row["message"])


def test_no_default_message_names_a_provider_or_a_page() -> None:
    messages = [row.message for row in (*PAGE.values(), *OWN.values(), *map(for_status, range(400, 600)))]
    assert not [message for message in messages if re.search(r"://|flex|dashboard|video", message, re.IGNORECASE)]
    assert errors.InsufficientCredit().message == "Insufficient credit. Add funds to continue."
    assert errors.JobNotFound().message == "Job not found."


def test_the_page_has_no_row_beyond_the_seven_statuses() -> None:
    assert {row.status for row in PAGE.values()} == {row["status"] for row in ROWS}


def test_the_names_of_the_table_are_the_codes_but_for_the_two_that_are_no_names() -> None:
    assert {name: row.code for name, row in PAGE.items() if row.code != name} == {
        "insufficient_credit": "402",
        "subsystem_offline": "service_unavailable",
    }


@pytest.mark.parametrize("code", ["model_not_found", "job_not_found"])
def test_a_bare_status_never_claims_what_only_a_host_can_know(code: str) -> None:
    assert code not in {row.code for row in STATUS.values()}


def test_a_bare_500_is_no_timeout_and_a_504_is() -> None:
    assert for_status(500).code == "internal_error"
    assert for_status(504).code == "upstream_timeout"


@pytest.mark.parametrize("status", range(400, 600))
def test_every_error_status_has_a_row_in_words(status: int) -> None:
    row = for_status(status)
    assert row.status == status
    assert row.message
    assert row.message[-1] == "."
    assert "{" not in row.message
    assert re.fullmatch(r"[a-z0-9_]+", row.code)
    known = {"invalid_request_error", "authentication_error", "insufficient_quota", "permission_error"}
    assert row.type in ({"server_error"} if status >= 500 else known | {"rate_limit_error"})


@pytest.mark.parametrize("status", [417, 418, 423, 424, 426, 505, 507, 511])
def test_a_status_without_a_row_of_its_own_says_its_registered_phrase(status: int) -> None:
    row = for_status(status)
    assert status not in STATUS
    assert (row.code, row.message) == (f"http_{status}", f"{HTTPStatus(status).phrase}.")


@pytest.mark.parametrize(
    ("status", "type", "retry"), [(499 - 9, "invalid_request_error", None), (599, "server_error", "keyed")]
)
def test_a_status_that_nobody_registered_says_its_number(status: int, type: str, retry: str | None) -> None:
    row = for_status(status)
    assert (row.type, row.code, row.message, row.retry) == (type, f"http_{status}", f"HTTP {status}.", retry)


def test_the_boundary_between_client_and_server_is_500() -> None:
    assert for_status(498).type == "invalid_request_error"
    assert for_status(508).type == "server_error"


@pytest.mark.parametrize(
    ("status", "retry"),
    [(402, "never"), (409, "never"), (501, "never"), (500, "keyed"), (502, "keyed"), (504, "keyed"), (508, "keyed")]
    + [(status, None) for status in (400, 401, 403, 404, 408, 418, 422, 425, 429, 503)],
)
def test_only_ambiguous_and_hopeless_responses_carry_a_retry_rule(status: int, retry: str | None) -> None:
    assert for_status(status).retry == retry


def test_the_rule_of_the_kinds_is_that_of_the_statuses() -> None:
    assert {name: row.retry for name, row in PAGE.items() if row.retry} == {
        "insufficient_credit": "never",
        "upstream_timeout": "keyed",
    }
