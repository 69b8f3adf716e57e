"""One neighbourhood for all flow tests that leave nothing behind, and the means to start another."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.storage.tables import deliveries
from gateway.submissions.queue import UNSETTLED
from tests.flows.flow_support import World, eventually, neighbourhood, prepare


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """Run the neighbourhood once: starting it takes longer than most tests."""
    async with neighbourhood(prepare(tmp_path_factory.mktemp("neighbourhood"))) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def world(shared_world: World) -> AsyncIterator[World]:
    """Lend the neighbourhood to one test; whatever an authority was told to do wrong ends with it.

    A delivery that an earlier test did not wait for would spring the traps of this one.
    """

    async def quiet() -> bool | None:
        return not [row for row in await shared_world.rows(deliveries) if row["state"] in UNSETTLED] or None

    await eventually(quiet)
    yield shared_world
    for authority in shared_world.authorities.values():
        authority.behave()
