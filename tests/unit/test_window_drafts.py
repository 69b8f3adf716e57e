"""Drafts at the window: kept as they were typed, for that window alone, and one case when they are handed in."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select, update

from gateway.crypto.at_rest import Sealer
from gateway.domain.caller import Caller
from gateway.errors import Conflict, NotFound
from gateway.storage import Store
from gateway.storage.tables import blobs, drafts, submissions
from gateway.submissions.drafts import MOST, NEW, Drafts, Typed, forget
from gateway.windows import Clerk
from tests.support.cases import add_delivery, number
from tests.support.clock import ManualClock
from tests.support.window import (
    DRAFT_LIFE,
    FOSHAN,
    HONGKONG,
    NOW,
    NUMBER,
    PDF,
    WINDOW,
    Browser,
    FakeServices,
    browser,
    filled,
    new_signer,
)

CLERK = Caller(
    "pearl-window", "机构", "11440100696927671X", "440100", frozenset(), operator="C-0417", window_id="GZ-01"
)  # fmt: skip
ELSEWHERE = replace(CLERK, window_id="GZ-02")
REFERENCE = "0" * 31 + "1"
DAY = 24 * 3600
BLOB = "BL" + "0" * 32
TYPED = Typed("item", "foshan", False, {"applicant.name": "张三丰"}, {"ID": [(BLOB, "card.pdf")]})


# --- what is kept --------------------------------------------------------------------------------------------------


@pytest.fixture
def kept(sqlite_store: Store, sealer: Sealer, clock: ManualClock) -> Drafts:
    return Drafts(store=sqlite_store, sealer=sealer, clock=clock, life=DRAFT_LIFE)


async def swept(store: Store, sealer: Sealer, now: datetime) -> int:
    return await store.write(lambda tx: forget(tx, sealer, now))


async def hand_in(store: Store, now: datetime, item: str = "item") -> None:
    """Let there be the case of the draft's application."""

    def file(tx: Connection) -> None:
        add_delivery(tx, number(1, now), now)
        owner = {"client_id": "pearl-window/GZ-01", "item_code": item, "client_reference": REFERENCE}
        tx.execute(update(submissions).values(owner))

    await store.write(file)


async def upload(store: Store, now: datetime, *blob_ids: str, owner: str = "pearl-window/GZ-01") -> None:
    """Let this window have uploaded files."""
    more = {"client_id": owner, "name": b"", "media_type": "application/pdf", "size": 1, "sha256": "0" * 64}
    rows = [{**more, "id": blob, "created_at": now, "state": "stored"} for blob in blob_ids]
    await store.write(lambda tx: tx.execute(blobs.insert(), rows).rowcount)


async def test_a_draft_is_its_windows_and_sealed(kept: Drafts, sqlite_store: Store) -> None:
    await kept.save(CLERK, REFERENCE, TYPED, NEW)
    assert (await kept.find(CLERK, REFERENCE)).typed == TYPED
    assert [draft.reference for draft in await kept.all_of(replace(CLERK, operator="C-0418"))] == [REFERENCE]
    with pytest.raises(NotFound):
        await kept.find(ELSEWHERE, REFERENCE)
    assert await kept.all_of(ELSEWHERE) == []
    await kept.discard(ELSEWHERE, REFERENCE)
    body = await sqlite_store.read(lambda tx: tx.execute(select(drafts.c.body)).scalar_one())
    assert "张三丰".encode() not in body
    assert (await kept.find(CLERK, REFERENCE)).version == 1


async def test_a_draft_is_over_when_its_term_is_and_each_saving_begins_it_anew(
    kept: Drafts, sqlite_store: Store, sealer: Sealer, clock: ManualClock
) -> None:
    await kept.save(CLERK, REFERENCE, TYPED, NEW)
    clock.advance(13 * DAY)
    await kept.save(CLERK, REFERENCE, replace(TYPED, texts={}), 1)
    clock.advance(13 * DAY)
    assert await swept(sqlite_store, sealer, clock()) == 0
    clock.advance(1 * DAY)
    with pytest.raises(NotFound):
        await kept.find(CLERK, REFERENCE)
    with pytest.raises(Conflict) as refused:
        await kept.save(CLERK, REFERENCE, TYPED, 2)
    assert refused.value.stable_code == "draft.changed"
    assert await swept(sqlite_store, sealer, clock()) == 1


async def test_what_a_colleague_saved_meanwhile_is_not_lost_and_the_same_again_is_the_same(kept: Drafts) -> None:
    await kept.save(CLERK, REFERENCE, TYPED, NEW)
    assert (await kept.save(CLERK, REFERENCE, TYPED, NEW)).version == 1
    other = replace(TYPED, texts={"applicant.name": "李四"})
    await kept.save(CLERK, REFERENCE, other, 1)
    with pytest.raises(Conflict) as refused:
        await kept.save(CLERK, REFERENCE, replace(TYPED, texts={}), 1)
    assert refused.value.stable_code == "draft.changed"
    assert (await kept.find(CLERK, REFERENCE)).typed == other


async def test_what_was_handed_in_is_a_draft_no_more_and_is_not_made_one_again(
    store: Store, sealer: Sealer, clock: ManualClock
) -> None:
    """From the commit of the case on; a tab that was left open must not bring a second application about."""
    kept = Drafts(store=store, sealer=sealer, clock=clock, life=DRAFT_LIFE)
    await kept.save(CLERK, REFERENCE, TYPED, NEW)
    await hand_in(store, clock())
    assert await kept.all_of(CLERK) == []
    with pytest.raises(NotFound):
        await kept.find(CLERK, REFERENCE)
    for version in (NEW, 1):
        with pytest.raises(Conflict) as refused:
            await kept.save(CLERK, REFERENCE, replace(TYPED, texts={}), version)
        assert refused.value.stable_code == "draft.handed_in"
    assert await swept(store, sealer, clock()) == 1
    await kept.save(CLERK, "f" * 32, replace(TYPED, files={"ID": [("\x00", "x")]}), NEW)
    await kept.discard(CLERK, "f" * 32)
    assert await swept(store, sealer, clock()) == 0


async def test_the_files_of_a_draft_are_kept_for_as_long_and_go_with_it_and_nobody_elses(
    kept: Drafts, sqlite_store: Store, clock: ManualClock
) -> None:
    async def held() -> list[Any]:
        query = select(blobs.c.held_until, blobs.c.state).order_by(blobs.c.id)
        return [tuple(row) for row in await sqlite_store.read(lambda tx: tx.execute(query).all())]

    await upload(sqlite_store, clock(), BLOB)
    await upload(sqlite_store, clock(), "BL" + "1" * 32, owner="pearl-window/GZ-02")
    files = {"ID": [(BLOB, "a.pdf"), ("BL" + "1" * 32, "b.pdf"), ("\x00", "c.pdf")]}
    draft = await kept.save(CLERK, REFERENCE, replace(TYPED, files=files), NEW)
    assert await held() == [(draft.until, "stored"), (None, "stored")]
    await kept.discard(CLERK, REFERENCE)
    assert [state for _, state in await held()] == ["deleting", "stored"]


async def test_a_draft_stays_that_of_its_item_so_that_its_hand_in_ends_it(
    kept: Drafts, sqlite_store: Store, sealer: Sealer, clock: ManualClock
) -> None:
    """A forged form may name another item; as a draft of that one it would stay readable after it was handed in."""
    await kept.save(CLERK, REFERENCE, TYPED, NEW)
    for version in (NEW, 1):
        with pytest.raises(Conflict) as refused:
            await kept.save(CLERK, REFERENCE, replace(TYPED, item="another"), version)
        assert refused.value.stable_code == "draft.changed"
    assert (await kept.find(CLERK, REFERENCE)).typed == TYPED
    await hand_in(sqlite_store, clock())
    with pytest.raises(NotFound):
        await kept.find(CLERK, REFERENCE)


async def test_what_an_application_did_not_take_of_its_draft_is_held_no_longer(
    kept: Drafts, sqlite_store: Store, sealer: Sealer, clock: ManualClock
) -> None:
    """A file of another draft is, and one draft that no key opens keeps no other from being forgotten."""
    left, others = BLOB, "BL" + "1" * 32
    await upload(sqlite_store, clock(), left, others)
    await kept.save(CLERK, REFERENCE, replace(TYPED, files={"ID": [(left, "a"), (others, "b")]}), NEW)
    clock.advance(60)
    last = await kept.save(CLERK, "f" * 32, replace(TYPED, files={"ID": [(others, "b")]}), NEW)
    await hand_in(sqlite_store, clock())
    assert await swept(sqlite_store, sealer, clock()) == 1
    query = select(blobs.c.id, blobs.c.held_until)
    rows = await sqlite_store.read(lambda tx: tx.execute(query).all())
    assert {row.id: row.held_until for row in rows} == {left: None, others: last.until}
    lost = update(submissions).values(client_reference="f" * 32)
    await sqlite_store.write(lambda tx: tx.execute(lost).rowcount)
    assert await swept(sqlite_store, Sealer(bytes(32)), clock()) == 1


async def test_a_window_has_not_more_drafts_than_somebody_can_look_through(kept: Drafts, sqlite_store: Store) -> None:
    await kept.save(CLERK, REFERENCE, TYPED, NEW)

    def many(tx: Connection) -> None:
        row = dict(tx.execute(select(drafts)).mappings().one())
        tx.execute(drafts.insert(), [{**row, "reference": f"{n:032x}"} for n in range(2, MOST + 1)])

    await sqlite_store.write(many)
    with pytest.raises(Conflict) as refused:
        await kept.save(CLERK, "f" * 32, TYPED, NEW)
    assert refused.value.stable_code == "draft.too_many"
    await kept.save(ELSEWHERE, "f" * 32, TYPED, NEW)
    assert (await kept.save(CLERK, REFERENCE, TYPED, NEW)).version == 1, "the same again is the same"


async def test_a_form_whose_draft_is_over_is_saved_anew_at_once(kept: Drafts, clock: ManualClock) -> None:
    """Whether or not the janitor has been there."""
    await kept.save(CLERK, REFERENCE, TYPED, NEW)
    clock.advance(14 * DAY)
    other = replace(TYPED, texts={})
    await kept.save(CLERK, REFERENCE, other, NEW)
    assert (await kept.find(CLERK, REFERENCE)).typed == other


# --- the pages -----------------------------------------------------------------------------------------------------


@pytest.fixture
async def clerk(tmp_path: Path) -> AsyncIterator[Browser]:
    other = replace(WINDOW, id="GZ-02", clerks=[Clerk("C-0500", "guangdong", "another")], seal=None)
    async with browser(tmp_path, fakes=FakeServices(new_signer(), windows=[WINDOW, other])) as one:
        await one.sign_on()
        yield one


BEGUN = {"applicant.name": "张三丰", "applicant.document.type": "CN_RIC", "applicant.document.number": "4401"}


async def saved(clerk: Browser, **more: str) -> str:
    """Save an unfinished form with one file, and return the address of the draft."""
    texts = {**await clerk.open_form(FOSHAN), **BEGUN, "identity_checked": "yes", "sighted.ID": "yes", **more}
    texts["material.PROOF"] = ""  # what a browser sends of a file input that nothing was chosen for
    answer = await clerk.post(f"{FOSHAN}/draft", texts, [("material.ID", "card.pdf", PDF)])
    assert answer.status == 303, answer.page
    return answer.location


def inputs(page: str) -> dict[str, str]:
    """Return the hidden fields of the form and the file that it has already."""
    found = re.findall(r'<input type="(?:hidden|checkbox)" name="([a-z]+|held\.[A-Z]+)" value="([^"]*)"', page)
    return {name: value for name, value in found if name != "identity_checked"}


async def test_an_unfinished_form_is_saved_and_taken_up_as_it_was_left(clerk: Browser) -> None:
    """Neither what is missing nor what is wrong in it is held against it; what a clerk vouches for is asked anew."""
    draft = await saved(clerk)
    status, page = await clerk.get(draft)
    assert (status, 'value="张三丰"' in page, 'value="4401"' in page) == (200, True, True)
    assert "Saved 2026-03-02 10:00 by C-0417; kept until 2026-03-16." in page
    assert "Attached: card.pdf" in page
    assert not re.search(r'name="(identity_checked|sighted\.ID)"[^>]*checked', page)
    assert 'role="alert"' not in page
    assert clerk.fakes.applications == []
    _, home = await clerk.get("/window")
    assert (f'href="{draft}"' in home, "张**" in home, "张三丰" in home) == (True, True, False)
    assert re.search(r'data-state="DRAFT"', page)


async def test_a_draft_is_checked_when_it_is_handed_in_and_twice_is_one_case(clerk: Browser) -> None:
    draft = await saved(clerk)
    _, page = await clerk.get(draft)
    hidden = inputs(page)
    wrong = await clerk.post(FOSHAN, {**hidden, **BEGUN})
    assert (wrong.status, 'id="f-applicant-document-number-problem"' in wrong.page) == (422, True)
    right = filled(hidden)
    assert "held.ID" in right
    answers = [await clerk.post(FOSHAN, right), await clerk.post(FOSHAN, right)]
    assert [answer.status for answer in answers] == [303, 303]
    assert len({answer.location for answer in answers}) == 1
    first, second = clerk.fakes.applications
    assert first == second
    assert draft.endswith(first.reference)


async def test_a_draft_of_another_window_is_not_there(clerk: Browser) -> None:
    draft = await saved(clerk)
    clerk.fakes.person = ("guangdong", "another")
    await clerk.sign_on()
    for path in (draft, "/window/drafts/" + "f" * 32, "/window/drafts/none"):
        status, page = await clerk.get(path)
        assert (status, "There is no such draft" in page) == (404, True)
    _, home = await clerk.get("/window")
    assert draft not in home
    token = (await clerk.open_form("/window"))["csrf"]
    assert (await clerk.post(f"{draft}/discard", {"csrf": token})).status == 303
    clerk.fakes.person = ("guangdong", "clerk-subject")
    await clerk.sign_on()
    assert (await clerk.get(draft))[0] == 200


async def test_an_expired_draft_is_not_shown(tmp_path: Path) -> None:
    async with browser(tmp_path) as one:
        await one.sign_on()
        draft = await saved(one)
        one.fakes.now = NOW + DRAFT_LIFE
        await one.sign_on()  # a session lasts a day
        status, page = await one.get(draft)
        assert (status, "There is no such draft" in page) == (404, True)
        assert "Drafts of this window" not in (await one.get("/window"))[1]


async def test_a_draft_is_discarded_by_a_form_of_this_session_alone(clerk: Browser) -> None:
    draft = await saved(clerk)
    token = (await clerk.open_form(draft))["csrf"]
    assert (await clerk.post(f"{draft}/discard", {"csrf": "guess"})).status == 403
    assert (await clerk.get(draft))[0] == 200
    assert (await clerk.post(f"{draft}/discard", {"csrf": token})).location == "/window"
    assert (await clerk.get(draft))[0] == 404


async def test_a_form_that_a_colleague_saved_meanwhile_comes_back_and_can_be_saved_over(clerk: Browser) -> None:
    draft = await saved(clerk)
    _, page = await clerk.get(draft)
    seen = {**inputs(page), **BEGUN}
    first = await clerk.post(f"{FOSHAN}/draft", {**seen, "mandate": "MD-1"})
    assert (first.status, first.location) == (303, draft)
    second = await clerk.post(f"{FOSHAN}/draft", {**seen, "mandate": "MD-2"})
    assert second.status == 409
    assert "The draft was not saved" in second.page
    assert 'value="MD-2"' in second.page
    again = await clerk.post(f"{FOSHAN}/draft", {**inputs(second.page), **BEGUN, "mandate": "MD-2"})
    assert again.status == 303
    assert 'value="MD-2"' in (await clerk.get(draft))[1]


@pytest.mark.parametrize(
    ("name", "text", "status"),
    [
        ("form.nothing", "x", 422),
        ("applicant.birth_place", "x", 422),
        ("form.insured", "9" * 501, 422),
        ("applicant.name", "x" * (257 * 1024), 413),
        ("csrf", "guess", 403),
        ("reference", "mine", 422),
    ],
)
async def test_limits_hold_for_what_is_kept_as_well(clerk: Browser, name: str, text: str, status: int) -> None:
    texts = {**await clerk.open_form(FOSHAN), name: text}
    answer = await clerk.post(f"{FOSHAN}/draft", texts)
    assert answer.status == status, answer.page
    assert "Drafts of this window" not in (await clerk.get("/window"))[1]


async def test_what_may_not_cross_the_border_is_not_kept_for_a_place_beyond_it(clerk: Browser) -> None:
    """Rule P1: it is not collected, so no draft has it either."""
    texts = {**await clerk.open_form(HONGKONG), "form.diagnosis": "x"}
    assert (await clerk.post(f"{HONGKONG}/draft", texts)).status == 422
    texts = {**await clerk.open_form(FOSHAN), "form.diagnosis": "x", "applicant.document.number": NUMBER}
    assert (await clerk.post(f"{FOSHAN}/draft", texts)).status == 303
