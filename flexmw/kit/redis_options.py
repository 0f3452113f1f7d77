"""The options that the query of a redis or valkey URL may set.

>>> read("client_name=web&db=2", tls=False, family="redis")
{'client_name': 'web', 'db': 2}
>>> read("sockettimeout=1", tls=False, family="redis")
Traceback (most recent call last):
    ...
ValueError: no option 'sockettimeout' in the query; did you mean 'socket_timeout'?

The table is flexmw's own, because redis-py passes an unknown option on to its connection class, which raises a
``TypeError`` for every command, and its cluster client ignores the query.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

__all__ = ["OPTIONS", "SECRETS", "Option", "read"]


def _text(text: str) -> str:
    if not text:
        raise ValueError("a text that is not empty")
    return text


def _client_name(text: str) -> str:
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError("a text of printable ASCII characters without spaces")
    return text


def _whole(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or int(text) < least:
            raise ValueError(f"a whole number, at least {least}")
        return int(text)

    return parse


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 < value < 1e6:
        raise ValueError("a number of seconds above 0")
    return value


def _pause(text: str) -> float:
    return 0.0 if text == "0" else _seconds(text)


def _flag(text: str) -> bool:
    values = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in values:
        raise ValueError("true or false")
    return values[text.lower()]


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"one of {', '.join(choices)}")
        return text

    return parse


def _protocol(text: str) -> int:
    return int(_one_of("2", "3")(text))


class Option(NamedTuple):
    """One row of :data:`OPTIONS`.

    :param parse: the value of a text; raises ``ValueError`` with the words for what is expected.
    :param needs: what the option is for: ``tls``, ``sentinel``, ``database``; empty: any connection.
    """

    parse: Callable[[str], Any]
    needs: str = ""


OPTIONS: Final[dict[str, Option]] = {
    "db": Option(_whole(0), "database"),
    "username": Option(_text),
    "password": Option(_text),
    "protocol": Option(_protocol),
    "client_name": Option(_client_name),
    "max_connections": Option(_whole(1)),
    "health_check_interval": Option(_pause),
    "socket_keepalive": Option(_flag),
    "socket_timeout": Option(_seconds),
    "socket_connect_timeout": Option(_seconds),
    "ssl_ca_certs": Option(_text, "tls"),
    "ssl_ca_path": Option(_text, "tls"),
    "ssl_ca_data": Option(_text, "tls"),
    "ssl_certfile": Option(_text, "tls"),
    "ssl_keyfile": Option(_text, "tls"),
    "ssl_password": Option(_text, "tls"),
    "ssl_cert_reqs": Option(_one_of("none", "optional", "required"), "tls"),
    "ssl_check_hostname": Option(_flag, "tls"),
    "ssl_ciphers": Option(_text, "tls"),
    "sentinel_username": Option(_text, "sentinel"),
    "sentinel_password": Option(_text, "sentinel"),
}
"""Every option that a query may set, under redis-py's name for it."""

SECRETS: Final = frozenset({"password", "ssl_password", "sentinel_password"})
"""The options whose values no message shows."""

_REFUSED: Final = {
    "ssl": "the scheme rediss:// instead of the option ssl",
    "timeout": "the component's store_timeout instead of the option timeout",
    "retry": "no option 'retry': flexmw never sends a command twice",
    "retry_on_timeout": "no option 'retry_on_timeout': flexmw never sends a command twice",
    "retry_on_error": "no option 'retry_on_error': flexmw never sends a command twice",
    "decode_responses": "no option 'decode_responses': flexmw reads bytes",
    "encoding": "no option 'encoding': flexmw reads bytes",
}
_NEEDS: Final = {
    "tls": "no option {name!r} without TLS, where it has no effect: use a scheme with TLS, such as rediss://",
    "sentinel": "no option {name!r} without Sentinel, where it has no effect: use redis+sentinel://",
    "database": "no option {name!r} in a cluster, which has the database 0 alone",
}


def read(query: str, *, tls: bool, family: str) -> dict[str, Any]:
    """The options of a query.

    :param query: what follows the ``?`` of a URL.
    :param tls: whether the connection uses TLS.
    :param family: the family of the scheme: ``redis``, ``redis+cluster`` or ``redis+sentinel``.
    :raises ValueError: with what is expected, for an option that is unknown, repeated, without effect or without a
        valid value. The text holds no value of a secret option.
    """
    given = {"tls": tls, "sentinel": family == "redis+sentinel", "database": family != "redis+cluster", "": True}
    options: dict[str, Any] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name in _REFUSED:
            raise ValueError(_REFUSED[name])
        option = OPTIONS.get(name)
        if option is None:
            near = get_close_matches(name, OPTIONS, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"the options are {', '.join(OPTIONS)}"
            # After a secret, the name may be what follows an unescaped "&" in it.
            shown = "?" if SECRETS & options.keys() else _printable(name)
            raise ValueError(f"no option {shown!r} in the query; {hint}")
        if name in options:
            raise ValueError(f"the option {name!r} once")
        if not given[option.needs]:
            raise ValueError(_NEEDS[option.needs].format(name=name))
        try:
            options[name] = option.parse(text)
        except ValueError as expected:
            raise ValueError(f"for the option {name!r} {expected}") from None
    return options


def _printable(name: str) -> str:
    """A name as a message may show it: one that looks like no option could be a piece of a secret."""
    return name if name.isidentifier() and len(name) <= 40 else "?"
