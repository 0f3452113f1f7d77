"""Every framework on every server, under the components: ``tox run -e hosts``."""
