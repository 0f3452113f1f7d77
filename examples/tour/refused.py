"""Two backends: who does a call that the first one refuses or loses, and what its caller is billed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import openai

from examples.gateway.catalogue import PRICES
from examples.gateway.serve import Backend, backend, gateway
from examples.tour.scenes import CHAT, MODEL

__all__ = ["ORDERS", "Refusal", "ask_two"]

ORDERS = {
    "503": ("is loading", (0, 1)),
    "429": ("is busy", (0, 1)),
    "lost": ("loses its response", (1, 0)),
}
"""The faults of the first backend, what they mean, and how often either backend is to execute the call."""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """What came of one call.

    :param executions: of the first backend and of the second one.
    :param billed: millionths of a dollar that the caller has paid.
    :param owed: what the tokens of the response cost.
    """

    first: str
    executions: tuple[int, int]
    billed: int
    owed: int
    ended: str


def ask_two(first: Backend) -> Iterator[Refusal]:
    """The same call of a new caller for each fault, over a gateway whose circuits know nothing of the last one."""
    with backend() as second:
        for fault, (meaning, _) in ORDERS.items():
            first.forget()
            second.forget()
            with gateway(first.url, second.url) as running:
                key, account = running.admin.create_key()
                ended, owed = _call(running.url, key, fault)
                billed = running.admin.account(account)["spent"]
            executions = sum(first.work().values()), sum(second.work().values())
            yield Refusal(first=meaning, executions=executions, billed=billed, owed=owed, ended=ended)


def _call(url: str, key: str, fault: str) -> tuple[str, int]:
    with openai.OpenAI(api_key=key, base_url=f"{url}/v1") as sdk:
        try:
            headers = {"x-backend-fault": fault}
            answer = sdk.chat.completions.create(model=MODEL, extra_headers=headers, **CHAT)
        except openai.APIStatusError as error:
            return f"given back: {error.status_code} {error.type}", 0
    usage, (read, written) = answer.usage, PRICES[MODEL]
    return "answered", read * usage.prompt_tokens + written * usage.completion_tokens if usage else 0
