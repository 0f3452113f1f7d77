"""Reports of ``flexmw check`` for machines: JSON, JUnit XML and SARIF 2.1.0. Pure: rows in, text out."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as Xml
from collections.abc import Iterable, Sequence
from typing import Any, Final, get_args

from flexmw import __version__
from flexmw.conformance.check import Check
from flexmw.conformance.values import Probe, Row, State

__all__ = ["counted", "json_report", "junit_report", "listing", "sarif_report"]

_SARIF_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"
_NO_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold (section 2.2)."""
_KIND: Final[dict[State, str]] = {"passed": "pass", "failed": "fail", "skipped": "notApplicable"}


def counted(rows: Sequence[Row]) -> dict[State, int]:
    """How many rows have each state."""
    states: tuple[State, ...] = get_args(State)
    return {state: sum(row.state == state for row in rows) for state in states}


def listing(probes: Iterable[Probe]) -> str:
    """The probes as JSON."""
    return _json([_probe(probe) for probe in probes])


def json_report(check: Check, rows: Sequence[Row]) -> str:
    """The results as JSON: ``broken`` says whether any probe failed, ``rows`` has one object for each probe."""
    counts = counted(rows)
    return _json(
        {
            "url": check.url,
            "route": check.route,
            "broken": counts["failed"] > 0,
            "counts": counts,
            "requests": check.runner.requests,
            "not_sent": [probe.id for probe in check.left_out],
            "rows": [
                {**_probe(row.probe), "state": row.state, "notes": row.notes, "exchanges": row.exchanges}
                for row in rows
            ],
        }
    )


def _probe(probe: Probe) -> dict[str, str]:
    return {"name": probe.id, "group": probe.group, "cost": probe.cost, "asks": probe.asks, "source": probe.source}


def junit_report(check: Check, rows: Sequence[Row]) -> str:
    """The results as JUnit XML: one suite for each group, one case for each probe."""
    suites = Xml.Element("testsuites", _sizes(rows), name=_xml(f"flexmw check {check.url}"))
    for group in dict.fromkeys(row.probe.group for row in rows):
        members = [row for row in rows if row.probe.group == group]
        suite = Xml.SubElement(suites, "testsuite", _sizes(members), name=group)
        for row in members:
            case = Xml.SubElement(suite, "testcase", classname=f"flexmw.check.{group}", name=row.probe.name, time="0")
            message = _xml("; ".join(row.notes))
            if row.state == "failed":
                failure = Xml.SubElement(case, "failure", message=message, type="conformance")
                failure.text = _xml("\n".join((*row.notes, f"expected: {row.probe.asks}", *row.exchanges)))
            elif row.state == "skipped":
                Xml.SubElement(case, "skipped", message=message)
    Xml.indent(suites)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{Xml.tostring(suites, encoding="unicode")}\n'


def _sizes(rows: Sequence[Row]) -> dict[str, str]:
    counts = counted(rows)
    sizes = {"tests": len(rows), "failures": counts["failed"], "errors": 0, "skipped": counts["skipped"]}
    return {name: str(size) for name, size in sizes.items()}


def _xml(text: str) -> str:
    return _NO_XML.sub("?", text)


def sarif_report(check: Check, rows: Sequence[Row]) -> str:
    """The results as SARIF 2.1.0: one rule and one result for each probe, located at the URL that was judged."""
    driver = {
        "name": "flexmw check",
        "version": __version__,
        "rules": [
            {
                "id": row.probe.id,
                "shortDescription": {"text": row.probe.asks},
                "fullDescription": {"text": f"{row.probe.asks} ({row.probe.source})"},
                "defaultConfiguration": {"level": "error"},
            }
            for row in rows
        ],
    }
    results = [_result(check, place, row) for place, row in enumerate(rows)]
    run = {"tool": {"driver": driver}, "results": results, "columnKind": "unicodeCodePoints"}
    return _json({"$schema": _SARIF_SCHEMA, "version": "2.1.0", "runs": [run]})


def _result(check: Check, place: int, row: Row) -> dict[str, Any]:
    location = {
        "physicalLocation": {"artifactLocation": {"uri": check.url}},
        "logicalLocations": [{"fullyQualifiedName": exchange, "kind": "resource"} for exchange in row.exchanges[-1:]],
    }
    return {
        "ruleId": row.probe.id,
        "ruleIndex": place,
        "kind": _KIND[row.state],
        "level": "error" if row.state == "failed" else "none",
        "message": {"text": "; ".join(row.notes) or f"passed: {row.probe.asks}"},
        "locations": [location],
        "partialFingerprints": {"flexmwCheck/v1": f"{check.url} {row.probe.id}"},
    }


def _json(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"
