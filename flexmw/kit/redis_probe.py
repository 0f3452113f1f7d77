"""The test of a redis or valkey store at start-up: connect, authenticate, and run what the component will run.

Some faults stay until somebody corrects them, so each is a ``ConfigError``: a wrong password, a command that the user
may not run, TLS on one side only, an unknown certificate authority, a server without the redis protocol. A store that
cannot be reached is an error only if the application has not set ``on_store_failure``.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, Final, cast

from flexmw.contract.exception_slots import chain_of
from flexmw.errors import ConfigError
from flexmw.kit.redis_blocking import BlockingNodes
from flexmw.kit.redis_errors import advice_of, clean, is_refusal
from flexmw.kit.redis_tls import alert_of, handshake_alert, problem_of
from flexmw.kit.store_url import PROBE_SECONDS, StorageURL, unusable_at_start

__all__ = ["evicting_policy", "explain", "probe_redis"]

_TLS_SECONDS: Final = 0.5
_KEEPS: Final = "noeviction"


def probe_redis(
    url: StorageURL,
    option: str,
    run: Callable[[BlockingNodes], object],
    *,
    required: bool,
    log: logging.Logger,
    timeout: float = PROBE_SECONDS,
) -> None:
    """Run the commands of a component once. Blocks for about ``timeout`` seconds at most: it belongs to start-up code.

    :param option: the name of the option, for the message of an error.
    :param run: the commands.
    :param required: whether a store that cannot be reached now is an error; otherwise it is a WARNING.
    :param timeout: seconds for one command.
    :raises ConfigError: with ``option``, the masked URL, what the server said and what to do.
    """
    if url.scheme.tls and (expected := problem_of(url.options)):
        raise ConfigError(option, url.shown, expected)
    client = BlockingNodes(url, timeout=timeout, step=timeout)
    try:
        run(client)
    except Exception as error:
        problem, is_permanent = explain(error, url)
        if is_permanent:
            raise ConfigError(option, url.shown, f"a store that works: {problem}") from None
        unusable_at_start(url, option, problem, required=required, log=log)
    finally:
        with suppress(Exception):
            client.close()


def evicting_policy(client: BlockingNodes, key: str) -> str:
    """The ``maxmemory-policy`` of a server that deletes keys when it is full, which some providers set by default.

    Empty for a server that deletes none, where the user may not run INFO, and where the server does not tell.

    :param key: a key on the server.
    """
    memory: Any = None
    with suppress(Exception):
        memory = client.info_memory(key)
    if not isinstance(memory, dict):
        return ""
    known = cast("dict[str, Any]", memory)
    policy = str(known.get("maxmemory_policy", _KEEPS))
    return clean(policy, ())[:40] if known.get("maxmemory") and policy != _KEEPS else ""


def explain(error: Exception, url: StorageURL) -> tuple[str, bool]:
    """The meaning of an error of the first commands, without any part of a secret.

    :returns: the meaning, and whether the error stays until somebody corrects the URL or the server.
    """
    chain = list(chain_of(error))
    text = " ".join(str(cause) for cause in chain)
    if is_refusal(error):
        return advice_of(error), True
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in chain) or "CERTIFICATE_VERIFY_FAILED" in text:
        reason = next((cause.verify_message for cause in chain if isinstance(cause, ssl.SSLCertVerificationError)), "")
        shown = f" ({clean(reason, url.secrets)})" if reason else ""
        step = "name the certificates of its authority in ssl_ca_certs, and the host by a name that the certificate has"
        return f"the certificate of the server is not trusted{shown}: {step}", True
    if url.scheme.tls and (alert := alert_of(text)):
        return alert, True
    if not url.scheme.unix and not _is_away(chain):
        if not url.scheme.tls and _speaks_tls(url):
            return "the server speaks TLS: use a scheme with TLS, such as rediss://", True
        if url.scheme.tls and _speaks_plainly(url):
            return "the server speaks without TLS: use a scheme without TLS, such as redis://", True
        if url.scheme.tls and (alert := handshake_alert(url.nodes[0], url.options, timeout=_TLS_SECONDS)):
            return alert, True
    if "Protocol Error" in text or type(error).__name__ == "InvalidResponse":
        return "the server is no redis or valkey server", True
    if not isinstance(error, (OSError, TimeoutError)) and type(error).__module__.partition(".")[0] != "redis":
        return f"{type(error).__name__}: {clean(str(error), url.secrets)}", True
    hint = _unknown_to_proxies(url) if "closed by server" in text else ""
    return f"{_addresses(url)}: {_reason(chain, error, url.secrets)}{hint}", False


def _reason(chain: list[BaseException], error: Exception, secrets: Collection[str]) -> str:
    """The message of the operating system if there is one, else the message of the driver."""
    system = next((cause for cause in chain if isinstance(cause, OSError) and cause.strerror), None)
    return str(system.strerror) if isinstance(system, OSError) else advice_of(error, secrets)


def _unknown_to_proxies(url: StorageURL) -> str:
    """What the URL asks for at the beginning of a connection, at which some proxies (twemproxy) end it."""
    asked = [
        words
        for is_asked, words in (
            (url.options.get("protocol") == 3, "HELLO, which protocol=3 asks for"),
            (url.options.get("db"), "SELECT, which a database other than 0 asks for"),
        )
        if is_asked
    ]
    return f" (a proxy in front of it may not know {', and '.join(asked)})" if asked else ""


def _addresses(url: StorageURL) -> str:
    return url.path if url.scheme.unix else ", ".join(f"{host}:{port}" for host, port in url.nodes)


def _is_away(chain: list[BaseException]) -> bool:
    """Whether no server accepts connections at the address."""
    return any(isinstance(cause, (ConnectionRefusedError, socket.gaierror)) for cause in chain)


def _speaks_tls(url: StorageURL) -> bool:
    """Whether the server completes a TLS handshake, or asks for the certificate of a client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for address in url.nodes[:1]:
        try:
            with socket.create_connection(address, _TLS_SECONDS) as plain, context.wrap_socket(plain):
                return True
        except ssl.SSLError as error:
            return "CERTIFICATE_REQUIRED" in str(error)
        except OSError:
            return False
    return False


def _speaks_plainly(url: StorageURL) -> bool:
    """Whether the server replies to a PING without TLS."""
    for address in url.nodes[:1]:
        try:
            with socket.create_connection(address, _TLS_SECONDS) as plain:
                plain.sendall(b"PING\r\n")
                return plain.recv(1) in (b"+", b"-")
        except OSError:
            return False
    return False
