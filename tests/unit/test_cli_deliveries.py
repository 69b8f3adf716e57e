"""`pearl deliveries`: what an operator sees of what is under way, and what ordering a dead one again changes."""

from __future__ import annotations

import asyncio
import getpass
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Connection, select, update

from gateway.cli.main import main
from gateway.config import HOUSE
from gateway.data import load_data, read_config
from gateway.opening import own_keys
from gateway.sandbox.layout import Choices, Ports, lay_out
from gateway.storage import open_store
from gateway.storage.tables import case_clocks, deliveries, evidence, item_snapshots, submissions
from gateway.submissions.conflicts import Conflicts
from gateway.submissions.dead_letters import LONGEST_REASON
from tests.support.cases import REGION, add_delivery, delivery, number, said, state_of
from tests.support.clock import ManualClock

T = TypeVar("T")

LAID_OUT = Ports(public=8080, admin=9090, authorities={REGION: 8443})
"""Addresses that stand in the configuration; nothing listens there, and nothing calls."""


class Office:
    """A deployment's folder, and an operator at its command line."""

    def __init__(self, config: Path, database: str, now: datetime) -> None:
        self.config, self._database, self.now = config, database, now
        self.cases = [number(sequence, now) for sequence in range(1, 5)]

    def pearl(self, command: str, *arguments: str) -> Result:
        """Run `pearl deliveries <command>`."""
        return self.run("deliveries", command, *arguments)

    def run(self, group: str, command: str, *arguments: str) -> Result:
        """Run `pearl <group> <command>`."""
        given = [group, command, "--config", str(self.config), *arguments]
        return CliRunner().invoke(main, given, catch_exceptions=False)

    def listed(self) -> list[dict[str, str]]:
        result = self.pearl("list", "--json")
        assert result.exit_code == 0
        rows: list[dict[str, str]] = json.loads(result.stdout)
        return rows

    def store(self, unit: Callable[[Connection], T]) -> T:
        """Run one transaction in the store, apart from the command's."""

        async def once() -> T:
            store = await open_store(self._database)
            try:
                return await store.write(unit)
            finally:
                await store.close()

        return asyncio.run(once())

    def contents(self) -> tuple[list[Any], list[Any]]:
        """Return every delivery and every row of evidence."""
        query = [select(deliveries).order_by(deliveries.c.id), select(evidence)]
        return self.store(lambda tx: (tx.execute(query[0]).all(), tx.execute(query[1]).all()))  # type: ignore[return-value] # rows compare like tuples

    def evidence(self) -> list[dict[str, Any]]:
        return self.store(lambda tx: [dict(row) for row in tx.execute(select(evidence)).mappings()])


@pytest.fixture
def office(tmp_path: Path, sqlite_template: Path, clock: ManualClock) -> Office:
    """Lay a deployment out, with four deliveries: dead, in doubt, pending and delivered, oldest first."""
    return opened(tmp_path, sqlite_template, clock, LAID_OUT)


@pytest.fixture
def whole_office(tmp_path: Path, sqlite_template: Path, clock: ManualClock) -> Office:
    """The same with every region, so that the data files fit: an order that moves a case reads them."""
    regions = sorted(path.parent.name for path in (HOUSE / "adapters").glob("*/region.toml"))
    ports = Ports(public=8080, admin=9090, authorities={region: 8443 + n for n, region in enumerate(regions)})
    return opened(tmp_path, sqlite_template, clock, ports)


def opened(tmp_path: Path, sqlite_template: Path, clock: ManualClock, ports: Ports) -> Office:
    layout = lay_out(tmp_path / "pearl", ports, Choices())
    database = shutil.copy(sqlite_template, layout.folder / "pearl.db")
    now = clock()
    made = Office(layout.config, f"sqlite:///{database}", now)
    rows: list[dict[str, Any]] = [
        {
            "state": "dead",
            "due": None,
            "failures": 12,
            "attempt": 13,
            "last_code": "region.refused",
            "last_text": "No",
        },
        {"state": "in_doubt", "failures": 1, "last_code": "region.uncertain", "last_text": "No answer arrived."},
        {},
        {"state": "delivered", "due": None, "settled_at": now},
    ]

    def fill(tx: Connection) -> None:
        for age, (case, row) in enumerate(zip(made.cases, rows, strict=True)):
            add_delivery(tx, case, now + timedelta(seconds=age), **row)

    made.store(fill)
    return made


# --- list --------------------------------------------------------------------------------------------------------


def test_the_list_shows_what_is_not_settled_with_state_and_reason(office: Office) -> None:
    """Oldest first, what waits for a person included; what was delivered is nobody's concern any more."""
    result = office.pearl("list")
    assert result.exit_code == 0
    dead, doubtful, pending = result.stdout.splitlines()
    assert dead.split(maxsplit=3) == [office.cases[0], REGION, "dead", "No"]
    assert doubtful.split(maxsplit=3) == [office.cases[1], REGION, "in_doubt", "No answer arrived."]
    assert pending.split() == [office.cases[2], REGION, "pending"]


def test_the_list_for_programs_holds_the_same_and_nothing_of_the_person(office: Office) -> None:
    """Ids, states and reasons: neither the sealed case nor the reference to the applicant."""
    rows = office.listed()
    assert [row["state"] for row in rows] == ["dead", "in_doubt", "pending"]
    columns = {
        "submission_id",
        "message_id",
        "kind",
        "region",
        "state",
        "attempt",
        "due",
        "last_code",
        "last_text",
        "created_at",
    }
    assert [row.keys() for row in rows] == [columns] * 3
    assert rows[0]["last_code"] == "region.refused"
    assert rows[0]["due"] == ""


def test_the_list_ends_where_it_is_told_to(office: Office) -> None:
    assert office.pearl("list", "--limit", "1").stdout.split()[0] == office.cases[0]
    assert len(office.pearl("list", "--limit", "1").stdout.splitlines()) == 1


def test_an_empty_list_is_a_list_too(office: Office) -> None:
    """Programs read it like any other."""
    office.store(lambda tx: tx.execute(deliveries.update().values(state="delivered")).rowcount)
    assert office.listed() == []


# --- retry -------------------------------------------------------------------------------------------------------


def test_a_dead_delivery_is_tried_again_at_once_beginning_with_a_question(office: Office) -> None:
    """`in_doubt`, because nobody knows what the region has of it; its attempts are counted anew."""
    before = datetime.now(UTC)
    assert office.pearl("retry", office.cases[0], "--reason", "the region is back").exit_code == 0
    row = office.store(lambda tx: delivery(tx, "DL" + office.cases[0]))
    assert (row["state"], row["failures"], row["attempt"]) == ("in_doubt", 0, 13)
    assert before <= row["due"] <= datetime.now(UTC)


def test_who_ordered_it_again_and_why_becomes_evidence(office: Office) -> None:
    """One row, written with the change; it names the operator and the case, and no person."""
    office.pearl("retry", office.cases[0], "--reason", "the region is back")
    (row,) = office.evidence()
    assert (row["action"], row["outcome"], row["reason"]) == ("delivery.retry", "done", "the region is back")
    assert row["who"] == {"operator": getpass.getuser()}
    assert row["what"] == {"case": office.cases[0], "region": REGION}


def test_nothing_else_changes(office: Office) -> None:
    rows, _ = office.contents()
    office.pearl("retry", office.cases[0], "--reason", "the region is back")
    assert office.contents()[0][1:] == rows[1:]


def test_a_delivery_that_is_named_twice_is_tried_again_once(office: Office) -> None:
    """A list pasted with a line too many is no reason to refuse."""
    assert office.pearl("retry", office.cases[0], office.cases[0], "--reason", "back").exit_code == 0
    assert len(office.evidence()) == 1


@pytest.mark.parametrize("wrong", [1, 2, 3], ids=["in doubt", "pending", "delivered"])
def test_one_that_is_not_dead_is_named_and_nothing_at_all_is_changed(office: Office, wrong: int) -> None:
    """Sending one that is under way or delivered would file the case twice; the dead one beside it waits as well."""
    untouched = office.contents()
    result = office.pearl("retry", office.cases[0], office.cases[wrong], "--reason", "the region is back")
    assert result.exit_code == 1
    assert office.cases[wrong] in result.stderr
    assert office.cases[0] not in result.stderr
    assert result.stdout == ""
    assert office.contents() == untouched


def test_a_case_that_nobody_knows_is_named_too(office: Office) -> None:
    result = office.pearl("retry", "no-such-case", "--reason", "the region is back")
    assert result.exit_code == 1
    assert "no-such-case" in result.stderr
    assert office.evidence() == []


@pytest.mark.parametrize("reason", ["", "x" * (LONGEST_REASON + 1)], ids=["none", "too long"])
def test_a_reason_that_evidence_cannot_hold_is_refused(office: Office, reason: str) -> None:
    """PostgreSQL would refuse the long one with a traceback; an empty one explains nothing."""
    untouched = office.contents()
    result = office.pearl("retry", office.cases[0], "--reason", reason)
    assert result.exit_code == 1
    assert f"1 to {LONGEST_REASON} characters" in result.stderr
    assert office.contents() == untouched


def test_a_retry_wants_a_reason(office: Office) -> None:
    """Exit code 2: the command was called wrongly."""
    assert office.pearl("retry", office.cases[0]).exit_code == 2
    assert office.evidence() == []


# --- the other ways out ------------------------------------------------------------------------------------------


def test_a_case_that_its_region_has_is_settled_with_the_regions_number(whole_office: Office) -> None:
    office, told = whole_office, ["--number", "FS-7", "--reason", "asked by telephone"]
    assert office.pearl("settle", office.cases[0], *told).exit_code == 0
    assert office.store(lambda tx: delivery(tx, "DL" + office.cases[0]))["state"] == "delivered"
    assert office.pearl("give-back", office.cases[0], "--reason", "filed there").exit_code == 1


def test_a_part_that_is_given_back_ends_the_whole_as_it_would_in_the_gateway(whole_office: Office) -> None:
    """What follows a step follows it by whomever it is written: nobody would ever look at the whole again."""
    office = whole_office
    part, whole = office.cases[0], office.cases[1]

    def join(tx: Connection) -> None:
        c = submissions.c
        values = {"parent_id": whole, "client_reference": f"{whole}/1", "state": "DELIVERY_FAILED"}
        tx.execute(update(submissions).where(c.id == part).values(values))
        tx.execute(update(submissions).where(c.id == whole).values(mode="joint"))

    office.store(join)
    assert office.pearl("give-back", part, "--reason", "the office is closed").exit_code == 0
    assert office.store(lambda tx: state_of(tx, whole)) == "RETURNED"


def test_a_case_does_not_go_to_a_region_without_power_over_its_item(whole_office: Office) -> None:
    office = whole_office
    item = next(item for item in load_data(read_config(office.config)).items.values() if not item.office("macau"))
    office.store(lambda tx: tx.execute(update(submissions).values(item_code=item.code)).rowcount)
    result = office.pearl("reassign", office.cases[0], "macau", "--reason", "moved")
    assert result.exit_code == 1
    assert "delivery.no_office: Region macau does not handle this item" in result.stderr
    assert ", ".join(place.region for place in item.offices) in result.stderr
    assert "enter it as an [[item.office]]" in result.stderr
    assert office.store(lambda tx: delivery(tx, "DL" + office.cases[0]))["region"] == REGION


def test_an_order_to_an_office_that_the_catalogue_does_not_know_says_what_to_do(whole_office: Office) -> None:
    """The part of a case goes where its part is taken, and a case whose item is gone goes nowhere."""
    office = whole_office
    item = next(item for item in load_data(read_config(office.config)).items.values() if item.parts)

    def ordered(region: str, **case: Any) -> str:
        office.store(lambda tx: tx.execute(update(submissions).values(case)).rowcount)
        result = office.pearl("reassign", office.cases[0], region, "--reason", "moved")
        assert (result.exit_code, "delivery.no_office" in result.stderr) == (1, True)
        return result.stderr

    assert "in items.toml no more" in ordered("guangdong", item_code="gone")
    assert "is not enabled; enabled: " in ordered("nowhere", item_code=item.code)
    part = item.parts[0]
    elsewhere = next(place.region for place in item.offices if place.region not in part.regions)
    said = ordered(elsewhere, part_code=part.code)
    assert f"part {part.code} of item {item.code}" in said
    assert f"{', '.join(part.regions)}." in said
    assert office.store(lambda tx: delivery(tx, "DL" + office.cases[0]))["region"] == REGION


@pytest.mark.parametrize("why", ["another part", "blocked"])
def test_a_case_does_not_go_where_its_item_or_its_part_is_not_taken(whole_office: Office, why: str) -> None:
    """An office may take the item and not this part of it, or have closed it since: nothing is routed there."""
    office = whole_office
    item = next(item for item in load_data(read_config(office.config)).items.values() if item.office("guangdong"))
    blocked = {
        "region": "guangdong", "item_code": item.code, "document": {}, "hash": "h", "state": "suspended",
        "since": office.now, "paths": [], "first_seen_at": office.now, "changed_at": office.now,
    }  # fmt: skip

    def prepare(tx: Connection) -> None:
        part = {"item_code": item.code, "part_code": "nobody's" if why == "another part" else ""}
        tx.execute(update(submissions).where(submissions.c.id == office.cases[0]).values(part))
        if why == "blocked":
            tx.execute(item_snapshots.insert().values(blocked))

    office.store(prepare)
    result = office.pearl("reassign", office.cases[0], "guangdong", "--reason", "moved")
    assert result.exit_code == 1
    assert ("does not handle this item" if why == "another part" else "has suspended this item") in result.stderr
    assert office.store(lambda tx: delivery(tx, "DL" + office.cases[0]))["region"] == REGION


def test_a_region_in_maintenance_is_shown_above_the_list(office: Office) -> None:
    assert office.pearl("pause", REGION, "--reason", "new machine").exit_code == 0
    assert office.pearl("list").stdout.splitlines()[0].startswith(f"{REGION} is in maintenance since ")
    assert office.pearl("resume", REGION, "--reason", "done").exit_code == 0
    assert "maintenance" not in office.pearl("list").stdout
    assert office.pearl("pause", "nowhere", "--reason", "x").exit_code == 1


def test_a_conflict_is_listed_shown_and_dealt_with(office: Office) -> None:
    sealer = own_keys(read_config(office.config))[0]
    event = said(office.cases[0], "e1", "ACCEPTED", office.now)
    office.store(lambda tx: Conflicts(sealer).keep(tx, "guangdong", event, "has no power", office.now))
    listed = json.loads(office.run("conflicts", "list", "--json").stdout)
    assert [row["reason"] for row in listed] == ["has no power"]
    assert json.loads(office.run("conflicts", "show", listed[0]["id"]).stdout) == event
    assert office.run("conflicts", "resolve", listed[0]["id"], "--reason", "a test of theirs").exit_code == 0
    assert json.loads(office.run("conflicts", "list", "--json").stdout) == []
    assert office.evidence()[0]["action"] == "conflict.resolve"
    assert office.run("conflicts", "resolve", listed[0]["id"], "--reason", "again").exit_code == 1


def test_clocks_that_are_due_are_listed_the_longest_overdue_first(office: Office) -> None:
    soon, over, running = office.cases[:3]
    days = {soon: ("due_soon", 1), over: ("overdue", -3), running: ("none", 5)}

    def fill(tx: Connection) -> None:
        for case, (told, days_left) in days.items():
            row = {
                "submission_id": case, "name": "acceptance", "region": REGION, "state": "running", "told": told,
                "started_at": office.now, "due_at": office.now + timedelta(days=days_left), "estimated": False,
                "calendar": "x",
            }  # fmt: skip
            tx.execute(case_clocks.insert().values(row))

    office.store(fill)
    listed = json.loads(office.run("clocks", "list", "--json").stdout)
    assert [(row["case"], row["state"], row["due_on"]) for row in listed] == [
        (over, "overdue", "2026-02-27"),
        (soon, "due_soon", "2026-03-03"),
    ]
    assert over in office.run("clocks", "list", "--limit", "1").stdout
    assert office.run("clocks", "list", "--region", "macau").stdout == ""
