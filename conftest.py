"""Every example in README, docs and docstrings is a test: ``pytest README.md docs flexmw``."""

from __future__ import annotations

from tests.shortcuts import (
    collect_no_garbage_while_importing,
    freeze_imported_objects,
    read_no_public_certificates,
)

collect_ignore = ["tests/bare"]  # these run in an environment of their own, see tox.ini

read_no_public_certificates()
collect_no_garbage_while_importing()


def pytest_collection_finish() -> None:
    freeze_imported_objects()


try:
    from sybil import Sybil
except ImportError:  # the plain test environments come without it and collect no examples
    pass
else:
    from doctest import ELLIPSIS

    from sybil.document import PythonDocStringDocument
    from sybil.parsers.doctest import DocTestParser
    from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

    _pages = Sybil(
        parsers=[PythonCodeBlockParser(doctest_optionflags=ELLIPSIS), SkipParser()],
        patterns=["README.md", "docs/*.md", "plugins/*/README.md"],
    )
    _docstrings = Sybil(
        parsers=[DocTestParser(optionflags=ELLIPSIS)],
        patterns=["flexmw/**/*.py", "flexmw/*.py"],
        document_types={".py": PythonDocStringDocument},
    )
    pytest_collect_file = (_pages + _docstrings).pytest()
