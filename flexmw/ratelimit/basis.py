"""On what the settlement of one request is based: reported usage, counted events, the estimate, or nothing. Pure.

============= ========================================================================================================
``reported``  The application has called ``settle``
``usage``     The response has reported its usage
``counted``   A stream has ended without usage, or was cut: the estimate of the prompt, and one token for each event
``estimate``  Nothing is known, as of a compressed response: the estimate stays as it is
``replayed``  The response was made by an earlier request, and nothing was executed: nothing is charged
``failed``    The request was refused or has failed: nothing is charged
============= ========================================================================================================

>>> settled_by(Observed(status=200, is_stream=True, outputs=20), Usage(input_tokens=7, output_tokens=500))
('counted', Usage(input_tokens=7, output_tokens=20, total_tokens=27, cached_tokens=0, model=''))
>>> settled_by(Observed(status=429), None)[0]
'failed'
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Literal, NamedTuple, TypeAlias

from flexmw.ratelimit.usage import Usage

__all__ = ["NOTHING", "Basis", "Observed", "settled_by"]

Basis: TypeAlias = Literal["reported", "usage", "counted", "estimate", "replayed", "failed"]

NOTHING: Final = Usage()
"""The usage of a request that has used nothing."""


class Observed(NamedTuple):
    """What was seen of a response.

    :param status: its status; 0 where none was sent.
    :param usage: the usage that it has reported.
    :param outputs: the parts of the model's output since that report.
    :param is_stream: the response is a stream of events whose parts were counted.
    :param is_replay: the response was made by an earlier request.
    :param has_left: the client has left, or the request was cancelled.
    :param has_raised: the app has raised an exception.
    """

    status: int = 0
    usage: Usage | None = None
    outputs: int = 0
    is_stream: bool = False
    is_replay: bool = False
    has_left: bool = False
    has_raised: bool = False


def settled_by(observed: Observed, estimate: Usage | None) -> tuple[Basis, Usage | None]:
    """The basis of a settlement, and the usage to charge; ``None`` leaves the reservation as it is.

    :param estimate: what the request was expected to use; ``None`` where only a number was reserved.
    """
    status, usage, outputs, is_stream, is_replay, has_left, has_raised = observed
    if is_replay:
        return "replayed", NOTHING
    if usage is not None:
        if not outputs:
            return "usage", usage
        written = usage.output_tokens + outputs
        return "counted", replace(usage, output_tokens=written, total_tokens=usage.input_tokens + written)
    if status and not 200 <= status < 300:
        return "failed", NOTHING
    if has_left and not status:
        return "estimate", None  # the app may have worked, and nobody has seen how much
    if has_raised and not has_left and not outputs:
        return "failed", NOTHING
    if is_stream:
        if estimate is None:
            return "counted", Usage(output_tokens=outputs)
        return "counted", replace(estimate, output_tokens=outputs, total_tokens=estimate.input_tokens + outputs)
    return ("estimate", None) if status else ("failed", NOTHING)
