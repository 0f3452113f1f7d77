"""The shapes of secrets that a defensive review put into messages and exception texts, by family.

``{w20}`` in a shape stands for a secret of 20 letters and digits, ``{h32}`` for one of hexadecimal digits, ``{c16}``
for one of capitals and digits, ``{d10}`` for digits; each is drawn anew by :func:`drawn_from`.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from random import Random
from typing import Final

__all__ = ["REVIEWED", "drawn_from"]

# fmt: off
REVIEWED: Final[Mapping[str, tuple[str, ...]]] = {
    "model providers": (
        "sk-{w48}", "sk-proj-{w40}", "sk-ant-api03-{w80}", "sk-or-v1-{h64}", "gsk_{w52}", "xai-{w80}", "hf_{w34}",
        "r8_{w37}", "pplx-{w48}", "AIza{w35}",
    ),
    "clouds": (
        "AKIA{c16}", "ASIA{c16}", "aws_secret_access_key={w40}", "ya29.a0{w60}", "GOCSPX-{w28}", "1//0{w60}",
        "DefaultEndpointsProtocol=https;AccountName=a;AccountKey={w60}==", "SharedAccessKey={w40}=", "dop_v1_{h64}",
        "https://b.example/o?X-Amz-Signature={h64}", "https://a.example/c?sv=2024&sig={w40}%3D",
    ),
    "payments": ("sk_live_{w24}", "rk_live_{w24}", "pk_live_{w24}", "whsec_{w32}", "shpat_{h32}", "{visa}"),
    "developer platforms": (
        "ghp_{w36}", "gho_{w36}", "github_pat_{w60}", "glpat-{w20}", "glrt-{w20}", "npm_{w36}", "pypi-AgEI{w60}",
        "hvs.{w90}", "dapi{h32}", "lin_api_{w40}",
    ),
    "mail and chat": (
        "SG.{w22}.{w43}", "SK{h32}", "key-{h32}", "xoxb-{d12}-{w24}", "xapp-1-{w40}",
        "https://hooks.slack.com/services/T{c8}/B{c8}/{w24}", "https://api.telegram.org/bot{d10}:AA{w33}/send",
    ),
    "URLs": (
        "redis://app:{w16}@cache:6379/0", "postgresql://app:{w16}@db/shop", "amqp://u:{w16}@mq", "https://{w20}@h.example",
        "mysql://root:{w8}/{w8}@db",
    ),
    "Authorization": (
        "Authorization: Bearer {w40}", "Authorization: Basic {w24}==", "Authorization: Token {w40}",
        "Authorization: ApiKey {w40}", "Authorization: {w40}", "Proxy-Authorization: Basic {w24}",
        'Authorization: Digest username="a", nonce="{h16}", response="{h32}"',
        "Authorization: AWS4-HMAC-SHA256 Credential=AKIA{c16}/x, Signature={h64}", "bearer {w40}",
    ),
    "other headers": (
        "x-api-key: {w32}", "api-key: {w32}", "PRIVATE-TOKEN: {w20}", "X-Vault-Token: {w26}", "X-Auth-Token: {w26}",
        "Cookie: sid={w32}; theme=dark", "Set-Cookie: session={w32}; Path=/; HttpOnly",
    ),
    "named values": (
        "password={w12}", '"password": "{w12}"', "'passwd': '{w12}'", "pwd={w12}", "Pwd={w12};", "DB_PASS={w12}",
        "token={w20}", "csrf_token={w32}", "access_token={w32}", "refresh_token={w32}", "client_secret={w32}",
        "?code={w20}&state=1",
    ),
    "documents": (
        "eyJhbGciOiJIUzI1NiJ9.eyJ{w30}.{w43}", "-----BEGIN PRIVATE KEY-----\n{w64}\n{w64}\n-----END PRIVATE KEY-----",
        "-----BEGIN RSA PRIVATE KEY-----\n{w64}\n-----END RSA PRIVATE KEY-----", "age AGE-SECRET-KEY-1{c58}",
    ),
}
# fmt: on
"""Shapes by family. ``python -m benchmarks.hostile shown`` prints how many of them pass."""

_PLACE: Final = re.compile(r"\{(\w)(\d+)\}")
_LETTERS: Final = {
    "w": string.ascii_letters + string.digits,
    "h": "0123456789abcdef",
    "c": string.ascii_uppercase + string.digits,
    "d": string.digits,
}
_CARD: Final = "{visa}"
_CARD_NUMBER: Final = "4111 1111 1111 1111"


def drawn_from(shape: str, random: Random) -> tuple[str, list[str]]:
    """The shape with secrets in it, and the secrets. A secret has a digit, and a capital where it may."""
    secrets: list[str] = []

    def draw(match: re.Match[str]) -> str:
        letters, length = _LETTERS[match[1]], int(match[2])
        head = {"w": "Q7", "c": "Q7"}.get(match[1], "7")
        secret = head + "".join(random.choices(letters, k=length - len(head)))
        if length >= 12 or match[1] == "w":
            secrets.append(secret)
        return secret

    text = _PLACE.sub(draw, shape)
    if _CARD in text:
        secrets.append(_CARD_NUMBER)
    return text.replace(_CARD, _CARD_NUMBER), secrets
