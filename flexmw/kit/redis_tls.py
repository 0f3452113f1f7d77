"""The TLS options of a redis or valkey store, checked before the first connection.

The driver loads the files again for each connection. Its errors name neither the option nor the file, and OpenSSL asks
the terminal for the password of an encrypted key, which holds up the start of a server that has one.

>>> problem_of({"ssl_ciphers": "none of them"})
'ssl_ciphers to name ciphers that this OpenSSL has'
>>> problem_of({"ssl_keyfile": "key.pem"})
'ssl_certfile beside ssl_keyfile'
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

__all__ = ["alert_of", "handshake_alert", "problem_of"]

_CERTIFICATE: Final = "the server does not accept the certificate of the client: correct ssl_certfile and ssl_keyfile"
_NOTHING_IN_COMMON: Final = "the server and the client have no version of TLS, or no cipher, in common"
_ALERTS: Final = {
    "CERTIFICATE_REQUIRED": "the server requires a certificate of the client: set ssl_certfile and ssl_keyfile",
    "ALERT_UNKNOWN_CA": _CERTIFICATE,
    "ALERT_BAD_CERTIFICATE": _CERTIFICATE,
    "ALERT_UNSUPPORTED_CERTIFICATE": _CERTIFICATE,
    "ALERT_CERTIFICATE_EXPIRED": _CERTIFICATE,
    "ALERT_CERTIFICATE_REVOKED": _CERTIFICATE,
    "ALERT_CERTIFICATE_UNKNOWN": _CERTIFICATE,
    "ALERT_PROTOCOL_VERSION": _NOTHING_IN_COMMON,
    "ALERT_HANDSHAKE_FAILURE": _NOTHING_IN_COMMON,
    "UNSUPPORTED_PROTOCOL": _NOTHING_IN_COMMON,
}
"""The meaning of a TLS alert, by a part of OpenSSL's name for it. A later connection gets the same alert."""


def problem_of(options: Mapping[str, Any]) -> str:
    """Return what is expected in place of a TLS option that cannot be used; empty if all options can be used.

    :param options: the options of a store, under redis-py's names.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if options.get("ssl_keyfile") and not options.get("ssl_certfile"):
        return "ssl_certfile beside ssl_keyfile"
    for name in ("ssl_certfile", "ssl_keyfile", "ssl_ca_certs"):
        with_file = options.get(name)
        if with_file and (problem := _unreadable(with_file)):
            return f"{name} to name a file that can be read ({problem})"
    path, data = options.get("ssl_ca_path"), options.get("ssl_ca_data")
    # OpenSSL takes several directories, and passes over those that do not exist.
    if path and not any(Path(name).is_dir() for name in str(path).split(os.pathsep)):
        return "ssl_ca_path to name a directory"
    return (
        _certificate_problem(context, options)
        or _authority_problem(context, "ssl_ca_certs", cafile=options.get("ssl_ca_certs"))
        or _authority_problem(context, "ssl_ca_data", cadata=data)
        or _cipher_problem(context, options.get("ssl_ciphers"))
    )


def alert_of(text: str) -> str:
    """Return the meaning of the TLS alert in the text of an error; empty without one."""
    return next((meaning for name, meaning in _ALERTS.items() if name in text), "")


def handshake_alert(address: tuple[str, int], options: Mapping[str, Any], *, timeout: float) -> str:
    """Return the meaning of the TLS alert that a server sends when a client connects; empty without one.

    With TLS 1.3, the server judges the certificate of a client after the handshake. A client that has sent a command by
    then may see the end of the connection, and not the alert. So this client sends nothing.

    :param timeout: seconds for each step.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        _load_certificate(context, options)
        with (
            socket.create_connection(address, timeout) as plain,
            context.wrap_socket(plain, server_hostname=address[0]) as connection,
        ):
            connection.recv(1)
    except ssl.SSLError as error:
        return alert_of(str(error))
    except OSError:
        return ""
    return ""


def _unreadable(name: str) -> str:
    try:
        with open(name, "rb"):  # noqa: PTH123 - the name may be of any type that OpenSSL takes
            return ""
    except OSError as error:
        return error.strerror or type(error).__name__


def _load_certificate(context: ssl.SSLContext, options: Mapping[str, Any]) -> None:
    certificate = options.get("ssl_certfile")
    if certificate:
        # An empty password: with None, OpenSSL asks the terminal.
        password = options.get("ssl_password") or ""
        context.load_cert_chain(certificate, options.get("ssl_keyfile") or None, password)


def _certificate_problem(context: ssl.SSLContext, options: Mapping[str, Any]) -> str:
    try:
        _load_certificate(context, options)
    except ssl.SSLError as error:
        if "KEY_VALUES_MISMATCH" in str(error):
            return "in ssl_keyfile the key of the certificate in ssl_certfile"
    except (OSError, ValueError):  # such as a key without a password that is needed
        pass
    else:
        return ""
    name = "ssl_keyfile" if options.get("ssl_keyfile") else "ssl_certfile"
    with suppress(OSError), open(options[name], "rb") as file:  # noqa: PTH123
        if b"ENCRYPTED" in file.read():
            return f"in ssl_password the password of the key in {name}, which is encrypted"
    if name == "ssl_certfile":
        return "in ssl_certfile a certificate and its private key in PEM, or the key in ssl_keyfile"
    return "in ssl_certfile a certificate, and in ssl_keyfile its private key, in PEM"


def _authority_problem(context: ssl.SSLContext, name: str, **location: Any) -> str:
    if any(location.values()):
        try:
            context.load_verify_locations(**location)
        except (OSError, ValueError):  # an SSLError is an OSError
            return f"in {name} certificates in PEM"
    return ""


def _cipher_problem(context: ssl.SSLContext, ciphers: str | None) -> str:
    if ciphers:
        try:
            context.set_ciphers(ciphers)
        except ssl.SSLError:
            return "ssl_ciphers to name ciphers that this OpenSSL has"
    return ""
