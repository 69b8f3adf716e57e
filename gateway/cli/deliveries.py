"""`pearl deliveries …` and `pearl conflicts …`: what is under way, and what waits for a person.

Owns: arguments, and what is printed. Leaves to `gateway.submissions.dead_letters` and `conflicts` what an order does.
"""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import orjson
from sqlalchemy import Connection

from gateway.app import followed_events, utc_now
from gateway.cli.refusals import refusals_in_words
from gateway.cli.stored import config_option, in_store, json_option, reason_option
from gateway.config import Config
from gateway.data import load_data, read_config
from gateway.domain.item import Item, Office
from gateway.errors import InvalidRequest, NotFound
from gateway.items.blocks import refuse_blocked
from gateway.opening import archive_systems, own_keys
from gateway.submissions import conflicts as kept
from gateway.submissions import dead_letters, queue
from gateway.submissions.archive_push import ArchiveDue
from gateway.submissions.conflicts import Conflicts
from gateway.submissions.dead_letters import DeadLetters, Order

_limit = click.option("--limit", default=100, show_default=True, help="How many, oldest first.")


@click.group()
def deliveries() -> None:
    """What is under way to the regions, and what waits for a person."""


@deliveries.command("list")
@config_option
@_limit
@json_option
@refusals_in_words
def list_(config: Path, limit: int, as_json: bool) -> None:
    """List the deliveries that are not settled, and the regions in maintenance."""
    rows, paused = in_store(read_config(config), lambda tx: (queue.unsettled(tx, limit), dead_letters.pauses(tx)))
    if not as_json:
        for one in paused:
            click.echo(f"{one['region']} is in maintenance since {one['since']:%Y-%m-%d %H:%M} UTC: {one['reason']}")
    _print(rows, as_json, _line)


def _line(row: dict[str, str]) -> str:
    name = row["message_id"] or row["submission_id"]
    kind = "" if row["kind"] == queue.SUBMISSION else f"{row['kind']} of {row['submission_id']}  "
    return f"{name}  {row['region']:<10} {row['state']:<9} {kind}{row['last_text']}"


@deliveries.command("retry")
@config_option
@click.argument("names", nargs=-1, required=True)
@reason_option
@refusals_in_words
def retry(config: Path, names: tuple[str, ...], reason: str) -> None:
    """Try dead deliveries again, by case or message. Each region is asked first whether it has it."""
    order = _order(reason)
    in_store(read_config(config), lambda tx: dead_letters.retry(tx, list(names), order))
    click.echo(f"{len(names)} will be tried again.")


@deliveries.command("settle")
@config_option
@click.argument("name")
@click.option("--number", help="The region's own number of the case, as its operators told you.")
@reason_option
@refusals_in_words
def settle(config: Path, name: str, number: str | None, reason: str) -> None:
    """Note that the region has a case or message after all, because its operators said so."""
    read, order = read_config(config), _order(reason)
    desk = _desk(read)
    in_store(read_config(config), lambda tx: desk.settle(tx, name, number, order))
    click.echo(f"{name} counts as delivered.")


@deliveries.command("give-back")
@config_option
@click.argument("name")
@reason_option
@refusals_in_words
def give_back(config: Path, name: str, reason: str) -> None:
    """Deliver no more: return the case to who filed it, or drop the message."""
    read, order = read_config(config), _order(reason)
    desk = _desk(read)
    in_store(read_config(config), lambda tx: desk.give_back(tx, name, order))
    click.echo(f"{name} will not be delivered.")


@deliveries.command("reassign")
@config_option
@click.argument("case")
@click.argument("region")
@reason_option
@refusals_in_words
def reassign(config: Path, case: str, region: str, reason: str) -> None:
    """Send a case that its region certainly does not have to another office with power over the item."""
    read, order = read_config(config), _order(reason)
    desk, items = _desk(read), load_data(read).items

    def unit(tx: Connection) -> None:
        code, part = dead_letters.item_of(tx, case)
        if region not in read.regions:
            raise _no_office(f"Region {region} is not enabled; enabled: {', '.join(sorted(read.regions))}.")
        office = _office(items.get(code), code, part, region)
        refuse_blocked(tx, code, region)
        desk.reassign(tx, case, office, order)

    in_store(read_config(config), unit)
    click.echo(f"{case} goes to {region}.")


def _office(item: Item | None, code: str, part: str, region: str) -> Office:
    """Return the region's office that takes the item, or that part of it. Raises InvalidRequest, with the way on."""
    if item is None:
        text = f"Item {code} is in items.toml no more, so no office takes it: write it in again, or give the case back."
        raise _no_office(text)
    places = [office.region for office in item.offices]
    if part:
        places = next((list(each.regions) for each in item.parts if each.code == part), [])
    office = item.office(region) if region in places else None
    if office is None:
        what = f"part {part} of item {code}" if part else f"item {code}"
        where = "under `regions` of that part and as an [[item.office]]" if part else "as an [[item.office]]"
        known = ", ".join(places) or "none"
        raise _no_office(
            f"Region {region} does not handle this item: places for {what} in items.toml: {known}."
            f" Choose one of them; if {region} has power over it, enter it {where}, and restart the gateway."
        )
    return office


def _no_office(text: str) -> InvalidRequest:
    return InvalidRequest(text, code="delivery.no_office")


@deliveries.command("pause")
@config_option
@click.argument("region")
@reason_option
@refusals_in_words
def pause(config: Path, region: str, reason: str) -> None:
    """Put a region in maintenance: nothing is delivered to it; what is under way finishes, what comes in waits."""
    if region not in read_config(config).regions:
        raise NotFound(f"Region {region} is not enabled.")
    order = _order(reason)
    in_store(read_config(config), lambda tx: dead_letters.pause(tx, region, order))
    click.echo(f"{region} is in maintenance.")


@deliveries.command("resume")
@config_option
@click.argument("region")
@reason_option
@refusals_in_words
def resume(config: Path, region: str, reason: str) -> None:
    """End a region's maintenance."""
    order = _order(reason)
    in_store(read_config(config), lambda tx: dead_letters.resume(tx, region, order))
    click.echo(f"{region} is served again.")


# --- conflicts -----------------------------------------------------------------------------------------------------


@click.group()
def conflicts() -> None:
    """What regions reported and nobody can make sense of without a person."""


@conflicts.command("list")
@config_option
@_limit
@json_option
@refusals_in_words
def list_conflicts(config: Path, limit: int, as_json: bool) -> None:
    """List what waits for a person, oldest first."""
    rows = in_store(read_config(config), lambda tx: kept.waiting(tx, limit))
    _print(rows, as_json, lambda r: f"{r['id']}  {r['region']:<10} {r['submission_id']:<29} {r['reason']}")


@conflicts.command("show")
@config_option
@click.argument("conflict")
@refusals_in_words
def show_conflict(config: Path, conflict: str) -> None:
    """Show what the region said. It may name people."""
    queue_of = Conflicts(own_keys(read_config(config))[0])
    raw = in_store(read_config(config), lambda tx: queue_of.show(tx, conflict))
    try:
        click.echo(orjson.dumps(orjson.loads(raw), option=orjson.OPT_INDENT_2))
    except orjson.JSONDecodeError:
        click.echo(raw)


@conflicts.command("resolve")
@config_option
@click.argument("conflict")
@reason_option
@refusals_in_words
def resolve_conflict(config: Path, conflict: str, reason: str) -> None:
    """Note that a conflict was dealt with, and how."""
    queue_of = Conflicts(own_keys(read_config(config))[0])
    order = _order(reason)
    in_store(
        read_config(config),
        lambda tx: queue_of.resolve(tx, conflict, by=order.operator, words=order.reason, now=order.now),
    )
    click.echo(f"{conflict} is dealt with.")


# --- the pieces ----------------------------------------------------------------------------------------------------


def _desk(config: Config) -> DeadLetters:
    """Return the desk for dead letters, with the followers of events that the gateway itself has."""
    data = load_data(config)
    sealer = own_keys(config)[0]
    filing = ArchiveDue(archive_systems(config), timedelta(seconds=config.archive.after_seconds))
    events, _, _ = followed_events(sealer, data.items, lambda: data.calendars, filing, {})
    return DeadLetters(events, sealer)


def _order(reason: str) -> Order:
    return Order(getpass.getuser(), reason, utc_now())


def _print(rows: list[dict[str, Any]], as_json: bool, line: Callable[[dict[str, str]], str]) -> None:
    shown = [{name: str(value) if value is not None else "" for name, value in row.items()} for row in rows]
    click.echo(json.dumps(shown, ensure_ascii=False, indent=2) if as_json else "\n".join(map(line, shown)))
