"""OpenAPI documentation of an Envelope: the errors that it adds to an operation, and their format."""

from __future__ import annotations

from collections.abc import Sequence

from flexmw.contract.table import OWN
from flexmw.envelope.dialect import Dialect, choose
from flexmw.errors import APIError, InvalidAPIKey
from flexmw.kit.documentation import Documentation, Operation
from flexmw.kit.path_patterns import PathPattern
from flexmw.kit.paths import all_readings

__all__ = ["document"]


def document(
    operation: Operation,
    dialects: Sequence[Dialect],
    default: Dialect,
    passthrough: Sequence[PathPattern],
    *,
    request_id: str | None,
    should_retry: bool,
    validation_status: int | None,
    null_param: bool,
) -> Documentation:
    """Describe the errors of an operation inside of an Envelope with these options."""
    if passthrough and all_readings(passthrough, operation.scope()):
        return Documentation()
    headers = (*((request_id,) if request_id is not None else ()), *(("x-should-retry",) if should_retry else ()))
    dialect = choose(tuple(dialects), operation.path, "", default)
    if dialect is not default:
        return Documentation(error_headers=headers, dialect=dialect.media_type)
    row = OWN["invalid_json"]
    malformed = APIError(row.message, status=row.status, type=row.type, code=row.code)
    return Documentation(
        errors=(
            *((malformed,) if operation.reads_json else ()),
            *((InvalidAPIKey(),) if operation.is_secured else ()),
            APIError(status=500),
        ),
        error_headers=headers,
        rewrites=True,
        validation_status=validation_status,
        null_param=null_param,
    )
