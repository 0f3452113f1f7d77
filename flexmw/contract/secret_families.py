"""Families of secrets: the shapes of keys, tokens and passwords in texts, one row per family. Pure data.

:func:`flexmw.contract.redact.redact` joins the rows to one alternation each for :data:`SHAPES` (the secret itself is
recognised) and :data:`NAMED` (the name before the secret is recognised). A new provider is a new row.

:data:`SECRET_MEMBER`, :data:`SECRET_HEADER`, :data:`SECRET_RESPONSE_HEADER` and :data:`SECRET_PARAMETER` recognise the
name alone, for values that have no text around them.

The pattern of a row takes linear time: a repetition is possessive or has a bound, and no two repetitions that can match
the same characters meet. It begins with one character or with one set of characters, because the rows are joined by
their first character.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

__all__ = ["NAMED", "SECRET_HEADER", "SECRET_MEMBER", "SECRET_PARAMETER", "SECRET_RESPONSE_HEADER", "SHAPES", "Family"]

_GITHUB: Final = "docs.github.com, Supported secret scanning patterns"


@dataclass(frozen=True, slots=True)
class Family:
    """One family of secrets.

    :param name: whose secrets they are.
    :param shown: pattern of the beginning, which stays in the text.
    :param named: pattern of a name before it, which stays too. Rows with one name are neighbours, and the name is
        matched once for all of them.
    :param hidden: pattern of the secret, which ``***`` replaces.
    :param source: where the form is documented.
    :param check: called with the whole match; the match stays in the text where the function returns False.
    """

    name: str
    shown: str
    hidden: str
    source: str = _GITHUB
    check: Callable[[str], bool] | None = None
    named: str = ""


_WORD: Final = r"[A-Za-z0-9_-]"
_MIXED: Final = r"(?=[a-z_-]{0,40}+[A-Z0-9])"
"""A digit or a capital within 40 characters: words of prose that are joined by hyphens have none."""


def _is_jwt(text: str) -> bool:
    """A JSON Web Token has a dot; a cursor for pagination, which is JSON in base64 too, has none."""
    head, _, rest = text.partition(".")
    return len(head) >= 11 and len(rest) >= 8


def _is_card(text: str) -> bool:
    """True for 13 to 19 digits whose check digit is right (the Luhn formula of ISO/IEC 7812-1, annex B)."""
    digits = text.translate(_NO_SEPARATORS)
    singles, doubles = digits[-1::-2], digits[-2::-2].translate(_DOUBLED)
    total = sum(singles.encode()) + sum(doubles.encode()) - len(digits) * ord("0")
    return total % 10 == 0


_NO_SEPARATORS: Final = str.maketrans("", "", " -")
_DOUBLED: Final = str.maketrans("0123456789", "0246813579")
"""Each digit times two, as the sum of its digits."""


def _token(name: str, shown: str, *, shortest: int = 16) -> Family:
    return Family(name, shown, f"{_MIXED}{_WORD}{{{shortest},}}+")


_OPENAI: Final = "platform.openai.com, API keys; docs.stripe.com, API keys"
_GOOGLE: Final = "developers.google.com, OAuth 2.0"

SHAPES: Final = (
    Family("OpenAI, Anthropic, Stripe, OpenRouter, Langfuse", "[spr]k[-_]", f"{_WORD}{{6,}}+", _OPENAI),
    Family("Groq", "gsk[-_]", f"{_WORD}{{6,}}+", "console.groq.com, API keys"),
    Family("xAI", "xai[-_]", f"{_WORD}{{6,}}+", "docs.x.ai, API keys"),
    Family("Hugging Face", "hf[-_]", f"{_WORD}{{6,}}+", "huggingface.co/docs, User access tokens"),
    Family("GitHub", "g(?:h[opsur]|ithub_pat)[-_]", f"{_WORD}{{6,}}+", "docs.github.com, Token types"),
    Family(
        "GitLab",
        "gl(?:pat|rt|dt|ptt|ft|imt|agent|cbt|oas|soat|ffct|wt)[-_]",
        f"{_WORD}{{6,}}+",
        "docs.gitlab.com, Token overview",
    ),
    Family("Slack", "x(?:ox[abcdeprs]|app|wfp)[-_]", f"{_WORD}{{6,}}+", "api.slack.com, Token types"),
    Family(
        "Slack webhook", r"hooks\.slack\.com/[a-z]{1,20}/", "[A-Za-z0-9_/-]{6,}+", "api.slack.com, Incoming webhooks"
    ),
    Family("Discord webhook", r"discord(?:app)?\.com/api/webhooks/", "[A-Za-z0-9_/-]{6,}+", "discord.com, Webhooks"),
    Family("Discord bot", "[MNO]", rf"{_WORD}{{23,27}}+\.{_WORD}{{6}}\.{_WORD}{{27,}}+", "discord.com, Reference"),
    Family("Telegram", "[b0-9](?:ot[0-9])?[0-9]{5,12}:", f"{_WORD}{{30,}}+", "core.telegram.org, Bot API"),
    Family("Amazon Web Services", "A(?:KIA|SIA|BIA|CCA)", "[A-Z0-9]{12,}[A-Za-z0-9]*+", "docs.aws.amazon.com, IAM"),
    Family("Alibaba Cloud", "LTAI", "[A-Za-z0-9]{12,}+"),
    Family("Tencent Cloud", "AKID", "[A-Za-z0-9]{12,}+"),
    Family("Google API key", "AIza", f"{_WORD}{{20,}}+", "cloud.google.com, Manage API keys"),
    Family("Google OAuth client", "GOCSPX-", f"{_WORD}{{10,}}+", _GOOGLE),
    Family("Google access token", r"ya29\.", "[A-Za-z0-9._-]{10,}+", _GOOGLE),
    Family("Google refresh token", "1//0", f"{_WORD}{{10,}}+", _GOOGLE),
    Family("Meta", "EAA", "[A-Za-z0-9]{30,}+"),
    Family("Stripe webhook", "whsec_", "[A-Za-z0-9+/=_-]{6,}+", "docs.stripe.com, Webhooks"),
    Family("npm", "npm_", "[A-Za-z0-9]{20,}+", "docs.npmjs.com, About access tokens"),
    _token("PyPI", "pypi-"),
    Family("RubyGems", "rubygems_", "[A-Za-z0-9]{30,}+"),
    Family("crates.io", "cio", "[A-Za-z0-9]{30,}+"),
    Family("SendGrid", r"SG\.", rf"{_WORD}{{10,}}+\.{_WORD}{{10,}}+", "docs.sendgrid.com, API keys"),
    Family("Twilio", "SK", "[0-9a-f]{32}", "twilio.com/docs, API keys"),
    Family("Mailgun", "key-", "[0-9a-f]{32}", "documentation.mailgun.com, Authentication"),
    Family("Mailchimp", "", r"[0-9a-f][0-9a-f]{31}-us[0-9]{1,2}", "mailchimp.com/developer, API keys"),
    _token("Brevo", "x(?:keysib|smtpsib)-"),
    _token("Resend", "re_"),
    Family("DigitalOcean", "do[opr]_v1_", "[0-9a-f]{16,}+", "docs.digitalocean.com, Personal access tokens"),
    Family("Shopify", "shp(?:at|ca|pa|ss|tka)_", "[A-Za-z0-9]{16,}+", "shopify.dev, Access tokens"),
    Family("Square", "sq0[a-z]{3}-", f"{_WORD}{{16,}}+", "developer.squareup.com, Access tokens"),
    Family("Vault", r"hv[sbr]\.", f"{_WORD}{{16,}}+", "developer.hashicorp.com, Vault tokens"),
    Family(
        "Terraform Cloud",
        r"a(?<=[A-Za-z0-9]{14}\.a)tlasv1\.",
        f"{_WORD}{{16,}}+",
        "developer.hashicorp.com, API tokens",
    ),
    Family("Databricks", "dapi", "[0-9a-f]{32}(?:-[0-9])?", "docs.databricks.com, Personal access tokens"),
    _token("Linear", "lin_(?:api|oauth|wh)_"),
    _token("Replicate", "r8_"),
    _token("Perplexity", "pplx-"),
    _token("NVIDIA", "nvapi-"),
    _token("Tavily", "tvly-"),
    _token("Jina", "jina_"),
    _token("Pinecone", "pcsk_"),
    _token("Cerebras", "csk-"),
    _token("Fireworks", "fw_"),
    _token("Voyage", "pa-"),
    _token("LangSmith", "lsv2_(?:pt|sk)_"),
    _token("Notion", "ntn_"),
    _token("Notion, before 2024", "secret_"),
    _token("Figma", "fig[do][rh]?_"),
    _token("Postman", "PMAK-"),
    _token("New Relic", "NR(?:AK|AA|II|JS)-"),
    _token("Grafana", "gl(?:sa|c)_"),
    _token("Sentry", "sntry[su]_"),
    _token("Supabase", "sb(?:p|_secret)_"),
    _token("PlanetScale", "pscale_(?:tkn|pw|oauth)_"),
    _token("Atlassian", "AT(?:ATT|CTT|BBT)", shortest=20),
    Family("Airtable", r"pat[A-Za-z0-9]{14}\.", "[0-9a-f]{32,}+", "airtable.com/developers, Personal access tokens"),
    Family("Doppler", r"dp\.(?:pt|st|ct|sa|scim|audit)\.", f"{_WORD}{{16,}}+"),
    Family("Dynatrace", r"dt0[a-z][0-9]{2}\.", r"[A-Za-z0-9_.-]{16,}+"),
    _token("Docker", "dckr_[op]at_"),
    _token("Buildkite", "bkua_"),
    _token("CircleCI", "CCIPAT_"),
    _token("Heroku", "HRKU-"),
    _token("Netlify", "nfp_"),
    _token("Fly.io", "f[mo][12]_"),
    _token("Tailscale", "tskey-"),
    Family("age", "AGE-SECRET-KEY-1", "[A-Z0-9]{16,}+", "age-encryption.org/v1"),
    Family("JSON Web Token", "eyJ", rf"{_WORD}{{8,}}+(?:\.{_WORD}*+)*+", "RFC 7519, section 3.1", _is_jwt),
    Family(
        "PEM private key",
        "-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,12}-----",
        r"(?!\*)(?:[^-]|-(?!----))++(?:-----END [A-Z0-9 ]{1,60}-----)?",
        "RFC 7468; RFC 4716",
    ),
    Family(
        "payment card",
        "",
        "[2-6][0-9](?:[ -]?[0-9]){11,17}(?![0-9])",
        "ISO/IEC 7812-1; PCI DSS, requirement 3.4",
        _is_card,
    ),
)
"""Secrets that are recognised by themselves. They begin where no letter or digit stands before them."""

_IS: Final = r"[\"']?\s{0,3}[=:,]\s{0,3}(?:b(?=[\"']))?"
"""What stands between a name and a quoted value: as in JSON, a header, a ``repr`` or ASGI's pairs of bytes."""

_PROSE: Final = r"(?:auth|authenticat(?:ion|ed)|authori[sz](?:ation|ed)|tokens?|credentials?)"
_SENTENCE: Final = (
    r"(?!(?:an?|are|cannot|expected|extra|field|header|input|invalid|is|it|may|missing|must|no|not|required|should|string"
    r"|the|this|too|unable|value|was)(?:[ \t]{1,3}[a-z]|[.,;:!?)]?(?:\s|$)))"
)
"""No sentence follows: ``password: Field required`` names no password."""

_NAMES: Final = (
    r"(?:a(?:pi[_-]?key|(?:ccess|uth)[_-]?(?:key|token)|(?:ccount|pp)[_-]?key)|bot[_-]?token|c(?:lient[_-]?secret"
    r"|srf[_-]?token)|encryption[_-]?key|id[_-]?token|master[_-]?key|p(?:assw(?:or)?d|assphrase|rivate[_-]?(?:key|token))"
    r"|refresh[_-]?token|s(?:ecret(?:[_-]?key)?|ig(?:nature|ning[_-]?key)?|e(?:ssion|curity)[_-]?token|ubscription[_-]?key"
    r"|hared[_-]?(?:key|access[_-]?(?:key|signature)))|user[_-]?token|x(?:srf[_-]?token|[_-]?api[_-]?key))"
)
_WEAK_NAMES: Final = "(?:token|p(?:ass|wd)|auth|credentials?|otp)"
"""Names that are words of prose too: they count where no sentence has them."""

SECRET_MEMBER: Final = re.compile(rf"(?i){_NAMES}$")
"""The end of the name of a JSON member whose text is a secret. Names that are words of prose do not count here: the
``code``, the ``key`` or the ``next_token`` of an error is not a secret."""

SECRET_HEADER: Final = re.compile(
    r"auth|token|api-?key|access-?key|secret|passw|credential|signature|cookie|session|idempotency-key|[_-]key$"
)
"""A part of the name, in lower case, of a header that carries a credential."""

SECRET_RESPONSE_HEADER: Final = re.compile(
    r"(?:(?<!page-)(?<!next-)(?<!continuation-)token|secret|passw(?:or)?d|passphrase|(?<!-allow-)credentials?|cookie"
    r"|authorization|jwt"
    r"|(?:api|access|secret|private|signing|encryption)-?key|(?<!mcp-)session(?:-?id)?)$"
)
"""The end of the name, in lower case, of a response header that gives its client a credential. The token of a page, the
session of the Model Context Protocol, which authenticates nobody, and ``access-control-allow-credentials`` are none."""

SECRET_PARAMETER: Final = re.compile(
    r"(?:token|secret|passw(?:or)?d|passphrase|signature|credentials?|session_?id|jwt|accesskeyid"
    r"|(?:api|access|secret|private|auth|app|account|subscription|signing)_?key)$"
    r"|(?:^|_)(?:key|sig|code|pwd|pass|auth|authorization|otp|pin|ticket|assertion|session|sid|hash)$"
)
"""The end of the name, in lower case with ``_`` between words, of a query parameter that carries a credential or a
signature. Words count here too, because links carry credentials under names such as ``code`` and ``key``."""

_OPENAPI: Final = "spec.openapis.org, Security scheme object"
_VALUE: Final = r"[^\s&\"',;}]"
_PAIR: Final = r"[^\s=;,\"']{1,80}+=[^\s;,\"']*+"
_ONE_WORD: Final = r"[^\s\"',;*]"
_AUTHORIZATION: Final = rf"authorization{_IS}[\"']?"

NAMED: Final = (
    Family(
        "Authorization with parameters",
        r"(?:digest|aws4-hmac-sha256|oauth|hawk|hmac(?:-[a-z0-9]{1,12})?|signature|vapid)\s{1,8}+",
        r"[^\r\n']++",
        "RFC 7616; RFC 5849; docs.aws.amazon.com, Signature Version 4",
        named=_AUTHORIZATION,
    ),
    Family(
        "Authorization",
        # In the header whatever follows the scheme is the token, in prose ("Bearer authentication is required") a word.
        r"(?:api-?key|basic|bearer|bot|dpop|geniekey|key|negotiate|ntlm|privatekey|splunk|ssws|token)"
        r"\s{1,8}+",
        rf"{_ONE_WORD}++",
        "RFC 9110, section 11.6.2",
        named=_AUTHORIZATION,
    ),
    Family(
        "Authorization of another scheme",
        rf"(?![a-z0-9-]{{1,20}}\s{{1,8}}\*){_SENTENCE}",
        rf"{_ONE_WORD}++(?:[ \t]{{1,8}}+{_ONE_WORD}++)?",
        "RFC 9110, section 11.4",
        named=_AUTHORIZATION,
    ),
    Family(
        "bearer token",
        rf"\s{{1,8}}+(?!{_PROSE}[.,;:!?)]?(?:\s|$))",
        rf"{_ONE_WORD}{{6,}}+",
        "RFC 6750, section 2.1; RFC 7617",
        named="b(?:earer|asic)",
    ),
    Family(
        "cookies",
        rf"cookie{_IS}[\"']?",
        rf"{_PAIR}(?:;\s{{0,3}}+{_PAIR})*+",
        "RFC 6265, section 4",
    ),
    Family("named value in double quotes", rf"{_IS}\"", r"(?:[^\"\\]|\\.)++", _OPENAPI, named=_NAMES),
    Family("named value in quotes", rf"{_IS}'", r"(?:[^'\\]|\\.)++", _OPENAPI, named=_NAMES),
    Family(
        "named value",
        rf"[\"']?\s{{0,3}}[=:]\s{{0,3}}(?!b[\"']){_SENTENCE}",
        rf"{_VALUE}++",
        _OPENAPI,
        named=_NAMES,
    ),
    Family(
        "quoted name that is a word",
        r"[\"']\s{0,3}[=:,]\s{0,3}(?:b(?=\"))?\"",
        r"(?:[^\"\\]|\\.){4,}+",
        _OPENAPI,
        named=_WEAK_NAMES,
    ),
    Family(
        "quoted name that is a word, single quotes",
        r"[\"']\s{0,3}[=:,]\s{0,3}(?:b(?='))?'",
        r"(?:[^'\\]|\\.){4,}+",
        _OPENAPI,
        named=_WEAK_NAMES,
    ),
    Family("name that is a word", r"=(?!b[\"'])", rf"{_VALUE}{{4,}}+", _OPENAPI, named=_WEAK_NAMES),
    Family(
        "header of a token",
        rf"t(?<=[_-]t)oken:\s{{0,3}}{_SENTENCE}",
        rf"{_VALUE}{{4,}}+",
        "docs.gitlab.com, REST API authentication",
    ),
    Family(
        "parameter of a query",
        "[achkt](?<=[?&;][achkt])(?:ode|ey|icket|ssertion|ash)=",
        r"[^\s&\"',;}#]{8,}+",
        "RFC 6749, section 4.1.2",
    ),
)
"""Secrets that are recognised by the name before them. The patterns are matched with a text in lower case."""
