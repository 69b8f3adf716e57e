"""The switch of a region: what it cuts off, who sees it when, and that nobody slips through beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import Connection, select

from gateway.crypto.at_rest import References, Sealer
from gateway.errors import Conflict, InvalidRequest, NotFound, RegionClosed, TrustStale
from gateway.identity.health import Health
from gateway.identity.switches import ClosedRegions, Cut, RegionSwitches, is_open
from gateway.storage import Store, open_store
from gateway.storage.tables import evidence, logouts, region_switches, sign_on_sessions
from tests.support.logout import a_session
from tests.support.sign_on import ManualClock, World, open_world
from tests.unit.test_logout import SECRET, wait_for

HUNDRED = 100


@dataclass
class Office:
    """The switches of one process."""

    world: World
    store: Store
    clock: ManualClock
    switches: RegionSwitches
    health: Health

    async def signed_on(self, *clients: str, **more: Any) -> Any:
        return await self.store.write(
            lambda tx: a_session(tx, Sealer(SECRET), References(SECRET), self.clock(), *clients, **more)
        )  # fmt: skip

    async def rows(self, table: Any) -> list[dict[str, Any]]:
        return await self.store.read(lambda tx: [dict(row) for row in tx.execute(select(table)).mappings()])

    def switches_of(self, *regions: str) -> RegionSwitches:
        """Return the switches of a process where only these regions are enabled."""
        return RegionSwitches(regions, self.replica(), self.store, self.world.service.logouts, self.clock)

    def replica(self) -> ClosedRegions:
        """Return what another process sees."""
        return ClosedRegions(self.store, self.clock)


@asynccontextmanager
async def an_office(store: Store, folder: Path) -> AsyncIterator[Office]:
    async with open_world(folder, {}, store, SECRET) as world:
        await world.service.switches.prepare()
        yield Office(world, store, world.clock, world.service.switches, world.service.health)


@pytest_asyncio.fixture
async def office(store: Store, tmp_path: Path) -> AsyncIterator[Office]:
    async with an_office(store, tmp_path) as opened:
        yield opened


async def test_the_preview_says_what_closing_then_cuts_off_and_changes_nothing(office: Office) -> None:
    for clients in (("portal",), ("portal", "shop"), ()):
        await office.signed_on(*clients)
    await office.signed_on("portal", region="hongkong")
    expired = await office.signed_on("portal", life=timedelta(seconds=1))
    office.clock.advance(1)
    preview = await office.switches.preview("guangdong")
    assert preview == Cut(sessions=3, interactions=0, by_client={"portal": 2, "shop": 1})
    assert not [row for row in await office.rows(sign_on_sessions) if row["ended_at"]]
    assert await office.switches.close("guangdong", "leak", "li") == preview
    left = {row["id"] for row in await office.rows(sign_on_sessions) if row["ended_at"] is None}
    assert len(left) == 2
    assert expired.id in left


async def test_closing_a_region_of_many_sessions_is_one_logout_each(office: Office) -> None:
    for _ in range(HUNDRED):
        await office.signed_on("portal")
    await office.switches.close("guangdong", "leak", "li")
    begun = await office.rows(logouts)
    assert len(begun) == HUNDRED
    assert {row["begun_by"] for row in begun} == {"operator:li"}


async def test_a_switch_is_evidence_of_who_and_why_and_names_nobody_else(office: Office) -> None:
    await office.signed_on("portal", subject="somebody-1")
    await office.switches.close("guangdong", "signing key leaked", "li")
    await office.switches.open("guangdong", "new key agreed", "wang")
    rows = {row["action"]: row for row in await office.rows(evidence)}
    close, reopen = rows["region.close"], rows["region.open"]
    assert (close["reason"], close["who"]) == ("signing key leaked", {"operator": "li"})
    assert close["what"] == {"region": "guangdong", "sessions": 1, "interactions": 0, "by_client": {"portal": 1}}
    assert (reopen["reason"], reopen["who"], reopen["what"]) == (
        "new key agreed",
        {"operator": "wang"},
        {"region": "guangdong"},
    )
    assert "somebody-1" not in str(rows)


async def test_this_process_sees_its_switch_at_once_and_another_within_two_seconds(office: Office) -> None:
    """Guard: look_again in RegionSwitches.close."""
    other = office.replica()
    assert not await other.is_closed("guangdong")
    assert await office.health.of("guangdong") == "ok"
    await office.switches.close("guangdong", "leak", "li")
    assert await office.health.of("guangdong") == "closed"
    office.clock.advance(1.9)
    assert not await other.is_closed("guangdong"), "this is the picture that may be old"
    office.clock.advance(0.1)
    assert await other.is_closed("guangdong")
    await office.switches.open("guangdong", "over", "li")
    assert await office.health.of("guangdong") == "ok"


async def test_every_turn_gives_a_region_another_opening_and_leaves_the_others_theirs(office: Office) -> None:
    """What rests on an opening ends with it, at every replica and for good. Guard: `changed_at` in `_turn`."""
    here, other = office.world.service.health, office.replica()
    first = await here.openings()
    assert set(first) == {"guangdong", "hongkong"}
    office.clock.advance(-3600)  # the order of the clocks does not matter
    await office.switches.close("guangdong", "leak", "li")
    assert await here.openings() == {"hongkong": first["hongkong"]}
    office.clock.advance(1)
    await office.switches.open("guangdong", "over", "li")
    second = await here.openings()
    assert second["guangdong"] != first["guangdong"]
    assert second["hongkong"] == first["hongkong"]
    assert await other.openings() == second


async def test_a_start_leaves_openings_as_they_are_unless_a_region_is_gone(office: Office) -> None:
    """A region that is taken out and put back again is as one that was closed. Guard: `_mark_gone`."""
    first = await office.replica().openings()
    office.clock.advance(60)
    await office.switches.prepare()
    assert await office.replica().openings() == first
    await office.switches_of("hongkong").prepare()
    office.clock.advance(60)
    await office.switches.prepare()
    again = await office.replica().openings()
    assert (again["hongkong"], again["guangdong"] != first["guangdong"]) == (first["hongkong"], True)


async def test_a_region_that_was_closed_and_is_gone_stays_as_the_operator_left_it(office: Office) -> None:
    await office.switches.close("guangdong", "leak", "li")
    await office.switches_of("hongkong").prepare()
    (switch,) = [one for one in await office.switches.all() if one.region == "guangdong"]
    assert (switch.closed, switch.reason, switch.changed_by) == (True, "leak", "operator:li")


async def test_a_clock_that_was_set_back_does_not_freeze_the_picture(office: Office) -> None:
    other = office.replica()
    assert not await other.is_closed("guangdong")
    office.clock.advance(-3600)
    await office.switches.close("guangdong", "leak", "li")
    assert await other.is_closed("guangdong")


async def test_a_switch_that_stands_so_already_is_not_turned_again(office: Office) -> None:
    with pytest.raises(Conflict):
        await office.switches.open("guangdong", "by mistake", "li")
    turned = await asyncio.gather(
        *(office.switches.close("guangdong", f"reason {number}", "li") for number in range(4)), return_exceptions=True
    )
    assert sorted(type(one).__name__ for one in turned) == ["Conflict"] * 3 + ["Cut"]
    assert len([row for row in await office.rows(evidence) if row["action"] == "region.close"]) == 1


@pytest.mark.parametrize("reason", ["", "x" * 129])
async def test_a_switch_is_not_turned_without_a_reason_that_fits(office: Office, reason: str) -> None:
    with pytest.raises(InvalidRequest):
        await office.switches.close("guangdong", reason, "li")


async def test_a_long_name_of_an_operator_fits_its_column(office: Office) -> None:
    await office.switches.close("guangdong", "leak", "x" * 200)
    turned = [row for row in await office.rows(region_switches) if row["closed"]]
    assert turned[0]["changed_by"] == "operator:" + "x" * 54


@pytest.mark.parametrize("region", ["nowhere", "foshan", ""])
async def test_only_a_region_that_signs_people_on_has_a_switch(office: Office, region: str) -> None:
    for turn in (office.switches.preview(region), office.switches.close(region, "leak", "li")):
        with pytest.raises(NotFound):
            await turn


async def test_a_closed_region_stays_closed_over_a_restart(office: Office) -> None:
    await office.switches.close("guangdong", "leak", "li")
    await office.switches.prepare()
    states = {switch.region: switch.closed for switch in await office.switches.all()}
    assert states == {"guangdong": True, "hongkong": False}


async def test_a_session_that_is_being_made_is_there_when_the_region_closes(postgres_url: str, tmp_path: Path) -> None:
    """Closing waits for it, and ends it. Guard: the lock in switches.is_open."""
    one, other = await open_store(postgres_url), await open_store(postgres_url)
    async with an_office(one, tmp_path) as office:
        held, go, loop = asyncio.Event(), asyncio.Event(), asyncio.get_running_loop()

        def sign_on(tx: Connection) -> None:
            assert is_open(tx, "guangdong")
            loop.call_soon_threadsafe(held.set)
            wait_for(tx, go)
            a_session(tx, Sealer(SECRET), References(SECRET), office.clock(), "portal")

        signing_on = asyncio.create_task(other.write(sign_on))
        await held.wait()
        closing = asyncio.create_task(office.switches.close("guangdong", "leak", "li"))
        done, _ = await asyncio.wait([closing], timeout=0.3)
        assert not done, "closing waits for the session that is being made"
        go.set()
        await signing_on
        assert (await closing).sessions == 1
        assert all(row["ended_at"] for row in await office.rows(sign_on_sessions))
        assert not await other.write(partial(is_open, region="guangdong"))
    await one.close()
    await other.close()


# --- health ----------------------------------------------------------------------------------------------------------


def with_trust(office: Office, confirmed_at: Any) -> None:
    region = office.world.regions["guangdong"]
    office.world.regions["guangdong"] = replace(
        region, adapter=replace(region.adapter, trust_confirmed_at=confirmed_at)
    )  # fmt: skip


async def test_keys_are_stale_after_a_day_and_fresh_up_to_then(office: Office) -> None:
    begun = office.clock()
    with_trust(office, lambda: begun)
    office.clock.advance(86400)
    office.health.refuse_stale("guangdong")
    assert (await office.health.of("guangdong"), office.health.trust_age("guangdong")) == ("ok", 86400)
    office.clock.advance(1)
    assert await office.health.of("guangdong") == "stale"
    with pytest.raises(TrustStale):
        office.health.refuse_stale("guangdong")


async def test_keys_that_were_never_confirmed_verify_nobody_but_are_no_reason_to_warn(office: Office) -> None:
    """They are fetched for the first sign-on; before it there is nothing to be stale."""
    with_trust(office, lambda: None)
    assert (await office.health.of("guangdong"), office.health.trust_age("guangdong")) == ("ok", None)
    with pytest.raises(TrustStale):
        office.health.refuse_stale("guangdong")


async def test_pinned_keys_are_never_stale(office: Office) -> None:
    office.clock.advance(86400 * 1000)
    office.health.refuse_stale("guangdong")
    assert await office.health.of("guangdong") == "ok"


async def test_the_weightiest_reason_is_told(office: Office) -> None:
    begun = office.clock()
    resting = Health(office.world.regions, office.replica(), office.clock, timedelta(days=1), lambda _region: True)
    assert await resting.of("guangdong") == "resting"
    with_trust(office, lambda: begun)
    office.clock.advance(86401)
    assert await resting.of("guangdong") == "stale"
    await office.switches.close("guangdong", "leak", "li")
    office.clock.advance(2)
    assert await resting.of("guangdong") == "closed"
    with pytest.raises(RegionClosed):
        await resting.refuse_closed("guangdong")
