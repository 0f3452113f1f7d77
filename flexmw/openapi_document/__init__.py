"""OpenAPI documents with the errors that an app will send: ``flexmw.openapi(app)``.

:mod:`.merge` puts what components say about an operation into a document, and is pure. :mod:`.frameworks` reads the
document of an app, and serves the complete one in its place.

Private: nothing in this package is for use outside flexmw.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from flexmw.errors import ConfigError, raised
from flexmw.kit.documentation import Documented
from flexmw.kit.paths import wrapped_apps
from flexmw.openapi_document.frameworks import FrameworkDocument, document_of, is_reading
from flexmw.openapi_document.merge import with_errors
from flexmw.wrapping import components_around

__all__ = ["openapi"]


def openapi(app: object, *, serve: bool = False) -> dict[str, Any]:
    """The OpenAPI document of an app, with the errors that its components will send.

    The components are those that :func:`flexmw.install` or :func:`flexmw.wrap_app` has put around the app, and those in
    its own list of middleware; limits of single routes (:func:`flexmw.limit`) count too. An Envelope adds its format to
    all errors in the document, and to those that it makes; RateLimit adds 429 with its headers; Idempotency adds the
    header of the key and its own errors. The app's own document is not changed.

    :param app: an app of FastAPI or Litestar, or what ``wrap_app`` has made of one.
    :param serve: serve this document in place of the app's own, at ``/openapi.json`` and to the pages that show it.
        FastAPI serves routes that are added later too; for Litestar, call it when all routes are registered.
    :return: the document, as JSON values.
    :raises ConfigError: the app has no OpenAPI document, or no component that could add to it.
    """
    framework = document_of(app)
    if is_reading():
        return framework.read()
    components = list(_components(app, framework))
    if not components:
        expected = "an app with components: flexmw.install(app, ...) first, or flexmw.openapi(what wrap_app returned)"
        raise ConfigError("openapi(app)", app, expected)
    complete = partial(_complete, components=components, framework=framework)
    if serve:
        framework.serve(complete)
    return complete(framework.read())


def _complete(
    document: dict[str, Any], *, components: list[Documented], framework: FrameworkDocument
) -> dict[str, Any]:
    token = raised.set(None)  # the errors are examples: an Envelope outside must not take one for a response
    try:
        return with_errors(document, components, framework.of_routes(), reads_json=framework.reads_json)
    finally:
        raised.reset(token)


def _components(app: object, framework: FrameworkDocument) -> Iterator[Documented]:
    """The components around an app that take part in its document, outermost first."""
    candidates: list[object] = []
    for layer in wrapped_apps(app):
        candidates += components_around(layer)
    candidates += framework.middleware()
    seen: set[int] = set()
    for candidate in candidates:
        if isinstance(candidate, Documented) and not isinstance(candidate, type) and id(candidate) not in seen:
            seen.add(id(candidate))
            yield candidate
