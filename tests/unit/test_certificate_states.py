"""Standings that are remembered: how long, for whom, and what ends it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import select

from gateway.certificates.answers import CertificateAnswer
from gateway.certificates.named import VerifyAnswer
from gateway.certificates.request import VerifyRequest
from gateway.certificates.states import LASTING, States
from gateway.crypto.at_rest import References
from gateway.domain.certificate import Standing
from gateway.ports import Callback, CertificateReply
from gateway.storage import Store
from gateway.storage.tables import evidence
from tests.support.clock import ManualClock
from tests.support.issuing_regions import KIND, Desk, Issuer, by_holder, by_identifier, desk, identifier_of

HERE = "guangdong"


async def verify(at: Desk, **changes: Any) -> VerifyAnswer:
    asked = VerifyRequest.model_validate({**by_identifier(HERE), **changes})
    return await at.services.named.verify(at.caller, asked)


def opened(store: Store, clock: ManualClock, references: References) -> Desk:
    issuer = Issuer(HERE)
    issuer.has()
    return desk(store, clock, references, issuer)


async def notified(at: Desk, clock: ManualClock, nonce: str = "1") -> None:
    """Have the issuer tell this replica that the certificate was revoked."""
    body = identifier_of(HERE).encode()
    await at.services.notices.take(HERE, Callback("POST", f"/callbacks/{HERE}/{nonce}", {}, body, clock()))


async def test_a_standing_is_remembered_with_the_time_and_the_evidence_of_its_issuers_word(
    sqlite_store: Store, clock: ManualClock, references: References
) -> None:
    at = opened(sqlite_store, clock, references)
    first, said_at = await verify(at), clock()
    clock.advance(1)
    again = await verify(at)
    assert at.issuer.asked == ["data"]
    assert (again.answer.standing, again.answer.answered_at) == (Standing.VALID, said_at)
    assert (first.remembered, again.remembered) == (None, first.evidence_id)
    query = select(evidence.c.what).where(evidence.c.id == again.evidence_id)
    row = await sqlite_store.read(lambda tx: tx.execute(query).scalar_one())
    assert row["remembered"] == first.evidence_id


@pytest.mark.parametrize(
    ("seconds", "changes", "asked"),
    [
        (KIND.cached.total_seconds(), {}, 1),
        (KIND.cached.total_seconds() + 1, {}, 2),
        (30, {"max_age": 30}, 1),
        (31, {"max_age": 30}, 2),
        (0, {"max_age": 0}, 2),
        (KIND.cached.total_seconds() + 1, {"max_age": 3600}, 2),
        (1, {"claims": {"number": "SBX777"}}, 2),
        (-1, {}, 2),
    ],
    ids=["as old as its type allows", "older", "as old as is asked for", "older than that", "asks the issuer now",
         "nobody can ask for older than the type allows", "a claim needs the certificate", "the clock went back"],
)  # fmt: skip
async def test_how_old_a_standing_may_be(
    sqlite_store: Store, clock: ManualClock, references: References, seconds: float, changes: dict[str, Any], asked: int
) -> None:
    at = opened(sqlite_store, clock, references)
    await verify(at)
    clock.advance(seconds)
    assert (await verify(at, **changes)).answer.standing is Standing.VALID
    assert len(at.issuer.asked) == asked


async def test_a_holder_who_is_named_is_held_against_the_certificate_each_time(
    sqlite_store: Store, clock: ManualClock, references: References
) -> None:
    at = opened(sqlite_store, clock, references)
    await verify(at)
    await verify(at, holder=by_holder(HERE)["holder"])
    assert len(at.issuer.asked) == 2


async def test_a_notice_of_the_issuer_ends_it_on_every_replica(
    store: Store, clock: ManualClock, references: References
) -> None:
    """The replica that hears the notice forgets at once; the other sees it when it next uses what it remembers."""
    here = opened(store, clock, references)
    there = here.another_replica(references)
    for replica in (here, there):
        await verify(replica)
        await verify(replica)
    assert here.issuer.asked == ["data", "data"]
    clock.advance(1)
    await notified(here, clock)
    here.issuer.has(state="REVOKED")
    for replica in (here, there):
        answer = await verify(replica)
        assert (answer.answer.standing, answer.remembered) == (Standing.REVOKED, None)
    assert here.issuer.asked == ["data"] * 4


async def test_a_notice_in_the_same_instant_as_the_answer_counts(
    sqlite_store: Store, clock: ManualClock, references: References
) -> None:
    """Which of the two came first cannot be told any more, so the issuer is asked."""
    here = opened(sqlite_store, clock, references)
    there = here.another_replica(references)
    await verify(there)
    await notified(here, clock)
    await verify(there)
    assert there.issuer.asked == ["data", "data"]


async def test_what_was_heard_after_the_notice_is_remembered_again(
    sqlite_store: Store, clock: ManualClock, references: References
) -> None:
    at = opened(sqlite_store, clock, references)
    await notified(at, clock)
    clock.advance(1)
    for _ in range(3):
        await verify(at)
    assert at.issuer.asked == ["data"]


async def test_an_answer_to_a_question_from_before_the_notice_is_not_remembered_past_it(
    sqlite_store: Store, clock: ManualClock, references: References, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The issuer may have looked before the change, and its answer have come after the notice of it.

    That goes for whoever has joined the question later, too.
    """
    at = opened(sqlite_store, clock, references)
    begun, go, answer = asyncio.Event(), asyncio.Event(), at.issuer._answer

    async def slowly(operation: str) -> CertificateReply:
        said = await answer(operation)
        begun.set()
        await go.wait()
        return said

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(at.issuer, "_answer", slowly)
        first = asyncio.create_task(verify(at))
        await begun.wait()
        clock.advance(1)
        await notified(at, clock)
        clock.advance(1)
        joined = asyncio.create_task(verify(at))
        while _waiting(at) < 2:
            await asyncio.sleep(0)
        clock.advance(1)
        go.set()
        for early in await asyncio.gather(first, joined):
            assert early.answer.standing is Standing.VALID
    at.issuer.has(state="REVOKED")
    assert ((await verify(at)).answer.standing, at.issuer.asked) == (Standing.REVOKED, ["data", "data"])


def _waiting(at: Desk) -> int:
    (call,) = at.services.inquiry.asking._shared._calls.values()
    return call.waiting


@pytest.mark.parametrize("standing", list(Standing))
def test_only_what_lasts_is_remembered(clock: ManualClock, standing: Standing) -> None:
    """Whoever found nothing or was not heard is asked again."""
    states = States()
    states.remember("1", CertificateAnswer(HERE, standing, answered_at=clock()), clock(), "EV1")
    assert (states.recall("1", clock(), KIND.cached) is not None) == (standing in LASTING)
    assert Standing.NOT_FOUND not in LASTING
    assert Standing.UNVERIFIABLE not in LASTING


def test_the_memory_is_bounded_and_what_was_used_longest_ago_goes_first(clock: ManualClock) -> None:
    states = States(most=2)
    for name in ("1", "2"):
        states.remember(name, CertificateAnswer(HERE, Standing.VALID, answered_at=clock()), clock(), "EV1")
    assert states.recall("1", clock(), KIND.cached)
    states.remember("3", CertificateAnswer(HERE, Standing.VALID, answered_at=clock()), clock(), "EV1")
    assert [name for name in ("1", "2", "3") if states.recall(name, clock(), KIND.cached)] == ["1", "3"]
