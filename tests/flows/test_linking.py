"""Linking through the real gateway and two simulated authorities: one browser, two sign-ons, one agreement."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import delete, update

from adapters.guangdong import sandbox_accounts
from adapters.hongkong.sandbox_sign_on import Grant, SignOn
from gateway.identity.broker import OLDEST_PROOF
from gateway.identity.records import digest
from gateway.storage.tables import evidence, identity_links, sign_on_interactions, sign_on_sessions
from tests.flows.account_support import Page, Person, live_sessions, person
from tests.flows.flow_support import World

pytestmark = pytest.mark.asyncio(loop_scope="session")

FORM = "/account/links/new"
WAYS = [("guangdong", "hk-resident", "hongkong", "Hong Kong"), ("hongkong", "hk-citizen", "guangdong", "Guangdong")]
"""Region of the first sign-on, account there, region to link with, and its name."""


@pytest_asyncio.fixture(loop_scope="session")
async def resident(world: World) -> AsyncIterator[Person]:
    """Somebody of Hong Kong, signed on just now and linked with nobody."""
    ended = update(identity_links).where(identity_links.c.ended_at.is_(None)).values(ended_at=datetime.now(UTC))
    left = delete(sign_on_interactions).where(sign_on_interactions.c.kind == "link")
    await world.store.write(lambda tx: [tx.execute(one).rowcount for one in (ended, left)])
    async with person(world) as somebody:
        await somebody.sign_on("hongkong", "hk-citizen")
        yield somebody


async def live(world: World) -> list[dict[str, Any]]:
    return [row for row in await world.rows(identity_links) if row["ended_at"] is None]


async def onward(one: Person, region: str = "guangdong") -> Page:
    """Agree, and stand before the link to the second sign-on."""
    page = await one.send(await one.open(f"{FORM}?region={region}"), FORM, agreed="yes")
    assert page.status == 200, page.words
    return page


async def second(one: Person, page: Page, account: str, method: str = "3") -> Page:
    """Follow the link and sign on at the other region."""
    return await one.sign_in(await one.open(way(page)), account, method)


def say_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the authorities of both regions leave out when the person proved it, whatever they are asked for."""
    told = SignOn._told

    def silent(authority: SignOn, grant: Grant, token: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in told(authority, grant, token).items() if name != "authTime"}

    monkeypatch.setattr(SignOn, "_told", silent)
    monkeypatch.setattr(sandbox_accounts, "moment", lambda _at: "-1")


async def fresh_on_the_mainland(one: Person) -> Page:
    """Sign on for the form itself, which asks for a fresh proof: Guangdong states the time of no other."""
    page = await one.sign_on(account="hk-resident", at=f"{FORM}?region=hongkong")
    assert (page.status, page.heading) == (200, "Link with Hong Kong")
    return page


def way(page: Page) -> str:
    (link,) = page.document.xpath("//main//a[starts-with(@href, '/sign-in/')]/@href")
    return str(link)


# --- the whole way -------------------------------------------------------------------------------------------------


async def test_a_resident_links_the_two_accounts_and_ends_the_link_again(world: World, resident: Person) -> None:
    page = await second(resident, await onward(resident), "hk-resident")
    assert page.url.path == "/account/links"
    assert "The two accounts are linked." in page.words
    (link,) = await live(world)
    assert (link["one_region"], link["other_region"]) == ("guangdong", "hongkong")
    page = await resident.send(page, "/account/links/end", {"link": link["id"]})
    assert "The link has ended." in page.words
    assert await live(world) == []


async def test_it_begins_on_the_mainlands_side_as_well(world: World, resident: Person) -> None:
    async with person(world) as somebody:
        await fresh_on_the_mainland(somebody)
        page = await second(somebody, await onward(somebody, "hongkong"), "hk-citizen")
        assert "The two accounts are linked." in page.words
    assert "Guangdong" in (await resident.open("/account/links")).document.xpath("string(//section)")


async def test_the_second_sign_on_leaves_the_first_session_and_makes_no_other(world: World, resident: Person) -> None:
    """The browser stays who it was: nobody finds themselves signed on as the mainland account."""
    handle, before = resident.handle, len(await live_sessions(world, "guangdong"))
    await second(resident, await onward(resident), "hk-resident")
    assert resident.handle == handle
    assert len(await live_sessions(world, "guangdong")) == before
    assert "Hong Kong" in (await resident.open("/account")).words


async def test_the_agreement_is_kept_by_language_and_digest_of_what_was_shown(world: World, resident: Person) -> None:
    form = (await resident.open(f"{FORM}?region=guangdong")).form(FORM)
    shown = dict(form.form_values())
    await second(resident, await onward(resident), "hk-resident")
    (link,) = await live(world)
    (row,) = [row for row in await world.rows(evidence, action="link.make") if row["what"].get("link") == link["id"]]
    assert row["what"]["agreement"] == {"language": "en", "sha256": shown["digest"]}


async def test_no_page_of_one_side_shows_anything_of_the_other(resident: Person) -> None:
    page = await second(resident, await onward(resident), "hk-resident")
    for path in ("/account", "/account/links", "/account/mandates"):
        page = await resident.open(path)
        assert [word for word in ("H00000001", "陈大文", "13800000081", "A1234563") if word in page.text] == []


# --- what makes none -----------------------------------------------------------------------------------------------


async def test_an_account_without_a_permit_is_not_linked(world: World, resident: Person) -> None:
    page = await second(resident, await onward(resident), "citizen")
    assert "is not bound to a home-return permit" in page.words
    assert await live(world) == []


async def test_a_password_alone_at_the_second_region_links_nothing(world: World, resident: Person) -> None:
    page = await second(resident, await onward(resident), "hk-resident", method="1")
    assert "The two accounts are linked." not in page.words
    assert await live(world) == []


async def test_without_the_agreement_nothing_begins(world: World, resident: Person) -> None:
    page = await resident.open(f"{FORM}?region=guangdong")
    again = await resident.send(page, FORM)
    assert again.status == 422
    assert again.document.get_element_by_id("problems").get("role") == "alert"
    assert await world.rows(sign_on_interactions, kind="link") == []


@pytest.mark.parametrize("changes", [{"digest": "0" * 64}, {"language": "zh-CN"}, {"language": "fr"}, {"digest": ""}])
async def test_a_text_that_was_not_shown_is_not_agreed_to(
    world: World, resident: Person, changes: dict[str, Any]
) -> None:
    """Guarded by the digest in `begin_link`: the text is shown again, as it is now."""
    page = await resident.open(f"{FORM}?region=guangdong")
    again = await resident.send(page, FORM, agreed="yes", **changes)
    assert again.heading == "Link with Guangdong"
    assert await world.rows(sign_on_interactions, kind="link") == []


@pytest.mark.parametrize("region", ["hongkong", "nowhere", "", "foshan"])
async def test_a_region_that_cannot_be_linked_with_is_not_offered(resident: Person, region: str) -> None:
    assert (await resident.open(f"{FORM}?region={region}")).status == 404


async def test_another_browser_cannot_take_the_second_step(world: World, resident: Person) -> None:
    """Guarded by the browser's handle in the interaction: a link that was sent to a victim leads nowhere."""
    address = way(await onward(resident))
    async with person(world) as victim:
        await victim.sign_on(account="hk-resident")
        page = await victim.open(address)
        assert page.status == 400
        assert "This sign-on has ended" in page.words
    assert await live(world) == []


async def test_signing_out_in_between_ends_the_attempt(world: World, resident: Person) -> None:
    page = await onward(resident)
    await resident.send(await resident.open("/account"), "/account/sessions/end")
    await second(resident, page, "hk-resident")
    assert await live(world) == []
    assert (await world.rows(evidence, action="link.make", reason="link.session_over"))[-1]["outcome"] == "refused"


async def test_a_sign_on_that_is_not_fresh_is_made_anew_first(world: World, resident: Person) -> None:
    """Guarded by `is_fresh` before the form is shown: then the region is asked for a proof made now."""
    earlier = datetime.now(UTC) - timedelta(minutes=11)
    mine = update(sign_on_sessions).where(sign_on_sessions.c.handle_hash == digest(resident.handle))
    await world.store.write(lambda tx: tx.execute(mine.values(authenticated_at=earlier)).rowcount)
    chooser = await resident.open(f"{FORM}?region=guangdong")
    assert chooser.url.path == "/sign-in"
    page = await resident.sign_in(await resident.choose(chooser, "hongkong"), "hk-citizen")
    assert (page.status, page.heading) == (200, "Link with Guangdong")


async def test_an_agreement_posted_without_the_form_begins_no_link_before_a_fresh_proof(world: World) -> None:
    """Guarded by `is_fresh` in `Linking.begin`: the page is not the only way to the form."""
    async with person(world) as somebody:
        form = await fresh_on_the_mainland(somebody)
        unstated = datetime.now(UTC) - OLDEST_PROOF
        mine = update(sign_on_sessions).where(sign_on_sessions.c.handle_hash == digest(somebody.handle))
        await world.store.write(lambda tx: tx.execute(mine.values(authenticated_at=unstated)).rowcount)
        before = await world.rows(sign_on_interactions, kind="link")
        page = await somebody.send(form, FORM, agreed="yes")
        assert page.url.query.get("outcome") == "link.stale"
        assert await world.rows(sign_on_interactions, kind="link") == before


@pytest.mark.parametrize(("region", "account", "partner", "name"), WAYS)
async def test_a_proof_of_unstated_time_begins_no_link_before_a_fresh_proof(
    world: World, monkeypatch: pytest.MonkeyPatch, region: str, account: str, partner: str, name: str
) -> None:
    """Guarded by `_proved_at` in `broker`: else whoever finds a region's own session begins a link by it, unasked.

    Asked for a fresh proof the region states the time, and the way goes on.
    """
    say_no_time(monkeypatch)
    async with person(world) as somebody:
        await somebody.sign_on(region, account)
        chooser = await somebody.open(f"{FORM}?region={partner}")
        assert chooser.url.path == "/sign-in"
        monkeypatch.undo()
        page = await somebody.sign_in(await somebody.choose(chooser, region), account)
        assert (page.status, page.heading) == (200, f"Link with {name}")
        await onward(somebody, partner)


@pytest.mark.parametrize(("region", "account", "partner"), [way[:3] for way in WAYS])
async def test_nobody_is_sent_round_in_circles_by_a_region_that_never_states_the_time(
    world: World, monkeypatch: pytest.MonkeyPatch, region: str, account: str, partner: str
) -> None:
    """The adapter refuses the answer, and the chooser says so: no link by this region, but everything else."""
    say_no_time(monkeypatch)
    async with person(world) as somebody:
        await somebody.sign_on(region, account)
        chooser = await somebody.open(f"{FORM}?region={partner}")
        page = await somebody.sign_in(await somebody.choose(chooser, region), account)
        assert page.url.path == "/sign-in"
        assert page.document.xpath("//main//*[@role='alert']") != []
        assert (await somebody.open("/account")).status == 200


async def test_whoever_gives_up_comes_back_and_nothing_is_left(world: World, resident: Person) -> None:
    interaction = way(await onward(resident)).partition("interaction=")[2]
    page = await resident.open(f"/oauth2/authorize/cancel?interaction={interaction}")
    assert page.url.path == "/account/links"
    assert await world.rows(sign_on_interactions, kind="link") == []


async def test_a_made_up_outcome_says_nothing(resident: Person) -> None:
    page = await resident.open("/account/links?outcome=%3Cscript%3Ealert(1)%3C/script%3E")
    assert page.document.xpath("//main//*[@role]") == []
    assert "alert(1)" not in page.document.xpath("string(//main)")


async def test_an_account_that_is_linked_already_is_not_linked_to_somebody_else(world: World, resident: Person) -> None:
    """Both ends are unique while the link lives; whoever comes second with the same mainland account is refused."""
    await second(resident, await onward(resident), "hk-resident")
    page = await second(resident, await onward(resident), "hk-resident")
    assert "linked already" in page.words
    stolen = update(identity_links).where(identity_links.c.ended_at.is_(None)).values(other_ref="somebody-else")
    await world.store.write(lambda tx: tx.execute(stolen).rowcount)
    page = await second(resident, await onward(resident), "hk-resident")
    assert "is linked to another account" in page.words
