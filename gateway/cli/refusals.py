"""Refusals at a terminal: the reasons in words, without a traceback, and the exit code.

Owns: exit code 1 for what was refused with reasons, 2 for arguments that name nothing. Leaves the rest to the commands.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import click

from gateway.errors import GatewayError, InvalidRequest
from gateway.sandbox.neighbourhood import NotReadyError

P = ParamSpec("P")


def refusals_in_words(command: Callable[P, None]) -> Callable[P, None]:
    """Print why something was refused, without a traceback, and exit with 1."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except (GatewayError, NotReadyError) as refused:
            click.echo(str(refused), err=True)
            sys.exit(1)

    return wrapped


def wrong_names_in_words(command: Callable[P, None]) -> Callable[P, None]:
    """Exit with 2 when an argument names something that is not there; other refusals as above."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except InvalidRequest as wrong:
            raise click.UsageError(wrong.public) from None

    return refusals_in_words(wrapped)
