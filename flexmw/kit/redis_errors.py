"""The meaning of an error of a redis or valkey server, by the code in its text. The class of the error differs
between servers.

Redis 6.2 reports an error inside a script as a plain ``ResponseError`` whose text has the code in the middle, and
redis-py removes the code from the text of the classes that it knows. :func:`code_of` therefore looks at both.

>>> code_of(Exception("Error running script (call to f_1): @user_script: 1: -READONLY You can't write"))
'READONLY'
>>> advice_of(Exception("NOPERM this user has no permissions to run the 'evalsha' command"))
'the server does not permit the command to this user (NOPERM): give the user the commands and keys that the docs list'
>>> code_of(Exception("Error running script (call to f_1): The user executing the script can't run this command"))
'NOPERM'
>>> code_of(Exception("Timeout reading from socket"))
''
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final, NamedTuple

__all__ = ["CODES", "Code", "advice_of", "clean", "code_of", "is_refusal", "is_reply"]


class Code(NamedTuple):
    """One row of :data:`CODES`. A server that sends one of these codes has not executed the command.

    :param meaning: what the code means and what to do, for an operator.
    :param refuses: the server refuses this client, whatever the command: the configuration is wrong.
    :param drops: the server accepts no writes; the same address may lead to another server by now.
    """

    meaning: str
    refuses: bool = False
    drops: bool = False


CODES: Final[dict[str, Code]] = {
    "READONLY": Code("the server is a replica and takes no writes: the address must lead to the primary", drops=True),
    "MASTERDOWN": Code("the server is a replica that has lost its primary", drops=True),
    "NOREPLICAS": Code("the server has fewer replicas than min-replicas-to-write, so it takes no writes", drops=True),
    "LOADING": Code("the server still loads its data"),
    "CLUSTERDOWN": Code("the cluster does not serve the slot of the key"),
    "TRYAGAIN": Code("the slot of the keys is moving to another node"),
    "MOVED": Code("the server is a node of a cluster: use a scheme with +cluster", refuses=True),
    "ASK": Code("the server is a node of a cluster: use a scheme with +cluster"),
    "CROSSSLOT": Code("the server is a cluster, and the keys of one command lie in two slots"),
    "OOM": Code("the server is full: raise maxmemory, or let it evict other keys"),
    "MISCONF": Code("the server takes no writes because it cannot save to its disk"),
    "BUSY": Code("the server is busy with a script of another client"),
    "NOSCRIPT": Code("the server does not know the script"),
    "WRONGPASS": Code("the server refuses the user name or password", refuses=True),
    "NOAUTH": Code("the server requires a password, and the client sends none", refuses=True),
    "NOPERM": Code(
        "the server does not permit the command to this user: give the user the commands and keys that the docs list",
        refuses=True,
    ),
    "NOCLUSTER": Code("the server is no node of a cluster: use a scheme without +cluster", refuses=True),
    "NOSENTINEL": Code(
        "the server is no Sentinel: use a scheme without +sentinel, or the port of a Sentinel", refuses=True
    ),
    "SENTINELPASS": Code(
        "a Sentinel refuses the user name or password: set sentinel_username and sentinel_password", refuses=True
    ),
    "NODATABASE": Code("the server has no database of this number: choose a lower one", refuses=True),
    "NOSELECT": Code("the server is a node of a cluster: use a scheme with +cluster, and no database", refuses=True),
    "NOHELLO": Code(
        "the server, or a proxy in front of it, does not know HELLO: take the protocol 2, by protocol=2", refuses=True
    ),
    "UNKNOWN": Code(
        "the server, or a proxy in front of it, does not know a command that the store needs: a Sentinel needs a "
        "scheme with +sentinel",
        refuses=True,
    ),
}
"""The codes that flexmw handles. Any other error is raised as it is."""

_CLASSES: Final = {
    "ReadOnlyError": "READONLY",
    "MasterDownError": "MASTERDOWN",
    "BusyLoadingError": "LOADING",
    "ClusterDownError": "CLUSTERDOWN",
    "TryAgainError": "TRYAGAIN",
    "MovedError": "MOVED",
    "AskError": "ASK",
    "ClusterCrossSlotError": "CROSSSLOT",
    "OutOfMemoryError": "OOM",
    "NoScriptError": "NOSCRIPT",
    "NoPermissionError": "NOPERM",
    "AuthenticationWrongNumberOfArgsError": "WRONGPASS",
    "AuthenticationError": "WRONGPASS",
}
"""The codes that redis-py removes from the texts of its own classes."""

_OWN: Final = ("UNKNOWN", "NOHELLO", "NOCLUSTER", "NOSENTINEL", "SENTINELPASS", "NODATABASE", "NOSELECT")
"""flexmw's own codes for errors that servers send without a code."""

_CODE: Final = re.compile(r"(?:^|[\s:-])(" + "|".join(code for code in CODES if code not in _OWN) + r")(?=\s|$)")
_TEXTS: Final = (
    ("The previous master is now a slave", "READONLY"),
    ("ERR invalid password", "WRONGPASS"),
    ("invalid username-password pair", "WRONGPASS"),
    ("without any password configured", "WRONGPASS"),
    ("Authentication required", "NOAUTH"),
    ("unauthenticated multibulk length", "NOAUTH"),  # a first command of more than ten words, to a client without HELLO
    ("unauthenticated bulk length", "NOAUTH"),  # a first command with a word of more than 16 KiB, such as a script
    ("HELLO must be called with the client already authenticated", "NOAUTH"),
    ("no permissions to", "NOPERM"),
    ("No permissions to", "NOPERM"),
    ("The user executing the script can't", "NOPERM"),
    ("unknown command `SENTINEL`", "NOSENTINEL"),
    ("unknown command 'SENTINEL'", "NOSENTINEL"),  # since redis 7
    ("command `HELLO`", "NOHELLO"),
    ("command 'HELLO'", "NOHELLO"),
    ("unknown command", "UNKNOWN"),
    ("unsupported command", "UNKNOWN"),  # envoy
    ("DB index is out of range", "NODATABASE"),
    ("SELECT is not allowed in cluster mode", "NOSELECT"),
    ("cluster support disabled", "NOCLUSTER"),
)
_SENTINEL_FAILURE: Final = re.compile(r"> - [^<]*?\b(\w+Error)\b")
"""The class of one Sentinel's error, which follows the representation of its client."""

_NO_PRIMARY: Final = "MasterNotFoundError"
"""The class of the error that redis-py raises if no Sentinel names a primary."""

_SEARCHED: Final = 512
"""Characters of an error's text that are searched."""


def code_of(error: BaseException) -> str:
    """Return the code of an error that a server has sent; empty for any other error."""
    if type(error).__name__ == _NO_PRIMARY:
        return "SENTINELPASS" if "AuthenticationError" in _SENTINEL_FAILURE.findall(str(error)) else ""
    text = str(error)[:_SEARCHED]
    found = _CODE.search(text)
    if found is not None:
        return found[1]
    for part, code in _TEXTS:
        if part in text:
            return code
    return next((_CLASSES[cls.__name__] for cls in type(error).__mro__ if cls.__name__ in _CLASSES), "")


def is_refusal(error: BaseException) -> bool:
    """Return whether the server refuses this client: the configuration is wrong, and waiting does not help."""
    row = CODES.get(code_of(error))
    return row is not None and row.refuses


def is_reply(error: BaseException) -> bool:
    """Return whether the error is the reply of a server: the server is reachable, and has not executed the command."""
    return bool(code_of(error)) or any(cls.__name__ == "ResponseError" for cls in type(error).__mro__)


def advice_of(error: BaseException, secrets: Collection[str] = ()) -> str:
    """Describe an error for an operator: by the meaning of its code if it has one, else by its class and text.

    :param secrets: the texts to remove from the error's text. They are not removed from a meaning, which is a text of
        flexmw: missing letters would show a short password such as ``p``.
    """
    code = code_of(error)
    if any(cls.__name__ == "TimeoutError" for cls in type(error).__mro__):
        return "no response in time"
    if not code and type(error).__name__ == _NO_PRIMARY:
        return clean(_without_primary(str(error)), secrets)
    if not code:
        text = clean(" ".join(str(error).split()), secrets)[:200].rstrip(".")
        return f"{type(error).__name__}: {text}" if text else type(error).__name__
    meaning, separator, step = CODES[code].meaning.partition(":")
    return f"{meaning}{'' if code in _OWN else f' ({code})'}{separator}{step}"


def _without_primary(text: str) -> str:
    """Describe the error that no Sentinel names a primary.

    Its text does not distinguish unreachable Sentinels from a wrong name, and has the representation of the client of
    each Sentinel that has failed.
    """
    failures = sorted(set(_SENTINEL_FAILURE.findall(text)))
    name = text.partition(" : <")[0].rpartition("for ")[2].rstrip(".")
    if failures:
        return f"no Sentinel that responds names the primary {name}, and not all respond ({', '.join(failures)})"
    return f"no Sentinel knows a primary {name} that is up: correct the name in the URL, or start the primary"


def clean(text: str, secrets: Collection[str]) -> str:
    """Remove secrets from a text, and pieces of them of at least four characters between delimiters.

    A shorter secret is removed only if it is a whole word: inside of words, the missing letters would show it.
    """
    pieces = {part for secret in secrets for part in (secret, *re.split(r"[@:/?#&\s]", secret)) if len(part) >= 4}
    for piece in sorted({*pieces, *secrets}, key=len, reverse=True):
        pattern = re.escape(piece)
        text = re.sub(pattern if len(piece) >= 4 else rf"(?<!\w){pattern}(?!\w)", "***", text)
    return text
