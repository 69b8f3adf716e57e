"""`pearl mappings list|reload|rollback`: what the running gateway uses; take the files as they are now; go back.

Owns: the commands and how their answers read. Leaves to `gateway.web.ops.mappings`: the answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from gateway.cli.asking import asked
from gateway.cli.refusals import refusals_in_words
from gateway.cli.stored import config_option

_SHORT = 12


@click.command("list")
@config_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@refusals_in_words
def list_(config: Path, as_json: bool) -> None:
    """List which version of the mappings each region is spoken to with, and which one came before."""
    told = asked(config, "GET", "/ops/mappings")
    click.echo(json.dumps(told["regions"], ensure_ascii=False, indent=2) if as_json else _listed(told))


@click.command("reload")
@config_option
@refusals_in_words
def reload_(config: Path) -> None:
    """Have the running gateway take the mapping files as they are now; when anything is wrong, nothing changes."""
    click.echo(_changes(asked(config, "POST", "/ops/mappings/reload")))


@click.command("rollback")
@config_option
@refusals_in_words
def rollback(config: Path) -> None:
    """Have the running gateway go back to the mappings before the last change. The files stay as they are."""
    click.echo(_changes(asked(config, "POST", "/ops/mappings/rollback")))


LIVE_COMMANDS: tuple[click.Command, ...] = (list_, reload_, rollback)
"""Commands of the group `pearl mappings` that ask a running gateway."""


# --- telling -----------------------------------------------------------------------------------------------------


def _listed(told: Mapping[str, Any]) -> str:
    return "\n".join(_line(region) for region in told["regions"])


def _line(region: Mapping[str, Any]) -> str:
    packs = ", ".join(region["packs"])
    before = region["previous"]["version"][:_SHORT] if region["previous"] else "–"
    version, since = region["version"][:_SHORT], region["since"][:19]
    return f"{region['region']:<12} {version}  since {since}Z  before: {before:<{_SHORT}}  {packs}"


def _changes(told: Mapping[str, Any]) -> str:
    lines = [
        f"{one['region']}/{one['message']}: {_version(one['before'])} → {_version(one['after'])}"
        for one in told["changes"]
    ]
    return "\n".join(lines) or "Nothing has changed."


def _version(version: str | None) -> str:
    return version[:_SHORT] if version else "none"
