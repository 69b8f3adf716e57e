"""`pearl recognition …`: whose sign-on counts, and why a given one does or does not.

Owns: arguments and what is printed. Leaves the decision to `gateway.policy.recognition`: what is explained here is what
the gateway would decide.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from gateway.app import utc_now
from gateway.cli.columns import table
from gateway.cli.refusals import refusals_in_words
from gateway.config import Config
from gateway.data import load_data, read_config
from gateway.domain.calendar import local_day
from gateway.domain.identity import Assurance
from gateway.errors import FieldProblem, StartRefused
from gateway.opening import registered_clients
from gateway.policy.recognition import Ask, Line, PersonKind, Recognition, uncovered
from gateway.regions import read_manifests

config_option = click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default="pearl.toml",
    show_default=True,
    help="The configuration file.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="For programs.")


@click.group()
def recognition() -> None:
    """Whose sign-on counts, at which level, for what."""


@recognition.command()
@config_option
@refusals_in_words
def check(config: Path) -> None:
    """Check recognition.toml against regions and clients, and name regions whose sign-on counts nowhere."""
    settings = read_config(config)
    matrix = _matrix(settings)
    lines = f"{len(matrix.lines)} line{'' if len(matrix.lines) == 1 else 's'}"
    click.echo(f"{lines}, version {matrix.version}: nothing is wrong.")
    offering = [manifest.id for manifest in read_manifests(settings).values() if manifest.capabilities.sign_on]
    for region in uncovered(matrix, offering):
        click.echo(f"Sign-on of {region} counts nowhere: no line names it.")


@recognition.command("list")
@config_option
@json_option
@refusals_in_words
def list_(config: Path, as_json: bool) -> None:
    """List the lines."""
    matrix = _matrix(read_config(config))
    rows = [{"line": number, **_said(line)} for number, line in matrix.lines.items()]
    if as_json:
        click.echo(json.dumps({"version": matrix.version, "lines": rows}, ensure_ascii=False, indent=2))
        return
    click.echo(table(list(_HEADINGS), [[_cell(row[name]) for name in _HEADINGS] for row in rows]))
    click.echo(f"version {matrix.version}")


_HEADINGS = ("line", "regions", "services", "purposes", "least", "kinds", "from", "until")


def _said(line: Line) -> dict[str, Any]:
    lists = {name: sorted(getattr(line, name)) for name in ("regions", "services", "purposes", "kinds")}
    return {**lists, "least": line.least.name, "from": _day(line.first_day), "until": _day(line.last_day)}


def _day(day: Any) -> str | None:
    return None if day is None else str(day)


def _cell(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else "" if value is None else str(value)


@recognition.command()
@config_option
@click.option("--region", required=True, help="Where the person signs on.")
@click.option(
    "--level", required=True, type=click.Choice([level.name for level in Assurance]), help="The level reached."
)
@click.option("--service", required=True, help="The client's service (its id, unless its registration says otherwise).")
@click.option("--purpose", help="What for; left out: a sign-on that names none.")
@click.option("--kind", default="person", show_default=True, type=click.Choice([kind.value for kind in PersonKind]))
@click.option("--on", type=click.DateTime(["%Y-%m-%d"]), help="The day; today unless given.")
@json_option
@refusals_in_words
def explain(
    config: Path, region: str, level: str, service: str, purpose: str | None, kind: str, on: datetime | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Say whether a sign-on counts, by which line, and if not, what would satisfy it. Ends with 1 when it does not."""
    settings = read_config(config)
    if region not in settings.regions:
        known = ", ".join(sorted(settings.regions))
        raise StartRefused("No decision.", problems=[FieldProblem("--region", f"{region} is not enabled; {known} are")])
    day = on.date() if on else local_day(utc_now())
    matrix = _matrix(settings)
    decision = matrix.decide(Ask(region, Assurance[level], service, purpose, PersonKind(kind), day))
    said = {
        "allowed": decision.allowed,
        "line": decision.line,
        "missing": decision.missing,
        "step_up": decision.step_up.name if decision.step_up is not None else None,
        "elsewhere": list(decision.elsewhere),
        "version": matrix.version,
    }
    click.echo(json.dumps(said, ensure_ascii=False, indent=2) if as_json else _in_words(said))
    sys.exit(0 if decision.allowed else 1)


def _in_words(said: Mapping[str, Any]) -> str:
    if said["allowed"]:
        return f"It counts, by line {said['line']} of version {said['version'][:12]}."
    missing: str = said["missing"]
    return f"It does not count: {missing}. (version {said['version'][:12]})"


def _matrix(config: Config) -> Recognition:
    """Return the matrix, held against regions and clients. Raises StartRefused that lists every problem."""
    return load_data(config, asyncio.run(registered_clients(config))).recognition
