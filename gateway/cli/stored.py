"""What commands on the gateway's own store have in common: their options, one transaction, rows, an order's evidence.

Owns: opening the store of a configuration for the length of one unit. Leaves to the commands: what the unit does.
"""

from __future__ import annotations

import asyncio
import getpass
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import click
from sqlalchemy import Connection

from gateway.cli.columns import table
from gateway.config import Config
from gateway.evidence import Exchange, record
from gateway.opening import opened_store
from gateway.waiting import new_event_loop

T = TypeVar("T")

config_option = click.option(
    "--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), default="pearl.toml", show_default=True,
    help="The configuration file.",
)  # fmt: skip
reason_option = click.option("--reason", required=True, help="Why; it becomes evidence.")
json_option = click.option("--json", "as_json", is_flag=True, help="For programs.")


def show(rows: Sequence[Mapping[str, str]], *, as_json: bool) -> None:
    """Print rows that have the same names, for programs or as a table; nothing where there is none."""
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
    elif rows:
        click.echo(table(list(rows[0]), [list(row.values()) for row in rows]))


def order(tx: Connection, action: str, what: Mapping[str, str], reason: str, now: datetime) -> None:
    """Write down what an operator has ordered. Part of the transaction that does it."""
    exchange = Exchange(
        action=action, outcome="done", reason="ordered", who={"operator": getpass.getuser()},
        what=what, purpose=reason, received_at=now,
    )  # fmt: skip
    record(tx, exchange, now=now)


def in_store(config: Config, unit: Callable[[Connection], T]) -> T:
    """Run one transaction in the store of this configuration."""

    async def once() -> T:
        async with opened_store(config) as store:
            return await store.write(unit)

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(once())
