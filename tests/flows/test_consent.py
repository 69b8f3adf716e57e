"""What a service gets of a person: recognised first, asked then, and across a border only what may cross."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from gateway.domain.identity import Assurance
from gateway.domain.region import place_of
from gateway.identity.linked import Links
from gateway.identity.linking import Side
from gateway.policy.recognition import Line, Recognition
from gateway.policy.transfer import Basis
from gateway.storage import Store
from gateway.storage.tables import sign_on_consents
from tests.support.sign_on import Browser, Request, World, choice, open_world, parameters

EVERYBODY = {"regions": ["guangdong", "hongkong"], "services": ["*"], "purposes": ["sign-on"], "kinds": ["person"]}
HOME = Basis.model_validate({"kind": "GBA-SC-HK", "origin": "810000", "target": "440100", "reference": "R-1"})
SAYS: dict[str, Any] = {
    "contact": "portal@gateway.test", "purpose": {"en": "To book a visit"}, "legal_basis": "PIPL 13", "consent": "ask",
}  # fmt: skip


@asynccontextmanager
async def world_of(
    folder: Path,
    store: Store,
    *bases: Basis,
    least: str = "A1",
    regions: Sequence[str] = ("guangdong", "hongkong"),
    links: Links | None = None,
) -> AsyncIterator[World]:
    """Run a world with one line in its matrix, and a portal that asks and says what for."""
    line = Line.model_validate({**EVERYBODY, "least": least, "regions": regions})
    async with open_world(folder, {}, store, recognition=Recognition({1: line}), bases=bases, links=links) as world:
        world.clients["portal"] = replace(world.clients["portal"], **SAYS)
        world.regions["hongkong"] = replace(world.regions["hongkong"], place=place_of("810000"))
        yield world


@pytest.fixture
async def world(tmp_path: Path, sqlite_store: Store) -> AsyncIterator[World]:
    async with world_of(tmp_path, sqlite_store, HOME) as opened:
        yield opened


class Person(Browser):
    """A browser whose person answers the consent page."""

    async def asked(self, request: Request, region: str = "guangdong") -> str:
        """Sign on, and return the consent page in English."""
        page = await self.through(request.url(), region)
        assert page.startswith("/sign-in/consent?"), page
        return await self.read(page)

    async def read(self, address: str) -> str:
        answer = await self.get(f"{address}&lang=en")
        assert answer.status == 200
        return html.unescape(await answer.text())

    async def answer(self, page: str, *given: str, **changes: str) -> Any:
        """Send the form of the page, with these boxes ticked."""
        hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page))
        form = {**hidden, "decision": "agree", **{f"claim.{claim}": "1" for claim in given}, **changes}
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return await self.world.http.post(
            "/sign-in/consent", data=form, headers={"Cookie": cookies}, allow_redirects=False
        )

    async def claims(self, request: Request, back: Mapping[str, str]) -> dict[str, Any]:
        """Redeem the code and return what userinfo says."""
        status, body = await self.world.token(**request.redemption(back["code"]))
        assert status == 200, body
        told: dict[str, Any] = await (await self.world.userinfo(body["access_token"])).json()
        del told["sub"]
        return told


async def sent(answer: Any) -> dict[str, str]:
    """Return what the page that leads on to the service carries there.

    A page and no redirect: `form-action` would stop the redirect of a form to another site.
    """
    text = await answer.text()
    assert (answer.status, "Location" in answer.headers) == (200, False)
    (refresh,) = re.findall(r'http-equiv="refresh" content="0; url=([^"]+)"', text)
    (link,) = re.findall(r'id="onward" href="([^"]+)"', text)
    assert refresh == link
    return parameters(html.unescape(link))


async def records(store: Store) -> list[Any]:
    return await store.read(lambda tx: list(tx.execute(select(sign_on_consents))))


# --- asked -------------------------------------------------------------------------------------------------------


async def test_a_person_is_asked_once_and_the_service_gets_what_was_agreed(world: World) -> None:
    person, request = Person(world), Request()
    page = await person.asked(request)
    for part in ("To book a visit", "portal@gateway.test", "Ground: PIPL 13", "Guangdong", "Date of birth"):
        assert part in page
    assert "separate consent" not in page
    back = await sent(await person.answer(page, "name", "gender", "birthdate"))
    told = await person.claims(request, back)
    assert told == {"name": "李芳", "gender": "female", "birthdate": "1949-12-31"}
    again = Request()
    assert await person.claims(again, parameters(await person.to(again.url()))) == told
    assert len(await records(world.store)) == 1


async def test_a_linked_account_is_asked_about_only_while_it_counts(tmp_path: Path, sqlite_store: Store) -> None:
    """Nobody is asked for what would not go out: the account's region is closed, or counts for nothing here.

    Guarded by `counting` in `Disclosure._linked`.
    """
    sides, asked = [Side("hongkong", "ref", "hk-1", Assurance.A2)], 'name="claim.linked_accounts"'
    async with world_of(tmp_path, sqlite_store, links=lambda _tx, _region, _ref: sides) as world:
        world.clients["portal"] = replace(world.clients["portal"], scopes=frozenset({"openid", "profile", "linked"}))
        request = Request(scope="openid profile linked")
        assert asked in await Person(world).asked(request)
        await world.service.switches.close("hongkong", "key leaked", "li")
        assert asked not in await Person(world).asked(request)
        await world.service.switches.open("hongkong", "new key", "li")
        assert asked in await Person(world).asked(request)
        sides[:] = [Side("hongkong", "ref", "hk-1", Assurance.A0)]
        assert asked not in await Person(world).asked(request)


async def test_openid_alone_asks_nothing(world: World) -> None:
    request = Request(scope="openid")
    assert await Person(world).claims(request, await Person(world).sign_on(request)) == {}


async def test_a_service_that_wants_no_page_hears_that_one_is_needed(world: World) -> None:
    person = Person(world)
    await person.sign_on(Request(scope="openid"))
    back = parameters(await person.to(Request(extra={"prompt": "none"}).url()))
    assert back["error"] == "consent_required"


async def test_a_person_may_say_no_and_nothing_is_kept(world: World) -> None:
    person = Person(world)
    page = await person.asked(Request())
    assert (await sent(await person.answer(page, decision="decline")))["error"] == "access_denied"
    assert await records(world.store) == []


async def test_a_box_that_is_not_ticked_is_a_no_that_is_remembered(world: World) -> None:
    """The person is not worn down by the same question; `prompt=consent` asks again."""
    person, request = Person(world), Request()
    back = await sent(await person.answer(await person.asked(request), "name"))
    assert await person.claims(request, back) == {"name": "李芳"}
    quiet = Request()
    assert await person.claims(quiet, parameters(await person.to(quiet.url()))) == {"name": "李芳"}
    page = await person.read(await person.to(Request(extra={"prompt": "consent"}).url()))
    assert "Date of birth" in page


async def test_an_essential_claim_has_no_box_and_goes_with_the_agreement(world: World) -> None:
    wish = '{"userinfo": {"phone_number": {"essential": true}}}'
    person, request = Person(world), Request(scope="openid", extra={"claims": wish})
    page = await person.asked(request)
    assert '<strong>Phone</strong> <span class="badge plain">required</span>' in page
    assert await person.claims(request, await sent(await person.answer(page))) == {"phone_number": "+8613800000000"}


async def test_a_page_that_is_out_of_date_is_shown_again_and_nothing_is_agreed(world: World) -> None:
    """The service changed its purpose between page and answer. Guarded by the comparison of digests."""
    person = Person(world)
    page = await person.asked(Request())
    world.clients["portal"] = replace(world.clients["portal"], purpose={"en": "To advertise"})
    answer = await person.answer(page, "name")
    assert answer.status == 200
    assert await records(world.store) == []
    answer = await person.answer(html.unescape(await answer.text()), "name")
    assert "code" in await sent(answer)


async def test_a_box_that_was_not_offered_gives_nothing(world: World) -> None:
    """A form can say anything; what counts is what the page offered."""
    person, request = Person(world), Request()
    back = await sent(await person.answer(await person.asked(request), "name", "document", "phone_number"))
    assert await person.claims(request, back) == {"name": "李芳"}


async def test_a_client_of_the_gateways_own_asks_nobody_within_a_territory(world: World) -> None:
    world.clients["portal"] = replace(world.clients["portal"], consent="trusted")
    request = Request()
    assert "name" in await Person(world).claims(request, await Person(world).sign_on(request))


async def test_where_nothing_is_offered_nobody_is_asked_even_on_demand(world: World) -> None:
    """A page without a question would take the place of the consent of before by nothing."""
    person = Person(world)
    await person.answer(await person.asked(Request()), "name", "gender", "birthdate")
    assert "code=" in await person.to(Request(scope="openid", extra={"prompt": "consent"}).url())
    assert "code=" in await person.to(Request().url())


# --- across a border ---------------------------------------------------------------------------------------------


async def test_across_a_border_the_page_says_so_and_the_number_stays(world: World) -> None:
    world.providers["hongkong"].says = {"document": {"type": "HKID", "number": "A1234563"}}
    person, request = Person(world), Request(scope="openid profile document")
    page = await person.asked(request, "hongkong")
    assert "The data leave Hongkong and its law for Guangzhou, Guangdong, where another law applies." in page
    assert "Ground: the standard contract of the Greater Bay Area (mainland and Hong Kong) R-1" in page
    assert "Asked for, but not given by this gateway: Type and number of the identity document" in page
    told = await person.claims(request, await sent(await person.answer(page, "name", "document")))
    assert told == {"name": "李芳"}


async def test_without_a_basis_nothing_crosses_and_nobody_is_asked(tmp_path: Path, sqlite_store: Store) -> None:
    async with world_of(tmp_path, sqlite_store) as world:
        request = Request()
        assert await Person(world).claims(request, await Person(world).sign_on(request, "hongkong")) == {}


async def test_what_one_person_agreed_to_is_nobody_elses_word(world: World) -> None:
    person = Person(world)
    await person.answer(await person.asked(Request()), "name")
    world.providers["guangdong"].subject = "gd-2"
    assert "Date of birth" in await Person(world).asked(Request())


# --- recognised --------------------------------------------------------------------------------------------------


async def test_a_region_that_cannot_count_is_not_offered_and_does_not_count(
    tmp_path: Path, sqlite_store: Store
) -> None:
    async with world_of(tmp_path, sqlite_store, HOME, regions=["guangdong"]) as world:
        person = Person(world)
        chooser = await person.to(Request().url())
        page = await (await person.get(chooser)).text()
        assert "/sign-in/guangdong?" in page
        assert "/sign-in/hongkong?" not in page
        assert "failed=hongkong" in await person.to(choice(chooser, "hongkong"))
        assert world.providers["hongkong"].begun == []


async def test_a_region_is_told_the_level_from_which_its_sign_on_counts(tmp_path: Path, sqlite_store: Store) -> None:
    async with world_of(tmp_path, sqlite_store, HOME, least="A3") as world:
        world.providers["guangdong"].level = "L3"
        await Person(world).asked(Request())
        assert list(world.providers["guangdong"].begun[0].levels) == ["L3"]


async def test_a_session_that_does_not_count_here_does_not_answer(tmp_path: Path, sqlite_store: Store) -> None:
    """Signed on for one service at A1, then another that takes A2: the chooser comes again, not the code."""
    line = {**EVERYBODY, "least": "A1", "services": ["portal"]}
    strict = {**EVERYBODY, "least": "A3", "services": ["other"]}
    matrix = Recognition({1: Line.model_validate(line), 2: Line.model_validate(strict)})
    async with open_world(tmp_path, {}, sqlite_store, recognition=matrix) as world:
        world.clients["other"] = replace(world.clients["portal"], id="other", service="other")
        world.clients["portal"] = replace(world.clients["portal"], service="portal")
        person = Person(world)
        assert "code" in await person.sign_on(Request(scope="openid"))
        assert "code=" in await person.to(Request(scope="openid").url())
        assert (await person.to(Request(client_id="other", scope="openid").url())).startswith("/sign-in?")


@pytest.mark.parametrize(
    ("least", "kinds", "why", "words", "again"),
    [
        ("A3", ["person"], "step_up", "by a method that is not sure enough for this service", 1),
        ("A0", ["organisation"], "not_recognised", "does not accept a sign-on with Guangdong", 0),
    ],
)
async def test_a_sign_on_that_does_not_count_leads_back_to_the_chooser_which_says_what_would(
    tmp_path: Path, sqlite_store: Store, least: str, kinds: list[str], why: str, words: str, again: int
) -> None:
    """In general words: what the matrix lacks is for operators and stays in the log."""
    line = Line.model_validate({**EVERYBODY, "least": least, "kinds": kinds})
    async with open_world(tmp_path, {}, sqlite_store, recognition=Recognition({1: line})) as world:
        person = Person(world)
        with capture_logs() as logs:
            back = await person.through(Request(scope="openid").url(), "guangdong")
        assert parameters(back)["why"] == why
        page = await person.read(back)
        assert words in page
        assert page.count("Try Guangdong again") == again
        assert 'href="/sign-in/hongkong?' in page
        (told,) = [one["detail"] for one in logs if one["event"] == "sign-on interrupted"]
        assert told not in page
        assert parameters(back).keys() == {"interaction", "failed", "why", "ref"}
