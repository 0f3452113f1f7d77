"""OpenTelemetry attributes, exceptions and metrics for the requests of an app and the calls of a client.

>>> from flexmw.tagging import Tagging
>>> Tagging(codes=("quota_frozen",)).codes
('quota_frozen',)

A span attribute is one row in :mod:`flexmw.kit.semconv` and the line that sets it. ``tests/tagging/test_names.py``
compares every such name in the package with the rows. Where the lines are:

==================================  ================================================================================
Facts of a component                in that component: ``exchange.facts["flexmw.rate_limiting.result"] = ...``;
                                    ``SpanWriter`` in ``span_writer.py`` copies them to the server span
``flexmw.error.*``                  ``Vocabulary.attributes`` in ``core.py``
``flexmw.response.outcome``         ``RequestTelemetry`` in ``request.py``
``http.request.resend_count``       ``write_resend_count`` in ``attempt_span.py``
``flexmw.retry.*`` on a call span   ``CallTelemetry`` in ``call.py``
Attributes of a new server span     ``server_span.py``
``gen_ai.*``                        ``gen_ai.py``
``exception.*``                     ``exception_attributes`` in ``core.py``, for ``ExceptionRecorder`` in
                                    ``exceptions.py``
==================================  ================================================================================

Most requests have nothing to write, and ``PlainRequest`` in ``plain.py`` observes them alone. Metrics of requests are
in ``metrics.py``, those of calls in ``call.py``, the counts of counters in ``tally.py``; warnings in
``diagnostics.py``; what is known about the inside of FastAPI, Starlette and OpenTelemetry contrib in ``instruments/``.

Public: the names in ``__all__``. The modules of this package are private.
"""

from __future__ import annotations

from flexmw.tagging.component import Tagging

__all__ = ["Tagging"]
