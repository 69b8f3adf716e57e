"""How fresh issuers are: which certificate counts as late, counted once, and what an operator is shown."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from gateway.background import _forget
from gateway.certificates.freshness import BOUNDS, Tally, counted
from gateway.certificates.request import LookupRequest
from gateway.certificates.services import Certificates
from gateway.crypto.at_rest import References
from gateway.domain.calendar import local_day
from gateway.storage import Store
from gateway.storage.tables import (
    certificate_freshness,
    certificate_misses,
    certificate_notices,
    certificate_seen,
)
from tests.support.clock import ManualClock
from tests.support.issuers import CALLER, FRAME, HOLDER, KIND, Issuer, certificate, services
from tests.unit.test_cli_deliveries import Office, office  # noqa: F401 - the fixture of an operator's desk

DAY = 86_400.0


async def look_up(asked: Certificates) -> None:
    said = LookupRequest.model_validate({**FRAME, "holder": HOLDER, "certificate_type": KIND.name})
    await asked.lookup.lookup(CALLER, said)


async def judged(asked: Certificates, clock: ManualClock) -> tuple[int, int]:
    """Return how many certificates were timely and late, as the store has them."""
    await asked.freshness.write()
    tallies = await asked.inquiry.witness.store.read(lambda tx: counted(tx, local_day(clock() - timedelta(days=90))))
    known = tallies.get((KIND.code, "guangdong"), Tally())
    return known.timely, known.late


def issued(clock: ManualClock, days_ago: int = 0, **changes: Any) -> dict[str, Any]:
    return certificate(issued_on=(local_day(clock()) - timedelta(days=days_ago)).isoformat(), **changes)


async def test_a_certificate_is_late_when_it_was_looked_for_in_vain_on_its_day_of_issue(
    store: Store, clock: ManualClock, references: References
) -> None:
    """It bears a day on which it was not there."""
    issuer = Issuer(holds=[])
    asked = services(store, clock, references, issuer)
    await look_up(asked)
    clock.advance(2 * DAY)
    issuer.holds = [issued(clock, days_ago=2)]
    await look_up(asked)
    assert await judged(asked, clock) == (0, 1)


async def test_a_certificate_that_was_looked_for_before_its_day_of_issue_only_is_in_time(
    sqlite_store: Store, clock: ManualClock, references: References
) -> None:
    issuer = Issuer(holds=[])
    asked = services(sqlite_store, clock, references, issuer)
    await look_up(asked)
    clock.advance(2 * DAY)
    issuer.holds = [issued(clock, days_ago=1)]
    await look_up(asked)
    assert await judged(asked, clock) == (1, 0)


async def test_a_certificate_counts_once_whichever_replica_finds_it(
    store: Store, clock: ManualClock, references: References
) -> None:
    issuer = Issuer()
    issuer.holds = [issued(clock)]
    one, other = (services(store, clock, references, issuer) for _ in range(2))
    for replica in (one, other, one):
        await look_up(replica)
    await one.freshness.write()
    assert await judged(other, clock) == (1, 0)


async def test_one_that_was_issued_long_ago_is_judged_by_nobody_and_leaves_nothing(
    sqlite_store: Store, clock: ManualClock, references: References
) -> None:
    asked = services(sqlite_store, clock, references, Issuer(holds=[issued(clock, days_ago=31)]))
    await look_up(asked)
    assert await judged(asked, clock) == (0, 0)
    seen = select(func.count()).select_from(certificate_seen)
    assert await sqlite_store.read(lambda tx: tx.execute(seen).scalar_one()) == 0


async def test_the_counts_of_replicas_add_up_and_writing_again_adds_nothing(
    sqlite_store: Store, clock: ManualClock, references: References
) -> None:
    one, other = (services(sqlite_store, clock, references, Issuer(holds=[])) for _ in range(2))
    for replica in (one, one, other):
        await look_up(replica)
        await replica.freshness.write()
        await replica.freshness.write()
    known = await sqlite_store.read(lambda tx: counted(tx, local_day(clock())))
    tally = known[KIND.code, "guangdong"]
    assert (tally.answers, tally.not_found, tally.not_found_share) == (3, 3, 1.0)


async def test_what_was_looked_for_is_forgotten_after_thirty_days_and_counts_after_a_year(
    sqlite_store: Store, clock: ManualClock, references: References
) -> None:
    issuer = Issuer(holds=[])
    asked = services(sqlite_store, clock, references, issuer)
    await look_up(asked)
    issuer.holds = [issued(clock)]
    await look_up(asked)
    await asked.freshness.write()

    async def left() -> list[int]:
        tables = (certificate_misses, certificate_seen, certificate_freshness)
        counts = [select(func.count()).select_from(table) for table in tables]
        await sqlite_store.write(lambda tx: _forget(tx, clock(), timedelta(days=1)))
        return await sqlite_store.read(lambda tx: [tx.execute(count).scalar_one() for count in counts])

    assert await left() == [1, 1, 1]
    clock.advance(33 * DAY)
    assert await left() == [0, 0, 1]
    clock.advance(370 * DAY)
    assert await left() == [0, 0, 0]


@pytest.mark.parametrize(
    ("seconds", "half", "nearly_all"),
    [([0] * 10, None, None), ([100, *[0] * 9], 0.025, 0.05), ([0, 50, 50, *[0] * 7], 0.1, 0.247)],
)
def test_times_are_read_from_the_counts_between_two_bounds(
    seconds: list[int], half: float | None, nearly_all: float | None
) -> None:
    assert len(seconds) == len(BOUNDS) + 1
    tally = Tally(seconds=seconds)
    assert (tally.within(0.5), tally.within(0.99)) == (half, nearly_all)


async def test_notices_are_forgotten_once_nothing_that_is_remembered_is_older(
    sqlite_store: Store, clock: ManualClock
) -> None:
    row = {"reference": "r", "region": "guangdong", "state": "REVOKED", "changed_at": clock(), "noticed_at": clock()}
    count = select(func.count()).select_from(certificate_notices)
    await sqlite_store.write(lambda tx: tx.execute(certificate_notices.insert().values(row)))
    left = []
    for _ in range(2):
        await sqlite_store.write(lambda tx: _forget(tx, clock(), timedelta(days=1)))
        left.append(await sqlite_store.read(lambda tx: tx.execute(count).scalar_one()))
        clock.advance(31 * DAY + 1)
    assert left == [1, 0]


def test_an_operator_sees_who_stays_below_the_target(office: Office) -> None:  # noqa: F811 - the fixture
    day = local_day(office.now).isoformat()
    counts = {"answers": 40, "not_found": 10, "unverifiable": 0, "timely": 18, "late": 2, "seconds": [40, *[0] * 9]}
    row = {"day": day, "region": "guangdong", "type_code": "11100000000013127D001", "owner": "one", "counts": counts}
    office.store(lambda tx: tx.execute(certificate_freshness.insert().values(row)))
    told = json.loads(office.run("certificates", "freshness", "--days", "400", "--json").stdout)
    (kind,) = told["types"]
    assert (kind["name"], kind["timely_share"], kind["keeps_target"]) == ("中华人民共和国居民身份证", 0.9, False)
    shown = office.run("certificates", "freshness", "--days", "400").stdout
    assert "below 95%" in shown
    assert "25.0%" in shown
