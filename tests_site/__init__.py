"""Look at the built documentation as a reader does: ``tox run -e site``."""
