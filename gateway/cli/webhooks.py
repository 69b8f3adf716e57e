"""`pearl webhooks …`: where events are pushed to.

Owns: arguments, and what is printed; a secret is printed once. Leaves to `gateway.submissions.webhooks` what each does.
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
from gateway.cli.refusals import refusals_in_words
from gateway.data import read_config
from gateway.opening import opened_store, own_keys
from gateway.submissions import webhooks as kept
from gateway.submissions.webhooks import Minted, Webhooks
from gateway.waiting import new_event_loop

T = TypeVar("T")
_config = click.option(
    "--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), default="pearl.toml", show_default=True,
    help="The configuration file.",
)  # fmt: skip
_reason = click.option("--reason", required=True, help="Why; it becomes evidence.")


@click.group()
def webhooks() -> None:
    """Where events of cases are pushed to."""


@webhooks.command("list")
@_config
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@refusals_in_words
def list_(config: Path, as_json: bool) -> None:
    """List the webhooks, and how far each is."""
    rows = [
        {name: str(value) if value is not None else "" for name, value in row.items()}
        for row in _run(config, kept.listed)
    ]
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    for row in rows:
        state = "disabled" if row["disabled_at"] else row["last_code"] or "new"
        click.echo(f"{row['id']}  {row['client_id']:<16} {state:<20} at {row['position']:<8} {row['url']}")


@webhooks.command("add")
@_config
@click.argument("client")
@click.argument("url")
@_reason
@refusals_in_words
def add(config: Path, client: str, url: str, reason: str) -> None:
    """Push a client's events to an address, from now on. Prints the secret, once."""
    desk, by, now = _desk(config), getpass.getuser(), utc_now()
    _show(_run(config, lambda tx: desk.add(tx, client, url, by=by, reason=reason, now=now)))


@webhooks.command("rotate")
@_config
@click.argument("webhook")
@_reason
@refusals_in_words
def rotate(config: Path, webhook: str, reason: str) -> None:
    """Give a webhook a new secret; the old one signs too for a day. Prints the new one, once."""
    desk, by, now = _desk(config), getpass.getuser(), utc_now()
    _show(_run(config, lambda tx: desk.rotate(tx, webhook, by=by, reason=reason, now=now)))


@webhooks.command("disable")
@_config
@click.argument("webhook")
@_reason
@refusals_in_words
def disable(config: Path, webhook: str, reason: str) -> None:
    """Push no more to an address."""
    _switch(config, webhook, reason, on=False)


@webhooks.command("enable")
@_config
@click.argument("webhook")
@_reason
@refusals_in_words
def enable(config: Path, webhook: str, reason: str) -> None:
    """Push to an address again, beginning with what it has not taken."""
    _switch(config, webhook, reason, on=True)


def _switch(config: Path, webhook: str, reason: str, *, on: bool) -> None:
    desk, by, now = _desk(config), getpass.getuser(), utc_now()
    _run(config, lambda tx: desk.switch(tx, webhook, on=on, by=by, reason=reason, now=now))
    click.echo(f"{webhook} is {'enabled' if on else 'disabled'}.")


def _show(minted: Minted) -> None:
    click.echo(f"{minted.webhook_id}\nSecret (shown this once; give it to the agency): {minted.text}")


def _desk(config: Path) -> Webhooks:
    return Webhooks(own_keys(read_config(config))[0])


def _run(config: Path, unit: Callable[[Connection], T]) -> T:
    async def once() -> T:
        async with opened_store(read_config(config)) as store:
            return await store.write(unit)

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(once())
