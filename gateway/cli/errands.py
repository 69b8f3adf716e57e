"""`pearl errands list`, `pearl errands retry`: what is to be done about cases that have ended, and did not succeed.

Owns: arguments, and what is printed. Leaves to `gateway.submissions.errands`: running them.
"""

from __future__ import annotations

from pathlib import Path

import click
from sqlalchemy import Connection

from gateway.app import utc_now
from gateway.cli.refusals import refusals_in_words
from gateway.cli.stored import config_option, in_store, json_option, order, reason_option, show
from gateway.data import read_config
from gateway.errors import NotFound
from gateway.submissions.errands import KINDS, again, unfinished


@click.group()
def errands() -> None:
    """What is fetched and handed over after the end of a case."""


@errands.command("list")
@config_option
@click.option("--limit", default=100, show_default=True, help="How many, the oldest first.")
@json_option
@refusals_in_words
def list_(config: Path, limit: int, as_json: bool) -> None:
    """List the errands that are under way or dead."""
    rows = in_store(read_config(config), lambda tx: unfinished(tx, limit))
    show(rows, as_json=as_json)


@errands.command("retry")
@config_option
@click.argument("case")
@click.argument("kind", type=click.Choice(KINDS))
@reason_option
@refusals_in_words
def retry(config: Path, case: str, kind: str, reason: str) -> None:
    """Try a dead errand again."""
    in_store(read_config(config), lambda tx: _retry(tx, case, kind, reason))
    click.echo(f"{kind} of {case} is tried again.")


def _retry(tx: Connection, case: str, kind: str, reason: str) -> None:
    now = utc_now()
    if not again(tx, case, kind, now):
        raise NotFound("There is no such dead errand; `pearl errands list` lists them.", code="errand.not_found")
    order(tx, "errand.retry", {"case": case, "kind": kind}, reason, now)
