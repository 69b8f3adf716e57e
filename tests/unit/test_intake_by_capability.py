"""A case goes only where cases are taken, whatever mapping packs lie ready there."""

from __future__ import annotations

import pytest

from gateway.crypto.at_rest import References, Sealer
from gateway.errors import NotOffered
from gateway.storage import Store
from tests.support.clock import ManualClock
from tests.support.intake import accept, intake


async def test_a_case_for_a_region_that_takes_none_is_refused_at_once(
    sqlite_store: Store, sealer: Sealer, references: References, clock: ManualClock
) -> None:
    """Accepted, it would wait for a delivery that never comes. Guarded by the check of the capability in `_place`."""
    assert await accept(intake(sqlite_store, sealer, references, clock), "taken")
    with pytest.raises(NotOffered):
        await accept(intake(sqlite_store, sealer, references, clock, submissions=None), "refused")
