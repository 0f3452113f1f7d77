"""Exception chains: read as the interpreter keeps them, to a bound, and each exception once."""

from __future__ import annotations

from itertools import pairwise

import pytest

from flexmw.contract.exception_slots import chain_of


class Odd(Exception):
    """An exception that hides its cause, its context and its truth."""

    @property
    def __cause__(self) -> BaseException:  # type: ignore[override]
        raise RuntimeError

    @property
    def __context__(self) -> BaseException:  # type: ignore[override]
        raise RuntimeError

    def __bool__(self) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = Exception.__hash__


def test_a_chain_goes_from_the_last_exception_to_the_first_by_causes_then_contexts() -> None:
    first, second, third, hidden = ValueError(), KeyError(), OSError(), TypeError()
    third.__cause__, third.__context__ = second, hidden
    second.__context__, second.__suppress_context__ = first, True
    assert list(chain_of(third)) == [third, second, first]


def test_a_circle_of_exceptions_ends_and_a_long_chain_is_cut() -> None:
    first, second = ValueError(), KeyError()
    first.__context__ = second
    second.__context__ = first
    assert list(chain_of(first)) == [first, second]
    errors = [ValueError(number) for number in range(50)]
    for outer, inner in pairwise(errors):
        outer.__context__ = inner
    assert list(chain_of(errors[0])) == errors[:20]


def test_exceptions_that_hide_their_attributes_are_followed_all_the_same() -> None:
    def run() -> None:
        try:
            try:
                raise ConnectionRefusedError
            except OSError as error:
                raise Odd from error
        except Odd as error:
            raise TimeoutError from error

    with pytest.raises(TimeoutError) as raised:
        run()
    assert [type(error) for error in chain_of(raised.value)] == [TimeoutError, Odd, ConnectionRefusedError]
