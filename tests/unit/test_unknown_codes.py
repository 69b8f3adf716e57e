"""Codes of a region that no table knows: the case goes on, nothing is refused, and nothing is concluded from them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import select

from gateway.certificates.lookup import LookupAnswer
from gateway.certificates.request import LookupRequest
from gateway.certificates.search import Bounds
from gateway.certificates.services import Certificates
from gateway.certificates.types import CertificateType
from gateway.crypto.at_rest import References, Sealer
from gateway.domain.caller import Caller
from gateway.domain.certificate import Standing
from gateway.domain.region import place_of
from gateway.domain.submission import State
from gateway.identity.mandates import Mandates
from gateway.lines import distrust
from gateway.mapping.converters import UNKNOWN
from gateway.mapping.library import PackSet
from gateway.mapping.packs import Pack
from gateway.mapping.unknown import is_unknown
from gateway.policy.grants import Grants
from gateway.ports import Adapter, CertificateReply, RegionDocument
from gateway.regions import Region
from gateway.storage import Store
from gateway.storage.tables import evidence
from gateway.telemetry import Metrics
from tests.support.cases import REGION, add_case, conflicts, number, said, state_of, timeline
from tests.support.clock import ManualClock
from tests.support.intake import CALLER, Callbacks, Feed, SamePack, callback, inbox, region

PERSON = {"name": "李芳", "document": {"type": "CN_RIC", "number": "11010519491231002X"}}
CERTIFICATE = {
    "identifier": "1.2.156.3005.2.11100000000013127D001.11440000MBT400007D.SBX000000000101.001.W",
    "name": "居民身份证",
    "holder": PERSON,
    "state": "VALID",
    "valid_until": "2040-01-01",
}


def test_only_what_is_marked_as_unknown_is_unknown() -> None:
    assert is_unknown(f"{UNKNOWN}77")
    assert [value for value in ("ACCEPTED", "", "an unknown:77", None, 7, ["unknown:"]) if is_unknown(value)] == []


# --- events --------------------------------------------------------------------------------------------------------


async def opened(store: Store, now: datetime) -> str:
    case = number(1, now)
    await store.write(lambda tx: add_case(tx, case, now, state=State.FORWARDED))
    return case


async def test_a_callback_with_a_step_that_nobody_knows_is_answered_as_taken(
    store: Store, sealer: Sealer, clock: ManualClock
) -> None:
    """Refused, the region would send it for ever; taken in silence, nobody would ever look at it."""
    case = await opened(store, clock())
    callbacks = Callbacks([said(case, "e1", "unknown:77", clock()), said(case, "e2", "ACCEPTED", clock())])
    answer = await inbox(store, sealer, clock, callbacks=callbacks).callback(REGION, callback("nonce", clock()))
    assert answer == {"code": "0"}
    assert await store.read(lambda tx: timeline(tx, case)) == [(1, "FORWARDED"), (2, "FORWARDED"), (3, "ACCEPTED")]
    assert await store.read(lambda tx: state_of(tx, case)) is State.ACCEPTED
    (kept,) = await store.read(conflicts)
    assert kept["region_event_id"] == "e1"
    rows = await store.read(lambda tx: tx.execute(select(evidence.c.outcome, evidence.c.reason)).all())
    assert [tuple(row) for row in rows] == [("done", "recorded")]


async def test_a_feed_goes_on_behind_a_step_that_nobody_knows(store: Store, sealer: Sealer, clock: ManualClock) -> None:
    case = await opened(store, clock())
    feed = Feed([said(case, "e1", "unknown:77", clock()), said(case, "e2", "ACCEPTED", clock())])
    assert await inbox(store, sealer, clock).poll(region(feed=feed)) == 2
    assert await store.read(lambda tx: state_of(tx, case)) is State.ACCEPTED
    assert len(await store.read(conflicts)) == 1
    rows = await store.read(lambda tx: tx.execute(select(evidence.c.outcome, evidence.c.reason)).all())
    assert sorted(tuple(row) for row in rows) == [("done", "recorded"), ("done", "unknown")]


# --- certificates --------------------------------------------------------------------------------------------------


class Issuer:
    """A region that answers every question with one certificate."""

    def __init__(self, certificate: Mapping[str, Any]) -> None:
        self.certificate = certificate

    async def lookup(self, _query: RegionDocument) -> CertificateReply:
        return CertificateReply("0", certificates=[dict(self.certificate)])


async def looked_up(store: Store, clock: ManualClock, **said_of_it: Any) -> LookupAnswer:
    """Ask an issuer whose certificate says this."""
    packs = cast("Mapping[str, Pack]", {"certificate-query": SamePack(), "certificate": SamePack()})
    adapter = Adapter(certificates=Issuer({**CERTIFICATE, **said_of_it}))
    issuer = SimpleNamespace(
        id=REGION, place=place_of("440600"), adapter=adapter, certificate_words={"0": "found"},
        packs=PackSet.of(REGION, packs),
    )  # fmt: skip
    certificates = Certificates.of(
        types={"T": CertificateType("T", "居民身份证", (), "sandbox", (REGION,))},
        regions={REGION: cast("Region", issuer)},
        grants=cast("Grants", SimpleNamespace(require=lambda _ask: None)),
        bases=(),
        store=store,
        mandates=cast("Mandates", None),  # nobody acts for anybody here
        references=References(b"r" * 32),
        sealer=Sealer(b"s" * 32),
        metrics=Metrics(CollectorRegistry()),
        clock=clock,
        distrust=partial(distrust, {}),
        bounds=Bounds(),
    )
    request = LookupRequest.model_validate(
        {
            "certificate_type": "T", "holder": PERSON, "holder_role": "applicant", "operator": "T0001",
            "item": {"code": "I", "name": "事项"}, "case": "AGENCY-1", "purpose_code": "p", "purpose": "p",
            "legal_basis": "statutory",
        }
    )  # fmt: skip
    caller: Caller = CALLER
    return await certificates.lookup.lookup(caller, request)


async def test_a_certificate_in_words_that_are_known_is_judged(sqlite_store: Store, clock: ManualClock) -> None:
    """Otherwise the refusals below would prove nothing."""
    (answer,) = (await looked_up(sqlite_store, clock)).answers
    assert (answer.standing, answer.reason) == (Standing.VALID, None)
    assert answer.certificate is not None


@pytest.mark.parametrize(
    ("said_of_it", "reason"),
    [
        ({"state": "unknown:99"}, "a state that is not known here"),
        ({"state": "unknown:99", "replaced_by": "another"}, "a state that is not known here"),
        (
            {"holder": {**PERSON, "document": {"type": "unknown:555", "number": "11010519491231002X"}}},
            "kind of document",
        ),
    ],
    ids=["state", "state of one that was replaced", "kind of the holder's document"],
)
async def test_a_certificate_in_words_that_nobody_knows_cannot_be_verified(
    sqlite_store: Store, clock: ManualClock, said_of_it: dict[str, Any], reason: str
) -> None:
    """Neither valid nor missing: a person must ask. An unknown kind of document is never the kind asked for."""
    (answer,) = (await looked_up(sqlite_store, clock, **said_of_it)).answers
    assert answer.standing is Standing.UNVERIFIABLE
    assert answer.reason is not None
    assert reason in answer.reason
    assert answer.certificate is None
    assert "99" not in answer.reason
    assert "555" not in answer.reason
