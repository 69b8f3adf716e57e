"""`pearl errands list`, `pearl errands retry`: what is to be done about cases that have ended, and did not succeed.

Owns: arguments, and what is printed. Leaves to `gateway.submissions.errands`: running them.
"""

from __future__ import annotations

import asyncio
import getpass
import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click
from sqlalchemy import Connection

from gateway.app import utc_now
from gateway.cli.columns import table
from gateway.cli.refusals import refusals_in_words
from gateway.data import read_config
from gateway.errors import NotFound
from gateway.evidence import Exchange, record
from gateway.opening import opened_store
from gateway.submissions.errands import KINDS, again, unfinished
from gateway.waiting import new_event_loop

T = TypeVar("T")
_config = click.option(
    "--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), default="pearl.toml", show_default=True,
    help="The configuration file.",
)  # fmt: skip


@click.group()
def errands() -> None:
    """What is fetched and handed over after the end of a case."""


@errands.command("list")
@_config
@click.option("--limit", default=100, show_default=True, help="How many, the oldest first.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@refusals_in_words
def list_(config: Path, limit: int, as_json: bool) -> None:
    """List the errands that are under way or dead."""
    rows = _run(config, lambda tx: unfinished(tx, limit))
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
    elif rows:
        click.echo(table(list(rows[0]), [list(row.values()) for row in rows]))


@errands.command("retry")
@_config
@click.argument("case")
@click.argument("kind", type=click.Choice(KINDS))
@click.option("--reason", required=True, help="Why; it becomes evidence.")
@refusals_in_words
def retry(config: Path, case: str, kind: str, reason: str) -> None:
    """Try a dead errand again."""
    _run(config, lambda tx: _retry(tx, case, kind, reason))
    click.echo(f"{kind} of {case} is tried again.")


def _retry(tx: Connection, case: str, kind: str, reason: str) -> None:
    now = utc_now()
    if not again(tx, case, kind, now):
        raise NotFound("There is no such dead errand; `pearl errands list` lists them.", code="errand.not_found")
    exchange = Exchange(
        action="errand.retry", outcome="done", reason="ordered", who={"operator": getpass.getuser()},
        what={"case": case, "kind": kind}, purpose=reason, received_at=now,
    )  # fmt: skip
    record(tx, exchange, now=now)


def _run(config: Path, unit: Callable[[Connection], T]) -> T:
    async def once() -> T:
        async with opened_store(read_config(config)) as store:
            return await store.write(unit)

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(once())
