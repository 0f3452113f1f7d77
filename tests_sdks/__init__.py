"""SDKs over a wrapped client, each by the line that the docs give: ``tox run -e sdks``."""
