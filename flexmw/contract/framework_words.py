"""The standing words of frameworks: texts that a framework sends by itself, and what each of them states. Pure.

Such a text is not the app's own: it repeats the status, or it says that a body is not JSON or that a parameter is
wrong. The same failure has one code and one message on every framework, so the words of the contract replace it.

>>> in_contract_words(PartialError("Could not parse an empty JSON body"), 400).code
'invalid_json'
>>> in_contract_words(PartialError('The "n" parameter is required.'), 400)
PartialError(message='n: Field required', type=None, code='validation_error', param='n', doc_url=None)
>>> in_contract_words(PartialError("No such cat."), 404).message
'No such cat.'
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final, NamedTuple

from flexmw.contract.partial import PartialError
from flexmw.contract.table import OWN

__all__ = ["in_contract_words"]


class _Words(NamedTuple):
    """One text.

    :param status: the status that it is sent with.
    :param pattern: the whole text, without letter case. The group ``param`` is the name of a parameter, ``rule`` what
        is wrong with it.
    :param code: the code of the error; empty for the one of the status.
    :param never_for_forms: the text may also be about a form.
    """

    status: int
    pattern: str
    code: str = ""
    never_for_forms: bool = False


_JSON: Final = "invalid_json"
_INVALID: Final = "validation_error"

_TABLE: Final = (
    # BlackSheep
    _Words(400, r"Declared Content-Type is application/json but the content cannot be parsed as JSON\.", _JSON),
    # Django REST framework
    _Words(400, r"JSON parse error - .*", _JSON),
    # Falcon
    _Words(400, r"Could not parse (?:an empty JSON body|JSON body - .*)", _JSON),
    _Words(400, r'The "(?P<param>[^"]{1,120})" (?:parameter|header) is required\.', _INVALID),
    _Words(400, r'The "(?P<param>[^"]{1,120})" parameter is invalid\. (?P<rule>.+)', _INVALID),
    _Words(400, r'The value provided for the "(?P<param>[^"]{1,120})" header is invalid\. (?P<rule>.+)', _INVALID),
    # FastAPI, for JSON that is not UTF-8 or nested too deep, and for a form that cannot be read
    _Words(400, r"There was an error parsing the body", _JSON, never_for_forms=True),
    # Litestar, with the words of msgspec
    _Words(400, r"Input data was truncated|JSON is malformed: .*", _JSON),
    # Quart, with flexmw.install
    _Words(400, r"Failed to decode JSON(?:: .*)?", _JSON),
    # Sanic
    _Words(400, r"Failed when parsing body as json", _JSON),
    _Words(404, r"Requested URL .* not found", "unknown_url"),
    _Words(405, r"Method \S* not allowed for URL .*"),
)

_PATTERNS: Final = tuple((words, re.compile(words.pattern, re.IGNORECASE)) for words in _TABLE)


def in_contract_words(partial: PartialError, status: int, *, is_form: bool = False) -> PartialError:
    """What an error body states, with the words of the contract in place of a framework's standing words.

    :param is_form: True if the body of the request is a form.
    """
    if not partial.message:
        return partial
    for words, pattern in _PATTERNS:
        if (
            words.status != status
            or (is_form and words.never_for_forms)
            or (match := pattern.fullmatch(partial.message)) is None
        ):
            continue
        if words.code in OWN:
            return replace(partial, message=OWN[words.code].message, code=words.code)
        if words.code:
            param = match["param"]
            rule = match.groupdict().get("rule") or "Field required"
            return replace(partial, message=f"{param}: {rule}", code=words.code, param=param)
        return replace(partial, message=None)
    return partial
