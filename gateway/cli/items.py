"""`pearl items list|show|diff|approve|pull`: the items, what regions publish of them, and approving what changed.

Owns: the commands and how their answers read. Leaves to `gateway.web.ops.items` the work: the running gateway does it,
so that an office is open again when the command returns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from gateway.cli.asking import asked
from gateway.cli.refusals import refusals_in_words
from gateway.cli.stored import config_option, json_option
from gateway.data import load_data, read_config

_region = click.argument("region")
_code = click.argument("code")


@click.group()
def items() -> None:
    """The items, and what regions publish of them."""


@items.command("list")
@config_option
@click.option("--live", is_flag=True, help="What the regions publish, as the running gateway knows it.")
@click.option("--state", "states", multiple=True, help="With --live: only these states, such as changed or new.")
@json_option
@refusals_in_words
def list_(config: Path, live: bool, states: tuple[str, ...], as_json: bool) -> None:
    """List the items and where they are handled."""
    if not live and states:
        raise click.UsageError("--state is about what regions publish; add --live.")
    if live:
        told = asked(config, "GET", "/ops/items")
        rows = [one for one in told["items"] if not states or one["state"] in states]
        click.echo(_text(rows) if as_json else "\n".join([*map(_pull, told["pulls"]), *map(_live, rows)]))
        return
    rows = [
        {"code": item.code, "name": item.name["zh-CN"], "places": [office.region for office in item.offices]}
        for item in load_data(read_config(config)).items.values()
    ]
    click.echo(_text(rows) if as_json else "\n".join(map(_line, rows)))


@items.command("show")
@config_option
@_region
@_code
@json_option
@refusals_in_words
def show(config: Path, region: str, code: str, as_json: bool) -> None:
    """Show what a region publishes of an item, and what was approved of it."""
    told = asked(config, "GET", _address(region, code))
    click.echo(_text(told) if as_json else "\n".join(_shown(told)))


@items.command("diff")
@config_option
@_region
@_code
@json_option
@refusals_in_words
def diff(config: Path, region: str, code: str, as_json: bool) -> None:
    """Show what changed in an item since it was approved; with ! what stops it."""
    told = asked(config, "GET", _address(region, code))
    click.echo(_text(told["changes"]) if as_json else _changes(told))


@items.command("approve")
@config_option
@_region
@_code
@click.option("--hash", "seen", required=True, help="Of the version that you have looked at; `diff` says it.")
@click.option("--reason", required=True, help="Why; it becomes evidence.")
@json_option
@refusals_in_words
def approve(config: Path, region: str, code: str, seen: str, reason: str, as_json: bool) -> None:
    """Approve what a region publishes of an item; the office takes it again."""
    told = asked(config, "POST", _address(region, code, "/approve"), {"hash": seen, "reason": reason})
    click.echo(_text(told) if as_json else f"{code} is open at {region}.")


@items.command("pull")
@config_option
@_region
@json_option
@refusals_in_words
def pull(config: Path, region: str, as_json: bool) -> None:
    """Ask a region now what it publishes."""
    told = asked(config, "POST", f"/ops/items/{quote(region, safe='')}/pull")
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(told["counts"].items())) or "nothing changed"
    line = f"{region}: {told['entries']} entries, {told['unreadable']} that cannot be read; {counts}"
    click.echo(_text(told) if as_json else line)


def _address(region: str, code: str, rest: str = "") -> str:
    return f"/ops/items/{quote(region, safe='')}/{quote(code, safe='')}{rest}"


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def _line(row: Mapping[str, Any]) -> str:
    return f"{row['code']}  {row['name']}  ({', '.join(row['places'])})"


def _pull(look: Mapping[str, Any]) -> str:
    trouble = f", last try: {look['code']}" if look["code"] else ""
    return f"{look['region']}: {look['entries']} entries as of {look['pulled_at'] or 'never'}{trouble}"


def _live(row: Mapping[str, Any]) -> str:
    return f"{row['region']:<12} {row['item']:<33}  {row['state']:<11}  {row['since'] or ''}".rstrip()


def _shown(told: Mapping[str, Any]) -> list[str]:
    approved = f"{told['approved_by']} at {told['approved_at']}" if told["approved_by"] else "nobody"
    unlike = [
        f"  {one['path']}: {_value(one['file'])} here, {_value(one['published'])} there" for one in told["unlike_file"]
    ]
    return [
        f"{told['item']} at {told['region']}: {told['state']} since {told['since']}",
        f"published:  {told['published'].get('name', '')}, changed {told['changed_at']}, hash {told['hash']}",
        f"approved:   by {approved}, hash {told['approved_hash'] or '–'}",
        _changes(told),
        *(["Unlike our file:", *unlike] if unlike else []),
    ]


def _changes(told: Mapping[str, Any]) -> str:
    changes: Sequence[Mapping[str, Any]] = told["changes"]
    if not changes:
        return f"Nothing differs from what was approved (hash {told['hash']})."
    lines = [
        f"{'!' if one['matters'] else ' '} {one['path']}: {_value(one['old'])} → {_value(one['new'])}"
        + (f"  ({one['why']})" if one["matters"] else "")
        for one in changes
    ]
    return "\n".join([*lines, f"hash {told['hash']}"])


def _value(value: Any) -> str:
    return "–" if value is None else json.dumps(value, ensure_ascii=False)
