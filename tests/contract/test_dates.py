from __future__ import annotations

import pytest

from flexmw.contract.dates import http_date, iso_time


@pytest.mark.parametrize("value", ["Fri, 15 Jan 2027 08:00:00 GMT", "Friday, 15-Jan-27 08:00:00 GMT"])
def test_an_http_date_is_unix_seconds(value: str) -> None:
    assert http_date(value) == 1_800_000_000.0


@pytest.mark.parametrize("value", ["", "soon", "Fri, 99 Jan 2027 08:00:00 GMT", "1800000000"])
def test_what_is_no_http_date_is_none(value: str) -> None:
    assert http_date(value) is None


@pytest.mark.parametrize("value", ["2027-01-15T08:00:00Z", "2027-01-15T09:00:00+01:00", "2027-01-15T08:00:00"])
def test_a_time_by_rfc_3339_is_unix_seconds(value: str) -> None:
    assert iso_time(value) == 1_800_000_000.0


@pytest.mark.parametrize("value", ["", "soon", "2027-99-15T08:00:00Z", "2" * 65])
def test_what_is_no_time_by_rfc_3339_is_none(value: str) -> None:
    assert iso_time(value) is None
