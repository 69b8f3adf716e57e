"""What a case does without, what can be said of it later and comes out of it, and what can be applied for.

Like `test_regions`, this suite knows no region by name: `messages`, `results` and `catalogue` in region.toml, and what
its pack `submission` carries, are what is held against it. All promises about one region share one place, so nothing
here may depend on being alone in it.

What a simulated authority must offer for this, besides its wire:

- the orders of `gateway.sandbox.courses.ORDERS` (`authority_app(settings, modes={**ORDERS, …})`), each good for the
  next case that comes in; this suite orders `course_supplement`. `courses.Plan` keeps what a case has before it;
- in the notebook, book `messages`: one page for each message that was taken, by our number of it, without anybody's
  words in it; and book `arrivals`: how often it came, under the same number, as for cases;
- a complete supplement leads on to SUPPLEMENTED and in the end to COMPLETED, a withdrawal to WITHDRAWN;
- what a case does without (`gateway.sandbox.left_out`), held against the item and kept in the book of that name; it
  asks for no material that a certificate stands for, and after `course_tolerance` waits for what was promised;
- with `results`: at least one document for a case that was completed, none for one that is not decided; and the orders
  of `gateway.sandbox.decision.MODES`;
- a definite no to a message about a case that it does not have, to a withdrawal after the decision, and to a second
  rating of the same role under another number.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.errors import RegionCannotBeAsked, RegionRefused, RegionUncertain, RegionUnreachable
from gateway.ports import CaseMessage, CaseMessages, ResultDocument, Results
from gateway.regions import Region
from tests.conformance.regions_support import (
    PROMISE,
    SECRET,
    Place,
    application,
    carrying,
    case_at,
    events_of,
    inhabited,
    left_out,
    message,
    offering,
    opened,
    order,
    submit,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

EITHER = (RegionUnreachable, RegionUncertain)
"""What a fault may become: never a definite no."""

ENDS_WITH = {"supplement": "COMPLETED", "withdrawal": "WITHDRAWN"}
"""Messages that move a case, and where they lead."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, keys: Path
) -> AsyncIterator[Place]:
    """Return the region named by the parameter, opened once for all tests of this file."""
    ground = tmp_path_factory.mktemp(request.param)
    (ground / "keys").symlink_to(keys)
    async with inhabited(ground, request.param) as inhabited_place:
        yield inhabited_place


@pytest.fixture(autouse=True)
def behaves_again(request: pytest.FixtureRequest) -> None:
    """Whatever one test ordered is over when the next one begins."""
    place: Place = request.getfixturevalue("place")
    place.authority.behave()


def messages_of(region: Region) -> CaseMessages:
    assert region.adapter.messages is not None
    return region.adapter.messages


async def sayable(place: Place, kind: str, files: Sequence[str] = ()) -> CaseMessage:
    """Return a message of this kind about a case of which it can be said now."""
    if kind in ENDS_WITH:
        return message(place, kind, await case_at(place, "SUPPLEMENT_NOTICE", "course_supplement"), files)
    return message(place, kind, await case_at(place, "COMPLETED"), files)


async def holds(place: Place, said: CaseMessage) -> bool | None:
    """Say whether the region has this message; None where its wire has no such question, and none was asked."""
    before = place.authority.requests
    try:
        return await messages_of(place.region).holds(said)
    except RegionCannotBeAsked:
        assert place.authority.requests == before, "something was asked, and the answer thrown away"
        return None


def taken(place: Place, said: CaseMessage) -> bool:
    """Say whether the authority has it in its books."""
    return said.message_id in place.authority.book("messages")


# --- what a case does without ------------------------------------------------------------------------------------


async def filed_without(place: Place, course: str, state: str, **changed: Any) -> dict[str, Any]:
    """File a case without some of its materials, let it come to a state; return the event that says so."""
    place.authority.once(course)
    sent = order(place, application(place, **{"materials": [], **left_out(place), **changed}))
    await submit(place.region, sent)
    return (await events_of(place, sent.submission_id, state))[-1]


def digests(pairs: Sequence[Mapping[str, str]], said: str) -> dict[str, str]:
    return {pair["code"]: hashlib.sha256(pair[said].encode()).hexdigest() for pair in pairs}


@carrying("submission", "deferred[].code", "certified[].code")
async def test_what_a_case_does_without_arrives_with_it(place: Place) -> None:
    """The promise (容缺) and the identifier of the certificate (免证办), each as it was said."""
    event = await filed_without(place, "course_tolerance", "ACCEPTED_TOLERANT")
    sent, kept = left_out(place), place.authority.book("left_out")[event["submission_id"]]
    assert kept["deferred"] == digests(sent.get("deferred", ()), "promise")
    assert kept["certified"] == digests(sent.get("certified", ()), "identifier")
    assert PROMISE not in str(kept)
    waited_for = {material["code"] for material in event["materials"]}
    assert waited_for == kept["deferred"].keys() or "deferred" not in sent


@carrying("submission", "certified[].code", "certified[].identifier")
async def test_nobody_asks_for_the_paper_that_a_certificate_stands_for(place: Place) -> None:
    """Filed without any file: whatever is asked for is something else."""
    [certified] = left_out(place)["certified"]
    notice = await filed_without(place, "course_supplement", "SUPPLEMENT_NOTICE")
    assert certified["code"] not in {wanted["code"] for wanted in notice.get("materials", ())}


@carrying("submission", "deferred[].code", "deferred[].promise")
async def test_what_the_item_does_not_let_follow_is_a_definite_no(place: Place) -> None:
    """Whoever decides has its own list of what may follow; and the refusal repeats nobody's promise."""
    await _is_refused(place, deferred=[{"code": "NO-SUCH-MATERIAL", "promise": PROMISE}])


@carrying("submission", "certified[].code", "certified[].identifier")
async def test_a_certificate_that_cannot_be_one_is_a_definite_no(place: Place) -> None:
    """Its check character is wrong (GB/T 36904): nothing stands for the material, and it would be missing."""
    [certified] = left_out(place)["certified"]
    identifier = certified["identifier"]
    assert identifier.startswith("1.2.156.3005.2."), "the others have no check character"
    await _is_refused(
        place, certified=[{**certified, "identifier": identifier[:-1] + ("A" if identifier[-1] != "A" else "B")}]
    )


async def _is_refused(place: Place, **changed: Any) -> None:
    document = application(place, **{"materials": [], **left_out(place), **changed})
    said = await _no(place, document)
    assert not [pair for pairs in changed.values() for pair in pairs for value in [*pair.values()][1:] if value in said]
    assert document["id"] not in place.authority.book("left_out")


async def _no(place: Place, document: Mapping[str, Any]) -> str:
    """Return the words of the refusal: the answer, or of a region that pulls the return of what it has pulled."""
    sent = order(place, document)
    if place.region.adapter.pickups is not None:
        await submit(place.region, sent)
        return str(await events_of(place, sent.submission_id, "RETURNED"))
    with pytest.raises(RegionRefused) as refused:
        await submit(place.region, sent)
    assert sent.submission_id not in place.authority.book("cases")
    return f"{refused.value} {refused.value.detail} {refused.value.problems}"


# --- the documents of a decision ---------------------------------------------------------------------------------


@offering("results")
async def test_the_documents_of_a_decision_come_as_they_were_listed(place: Place) -> None:
    """None before the decision, then all at once; each byte for byte what its digest says, as often as it is asked."""
    results = results_of(place.region)
    undecided = await case_at(place, "SUPPLEMENT_NOTICE", "course_supplement")
    assert await results.list(undecided["number"]) == []
    receipt = await case_at(place, "COMPLETED")
    listed = await results.list(receipt["number"])
    assert listed
    assert len({document.code for document in listed}) == len(listed)
    for document in [*listed, *listed]:
        content = await content_of(place.region, receipt["number"], document)
        assert (len(content), hashlib.sha256(content).hexdigest()) == (document.size, document.sha256)


@offering("results")
async def test_a_fault_while_documents_are_fetched_is_no_answer(place: Place) -> None:
    """An error page is neither a list without documents nor a document."""
    number, document = await decided(place)
    for mode in ("down", "garbage", "lost_answer"):
        place.authority.order(mode)
        with pytest.raises(EITHER):
            await results_of(place.region).list(number)
        with pytest.raises(EITHER):
            await content_of(place.region, number, document)
        place.authority.behave()


@offering("results")
async def test_a_document_that_is_not_there_is_a_definite_no(place: Place) -> None:
    """Asking again would give the same answer: of another case, under another code, and when it is kept no longer."""
    number, document = await decided(place)
    with pytest.raises(RegionRefused):
        await results_of(place.region).list("0")
    with pytest.raises(RegionRefused):
        await content_of(place.region, "0", document)
    with pytest.raises(RegionRefused):
        await content_of(place.region, number, replace(document, code="no-such-document"))
    place.authority.once("result_gone")
    with pytest.raises(RegionRefused):
        await content_of(place.region, number, document)
    assert await content_of(place.region, number, document)


@offering("results")
async def test_another_document_than_the_listed_one_is_never_taken_for_it(place: Place) -> None:
    """Bytes that differ show in the signature or in the digest, and a size that differs while they come."""
    number, document = await decided(place)
    place.authority.once("other_bytes")
    try:
        content = await content_of(place.region, number, document)
    except RegionUncertain:
        content = b""
    assert hashlib.sha256(content).hexdigest() != document.sha256
    for size in (document.size - 1, document.size + 1):
        with pytest.raises(RegionUncertain):
            await content_of(place.region, number, replace(document, size=size))


@offering("results")
async def test_a_region_that_is_slow_with_its_documents_is_not_waited_for(place: Place) -> None:
    number, document = await decided(place)
    async with opened(place.config, place.id, timeout_seconds=0.1) as impatient:
        place.authority.order("slow")
        with pytest.raises(EITHER):
            await results_of(impatient).list(number)
        with pytest.raises(EITHER):
            await content_of(impatient, number, document)
        place.authority.behave()


def results_of(region: Region) -> Results:
    assert region.adapter.results is not None
    return region.adapter.results


async def decided(place: Place) -> tuple[str, ResultDocument]:
    """Let a case come to its decision; return the region's number of it and its first document."""
    receipt = await case_at(place, "COMPLETED")
    [document, *_] = await results_of(place.region).list(receipt["number"])
    return receipt["number"], document


async def content_of(region: Region, number: str, document: ResultDocument) -> bytes:
    async with aclosing(await results_of(region).open(number, document)) as pieces:
        return b"".join([piece async for piece in pieces])


# --- messages about a case ---------------------------------------------------------------------------------------


@offering("messages", everywhere=True)
async def test_every_kind_of_message_is_taken_and_acted_on_once(place: Place) -> None:
    """At least once on the wire, exactly once in effect; with every field of the vocabulary, and files where it can."""
    region = messages_of(place.region)
    for kind in sorted(region.kinds):
        said = await sayable(place, kind, ["M01", "M02"] if kind == "supplement" else [])
        assert not await holds(place, said)
        for _ in range(2):
            await region.send(said)
        assert taken(place, said)
        assert place.authority.book("arrivals")[said.message_id] == 2
        assert await holds(place, said) in (True, None)
        await _one_effect(place, said)


async def _one_effect(place: Place, said: CaseMessage) -> None:
    """Hold what the authority reports of the case against what was said of it."""
    if said.kind not in ENDS_WITH:
        return
    events = await events_of(place, said.submission_id, ENDS_WITH[said.kind])
    states = [event["state"] for event in events]
    expected = ["SUPPLEMENTED", "ACCEPTED", "DECIDED", "COMPLETED"] if said.kind == "supplement" else ["WITHDRAWN"]
    assert states[-len(expected) :] == expected
    assert {event["number"] for event in events} == {said.number}


@offering("messages")
async def test_what_a_notice_asks_for_comes_with_it(place: Place) -> None:
    """A person must be told once, and everything: which materials, and until when, or in words at least."""
    place.authority.once("course_supplement")
    receipt = await case_at(place, "RECEIVED")
    notice = (await events_of(place, receipt["submission_id"], "SUPPLEMENT_NOTICE"))[-1]
    assert notice.get("reason") or notice.get("materials")
    assert all(wanted["code"] for wanted in notice.get("materials", ()))


@offering("messages")
async def test_a_message_whose_answer_is_lost_is_uncertain_until_the_region_is_asked(place: Place) -> None:
    region = messages_of(place.region)
    for kind in sorted(region.kinds):
        said = await sayable(place, kind)
        place.authority.order("lost_answer")
        with pytest.raises(RegionUncertain):
            await region.send(said)
        place.authority.behave()
        assert await holds(place, said) in (True, None)
        await region.send(said)
        assert taken(place, said)
        await _one_effect(place, said)


@offering("messages")
async def test_whichever_request_of_a_supplement_fails_it_comes_out_once(place: Place) -> None:
    """A fault at every single request: what is said of the outcome is true, and a repeat heals it."""
    region = messages_of(place.region)
    if "supplement" not in region.kinds:
        return
    for number in range(1, 20):
        said = await sayable(place, "supplement", files=["M01"])
        place.authority.fail_at(number, "lost_answer")
        try:
            await region.send(said)
        except RegionUnreachable:
            assert not taken(place, said), "it was taken, whatever the error says"
        except RegionUncertain:
            assert await holds(place, said) in (taken(place, said), None)
        failed = place.authority.has_failed
        place.authority.behave()
        await region.send(said)
        await _one_effect(place, said)
        if not failed:
            return
    pytest.fail("a supplement takes fewer requests than this")


@offering("messages")
async def test_a_region_that_is_ill_neither_takes_a_message_nor_denies_it(place: Place) -> None:
    """An error page is no word of the region: it must not pass for "refused", nor for "no such message here"."""
    region = messages_of(place.region)
    said = await sayable(place, min(region.kinds))
    for mode in ("down", "garbage"):
        place.authority.order(mode)
        with pytest.raises(RegionUncertain if mode == "garbage" else EITHER):
            await region.send(said)
        with pytest.raises((*EITHER, RegionCannotBeAsked)):
            await region.holds(said)
        place.authority.behave()
        assert not await holds(place, said)
    await region.send(said)
    assert taken(place, said)


@offering("messages")
async def test_a_message_about_a_case_that_is_not_there_is_a_definite_no(place: Place) -> None:
    """Sending it again would give the same answer, so nobody does; and the refusal repeats nobody's words."""
    receipt = await case_at(place, "COMPLETED")
    for kind in sorted(messages_of(place.region).kinds):
        said = message(place, kind, {**receipt, "submission_id": f"{receipt['submission_id'][:-1]}Z", "number": "0"})
        await _refused(place, said)


@offering("messages")
async def test_what_is_said_too_late_or_twice_is_a_definite_no(place: Place) -> None:
    """A decision stands; and a role is rated once, whoever tries again under another number."""
    receipt = await case_at(place, "COMPLETED")
    kinds = messages_of(place.region).kinds
    if "withdrawal" in kinds:
        await _refused(place, message(place, "withdrawal", receipt))
    if "rating" in kinds:
        for role in ("handling", "collecting"):
            await messages_of(place.region).send(message(place, "rating", receipt, role=role))
            await _refused(place, message(place, "rating", receipt, role=role))


async def _refused(place: Place, said: CaseMessage) -> None:
    with pytest.raises(RegionRefused) as refused:
        await messages_of(place.region).send(said)
    assert not refused.value.retryable
    assert SECRET not in f"{refused.value} {refused.value.detail} {refused.value.problems}"
    assert not await holds(place, said)
    assert not taken(place, said)


# --- items -------------------------------------------------------------------------------------------------------


@offering("catalogue", everywhere=True)
async def test_every_item_of_a_catalogue_can_be_read(place: Place) -> None:
    """And the items that the region takes cases for are among them, each once."""
    catalogue = place.region.adapter.catalogue
    assert catalogue is not None
    items = [place.region.pack("item").to_canonical(document) for document in await catalogue.items()]
    codes = [item["code"] for item in items]
    assert len(set(codes)) == len(codes)
    assert place.item in codes
    assert all(item["name"] and item["department"]["name"] for item in items)


@offering("catalogue")
async def test_a_catalogue_that_cannot_be_read_is_not_an_empty_one(place: Place) -> None:
    """An empty or half a list would say "these items are gone"."""
    catalogue = place.region.adapter.catalogue
    assert catalogue is not None
    await catalogue.items()  # whatever must be fetched once, such as a key, is there
    for mode in ("down", "garbage", "lost_answer"):
        place.authority.order(mode)
        with pytest.raises(EITHER if mode == "down" else RegionUncertain):
            await catalogue.items()
        place.authority.behave()
    assert await catalogue.items()


@offering("catalogue")
async def test_a_catalogue_that_is_slow_is_not_waited_for(place: Place) -> None:
    async with opened(place.config, place.id, timeout_seconds=0.3) as impatient:
        assert impatient.adapter.catalogue is not None
        place.authority.order("slow")
        with pytest.raises(EITHER):
            await impatient.adapter.catalogue.items()
        place.authority.behave()
