"""What commands on the gateway's own store have in common: their options, and one transaction.

Owns: opening the store of a configuration for the length of one unit. Leaves to the commands: what the unit does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click
from sqlalchemy import Connection

from gateway.config import Config
from gateway.opening import opened_store
from gateway.waiting import new_event_loop

T = TypeVar("T")

config_option = click.option(
    "--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), default="pearl.toml", show_default=True,
    help="The configuration file.",
)  # fmt: skip
reason_option = click.option("--reason", required=True, help="Why; it becomes evidence.")
json_option = click.option("--json", "as_json", is_flag=True, help="For programs.")


def in_store(config: Config, unit: Callable[[Connection], T]) -> T:
    """Run one transaction in the store of this configuration."""

    async def once() -> T:
        async with opened_store(config) as store:
            return await store.write(unit)

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(once())
