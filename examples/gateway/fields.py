"""Reading a JSON request field by field, with an error that names the field. Pure.

>>> body = Fields.read(b'{"model": "alice-3gram", "n": 2}')
>>> body.text("model"), body.flag("stream")
('alice-3gram', False)
>>> body.whole("n", 1, most=1)
Traceback (most recent call last):
examples.gateway.fields.BadField: 'n' must be 1, not 2.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import Any

__all__ = ["BadField", "Fields"]


class BadField(ValueError):
    """`message` is safe to show to the caller; `param` is the field that it is about."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.message, self.param = message, param


class Fields:
    """The fields of one request body. A method's `default` makes its field optional; `null` counts as absent.

    What is wrong is raised as `error`, which is given the message and the name of the field.
    """

    def __init__(self, body: dict[str, Any], error: Callable[[str, str | None], Exception] = BadField) -> None:
        self.body, self.error = body, error

    @classmethod
    def read(cls, raw: bytes, error: Callable[[str, str | None], Exception] = BadField) -> Fields:
        try:
            body = json.loads(raw)
            json.dumps(body, ensure_ascii=False, allow_nan=False).encode()  # NaN, 1e999 and half a surrogate pair
        except (ValueError, RecursionError):
            raise error("The request body is not valid JSON.", None) from None
        if not isinstance(body, dict):
            raise error("The request body must be a JSON object.", None)
        return cls(body, error)

    def text(self, name: str, default: str | None = None, *, among: Collection[str] = (), most: int = 1_000_000) -> str:
        value = self._get(name, default)
        if not isinstance(value, str) or not value or len(value) > most:
            raise self.error(f"{name!r} must be a text of 1 to {most} characters.", name)
        if among and value not in among:
            raise self.error(f"{name!r} must be one of {', '.join(map(repr, among))}.", name)
        return value

    def texts(self, name: str, default: list[str] | None = None) -> list[str]:
        """A text, or a list of them."""
        value = self._get(name, default)
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(item, str) and item for item in values):
            raise self.error(f"{name!r} must be a text or a list of texts, none of them empty.", name)
        return values

    def whole(self, name: str, default: int | None = None, *, least: int = 1, most: int = 1_000_000) -> int:
        return int(self._number(name, default, least, most, int, "whole number"))

    def number(self, name: str, default: float | None = None, *, least: float, most: float) -> float:
        return float(self._number(name, default, least, most, (int, float), "number"))

    def flag(self, name: str) -> bool:
        value = self._get(name, False)
        if not isinstance(value, bool):
            raise self.error(f"{name!r} must be true or false.", name)
        return value

    def inner(self, name: str) -> Fields:
        """The fields of an object inside this one; none, where it is absent."""
        value = self._get(name, {})
        if not isinstance(value, dict):
            raise self.error(f"{name!r} must be an object.", name)
        return Fields(value, self.error)

    def messages(self) -> list[str]:
        """The text of each chat message."""
        value = self._get("messages", None)
        if not isinstance(value, list) or not value:
            raise self.error("'messages' must be a list of at least one message.", "messages")
        return [self._content(message) for message in value]

    def refuse(self, *names: str) -> None:
        """Say no to what would otherwise be silently ignored."""
        for name in names:
            if self.body.get(name):
                raise self.error(f"{name!r} is not supported by this model.", name)

    def _content(self, message: Any) -> str:
        content = message.get("content") if isinstance(message, dict) and isinstance(message.get("role"), str) else None
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if not isinstance(parts, list) or not all(
            isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
            for part in parts
        ):
            raise self.error("Each message needs a 'role' and a 'content' of text.", "messages")
        return "\n".join(part["text"] for part in parts)

    def _number(
        self,
        name: str,
        default: float | None,
        least: float,
        most: float,
        kind: type[int] | tuple[type[int], type[float]],
        noun: str,
    ) -> float:
        value: Any = self._get(name, default)
        if not isinstance(value, kind) or isinstance(value, bool) or not least <= value <= most:
            wanted = f"a {noun} from {least} to {most}" if least < most else str(least)
            raise self.error(f"{name!r} must be {wanted}, not {str(value)[:40]}.", name)
        return value

    def _get(self, name: str, default: Any) -> Any:
        value = self.body.get(name)
        if value is not None:
            return value
        if default is None:
            raise self.error(f"Missing required parameter: {name!r}.", name)
        return default
