"""Retry an OpenAI SDK's calls only where no work can be done twice: `python -m examples.safe_openai_client`."""

from __future__ import annotations

from typing import Any

import openai

import flexmw
from flexmw.testing import HostileServer

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hello."}]}


def call(sdk: openai.OpenAI) -> str:
    try:
        return f"answered: {sdk.chat.completions.create(**CHAT).id}"
    except openai.APIConnectionError as error:
        outcome = flexmw.outcome_of(error)
        return f"lost: {outcome.outcome if outcome else 'nothing is known of the work'}"


def main() -> None:
    for faults in (["429:seconds=1", "200"], ["rst"] * 3):  # a refusal; then a response that is lost each time
        for name, wrap in (("as it is", lambda client: client), ("wrapped", flexmw.wrap_client)):
            with HostileServer(faults) as server:
                http_client = wrap(openai.DefaultHttpxClient())
                with openai.OpenAI(api_key="sk-none", base_url=f"{server.url}/v1", http_client=http_client) as sdk:
                    print(f"{faults[0]:14} {name:8} {call(sdk):38} executions: {server.executions}")


if __name__ == "__main__":
    main()
