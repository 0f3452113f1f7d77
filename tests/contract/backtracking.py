"""How many steps a backtracking matcher takes: a count, so that a bound on it is no timer's."""

from __future__ import annotations

import re
import re._constants as op  # type: ignore[import-untyped]
import re._parser as parser  # type: ignore[import-untyped]
from collections.abc import Iterator
from itertools import islice
from typing import Any

__all__ = ["Matcher"]

_CLASSES = {
    op.CATEGORY_SPACE: str.isspace,
    op.CATEGORY_NOT_SPACE: lambda char: not char.isspace(),
    op.CATEGORY_DIGIT: str.isdecimal,
}


class Matcher:
    """Runs a pattern over a text as ``re`` does, without its shortcuts, and counts every look at a character.

    Of a repeated group only the first way to match is tried, which is all there is where its branches exclude each
    other.
    """

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self.tree = parser.parse(pattern.pattern, pattern.flags)
        self.fold = bool(pattern.flags & re.IGNORECASE)
        self.steps = 0
        self.text = ""
        self.seen: dict[tuple[Any, int, str], bool] = {}
        self.groups: dict[int, tuple[int, int]] = {}

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where it matches, as ``finditer`` says."""
        self.text, self.steps, found, at = text, 0, [], 0
        while at <= len(text):
            end = next(self._sequence(list(self.tree), at), None)
            if end is not None:
                found.append((at, end))
            at = at + 1 if end is None or end == at else end
        return found

    def _sequence(self, items: list[Any], at: int) -> Iterator[int]:
        if not items:
            yield at
            return
        for end in self._one(items[0], at):
            yield from self._sequence(items[1:], end)

    def _one(self, item: tuple[Any, Any], at: int) -> Iterator[int]:
        kind, value = item
        self.steps += 1
        if kind in (op.LITERAL, op.NOT_LITERAL, op.IN, op.ANY):
            if at < len(self.text) and self._known(kind, value, self.text[at]):
                yield at + 1
        elif kind is op.SUBPATTERN:
            number, _, _, items = value
            for end in self._sequence(list(items), at):
                if number is not None:
                    self.groups[number] = (at, end)
                yield end
        elif kind is op.BRANCH:
            for items in value[1]:
                yield from self._sequence(list(items), at)
        elif kind is op.MAX_REPEAT:
            yield from self._repeat(*value, at)
        elif kind is op.POSSESSIVE_REPEAT:
            yield from islice(self._repeat(*value, at), 1)
        elif kind in (op.ASSERT, op.ASSERT_NOT):
            direction, items = value
            start = at if direction > 0 else at - items.getwidth()[0]
            matches = start >= 0 and next(self._sequence(list(items), start), None) is not None
            if matches is (kind is op.ASSERT):
                yield at
        elif kind is op.GROUPREF:
            start, end = self.groups[value]
            if self.text.startswith(self.text[start:end], at):
                yield at + end - start
        elif kind is op.AT:
            if self._anchored(value, at):
                yield at
        else:
            raise NotImplementedError(kind)

    def _repeat(self, least: int, most: int, items: Any, at: int) -> Iterator[int]:
        ends = [at]
        while len(ends) <= most:
            end = next(self._sequence(list(items), ends[-1]), None)
            if end is None:
                break
            ends.append(end)
        for end in reversed(ends[least:]):
            self.steps += 1
            yield end

    def _known(self, kind: Any, value: Any, char: str) -> bool:
        key = (kind, id(value), char)
        if key not in self.seen:
            self.seen[key] = self._fits(kind, value, char)
        return self.seen[key]

    def _fits(self, kind: Any, value: Any, char: str) -> bool:
        if kind is op.ANY:
            return char != "\n"
        if kind is op.IN:
            negated = value[0][0] is op.NEGATE
            return negated != any(self._in(each, char) for each in value[negated:])
        return (self._in((op.LITERAL, value), char)) == (kind is op.LITERAL)

    def _in(self, item: tuple[Any, Any], char: str) -> bool:
        kind, value = item
        forms = {char, char.lower(), char.upper()} if self.fold else {char}
        if kind is op.LITERAL:
            return chr(value) in forms
        if kind is op.RANGE:
            return any(value[0] <= ord(form) <= value[1] for form in forms if len(form) == 1)
        return bool(_CLASSES[value](char))

    def _anchored(self, value: Any, at: int) -> bool:
        def word(place: int) -> bool:
            return 0 <= place < len(self.text) and (self.text[place].isalnum() or self.text[place] == "_")

        if value is op.AT_BOUNDARY:
            return word(at - 1) != word(at)
        if value is op.AT_END:
            return at == len(self.text) or (at == len(self.text) - 1 and self.text[at] == "\n")
        raise NotImplementedError(value)
