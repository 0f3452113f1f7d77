from __future__ import annotations

from typing import Any

from tests.measured import MEASURED_PARAMETERS, MeasuredItems, repetitions


class CallSpec:
    def __init__(self, **params: object) -> None:
        self.params = params


class Item:
    def __init__(self, nodeid: str, **params: object) -> None:
        self.nodeid = nodeid
        self.callspec = CallSpec(**params)


class Controller:
    """What pytest-cov's controller does for a plugin."""

    def __init__(self) -> None:
        self.started = True

    def pause(self) -> None:
        assert self.started
        self.started = False

    def resume(self) -> None:
        assert not self.started
        self.started = True


def parameters(test: str, number: int, **params: object) -> list[Any]:
    return [Item(f"{test}[{value}]", value=value, **params) for value in range(number)]


def test_the_first_parameters_of_each_test_are_measured() -> None:
    first = parameters("tests/kit/test_a.py::test_a", MEASURED_PARAMETERS + 3)
    second = parameters("tests/kit/test_a.py::test_b", 1)
    assert list(repetitions([*first, *second])) == first[MEASURED_PARAMETERS:]


def test_the_first_parameters_are_measured_on_each_backend() -> None:
    number = MEASURED_PARAMETERS + 1
    asyncio = parameters("t.py::t", number, anyio_backend="asyncio")
    trio = parameters("t.py::t", number, anyio_backend="trio")
    assert list(repetitions([*asyncio, *trio])) == [asyncio[-1], trio[-1]]


def test_every_parameter_of_a_table_is_measured() -> None:
    assert not list(repetitions(parameters("tests/contract/test_a.py::test_a", 9)))
    assert not list(repetitions(parameters("tests/retry/test_core.py::test_a", 9)))


def test_coverage_is_paused_for_repetitions_and_goes_on_after_them() -> None:
    controller, items = Controller(), [*parameters("t.py::a", MEASURED_PARAMETERS + 2), *parameters("t.py::b", 1)]
    plugin = MeasuredItems(controller, items)
    started = []
    for item in items:
        protocol = plugin.pytest_runtest_protocol(item)
        next(protocol)
        started.append(controller.started)
        protocol.close()
    assert started == [*[True] * MEASURED_PARAMETERS, False, False, True]
