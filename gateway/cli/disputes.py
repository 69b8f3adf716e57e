"""`pearl disputes list`, `… retry`, `… close`: errors in certificates that were reported, and wait for their issuers.

Owns: arguments, and what is printed. Leaves to `gateway.certificates.dispute_worker`: telling issuers.
"""

from __future__ import annotations

from pathlib import Path

import click
from sqlalchemy import Connection

from gateway.app import utc_now
from gateway.certificates.dispute_rows import again, close, unfinished
from gateway.certificates.dispute_worker import LONGEST_REPLY
from gateway.cli.refusals import refusals_in_words
from gateway.cli.stored import config_option, in_store, json_option, order, reason_option, show
from gateway.data import read_config
from gateway.errors import NotFound
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
    show(rows, as_json=as_json)


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
        order(tx, "dispute.close", {"ticket": ticket}, reason, now)

    in_store(settings, unit)
    click.echo(f"{ticket} is given up.")


def _retry(tx: Connection, ticket: str, reason: str) -> None:
    now = utc_now()
    if not again(tx, ticket, now):
        raise _not_waiting()
    order(tx, "dispute.retry", {"ticket": ticket}, reason, now)


def _not_waiting() -> NotFound:
    text = "There is no such report that waits, or it is being told just now; `pearl disputes list` lists them."
    return NotFound(text, code="certificate.dispute_not_found")
