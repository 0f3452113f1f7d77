"""Pure functions that read foreign text take linear time: four times the input, at most about four times the work.

The promise in SECURITY.md: "No unbounded memory, time or file for any input".
"""

from __future__ import annotations

import gc
import inspect
import pkgutil
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from itertools import pairwise
from time import process_time
from typing import Any, Final

import pytest

import flexmw.contract
from tests.foreign_text import NOT_FOREIGN, READERS

SIZES: Final = (500, 2_000, 8_000, 32_000)
"""Characters. Each size is four times the one before."""

MOST_GROWTH: Final = 9.0
"""Quadratic work would be 16 times as much from one size to the next."""

NOISE_SECONDS: Final = 0.01
"""A time below it is no growth: the clock is not finer on a machine under load."""

ATTEMPTS: Final = 5
"""Measurements before a time counts as grown. Each text is measured once, and again only where it looks grown."""

PIECES: Final = (
    "\n", " ", "a", "://a:", '"', "\\", "[", '{"a":', "a=b;", "%74", 'File "', "event: response.completed ", "1", ",",
    'a="1;', "Bearer ", "sk-", "password:", "\n\n", "1, ", ';q="', "for=", "a-", "-----BEGIN ", "é",
)  # fmt: skip
"""What the texts repeat: the beginnings of what the functions look for, and the characters that separate."""

FOREIGN: Final = ("str", "bytes", "Mapping", "Iterable", "Sequence", "object", "dict", "BaseException", "ErrorBody")
"""What the type of a parameter contains that can hold a text which a caller or an upstream has written."""


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    """The collector goes through all objects of the process, however short the text."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.no_cover
@pytest.mark.usefixtures("no_garbage_collection")
@pytest.mark.parametrize("name", READERS)
def test_the_time_grows_no_faster_than_the_text(name: str) -> None:
    read = READERS[name]

    def seconds(text: str) -> float:
        began = process_time()
        with suppress(ValueError):
            read(text)
        return process_time() - began

    for piece in PIECES:
        texts = ["x" + (piece * (size // len(piece) + 1))[:size] for size in SIZES]
        times = [seconds(text) for text in texts]
        for _ in range(ATTEMPTS):
            if not has_grown(times):
                break
            times = [min(time, seconds(text)) for time, text in zip(times, texts, strict=True)]
        assert not has_grown(times), (piece, times)


def has_grown(times: list[float]) -> bool:
    return any(longer > MOST_GROWTH * shorter + NOISE_SECONDS for shorter, longer in pairwise(times))


def test_every_public_function_of_the_contract_that_takes_text_is_measured() -> None:
    functions = dict(functions_that_take_text())
    assert len(functions) > 60
    assert functions.keys() - READERS.keys() - NOT_FOREIGN.keys() == set(), "see tests/foreign_text.py"
    assert NOT_FOREIGN.keys() <= functions.keys() - READERS.keys()


def functions_that_take_text() -> Iterator[tuple[str, Any]]:
    """The functions and class methods that the modules of ``flexmw.contract`` export, by their names."""
    for info in pkgutil.iter_modules(flexmw.contract.__path__):
        module = import_module(f"flexmw.contract.{info.name}")
        for name in module.__all__:
            value = getattr(module, name)
            if getattr(value, "__module__", None) != module.__name__:
                continue
            members: dict[str, Any] = {name: value}
            if inspect.isclass(value):
                members = {f"{name}.{key}": member for key, member in vars(value).items()}
            for path, member in members.items():
                function = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
                if not inspect.isfunction(function) or path.rpartition(".")[2].startswith("_"):
                    continue
                texts = [str(each.annotation) for each in inspect.signature(function).parameters.values()]
                if any(foreign in text for foreign in FOREIGN for text in texts):
                    yield f"contract.{info.name}.{path}", function
