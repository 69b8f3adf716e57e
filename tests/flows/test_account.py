"""The account pages through the real gateway and the simulated authorities: what a person sees, makes and ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import insert, update

from gateway.identity.records import digest
from gateway.storage.tables import evidence, mandates, sign_on_consents, sign_on_sessions, token_families
from tests.flows.account_support import Page, Person, person
from tests.flows.flow_support import CITIZEN, FILING, NEWBORN, World

pytestmark = pytest.mark.asyncio(loop_scope="session")

AGENT = {"agent.name": "黄文员", "agent.document.type": "CN_RIC", "agent.document.number": "440106198806150019"}
PRIVATE = (str(CITIZEN["name"]), "44010619900101900X", "13800000001", "黄文员", "440106198806150019")


@pytest_asyncio.fixture(loop_scope="session")
async def citizen(world: World) -> AsyncIterator[Person]:
    async with person(world) as somebody:
        await somebody.sign_on()
        yield somebody


@pytest_asyncio.fixture(loop_scope="session")
async def stranger(world: World) -> AsyncIterator[Person]:
    """Somebody else, at another browser."""
    async with person(world) as somebody:
        await somebody.sign_on(account="clerk")
        yield somebody


async def session_of(one: Person) -> dict[str, Any]:
    """Return the row of the session that a browser holds."""
    (row,) = await one.world.rows(sign_on_sessions, handle_hash=digest(one.handle))
    return row


def hidden(page: Page) -> list[str]:
    return [word for word in PRIVATE if word in page.text]


# --- signing on ----------------------------------------------------------------------------------------------------


async def test_a_stranger_signs_on_first_and_comes_back_to_the_page_that_was_wanted(world: World) -> None:
    async with person(world) as somebody:
        page = await somebody.sign_on(at="/account/consents")
        assert (page.status, page.url.path, page.heading) == (200, "/account/consents", "Consents")


async def test_the_first_page_shows_who_is_signed_on_and_masks_it(citizen: Person) -> None:
    """Domain rule P9: whoever looks over a shoulder learns little."""
    page = await citizen.open("/account")
    assert "陈**" in page.words
    assert "900X" in page.words
    assert hidden(page) == []


async def test_every_page_keeps_the_strict_policy_and_loads_nothing_foreign(citizen: Person) -> None:
    for path in ("/account", "/account/sessions", "/account/consents", "/account/mandates", "/account/mandates/new",
                 "/account/links"):  # fmt: skip
        answer = await citizen.session.get(citizen.here + path)
        assert answer.status == 200
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Cache-Control"] == "no-store"
        text = await answer.text()
        assert "<script" not in text
        assert "style=" not in text
        assert " onclick=" not in text


async def test_every_input_has_a_label_and_every_page_one_heading(citizen: Person) -> None:
    for path in ("/account", "/account/sessions", "/account/consents", "/account/mandates", "/account/mandates/new",
                 "/account/links", "/account/links/new?region=hongkong"):  # fmt: skip
        page = await citizen.open(path)
        assert page.status == 200
        document = page.document
        assert len(document.xpath("//h1")) == 1
        for field in document.xpath("//input[not(@type='hidden')] | //select"):
            labelled = document.xpath("//label[@for=$id]", id=field.get("id") or "-") or field.xpath("ancestor::label")
            assert labelled, f"{path}: {field.get('name')}"
        ids = document.xpath("//@id")
        assert len(ids) == len(set(ids))


@pytest.mark.parametrize("language", ["zh-CN", "en"])
async def test_the_pages_speak_the_language_of_the_browser(citizen: Person, language: str) -> None:
    page = await citizen.open(f"/account/mandates?lang={language}")
    assert page.heading == {"zh-CN": "授权委托", "en": "Mandates"}[language]


@pytest.mark.parametrize(
    "wanted", ["https://evil.example/", "//evil.example", "/window", "/account/../window", "/account/x?next=y", ""]
)
async def test_no_address_but_our_own_is_returned_to(citizen: Person, wanted: str) -> None:
    """Guarded by the pattern in `read_wish`."""
    page = await citizen.follow("GET", "/account/sign-in", params={"next": wanted})
    assert (page.status, page.url.host, page.url.path) == (200, "127.0.0.1", "/account")


@pytest.mark.parametrize("state", ["", "x", "AAAA", "é"])
async def test_an_answer_that_these_pages_did_not_ask_for_is_refused(citizen: Person, state: str) -> None:
    """Guarded by the seal of `state`: nobody makes up where a browser goes after a sign-on."""
    page = await citizen.follow("GET", "/account/callback", params={"state": state, "code": "c", "iss": citizen.here})
    assert page.status == 400
    assert "signon.state" in page.text


# --- sessions ------------------------------------------------------------------------------------------------------


async def test_a_session_shows_the_services_that_hold_access_by_it(citizen: Person) -> None:
    row, now = await session_of(citizen), datetime.now(UTC)
    family = {
        "id": "F" + row["id"][:30], "client_id": "demo-portal", "session_id": row["id"], "scope": "openid",
        "claims": {}, "acr": "x", "created_at": now, "expires_at": now + timedelta(hours=1),
    }  # fmt: skip
    await citizen.world.store.write(lambda tx: tx.execute(insert(token_families).values(**family)).rowcount)
    page = await citizen.open("/account/sessions")
    assert "Demo portal (relying party)" in page.words
    assert "this browser" in page.words


async def test_signing_out_ends_the_session_and_the_page_asks_to_sign_on_again(citizen: Person) -> None:
    row = await session_of(citizen)
    out = await citizen.send(await citizen.open("/account"), "/account/sessions/end")
    assert out.heading == "Signed out"
    (ended,) = await citizen.world.rows(sign_on_sessions, id=row["id"])
    assert ended["ended_at"] is not None
    again = await citizen.open("/account")
    assert again.url.path == "/sign-in"


async def test_one_browser_ends_the_sign_on_of_another_of_the_same_person(world: World, citizen: Person) -> None:
    async with person(world) as elsewhere:
        await elsewhere.sign_on()
        other = await session_of(elsewhere)
        page = await citizen.open("/account/sessions")
        await citizen.send(page, "/account/sessions/end", {"session": other["id"]})
        assert (await elsewhere.open("/account")).url.path == "/sign-in"
        assert (await citizen.open("/account")).heading == "My account"


async def test_all_sign_ons_of_a_person_end_together_and_nobody_elses(citizen: Person, stranger: Person) -> None:
    out = await citizen.send(await citizen.open("/account/sessions"), "/account/sessions/end-all")
    assert out.heading == "Signed out"
    assert (await citizen.open("/account")).url.path == "/sign-in"
    assert (await stranger.open("/account")).heading == "My account"


async def test_nobody_ends_the_sign_on_of_somebody_else(citizen: Person, stranger: Person) -> None:
    """Guarded by `_mine` in every statement."""
    victim = await session_of(citizen)
    page = await stranger.open("/account")
    refused = await stranger.send(page, "/account/sessions/end", session=victim["id"])
    assert (refused.status, "account.no_such_session" in refused.text) == (404, True)
    assert (await citizen.open("/account")).heading == "My account"


# --- forms ---------------------------------------------------------------------------------------------------------

CHANGES = (
    "/account/sessions/end", "/account/sessions/end-all", "/account/consents/revoke", "/account/mandates/new",
    "/account/mandates/revoke", "/account/links/new", "/account/links/end",
)  # fmt: skip


@pytest.mark.parametrize("path", CHANGES)
async def test_a_form_from_another_site_changes_nothing(citizen: Person, stranger: Person, path: str) -> None:
    """Guarded by the token in `read_form`; another person's token is as wrong as none."""
    foreign = (await stranger.open("/account")).form("/account/sessions/end").form_values()
    for token in ("", "x", dict(foreign)["csrf"]):
        row = await session_of(citizen)
        refused = await citizen.post(path, ("csrf", token), ("session", row["id"]), ("agreed", "yes"))
        assert (refused.status, "account.csrf" in refused.text) == (403, True)
        assert (await citizen.open("/account")).heading == "My account"


@pytest.mark.parametrize("path", CHANGES)
async def test_a_form_without_a_session_is_refused_and_not_led_to_a_sign_on(world: World, path: str) -> None:
    async with person(world) as nobody:
        refused = await nobody.post(path, ("csrf", "x"))
        assert (refused.status, "account.session_ended" in refused.text) == (403, True)


async def test_a_form_that_is_no_form_is_refused_without_a_fault(citizen: Person) -> None:
    for body in (b"\xff\xfe=1", b"a=" + b"x" * 70000, b"&".join(b"a=1" for _ in range(500))):
        page = await citizen.follow("POST", "/account/mandates/new", data=body)
        assert page.status in {403, 413, 422}


# --- consents ------------------------------------------------------------------------------------------------------


async def consented(one: Person) -> str:
    """Record a consent of this person, and a token that a service got by it; return the consent's id."""
    row, now = await session_of(one), datetime.now(UTC)
    consent = {
        "id": "CR" + row["id"][:30], "client_id": "demo-portal", "subject_ref": row["subject_ref"],
        "region": row["region"], "recipient": "440100", "claims": ["name", "birthdate"],
        "shown": {"language": "en", "digest": "0" * 64, "purpose": "p", "declined": []},
        "given_at": now, "expires_at": now + timedelta(days=1),
    }  # fmt: skip
    family = {
        "id": "G" + row["id"][:30], "client_id": "demo-portal", "session_id": row["id"], "scope": "openid",
        "claims": {}, "acr": "x", "created_at": now, "expires_at": now + timedelta(hours=1),
    }  # fmt: skip

    def unit(tx: Any) -> None:
        tx.execute(insert(sign_on_consents).values(**consent))
        tx.execute(insert(token_families).values(**family))

    await one.world.store.write(unit)
    return str(consent["id"])


async def test_a_consent_is_shown_and_taken_back_with_what_was_got_by_it(citizen: Person) -> None:
    consent = await consented(citizen)
    page = await citizen.open("/account/consents")
    assert "Date of birth" in page.words
    after = await citizen.send(page, "/account/consents/revoke", {"consent": consent})
    assert "ended" in after.words
    row = await session_of(citizen)
    (family,) = await citizen.world.rows(token_families, id="G" + row["id"][:30])
    assert family["revoked_at"] is not None


async def test_nobody_takes_back_the_consent_of_somebody_else(citizen: Person, stranger: Person) -> None:
    consent = await consented(citizen)
    mine = await consented(stranger)
    page = await stranger.open("/account/consents")
    refused = await stranger.send(page, "/account/consents/revoke", {"consent": mine}, consent=consent)
    assert (refused.status, "account.no_such_consent" in refused.text) == (404, True)


# --- mandates ------------------------------------------------------------------------------------------------------


async def given(one: Person, **changes: Any) -> Page:
    """Fill in the form of a mandate and send it."""
    fields = {**AGENT, "relation": "family", "items": [FILING], "agreed": "yes", **changes}
    return await one.send(await one.open("/account/mandates/new"), "/account/mandates/new", **fields)


async def newest(world: World) -> dict[str, Any]:
    return max(await world.rows(mandates), key=lambda row: row["created_at"])


async def test_a_person_gives_a_mandate_and_the_agent_files_by_it_until_it_is_ended(
    world: World, citizen: Person
) -> None:
    """The whole way: consent on the page, use at an agency, revocation on the page, refusal at the agency."""
    page = await given(citizen)
    assert page.url.path == "/account/mandates"
    assert "in force" in page.words
    assert hidden(page) == []
    mandate = str((await newest(world))["id"])
    agent = {"name": "黄文员", "document": {"type": "CN_RIC", "number": "440106198806150019"}}
    await world.file("guangdong", agent=agent, mandate=mandate)
    await citizen.send(page, "/account/mandates/revoke", {"mandate": mandate})
    body = await world.application("guangdong", agent=agent, mandate=mandate)
    refusal = await world.refused(lambda: world.ask("POST", "/v1/submissions", body))
    assert refusal.code == "delegation.revoked"


async def test_the_consent_of_a_mandate_is_in_evidence_by_reference(world: World, citizen: Person) -> None:
    await given(citizen)
    mandate = str((await newest(world))["id"])
    (row,) = [row for row in await world.rows(evidence, action="mandate.make") if row["what"].get("mandate") == mandate]
    session = await session_of(citizen)
    assert (row["outcome"], row["who"]) == ("done", {"person": session["subject_ref"], "region": "guangdong"})
    assert [word for word in PRIVATE if word in repr(row)] == []


async def test_the_agent_sees_it_and_may_give_it_back(world: World, citizen: Person, stranger: Person) -> None:
    await given(citizen)
    mandate = str((await newest(world))["id"])
    page = await stranger.open("/account/mandates")
    assert "Given to you" in page.words
    await stranger.send(page, "/account/mandates/revoke", {"mandate": mandate})
    assert (await newest(world))["revoked_by"] == "agent"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"items": None}, "Choose at least one item."),
        ({"items": ["*"]}, "One of these items is offered no more."),
        ({"agent.name": ""}, "Fill this in."),
        ({"agent.document.number": "440106198806150018"}, "has a wrong check digit"),
        ({"agent.document.type": ""}, "Choose one of the values offered."),
        ({"relation": "guardian"}, "Choose one of the values offered."),
        ({"relation": "agency"}, "This relation does not fit"),
        ({"valid_until": "2020-01-01"}, "The last day lies before the first."),
        ({"valid_until": "2099-01-01"}, "This is longer than a mandate may run here."),
        ({"valid_from": "soon"}, "Enter a date that exists"),
        ({"agreed": None}, "Without your agreement nothing is done."),
        ({"agent.name": "陈小明", "agent.document.number": "44010619900101900X"}, "This is yourself"),
    ],
)
async def test_a_mandate_that_may_not_be_is_shown_again_with_what_is_wrong(
    world: World, citizen: Person, changes: dict[str, Any], words: str
) -> None:
    """What was typed is still there, and the summary of problems has the focus."""
    before = len(await world.rows(mandates))
    page = await given(citizen, **changes)
    assert (page.status, page.heading) == (422, "Give a mandate")
    summary = page.document.get_element_by_id("problems")
    assert words in " ".join(summary.text_content().split())
    assert (summary.get("role"), summary.get("tabindex"), "autofocus" in summary.attrib) == ("alert", "-1", True)
    for link in summary.xpath(".//a/@href"):
        assert page.document.get_element_by_id(str(link).removeprefix("#")) is not None
    assert page.document.xpath("//input[@name='items'][@checked]/@value") == [
        value for value in (changes.get("items", [FILING]) or []) if value != "*"
    ]
    assert len(await world.rows(mandates)) == before


async def test_a_password_alone_gives_no_mandate_and_the_way_leads_to_a_surer_sign_on(world: World) -> None:
    """Guarded by the level in `blank_mandate` and, for a form that is sent all the same, by the rules."""
    async with person(world) as somebody:
        await somebody.sign_on(method="1")
        assert (await session_of(somebody))["assurance"] == 1
        chooser = await somebody.open("/account/mandates/new")
        assert chooser.url.path == "/sign-in"
        token = dict((await somebody.open("/account")).form("/account/sessions/end").form_values())["csrf"]
        fields = [*AGENT.items(), ("relation", "family"), ("items", FILING), ("agreed", "yes"), ("csrf", token),
                  ("valid_from", f"{datetime.now(UTC):%Y-%m-%d}"), ("valid_until", "2098-01-01")]  # fmt: skip
        refused = await somebody.post("/account/mandates/new", *fields)
        assert (refused.status, "Sign on by a surer method first." in refused.words) == (422, True)


async def test_somebody_whom_the_region_names_by_no_document_is_told_where_to_go(world: World) -> None:
    """Hong Kong tells no number by default (domain rule P6), and the pages do not ask for one."""
    async with person(world) as somebody:
        await somebody.sign_on("hongkong", "hk-citizen")
        page = await somebody.open("/account/mandates")
        assert "A window can record it on paper." in page.words
        refused = await somebody.open("/account/mandates/new")
        assert (refused.status, "account.no_document" in refused.text) == (403, True)


async def test_nobody_ends_the_mandate_of_others(world: World, citizen: Person) -> None:
    await given(citizen, items=[NEWBORN])
    mandate = str((await newest(world))["id"])
    async with person(world) as somebody:
        await somebody.sign_on(account="hk-resident")
        token = dict((await somebody.open("/account")).form("/account/sessions/end").form_values())["csrf"]
        refused = await somebody.post("/account/mandates/revoke", ("csrf", token), ("mandate", mandate))
        assert (refused.status, "delegation.unknown" in refused.text) == (404, True)
    assert (await newest(world))["revoked_at"] is None


async def test_a_session_that_was_ended_elsewhere_opens_no_page(world: World, citizen: Person) -> None:
    row = await session_of(citizen)
    ended = update(sign_on_sessions).where(sign_on_sessions.c.id == row["id"]).values(ended_at=datetime.now(UTC))
    await world.store.write(lambda tx: tx.execute(ended).rowcount)
    for path in ("/account", "/account/sessions", "/account/consents", "/account/mandates", "/account/links"):
        assert (await citizen.open(path)).url.path == "/sign-in"
