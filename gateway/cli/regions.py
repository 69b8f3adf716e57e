"""`pearl regions list|close|open`: which regions there are, and the switch of each one's sign-on.

Owns: the commands and how their answers read. Leaves to `gateway.web.ops.regions` the switch itself: the running
gateway turns it, so that what is cut off is cut off when the command returns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from gateway.cli.asking import asked
from gateway.cli.refusals import refusals_in_words
from gateway.cli.stored import config_option, reason_option
from gateway.data import read_config
from gateway.regions import read_manifests


@click.group()
def regions() -> None:
    """The regions, and the switch of each one's sign-on."""


@regions.command("list")
@config_option
@click.option("--live", is_flag=True, help="Also ask the running gateway whether people can sign on there.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@refusals_in_words
def list_(config: Path, live: bool, as_json: bool) -> None:
    """List the enabled regions and what they offer."""
    states = {one["region"]: one["sign_on"] for one in asked(config, "GET", "/ops/regions")["regions"]} if live else {}
    rows = [
        {
            "id": manifest.id,
            "code": manifest.code,
            "name": manifest.names.en,
            "offers": [name for name, offered in manifest.capabilities.model_dump().items() if offered],
            **({"sign_on": states.get(manifest.id)} if live else {}),
        }
        for manifest in read_manifests(read_config(config)).values()
    ]
    click.echo(json.dumps(rows, ensure_ascii=False, indent=2) if as_json else "\n".join(map(_line, rows)))


@regions.command("close")
@config_option
@click.argument("region")
@reason_option
@click.option("--dry-run", is_flag=True, help="Only say what would be cut off.")
@refusals_in_words
def close(config: Path, region: str, reason: str, dry_run: bool) -> None:
    """Close a region's sign-on: nobody signs on through it, and its live sessions end. Deliveries go on."""
    if dry_run:
        click.echo(_cut("would cut off", asked(config, "GET", f"/ops/regions/{region}/preview")["would_cut_off"]))
        return
    told = asked(config, "POST", f"/ops/regions/{region}/close", {"reason": reason})
    click.echo(f"{region} is closed.\n" + _cut("cut off", told["cut_off"]))


@regions.command("open")
@config_option
@click.argument("region")
@reason_option
@refusals_in_words
def open_(config: Path, region: str, reason: str) -> None:
    """Open a region's sign-on again. What was cut off stays so."""
    asked(config, "POST", f"/ops/regions/{region}/open", {"reason": reason})
    click.echo(f"{region} is open.")


def _line(row: Mapping[str, Any]) -> str:
    state = f"  sign-on: {row['sign_on'] or '–'}" if "sign_on" in row else ""
    return f"{row['id']:<12} {row['code']}  {row['name']:<12} {', '.join(row['offers'])}{state}"


def _cut(words: str, cut: Mapping[str, Any]) -> str:
    by_client = [f"  {client}: {count}" for client, count in cut["by_client"].items()]
    first = f"{words}: {cut['sessions']} sessions, {cut['interactions']} sign-ons under way"
    return "\n".join([first, *by_client])
