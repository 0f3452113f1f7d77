"""docs/performance.md shows what docs/performance.json holds, and every goal is a figure in it."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from benchmarks.goals import GOALS, goals_table, middle
from benchmarks.report import Report
from scripts.performance_page import COMMAND, JSON, PAGE, PICTURE, page, picture


@pytest.fixture(scope="module")
def report() -> Report:
    return Report.of_json(JSON.read_text())


def test_the_page_and_its_picture_are_those_of_the_report(report: Report) -> None:
    assert PAGE.read_text() == page(report), f"run: {COMMAND}"
    assert PICTURE.read_text() == picture(report), f"run: {COMMAND}"


def test_the_picture_has_a_line_for_each_curve(report: Report) -> None:
    lines = ElementTree.fromstring(picture(report)).iter("{http://www.w3.org/2000/svg}polyline")
    assert len(list(lines)) == sum(len(drawing.curves) for drawing in report.curves) > 0


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: goal.figure)
def test_each_goal_is_measured(report: Report, goal: object) -> None:
    assert goal.figure in report.figures  # type: ignore[attr-defined]


def test_a_report_survives_json(report: Report) -> None:
    assert Report.of_json(report.to_json()) == report


def test_a_goal_is_missed_where_one_run_misses_it() -> None:
    goal = GOALS[0]
    assert goal.sign == "<="
    table, missed = goals_table([{goal.figure: goal.bound}, {goal.figure: goal.bound + 0.1}])
    assert table.rows[0][1:4] == [f"{goal.bound:.2f} / {goal.bound + 0.1:.2f}", f"<= {goal.bound:g}", "no"]
    assert missed == 1
    assert goals_table([{goal.figure: goal.bound}])[1] == 0


def test_a_floor_that_the_runs_have_measured_is_shown_in_place_of_the_known_one() -> None:
    goal = next(goal for goal in GOALS if goal.floor_figure)
    runs = [{goal.figure: goal.bound, goal.floor_figure: 0.954}, {goal.figure: goal.bound, goal.floor_figure: 0.941}]
    assert [row[-1] for row in goals_table(runs)[0].rows if row[0] == goal.title] == ["0.95 / 0.94"]
    assert [row[-1] for row in goals_table([])[0].rows if row[0] == goal.title] == [goal.floor]


def test_the_report_of_several_runs_holds_the_median() -> None:
    assert middle([{"a": 1.0, "b": 5.0}, {"a": 3.0}, {"a": 2.0}]) == {"a": 2.0, "b": 5.0}
