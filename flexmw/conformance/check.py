"""One check of an API: options in the words of users, checked, and the rows that its probes lead to."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import parse_qsl

from flexmw.conformance.http import Client
from flexmw.conformance.probes import GROUPS, PROBES
from flexmw.conformance.runner import Progress, Runner
from flexmw.conformance.target import CHAT, MODELS, Target, masked_query, parse_base, parse_body, parse_route
from flexmw.conformance.values import Cost, Probe, Row
from flexmw.errors import ConfigError

__all__ = ["Check", "Settings", "select"]

_MAX_SECONDS: Final = 3600
_MIN_SECRET_LENGTH: Final = 8  # characters; a shorter value of a query, such as 1, stands in unrelated text
_LLM_ROUTE: Final = f"POST {CHAT}"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to check; the names are those of the command's options.

    :param url: the base URL; ``/v1`` is added to a URL without a path, and its query is sent with each request.
    :param key: an API key; ``None`` sends none.
    :param headers: further headers of each request, as texts ``"name: value"``.
    :param route: method and path of the route that the probes ask; ``None`` for OpenAI's chat completions.
    :param groups: the groups of probes; empty for all.
    :param burst: send requests until the rate limiter refuses one.
    :param paid: send valid calls, which do work and may be billed.
    :param model: the model of paid calls to chat completions.
    :param body: the JSON body of paid calls to another route: a text or a mapping.
    :param origin: the browser origin of the probes for CORS.
    :param timeout: seconds for each response.
    :param patience: longest time in seconds that all probes together wait for the API's rate limiter.
    """

    url: str
    key: str | None = field(default=None, repr=False)
    headers: Sequence[str] = field(default=(), repr=False)
    route: str | None = None
    groups: Sequence[str] = ()
    burst: bool = False
    paid: bool = False
    model: str | None = None
    body: str | Mapping[str, Any] | None = None
    origin: str | None = None
    timeout: float = 10.0
    patience: float = 180.0


def select(groups: Sequence[str], costs: Sequence[Cost]) -> tuple[Probe, ...]:
    """The probes of some groups and costs.

    :param groups: their names; empty for all.
    :raises ConfigError: a name is not a group.
    """
    for name in groups:
        if name not in GROUPS:
            raise ConfigError("--group", name, f"one of {', '.join(GROUPS)}")
    return tuple(probe for probe in PROBES if (not groups or probe.group in groups) and probe.cost in costs)


class Check:
    """One check of one API.

    :param settings: what to check.
    :param progress: called with a line of text before each probe.
    :param pause: called with a line of text before each pause.
    :param sleep: pauses for so many seconds.
    :raises ConfigError: a setting cannot work, or has no effect.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        progress: Progress = lambda line: None,
        pause: Progress = lambda line: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        base = parse_base(settings.url)
        for name, value in (("--timeout", settings.timeout), ("--patience", settings.patience)):
            if not (math.isfinite(value) and 0 < value <= _MAX_SECONDS):
                raise ConfigError(name, value, f"a number of seconds above 0, at most {_MAX_SECONDS}")
        costs: list[Cost] = ["harmless", *(["burst"] if settings.burst else []), *(["paid"] if settings.paid else [])]  # type: ignore[list-item]
        self.probes = select(settings.groups, costs)
        """The probes that are run."""
        self.left_out = tuple(p for p in select(settings.groups, ("burst", "paid")) if p not in self.probes)
        """The probes of the same groups that need ``--burst`` or ``--paid``."""
        if not self.probes:
            options = " and ".join(sorted({f"--{probe.cost}" for probe in self.left_out}))
            raise ConfigError("--group", ", ".join(settings.groups), f"a group with harmless probes, or {options}")
        _check_key(settings)
        _check_effect(settings, self.probes)
        self.target = _target(settings)
        self.url = masked_query(base.url + (f"?{base.query}" if base.query else ""))
        """What is judged, for output: the base URL, as completed, with ``***`` for each value of its query."""
        self._secrets = [text for text in (settings.key, *map(_header_value, settings.headers)) if text]
        self._secrets += [value for _, value in parse_qsl(base.query) if len(value) >= _MIN_SECRET_LENGTH]
        client = Client(base=base, key=settings.key, headers=_headers(settings.headers), timeout=settings.timeout)
        self.runner = Runner(
            self.target, client.send, patience=settings.patience, sleep=sleep, progress=progress, pause=pause
        )

    @property
    def route(self) -> str:
        """Method and path of the route that the probes ask."""
        return f"{self.target.method} {self.target.path}"

    def rows(self) -> Iterator[Row]:
        """Run the probes.

        :raises ConfigError: nothing responds at the URL.
        """
        for place, row in enumerate(self.runner.run(self.probes)):
            if place == 0 and row.state == "failed" and not row.exchanges and row.notes[0].startswith("no response"):
                raise ConfigError("check", self.url, f"a server that responds ({row.notes[0]})")
            yield replace(row, notes=tuple(map(self._scrubbed, row.notes)))

    def judge(self, probe: Probe) -> Row:
        """Run one probe."""
        row = self.runner.judge(probe)
        return replace(row, notes=tuple(map(self._scrubbed, row.notes)))

    def _scrubbed(self, note: str) -> str:
        for secret in self._secrets:
            note = note.replace(secret, "***")
        return note


def _check_key(settings: Settings) -> None:
    """Refuse a key that no header can hold, and two credentials in one header. The key itself is not shown."""
    if settings.key is None:
        return
    if not (settings.key.isascii() and settings.key.isprintable() and settings.key.strip() == settings.key):
        raise ConfigError("--key-env", "***", "a key of printable ASCII without spaces around it")
    if any(text.partition(":")[0].strip().lower() == "authorization" for text in settings.headers):
        raise ConfigError("--header", "Authorization: ***", "--key-env or --header Authorization, not both")


def _check_effect(settings: Settings, probes: Sequence[Probe]) -> None:
    """Refuse an option without effect, and paid calls without the words that they need."""
    selected = {probe.group for probe in probes}
    if settings.model is not None and (settings.route is not None or not settings.paid):
        raise ConfigError("--model", settings.model, "--paid beside it, and no --route: only paid chat completions")
    if settings.body is not None and (settings.route is None or not settings.paid):
        raise ConfigError("--body", "...", "--paid and --route beside it: only paid calls to another route")
    if settings.origin is not None and "cors" not in selected:
        raise ConfigError("--origin", settings.origin, "the group cors beside it: no other probe has an origin")
    if not any(probe.cost == "paid" for probe in probes):
        if settings.paid:
            raise ConfigError("--paid", ", ".join(settings.groups), "a group with paid probes: see --list")
    elif settings.route is None and settings.model is None:
        raise ConfigError("--model", None, "NAME beside --paid: the model that the valid calls ask")
    elif settings.route is not None and settings.body is None:
        raise ConfigError("--body", None, "JSON beside --paid and --route: the body of a valid call to the route")
    if settings.burst and not any(probe.cost == "burst" for probe in probes):
        raise ConfigError("--burst", ", ".join(settings.groups), "a group with bursts: see --list")


def _target(settings: Settings) -> Target:
    method, path = parse_route(settings.route or _LLM_ROUTE)
    is_llm = (method, path) == ("POST", CHAT)
    body = parse_body(settings.body) if isinstance(settings.body, str) else settings.body
    target = Target(
        method=method,
        path=path,
        read_path=MODELS if is_llm else path if method == "GET" else None,
        is_llm=is_llm,
        has_key=settings.key is not None or any(_is_credential(text) for text in settings.headers),
        model=settings.model,
        body=body,
        nonce=secrets.token_hex(8),
        patience=settings.patience,
    )
    return target if settings.origin is None else replace(target, origin=_origin(settings.origin))


def _origin(text: str) -> str:
    scheme, _, rest = text.partition("://")
    if scheme not in ("http", "https") or not rest or "/" in rest or not text.isascii() or " " in text:
        raise ConfigError("--origin", text, "an origin such as https://app.example.com, without a path")
    return text


def _headers(texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    pairs: list[tuple[str, str]] = []
    for text in texts:
        name, colon, value = (part.strip() for part in text.partition(":"))
        if not colon or not name or not (text.isascii() and text.isprintable()) or " " in name:
            raise ConfigError("--header", f"{name[:40]}: ...", "a header such as 'x-tenant: acme'")
        pairs.append((name, value))
    return tuple(pairs)


def _header_value(text: str) -> str:
    """The value of a header that is named like a credential; an empty text for another one."""
    return text.partition(":")[2].strip() if _is_credential(text) else ""


def _is_credential(text: str) -> bool:
    name = text.partition(":")[0].strip().lower()
    return any(word in name for word in ("authorization", "key", "token", "secret", "cookie"))
