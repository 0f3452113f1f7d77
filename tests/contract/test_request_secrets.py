"""The credentials of a request, in every form in which a text may repeat them."""

from __future__ import annotations

from base64 import b64encode

import pytest

from flexmw.contract.request_secrets import remove_secrets, secrets_in


def basic(password: str) -> str:
    return "Basic " + b64encode(f"alice:{password}".encode()).decode()


def removed(text: str, authorization: str) -> str:
    return remove_secrets(text, secrets_in([("authorization", authorization)]))


def test_user_and_password_of_basic_are_removed_as_decoded_and_as_sent() -> None:
    header = basic("pa ss/word")
    for form in ("alice:pa ss/word", "pa ss/word", "pa%20ss%2Fword", "pa+ss%2Fword", header, header.split()[1]):
        assert removed(f"refused: {form}.", header) == "refused: ***."


def test_a_password_of_one_or_two_letters_is_no_word_to_remove() -> None:
    assert removed("a bad day", basic("a")) == "a bad day"


@pytest.mark.parametrize("credentials", ["not-base64!", "====", "Zm9"])
def test_basic_credentials_that_cannot_be_decoded_are_removed_as_sent(credentials: str) -> None:
    header = f"Basic {credentials}"
    assert removed(f"refused: {header}", header) == "refused: ***"
