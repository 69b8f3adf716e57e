"""`pearl disputes list`, `… retry`, `… close`: errors in certificates that were reported, and wait for their issuers.

Owns: arguments, and what is printed. Leaves to `gateway.certificates.dispute_worker`: telling issuers.
"""

from __future__ import annotations

import getpass
import json
from datetime import datetime
from pathlib import Path

import click
from sqlalchemy import Connection

from gateway.app import utc_now
from gateway.certificates.dispute_rows import again, close, unfinished
from gateway.certificates.dispute_worker import LONGEST_REPLY
from gateway.cli.columns import table
from gateway.cli.refusals import refusals_in_words
from gateway.cli.stored import config_option, in_store, json_option, reason_option
from gateway.data import read_config
from gateway.errors import NotFound
from gateway.evidence import Exchange, record
from gateway.opening import own_keys


@click.group()
def disputes() -> None:
    """Errors in certificates, reported to whoever issued them."""


@disputes.command("list")
@config_option
@click.option("--limit", default=100, show_default=True, help="How many: those that fail first, then the oldest.")
@json_option
@refusals_in_words
def list_(config: Path, limit: int, as_json: bool) -> None:
    """List the reports that are not told yet, or not answered."""
    rows = in_store(read_config(config), lambda tx: unfinished(tx, limit))
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
    elif rows:
        click.echo(table(list(rows[0]), [list(row.values()) for row in rows]))


@disputes.command("retry")
@config_option
@click.argument("ticket")
@reason_option
@refusals_in_words
def retry(config: Path, ticket: str, reason: str) -> None:
    """Tell the issuer, or ask it for its reply, at once."""
    in_store(read_config(config), lambda tx: _retry(tx, ticket, reason))
    click.echo(f"{ticket} is next.")


@disputes.command("close")
@config_option
@click.argument("ticket")
@click.option("--reason", required=True, help="Why; its reporter reads it, and it becomes evidence.")
@refusals_in_words
def close_(config: Path, ticket: str, reason: str) -> None:
    """Give a report up: the issuer is not told, or not asked, any more."""
    settings = read_config(config)
    sealer = own_keys(settings)[0]

    def unit(tx: Connection) -> None:
        now = utc_now()
        if not close(tx, sealer, ticket, reason[:LONGEST_REPLY], now):
            raise _not_waiting()
        record(tx, _ordered("dispute.close", ticket, reason, now), now=now)

    in_store(settings, unit)
    click.echo(f"{ticket} is given up.")


def _retry(tx: Connection, ticket: str, reason: str) -> None:
    now = utc_now()
    if not again(tx, ticket, now):
        raise _not_waiting()
    record(tx, _ordered("dispute.retry", ticket, reason, now), now=now)


def _not_waiting() -> NotFound:
    text = "There is no such report that waits, or it is being told just now; `pearl disputes list` lists them."
    return NotFound(text, code="certificate.dispute_not_found")


def _ordered(action: str, ticket: str, reason: str, now: datetime) -> Exchange:
    return Exchange(
        action=action, outcome="done", reason="ordered", who={"operator": getpass.getuser()},
        what={"ticket": ticket}, purpose=reason, received_at=now,
    )  # fmt: skip
