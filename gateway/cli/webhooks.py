"""`pearl webhooks …`: where events are pushed to.

Owns: arguments, and what is printed; a secret is printed once. Leaves to `gateway.submissions.webhooks` what each does.
"""

from __future__ import annotations

import getpass
import json
from pathlib import Path

import click
from sqlalchemy import Connection

from gateway.app import utc_now
from gateway.cli.refusals import refusals_in_words
from gateway.cli.stored import config_option, in_store, json_option, reason_option
from gateway.data import read_config
from gateway.errors import NotFound
from gateway.identity.registry import names
from gateway.opening import own_keys
from gateway.submissions import webhooks as kept
from gateway.submissions.webhooks import Minted, Webhooks


@click.group()
def webhooks() -> None:
    """Where events of cases are pushed to."""


@webhooks.command("list")
@config_option
@json_option
@refusals_in_words
def list_(config: Path, as_json: bool) -> None:
    """List the webhooks, and how far each is."""
    rows = [
        {name: str(value) if value is not None else "" for name, value in row.items()}
        for row in in_store(read_config(config), kept.listed)
    ]
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    for row in rows:
        state = "disabled" if row["disabled_at"] else row["last_code"] or "new"
        click.echo(f"{row['id']}  {row['client_id']:<16} {state:<20} at {row['position']:<8} {row['url']}")


@webhooks.command("add")
@config_option
@click.argument("client")
@click.argument("url")
@reason_option
@refusals_in_words
def add(config: Path, client: str, url: str, reason: str) -> None:
    """Push a client's events to an address, from now on. Prints the secret, once."""
    desk, by, now = _desk(config), getpass.getuser(), utc_now()

    def unit(tx: Connection) -> Minted:
        if client.partition("/")[0] not in names(tx):  # a window's own cases are those of `client/window`
            raise NotFound(f"There is no client {client}. `pearl clients list` shows them.")
        return desk.add(tx, client, url, by=by, reason=reason, now=now)

    _show(in_store(read_config(config), unit))


@webhooks.command("rotate")
@config_option
@click.argument("webhook")
@reason_option
@refusals_in_words
def rotate(config: Path, webhook: str, reason: str) -> None:
    """Give a webhook a new secret; the old one signs too for a day. Prints the new one, once."""
    desk, by, now = _desk(config), getpass.getuser(), utc_now()
    _show(in_store(read_config(config), lambda tx: desk.rotate(tx, webhook, by=by, reason=reason, now=now)))


@webhooks.command("disable")
@config_option
@click.argument("webhook")
@reason_option
@refusals_in_words
def disable(config: Path, webhook: str, reason: str) -> None:
    """Push no more to an address."""
    _switch(config, webhook, reason, on=False)


@webhooks.command("enable")
@config_option
@click.argument("webhook")
@reason_option
@refusals_in_words
def enable(config: Path, webhook: str, reason: str) -> None:
    """Push to an address again, beginning with what it has not taken."""
    _switch(config, webhook, reason, on=True)


def _switch(config: Path, webhook: str, reason: str, *, on: bool) -> None:
    desk, by, now = _desk(config), getpass.getuser(), utc_now()
    in_store(read_config(config), lambda tx: desk.switch(tx, webhook, on=on, by=by, reason=reason, now=now))
    click.echo(f"{webhook} is {'enabled' if on else 'disabled'}.")


def _show(minted: Minted) -> None:
    click.echo(f"{minted.webhook_id}\nSecret (shown this once; give it to the agency): {minted.text}")


def _desk(config: Path) -> Webhooks:
    return Webhooks(own_keys(read_config(config))[0])
