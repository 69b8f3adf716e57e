"""`pearl certificates freshness`: which issuers keep their promise (签发及时率), type by type.

Owns: arguments, and what is printed. Leaves to `gateway.certificates.freshness`: counting.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from gateway.app import utc_now
from gateway.certificates.freshness import KEPT, TARGET, Tally, counted
from gateway.certificates.types import TypesFile
from gateway.cli.columns import table
from gateway.cli.refusals import refusals_in_words
from gateway.cli.stored import config_option, in_store, json_option
from gateway.config import Config, parse, read_toml
from gateway.data import read_config
from gateway.domain.calendar import local_day

HEADINGS = ("type", "name", "region", "answers", "not found", "issued", "timely", "p50 s", "p99 s", "")


@click.group()
def certificates() -> None:
    """What issuers of certificates answer."""


@certificates.command("freshness")
@config_option
@click.option(
    "--days", type=click.IntRange(1, KEPT.days), default=30, show_default=True, help="Over how many days, today too."
)
@json_option
@refusals_in_words
def freshness(config: Path, days: int, as_json: bool) -> None:
    """Show answers, misses, certificates that came late, and times, by type and region."""
    settings = read_config(config)
    since = local_day(utc_now()) - timedelta(days=days - 1)
    known, names = in_store(settings, lambda tx: counted(tx, since)), _names(settings)
    rows = [_said(code, names.get(code, ""), region, tally) for (code, region), tally in known.items()]
    if as_json:
        said = {"since": since.isoformat(), "target": TARGET, "types": rows}
        click.echo(json.dumps(said, ensure_ascii=False, indent=2))
    elif rows:
        click.echo(table(HEADINGS, [_cells(row) for row in rows]))


def _said(code: str, name: str, region: str, tally: Tally) -> dict[str, Any]:
    timely = tally.timely_share
    return {
        "type": code,
        "name": name,
        "region": region,
        "answers": tally.answers,
        "unverifiable": tally.unverifiable,
        "not_found_share": tally.not_found_share,
        "issued": tally.timely + tally.late,
        "late": tally.late,
        "timely_share": timely,
        "keeps_target": None if timely is None else timely >= TARGET,
        "p50_seconds": tally.within(0.5),
        "p99_seconds": tally.within(0.99),
    }


def _cells(row: Mapping[str, Any]) -> list[str]:
    return [
        row["type"],
        row["name"],
        row["region"],
        str(row["answers"]),
        _percent(row["not_found_share"]),
        str(row["issued"]),
        _percent(row["timely_share"]),
        _number(row["p50_seconds"]),
        _number(row["p99_seconds"]),
        f"below {TARGET:.0%}" if row["keeps_target"] is False else "",
    ]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _names(config: Config) -> dict[str, str]:
    path = config.path(config.files.certificates)
    return {entry.code: entry.name for entry in parse(TypesFile, read_toml(path), path.name).type}
