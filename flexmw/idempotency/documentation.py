"""What an Idempotency adds to an OpenAPI document: the header of the key, and the errors of a repeated request."""

from __future__ import annotations

from typing import Any

from flexmw.errors import APIError
from flexmw.idempotency.errors import (
    BodyTooLarge,
    KeyInProgress,
    KeyInvalid,
    KeyRequired,
    KeyReused,
    KeyUnknown,
    ResponseNotStored,
    StoreOffline,
)
from flexmw.idempotency.planning import predicates
from flexmw.kit.documentation import Documentation, Operation, matches

__all__ = ["document"]


def document(options: Any, operation: Operation) -> Documentation:
    """What a component does to the requests and the responses of an operation.

    :param options: a :class:`flexmw.Idempotency`.
    """
    required, exempt = predicates(options, None)
    if operation.method not in options.methods or matches(options.exempt, exempt, operation):
        return Documentation()
    is_required = options.required is True or matches(options.required, required, operation)
    errors: list[APIError] = [
        KeyInvalid("it is empty", options.header),
        KeyInProgress(1.0),
        KeyReused(options.header),
        ResponseNotStored(200, options.max_body + 1),
        BodyTooLarge(),
    ]
    if is_required or callable(options.required):
        errors.insert(0, KeyRequired(options.header))
    if options.on_unknown == "refuse":
        errors.append(KeyUnknown())
    if options.on_store_failure != "run":
        errors.append(StoreOffline())
    description = (
        "Names the request: a second request with the same key is not executed again, and gets the response to the "
        "first one. One value for each call, such as a UUID; the same value in its retries."
    )
    return Documentation(
        errors=tuple(errors),
        headers=("Idempotency-Key-TTL", "Idempotent-Replayed"),
        parameters=((options.header, description, bool(is_required)),),
    )
