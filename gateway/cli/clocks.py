"""`pearl clocks list`: which cases are due soon or overdue.

Owns: arguments, and what is printed. Leaves to `gateway.submissions.timekeeping`: telling of clocks, while it runs.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import click

from gateway.cli.columns import table
from gateway.cli.refusals import refusals_in_words
from gateway.cli.stored import config_option, in_store, json_option
from gateway.data import read_config
from gateway.submissions.timekeeping import due


@click.group()
def clocks() -> None:
    """The time limits of cases."""


@clocks.command("list")
@config_option
@click.option("--region", help="Of this region only.")
@click.option("--limit", default=100, show_default=True, help="How many, the longest overdue first.")
@json_option
@refusals_in_words
def list_(config: Path, region: str | None, limit: int, as_json: bool) -> None:
    """List the clocks of open cases that are overdue or due soon."""
    rows = in_store(read_config(config), partial(due, region=region, limit=limit))
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif rows:
        click.echo(table(list(rows[0]), [list(row.values()) for row in rows]))
