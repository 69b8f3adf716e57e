"""Sign-on at the window: the window trusts its own provider no more than any other client should."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from yarl import URL

from gateway.domain.identity import Assurance
from gateway.windows import Clerk, Window
from tests.support.window import FOSHAN, ISSUER, NOW, WINDOW, Browser, FakeServices, browser, new_signer


@pytest.fixture
async def clerk(tmp_path: Path) -> AsyncIterator[Browser]:
    async with browser(tmp_path) as one:
        yield one


async def test_a_stranger_sees_what_this_is_and_how_to_sign_on(clerk: Browser) -> None:
    status, page = await clerk.get("/window")
    assert status == 200
    assert "/window/sign-in" in page
    assert "Recent cases" not in page


async def test_the_request_asks_for_a_fresh_sign_on_with_pkce_state_and_nonce(clerk: Browser) -> None:
    """`prompt=login`: a counter is shared, and the last clerk's sign-on must not serve the next one."""
    request = await clerk.begin_sign_on()
    assert request["client_id"] == "pearl-window"
    assert request["redirect_uri"] == f"{ISSUER}/window/callback"
    assert request["code_challenge_method"] == "S256"
    assert request["prompt"] == "login"
    assert len({request["state"], request["nonce"], request["code_challenge"]}) == 3


async def test_the_code_is_redeemed_with_the_verifier_of_this_sign_on(clerk: Browser) -> None:
    request = await clerk.begin_sign_on()
    await clerk.come_back(code="the-code", state=request["state"], iss=ISSUER)
    [form] = clerk.fakes.redeemed
    digest = hashlib.sha256(form["code_verifier"].encode()).digest()
    assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == request["code_challenge"]
    assert (form["code"], form["client_id"]) == ("the-code", "pearl-window")


async def test_a_clerk_who_signed_on_sees_the_window(clerk: Browser) -> None:
    await clerk.sign_on()
    status, page = await clerk.get("/window")
    assert status == 200
    assert "C-0417" in page


async def test_a_clerk_lands_where_they_wanted_to_go(clerk: Browser) -> None:
    wanted = await clerk.location(FOSHAN)
    request = await clerk.begin_sign_on(wanted)
    assert await clerk.come_back(code="c", state=request["state"], iss=ISSUER) == (303, FOSHAN)


@pytest.mark.parametrize("place", ["https://evil.example/window", "//evil.example", "/windows", "/window/../track"])
async def test_a_sign_on_leads_to_no_foreign_page(clerk: Browser, place: str) -> None:
    """An open redirect would lend our name to whoever sends the link."""
    request = await clerk.begin_sign_on(f"/window/sign-in?next={place}")
    assert await clerk.come_back(code="c", state=request["state"], iss=ISSUER) == (303, "/window")


@pytest.mark.parametrize("wrong", [{"state": "other"}, {"iss": "http://evil.example"}, {"iss": ""}, {"code": ""}])
async def test_an_answer_with_something_wrong_opens_no_session(clerk: Browser, wrong: dict[str, str]) -> None:
    """`state` binds it to this browser, `iss` to this provider (RFC 9207)."""
    request = await clerk.begin_sign_on()
    answer = {"code": "c", "state": request["state"], "iss": ISSUER} | wrong
    status, page = await clerk.come_back(**answer)
    assert status == 400
    assert "Begin again" in page
    assert clerk.fakes.redeemed == []
    assert "C-0417" not in (await clerk.get("/window"))[1]


async def test_an_answer_without_parameters_is_a_page_and_no_fault(clerk: Browser) -> None:
    await clerk.begin_sign_on()
    status, _page = await clerk.come_back()
    assert status == 400


async def test_a_clerk_who_cancelled_is_told_so(clerk: Browser) -> None:
    request = await clerk.begin_sign_on()
    status, page = await clerk.come_back(error="access_denied", state=request["state"], iss=ISSUER)
    assert status == 400
    assert "ended before it was complete" in page


async def test_an_answer_is_taken_once(clerk: Browser) -> None:
    """A replayed callback finds nothing to belong to."""
    request = await clerk.begin_sign_on()
    answer = {"code": "c", "state": request["state"], "iss": ISSUER}
    assert (await clerk.come_back(**answer))[0] == 303
    assert (await clerk.come_back(**answer))[0] == 400


async def test_an_answer_in_another_browser_opens_no_session(clerk: Browser) -> None:
    request = await clerk.begin_sign_on()
    clerk.client.session.cookie_jar.clear()
    status, _page = await clerk.come_back(code="c", state=request["state"], iss=ISSUER)
    assert status == 400


async def test_a_sign_on_that_took_too_long_is_begun_again(clerk: Browser) -> None:
    request = await clerk.begin_sign_on()
    clerk.fakes.now = NOW + timedelta(minutes=10)
    status, _page = await clerk.come_back(code="c", state=request["state"], iss=ISSUER)
    assert status == 400


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "of another sign-on"},
        {"iss": "http://evil.example"},
        {"aud": "another-client"},
        {"exp": int(NOW.timestamp())},
        {"exp": None},
        {"nonce": None},
        {"exp": "soon"},
    ],
)
async def test_an_id_token_with_a_wrong_claim_opens_no_session(clerk: Browser, claims: dict[str, object]) -> None:
    """OpenID Connect Core §3.1.3.7."""
    clerk.fakes.claims = claims
    request = await clerk.begin_sign_on()
    status, page = await clerk.come_back(code="c", state=request["state"], iss=ISSUER)
    assert status == 400
    assert "could not be verified" in page


async def test_an_id_token_of_a_foreign_key_opens_no_session(clerk: Browser) -> None:
    """A well-formed token that another key signed is nobody's word."""
    request = await clerk.begin_sign_on()
    known, clerk.fakes.signer = clerk.fakes.signer, new_signer()
    assert known.public_jwks() != clerk.fakes.signer.public_jwks()
    status, _page = await clerk.come_back(code="c", state=request["state"], iss=ISSUER)
    assert status == 400


async def test_a_person_who_is_no_clerk_is_told_so_and_gets_no_session(clerk: Browser) -> None:
    """Signed on is not authorised: only registered clerks take applications."""
    clerk.fakes.person = ("guangdong", "a-citizen")
    request = await clerk.begin_sign_on()
    status, page = await clerk.come_back(code="c", state=request["state"], iss=ISSUER)
    assert status == 403
    assert "not registered as a clerk" in page
    assert (await clerk.get(FOSHAN))[0] == 303


async def test_a_session_ends_after_eight_hours_whatever_happens_in_it(clerk: Browser) -> None:
    await clerk.sign_on()
    clerk.fakes.now = NOW + timedelta(hours=8) - timedelta(seconds=1)
    assert (await clerk.get(FOSHAN))[0] == 200
    clerk.fakes.now = NOW + timedelta(hours=8)
    assert (await clerk.get(FOSHAN))[0] == 303


async def test_a_clerk_of_a_region_that_was_closed_is_at_no_desk(clerk: Browser) -> None:
    """A region is closed because its sign-ons are not to be trusted. Guarded by `is_cut_off` in `_desk`."""
    await clerk.sign_on()
    assert (await clerk.get(FOSHAN))[0] == 200
    del clerk.fakes.openings_of["guangdong"]
    assert (await clerk.get(FOSHAN))[0] == 303


async def test_a_region_that_is_opened_again_brings_no_desk_back(clerk: Browser) -> None:
    """Whoever signed on with a stolen key must not be there again once the key was changed."""
    await clerk.sign_on()
    clerk.fakes.openings_of["guangdong"] = "second"
    assert (await clerk.get(FOSHAN))[0] == 303
    assert "C-0417" not in (await clerk.get("/window"))[1]
    await clerk.sign_on()
    assert (await clerk.get(FOSHAN))[0] == 200


async def test_another_region_that_was_closed_and_opened_ends_no_desk(clerk: Browser) -> None:
    await clerk.sign_on()
    clerk.fakes.openings_of["hongkong"] = "second"
    assert (await clerk.get(FOSHAN))[0] == 200


async def test_a_region_that_is_turned_while_a_clerk_comes_back_leaves_no_desk(clerk: Browser) -> None:
    """The code was redeemed before the switch was turned, the session is opened after it.

    Guarded by the place where `callback` asks for the openings: before the code.
    """
    clerk.fakes.turned_while_redeemed = {"guangdong": "second"}
    await clerk.sign_on()
    assert (await clerk.get(FOSHAN))[0] == 303


async def test_the_handle_changes_when_a_clerk_signs_on(clerk: Browser) -> None:
    """A handle that someone planted before must not become the clerk's (session fixation)."""
    await clerk.sign_on()
    first = clerk.handle()
    await clerk.sign_on()
    second = clerk.handle()
    assert not await clerk.opens(first)
    assert await clerk.opens(second)


async def test_cookies_are_out_of_reach_for_scripts_and_for_other_sites(clerk: Browser) -> None:
    async with clerk.client.get("/window/sign-in", allow_redirects=False) as answer:
        cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie


async def test_signing_off_needs_the_token_of_the_session(clerk: Browser) -> None:
    """Otherwise any page could end a clerk's session."""
    await clerk.sign_on()
    async with clerk.client.post("/window/sign-out", data={"csrf": "guess"}, allow_redirects=False) as answer:
        assert answer.status == 403
    assert (await clerk.get(FOSHAN))[0] == 200


async def test_a_clerk_who_signed_off_is_a_stranger_again(clerk: Browser) -> None:
    await clerk.sign_on()
    _status, page = await clerk.get("/window")
    token = page.partition('name="csrf" value="')[2].partition('"')[0]
    handle = clerk.handle()
    async with clerk.client.post("/window/sign-out", data={"csrf": token}, allow_redirects=False) as answer:
        assert answer.status == 303
    assert not await clerk.opens(handle)


# --- how sure the region is of a clerk -----------------------------------------------------------------------------


async def test_a_clerks_sign_on_must_be_sure_of_the_person(clerk: Browser) -> None:
    """A clerk vouches for the identity of others (A3); nobody can do that who typed a password that somebody saw."""
    request = await clerk.begin_sign_on()
    acr = json.loads(request["claims"])["id_token"]["acr"]
    assert acr == {"essential": True, "values": ["urn:pearl:assurance:A2", "urn:pearl:assurance:A3"]}


@pytest.mark.parametrize("level", [Assurance.A0, Assurance.A1])
async def test_a_weaker_sign_on_opens_no_session_and_says_why(clerk: Browser, level: Assurance) -> None:
    """The window looks at the level itself: it trusts its own provider no more than another client would."""
    clerk.fakes.assurance = level
    request = await clerk.begin_sign_on()
    status, page = await clerk.come_back(code="c", state=request["state"], iss=ISSUER)
    assert status == 403
    assert "a password alone is not enough" in page
    assert 'href="/window/sign-in"' in page
    assert (await clerk.get(FOSHAN))[0] == 303


async def test_a_clerk_whose_region_could_not_reach_the_level_is_told_so(clerk: Browser) -> None:
    request = await clerk.begin_sign_on()
    error = "unmet_authentication_requirements"
    status, page = await clerk.come_back(error=error, state=request["state"], iss=ISSUER)
    assert status == 403
    assert "a password alone is not enough" in page


# --- a shared counter ----------------------------------------------------------------------------------------------


def at_the_provider(clerk: Browser) -> str:
    """Give the browser the cookie of a session at the provider, as its sign-on does, and return the handle."""
    handle = "p" * 43
    clerk.client.session.cookie_jar.update_cookies({"pearl_session": handle}, URL(str(clerk.client.make_url("/"))))
    return handle


def still_there(clerk: Browser) -> bool:
    return any(cookie.key == "pearl_session" for cookie in clerk.client.session.cookie_jar)


async def test_the_providers_session_ends_as_soon_as_the_clerk_has_signed_on(clerk: Browser) -> None:
    """Or whoever sits there next would be signed on at any other service as the clerk."""
    handle = at_the_provider(clerk)
    await clerk.sign_on()
    assert clerk.fakes.ended == [handle]
    assert not still_there(clerk)


@pytest.mark.parametrize("failure", ["no clerk", "wrong token", "too weak"])
async def test_the_providers_session_ends_also_when_the_sign_on_came_to_nothing(clerk: Browser, failure: str) -> None:
    handle = at_the_provider(clerk)
    request = await clerk.begin_sign_on()
    match failure:
        case "no clerk":
            clerk.fakes.person = ("guangdong", "a-citizen")
        case "wrong token":
            clerk.fakes.claims = {"nonce": "of another sign-on"}
        case _:
            clerk.fakes.assurance = Assurance.A1
    status, _page = await clerk.come_back(code="c", state=request["state"], iss=ISSUER)
    assert status in {400, 403}
    assert clerk.fakes.ended == [handle]


async def test_signing_out_ends_whatever_sign_on_the_browser_made_meanwhile(clerk: Browser) -> None:
    await clerk.sign_on()
    _status, page = await clerk.get("/window")
    token = page.partition('name="csrf" value="')[2].partition('"')[0]
    handle = at_the_provider(clerk)
    async with clerk.client.post("/window/sign-out", data={"csrf": token}, allow_redirects=False) as answer:
        assert answer.status == 303
    assert clerk.fakes.ended[-1] == handle
    assert not still_there(clerk)


def elsewhere(*clerks: Clerk, window: str = WINDOW.id) -> list[Window]:
    return [replace(WINDOW, id=window, clerks=clerks)]


@pytest.mark.parametrize(
    ("registered", "status"),
    [
        ([WINDOW], 200),
        (elsewhere(Clerk("C-0417", "guangdong", "somebody-else")), 303),
        (elsewhere(Clerk("C-0417", "hongkong", "clerk-subject")), 303),
        (elsewhere(Clerk("C-0999", "guangdong", "clerk-subject")), 303),
        (elsewhere(Clerk("C-0417", "guangdong", "clerk-subject"), window="GZ-02"), 303),
        ([], 303),
    ],
    ids=["unchanged", "number reused", "number reused by a namesake", "new number", "moved", "registered no more"],
)
async def test_a_session_is_its_persons_and_not_the_staff_numbers(
    tmp_path: Path, registered: list[Window], status: int
) -> None:
    """windows.toml changes while sessions last: nobody inherits one, and nobody keeps a place they no longer have."""
    async with browser(tmp_path) as before:
        await before.sign_on()
        handle = before.handle()
    async with browser(tmp_path, fakes=FakeServices(new_signer(), windows=registered)) as after:
        cookie = {"pearl_window": handle}
        async with after.client.get(FOSHAN, allow_redirects=False, cookies=cookie) as answer:
            assert answer.status == status


# --- what strangers send -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [b"pearl_window", b"pearl_window_sign_on", b"pearl_session", b"pearl_language"])
@pytest.mark.parametrize("value", [b"\xff\xfe", b'"a\\377b"', b"%ff", b"x" * 5000, b""])
async def test_a_cookie_of_any_bytes_is_no_fault(clerk: Browser, name: bytes, value: bytes) -> None:
    for path in (b"/window", FOSHAN.encode(), b"/window/callback?state=x"):
        status = await clerk.raw(b"GET " + path + b" HTTP/1.1\r\nCookie: " + name + b"=" + value)
        assert status.split()[1] in {b"200", b"303", b"400"}, (path, status)


@pytest.mark.parametrize("path", ["/window", FOSHAN, "/window/cases/nothing"])
async def test_a_head_request_is_answered_as_a_get_would_be(clerk: Browser, path: str) -> None:
    """RFC 9110 §9.3.2."""
    answers = []
    for method in ("GET", "HEAD"):
        async with clerk.client.request(method, path, allow_redirects=False) as answer:
            answers.append((answer.status, answer.headers.get("Location")))
    assert answers[0] == answers[1]
