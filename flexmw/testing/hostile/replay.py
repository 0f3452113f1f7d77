"""The response to a known ``Idempotency-Key``, of a server that honours keys."""

from __future__ import annotations

from dataclasses import dataclass

from flexmw.contract import ErrorBody
from flexmw.testing.hostile.exchange import Exchange
from flexmw.testing.hostile.good import Good
from flexmw.testing.hostile.received import Received
from flexmw.testing.hostile.response import Fault, Response

__all__ = ["Replay"]

_REUSED = ErrorBody(
    message="This Idempotency-Key was used for another request.",
    type="invalid_request_error",
    code="idempotency_key_reused",
)


@dataclass(frozen=True)
class Replay(Fault):
    """The stored response again, or 422 if the request differs (draft-ietf-httpapi-idempotency-key-header)."""

    first: Received
    good: Good

    def run(self, exchange: Exchange) -> None:
        again, first = exchange.request, self.first
        if (again.method, again.target, again.body) != (first.method, first.target, first.body):
            response = Response(
                422, headers=(("Content-Type", "application/json"),), body=_REUSED.encode(), executes=False
            )
        else:
            headers = (("Content-Type", self.good.content_type), ("Idempotent-Replayed", "true"))
            response = Response(200, headers=headers, body=self.good.body, executes=False)
        response.run(exchange)
