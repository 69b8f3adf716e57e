"""`pearl clocks list`: which cases are due soon or overdue.

Owns: arguments, and what is printed. Leaves to `gateway.submissions.timekeeping`: telling of clocks, while it runs.
"""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path
from typing import Any

import click

from gateway.cli.columns import table
from gateway.cli.refusals import refusals_in_words
from gateway.data import read_config
from gateway.opening import opened_store
from gateway.submissions.timekeeping import due
from gateway.waiting import new_event_loop


@click.group()
def clocks() -> None:
    """The time limits of cases."""


@clocks.command("list")
@click.option(
    "--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), default="pearl.toml", show_default=True,
    help="The configuration file.",
)  # fmt: skip
@click.option("--region", help="Of this region only.")
@click.option("--limit", default=100, show_default=True, help="How many, the longest overdue first.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@refusals_in_words
def list_(config: Path, region: str | None, limit: int, as_json: bool) -> None:
    """List the clocks of open cases that are overdue or due soon."""
    rows = _read(config, region, limit)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif rows:
        click.echo(table(list(rows[0]), [list(row.values()) for row in rows]))


def _read(config: Path, region: str | None, limit: int) -> list[dict[str, Any]]:
    async def once() -> list[dict[str, Any]]:
        async with opened_store(read_config(config)) as store:
            return await store.read(partial(due, region=region, limit=limit))

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(once())
