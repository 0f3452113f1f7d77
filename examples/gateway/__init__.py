"""A whole API provider in one example: an OpenAI-compatible gateway, guarded by flexmw, with a model of its own.

Start it with `python -m examples.gateway`; README.md in this folder says what is in it.
"""

from __future__ import annotations
