"""`pearl disputes list`, `pearl disputes retry`: errors in certificates that were reported, and wait for their issuers.

Owns: arguments, and what is printed. Leaves to `gateway.certificates.dispute_worker`: telling issuers.
"""

from __future__ import annotations

import getpass
import json
from pathlib import Path

import click
from sqlalchemy import Connection

from gateway.app import utc_now
from gateway.certificates.dispute_rows import again, unfinished
from gateway.cli.columns import table
from gateway.cli.refusals import refusals_in_words
from gateway.cli.stored import config_option, in_store, json_option, reason_option
from gateway.data import read_config
from gateway.errors import NotFound
from gateway.evidence import Exchange, record


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


def _retry(tx: Connection, ticket: str, reason: str) -> None:
    now = utc_now()
    if not again(tx, ticket, now):
        text = "There is no such report that waits; `pearl disputes list` lists them."
        raise NotFound(text, code="certificate.dispute_not_found")
    exchange = Exchange(
        action="dispute.retry", outcome="done", reason="ordered", who={"operator": getpass.getuser()},
        what={"ticket": ticket}, purpose=reason, received_at=now,
    )  # fmt: skip
    record(tx, exchange, now=now)
