"""The forms in which providers write rate limits: prefix, layout, reset and an example of each. Pure.

:mod:`flexmw.contract.limit_headers` reads them, and ``docs/limit-headers.md`` is made from the table.

>>> next(form.prefix for form in FORMS if "Anthropic" in form.senders)
'anthropic-ratelimit-'
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["FORMS", "Form"]


@dataclass(frozen=True, slots=True)
class Form:
    """One way in which providers write limits.

    ``prefix`` is what the header names begin with. ``layout`` says what follows the prefix: ``"part-dimension"``
    (``limit-requests``), ``"dimension-part"`` (``requests-limit``), or ``"structured"``: one header that holds
    everything. ``example`` holds header lines, ``reset`` the forms of the reset value, ``senders`` the providers and
    servers that use the form. ``unit`` is what the limit counts where the name does not say it.
    """

    name: str
    prefix: str
    layout: Literal["part-dimension", "dimension-part", "structured"]
    example: tuple[tuple[str, str], ...]
    reset: str
    senders: str
    unit: str = ""


FORMS: Final = (
    Form(
        "`x-ratelimit-*-<dimension>`",
        "x-ratelimit-",
        "part-dimension",
        (
            ("x-ratelimit-limit-requests", "60"),
            ("x-ratelimit-remaining-requests", "59"),
            ("x-ratelimit-reset-requests", "1s"),
        ),
        "a duration, seconds, or Unix seconds; the dimension may end in a window, as in `tokens-minute`",
        "OpenAI, Azure OpenAI, Groq, Cerebras, Mistral, Kong, flexmw (`unix`, `openai`)",
    ),
    Form(
        "`x-ratelimit-*`",
        "x-ratelimit-",
        "part-dimension",
        (("x-ratelimit-limit", "5000"), ("x-ratelimit-remaining", "4999"), ("x-ratelimit-reset", "1800000000")),
        "seconds, Unix seconds, or an ISO 8601 time; `x-ratelimit-reset-after` in seconds wins",
        "GitHub, Discord, Reddit, Jira",
    ),
    Form(
        "`x-ratelimit-<dimension>-*`",
        "x-ratelimit-",
        "dimension-part",
        (
            ("x-ratelimit-requests-limit", "1500"),
            ("x-ratelimit-requests-remaining", "1499"),
            ("x-ratelimit-requests-reset", "1800000000000"),
        ),
        "Unix milliseconds",
        "Linear",
    ),
    Form(
        "`x-rate-limit-*`",
        "x-rate-limit-",
        "part-dimension",
        (("x-rate-limit-limit", "15"), ("x-rate-limit-remaining", "14"), ("x-rate-limit-reset", "1800000000")),
        "Unix seconds",
        "X, Okta",
    ),
    Form(
        "`x-sentry-rate-limit-*`",
        "x-sentry-rate-limit-",
        "part-dimension",
        (
            ("x-sentry-rate-limit-limit", "40"),
            ("x-sentry-rate-limit-remaining", "39"),
            ("x-sentry-rate-limit-reset", "1800000000"),
        ),
        "Unix seconds",
        "Sentry",
    ),
    Form(
        "`ratelimitbysize-*`",
        "ratelimitbysize-",
        "part-dimension",
        (("ratelimitbysize-limit", "500000"), ("ratelimitbysize-remaining", "499000"), ("ratelimitbysize-reset", "34")),
        "seconds; the limit is of tokens",
        "Mistral",
        unit="tokens",
    ),
    Form(
        "`RateLimit-*` (IETF drafts up to 06)",
        "ratelimit-",
        "part-dimension",
        (("ratelimit-limit", "100;w=60"), ("ratelimit-remaining", "76"), ("ratelimit-reset", "50")),
        "seconds, or Unix seconds",
        "GitLab, Zendesk, Microsoft Graph, Docker Hub",
    ),
    Form(
        "`RateLimit` (IETF draft 07)",
        "ratelimit",
        "structured",
        (("ratelimit", "limit=100, remaining=50, reset=50"), ("ratelimit-policy", "100;w=60")),
        "seconds",
        "express-rate-limit",
    ),
    Form(
        "`RateLimit` (IETF drafts from 08)",
        "ratelimit",
        "structured",
        (("ratelimit", '"default";r=50;t=30'), ("ratelimit-policy", '"default";q=100;w=60')),
        "seconds",
        "Hugging Face, flexmw (`ietf`)",
    ),
    Form(
        "`anthropic-ratelimit-<dimension>-*`",
        "anthropic-ratelimit-",
        "dimension-part",
        (
            ("anthropic-ratelimit-requests-limit", "50"),
            ("anthropic-ratelimit-requests-remaining", "49"),
            ("anthropic-ratelimit-requests-reset", "2027-01-15T08:00:30Z"),
        ),
        "an RFC 3339 time",
        "Anthropic",
    ),
)
"""Every form that :func:`read_limits` reads. A form of another prefix is a row here and nothing else."""
