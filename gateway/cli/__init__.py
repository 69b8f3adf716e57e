"""`pearl …`: the command line. One module a subject; every refusal says what to do."""

from gateway.cli.main import main

__all__ = ["main"]
