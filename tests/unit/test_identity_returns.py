"""Forms that regions have browsers post: kept for a moment, for one region, once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from gateway.crypto.at_rest import Sealer
from gateway.errors import SignOnFailed
from gateway.identity import records
from gateway.identity.records import Interaction, digest, new_handle
from gateway.identity.returns import LIFE, Returns, as_query, forget_expired
from gateway.storage import Store
from gateway.storage.tables import upstream_returns

FORM = {"SAMLResponse": "PHg+", "RelayState": ""}


@dataclass
class Clock:
    now: datetime = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Desk:
    returns: Returns
    store: Store
    clock: Clock
    folder: Path

    async def waiting(self, region: str = "guangxi") -> str:
        """Have a sign-on wait for its answer; return its state."""
        state, now = new_handle(), self.clock()
        interaction = Interaction(new_handle(), digest("browser"), "portal", {}, now + timedelta(minutes=10))
        await self.store.write(lambda tx: records.keep_interaction(tx, interaction))
        await self.store.write(lambda tx: records.send_upstream(tx, interaction.id, region, state, b"memory"))
        return state

    async def kept(self) -> int:
        """Return how many forms are kept."""
        count = select(func.count()).select_from(upstream_returns)
        return await self.store.read(lambda tx: int(tx.execute(count).scalar_one()))


@pytest.fixture
async def desk(tmp_path: Path, sqlite_store: Store) -> Desk:
    clock = Clock()
    return Desk(Returns(sqlite_store, Sealer(bytes(32)), clock), sqlite_store, clock, tmp_path)


async def test_a_form_comes_back_as_a_query_with_its_state(desk: Desk) -> None:
    """SAML calls it RelayState; from here on there is one name for it."""
    state = await desk.waiting()
    handle = await desk.returns.keep("guangxi", {**FORM, "RelayState": state})
    assert await desk.returns.take("guangxi", handle) == {**FORM, "RelayState": state, "state": state}
    assert await desk.kept() == 0


async def test_of_many_who_come_for_a_form_one_gets_it(desk: Desk) -> None:
    """Guard: DELETE … RETURNING in `_take`."""
    handle = await desk.returns.keep("guangxi", {"state": await desk.waiting()})
    came = await asyncio.gather(*(desk.returns.take("guangxi", handle) for _ in range(8)), return_exceptions=True)
    assert [isinstance(each, SignOnFailed) for each in came].count(False) == 1


async def test_a_form_is_for_the_region_that_it_was_posted_to(desk: Desk) -> None:
    """Guard: the region in `_take`. An answer of one region is never another's (mix-up); it stays for its own."""
    handle = await desk.returns.keep("guangxi", {"state": await desk.waiting()})
    with pytest.raises(SignOnFailed):
        await desk.returns.take("guangdong", handle)
    assert await desk.returns.take("guangxi", handle)


async def test_a_form_waits_two_minutes(desk: Desk) -> None:
    """Guard: `expires_at` in `_take`; the janitor then takes it away."""
    handles = [await desk.returns.keep("guangxi", {"state": await desk.waiting()}) for _ in range(2)]
    desk.clock.now += LIFE - timedelta(seconds=1)
    assert await desk.returns.take("guangxi", handles[0])
    desk.clock.now += timedelta(seconds=1)
    with pytest.raises(SignOnFailed):
        await desk.returns.take("guangxi", handles[1])
    assert await desk.store.write(lambda tx: forget_expired(tx, desk.clock())) == 1
    assert await desk.kept() == 0


@pytest.mark.parametrize(
    "form", [{}, {"state": ""}, {"state": "made-up"}, {"RelayState": "ü" * 43}, {"SAMLResponse": "x"}]
)
async def test_an_answer_that_no_sign_on_waits_for_is_not_even_kept(desk: Desk, form: dict[str, str]) -> None:
    """Guard: `waiting` in `_keep`. What an identity provider begins by itself ends here, and nobody fills the store."""
    await desk.waiting()
    with pytest.raises(SignOnFailed):
        await desk.returns.keep("guangxi", form)
    assert await desk.kept() == 0


async def test_a_sign_on_at_another_region_waits_for_no_answer_here(desk: Desk) -> None:
    """Guard: the region in `_keep`."""
    with pytest.raises(SignOnFailed):
        await desk.returns.keep("guangdong", {"state": await desk.waiting("guangxi")})


async def test_a_sign_on_that_has_ended_waits_for_nothing(desk: Desk) -> None:
    """Guard: `expires_at` in `_keep`."""
    state = await desk.waiting()
    desk.clock.now += timedelta(minutes=10)
    with pytest.raises(SignOnFailed):
        await desk.returns.keep("guangxi", {"state": state})


def test_a_form_with_two_states_is_refused() -> None:
    """Guard: `as_query`. The one that is checked here might not be the one that is used elsewhere."""
    with pytest.raises(SignOnFailed):
        as_query({"state": "a", "RelayState": "b"})


@pytest.mark.parametrize("handle", ["", "a", "A" * 43, "A" * 44, "é" * 43])
async def test_a_handle_that_was_never_given_opens_nothing(desk: Desk, handle: str) -> None:
    with pytest.raises(SignOnFailed):
        await desk.returns.take("guangxi", handle)


async def test_a_form_lies_sealed_and_its_handle_only_as_a_hash(desk: Desk) -> None:
    """It holds all that a region says of a person."""
    form = {"state": await desk.waiting(), "SAMLResponse": "the-whole-person"}
    handle = await desk.returns.keep("guangxi", form)
    stored = await asyncio.to_thread(lambda: b"".join(path.read_bytes() for path in desk.folder.glob("pearl.db*")))
    assert b"the-whole-person" not in stored
    assert handle.encode() not in stored
    assert digest(handle).encode() in stored
