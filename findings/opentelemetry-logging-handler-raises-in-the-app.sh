#!/usr/bin/env bash
# A log line with an argument too few raises in the app when OpenTelemetry's logging handler is there.
# Expected: a handler reports its own failure on standard error and the app goes on, as each handler of the standard
# library does.
# Seen: the handler formats the line without a guard: `log.info("order %s of %s", 1)`, which prints a traceback under
# other handlers, is TypeError in the route: the order has been made and is a 500. An exporter of logs that is switched
# on in production finds each such line of an app and of its libraries.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'opentelemetry-instrumentation-logging==0.66b2' 'opentelemetry-sdk==1.45.2'
"$work/venv/bin/python" - <<'PYTHON'
import contextlib
import io
import logging
from importlib.metadata import version

from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.sdk._logs import LoggerProvider

HANDLERS = {
    "standard library": logging.StreamHandler(),
    "OpenTelemetry": LoggingHandler(logger_provider=LoggerProvider()),
}


def call_of_a_route(handler):
    """What the caller of a route gets that logs one argument too few."""
    log = logging.Logger("shop")
    log.addHandler(handler)
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            log.info("order %s of %s", 1)
        except Exception as error:
            return type(error).__name__
    return "ordered"


seen = {name: call_of_a_route(handler) for name, handler in HANDLERS.items()}
name = "opentelemetry-instrumentation-logging"
print(f"{name} {version(name)}: {seen}")
expected = {"standard library": "ordered", "OpenTelemetry": "TypeError"}
raise SystemExit(0 if seen == expected else "changed: a handler does not raise")
PYTHON
