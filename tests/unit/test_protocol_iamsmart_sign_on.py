"""Sign-on by iAM Smart and CorpID: every rule of adapters/hongkong/README.md, each with the attack on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from adapters.hongkong.adapter import open_adapter
from gateway.errors import GatewayError, RegionError, RegionUncertain, RegionUnreachable, SignOnFailed, StartRefused
from gateway.ports import SignOnReturn, SignOnStart, UpstreamIdentity
from gateway.protocols.iamsmart_sign_on import page_language, session_level
from tests.unit.protocol_support import NOW, FarSide, far_side, kit
from tests.unit.test_protocol_iamsmart import CLIENT, Authority, secrets

CALLBACK = "http://gateway.test/sign-in/hongkong/callback"
NOW_MS = int(NOW.timestamp() * 1000)
FIELDS = ["enName", "chName", "birthDate", "gender"]
TOKEN: Mapping[str, Any] = {
    "accessToken": "at",
    "tokenType": "Bearer",
    "openID": "open-1",
    "expiresIn": 600_000,
    "scope": "eidapi_auth eidapi_profiles",
    "authTime": NOW_MS - 5_000,
    "version": "iAMSmart",
}
PROFILE: Mapping[str, Any] = {
    "openID": "open-1",
    "enName": {"UnstructuredName": "CHAN, Tai Man"},
    "chName": {"ChineseName": "陳大文"},
    "chNameVerified": True,
    "birthDate": "19900102",
    "gender": "M",
    "idNo": {"Identification": "A123456", "CheckDigit": "3"},
    "mobileNumber": {"CountryCode": "852", "SubscriberNumber": "60000001"},
    "maritalStatus": "S",
}
CORP_TOKEN: Mapping[str, Any] = {"corpAccessToken": "cat", "corpID": "HKCORP1", "openID": "open-1"}
COMPANY: Mapping[str, Any] = {
    "corpProfileFields": {"corpID": "HKCORP1", "brn": "12345678", "corpNameEN": "Test Ltd", "secret": "x"},
    "corpUserProfileFields": {"openID": "open-1", "corpRole": "Director"},
    "eCorpFields": {"corpStatusEN": "Live"},
    "txID": "t",
}


def authority(
    token: Mapping[str, Any] | None = None,
    profile: Mapping[str, Any] | None = None,
    corp_token: Mapping[str, Any] | None = None,
    company: Mapping[str, Any] | None = None,
    code: str = "M00000",
) -> Authority:
    """Return an authority whose answers differ from the usual ones in these fields."""
    return Authority(
        {
            "/api/v1/auth/getToken": (code, {**TOKEN, **(token or {})}),
            "/api/v1/profiles": ("M00000", {**PROFILE, **(profile or {})}),
            "/api/v1/corp/getToken": (code, {**CORP_TOKEN, **(corp_token or {})}),
            "/api/v1/corp/profiles": ("M00000", {**COMPANY, **(company or {})}),
        }
    )


@asynccontextmanager
async def hongkong(answer: Any, *, corporate: bool = False, **settings: Any) -> AsyncIterator[tuple[Any, FarSide]]:
    async with far_side(answer) as (far, base):
        chosen = {"client_id": CLIENT, "profile_fields": FIELDS, "corp_base_url": base if corporate else "", **settings}
        async with kit(base, region="hongkong", settings=chosen, secrets=secrets()) as lent:
            yield open_adapter(lent), far


def starting(**changes: Any) -> SignOnStart:
    return SignOnStart(**{"state": "st", "nonce": "n", "redirect_uri": CALLBACK, "language": "zh-Hant", **changes})


async def signed_on(
    answer: Authority,
    query: Mapping[str, str] | None = None,
    *,
    corporate: bool = False,
    settings: Mapping[str, Any] | None = None,
    **start: Any,
) -> tuple[UpstreamIdentity, FarSide]:
    """Go there and come back, as the broker does."""
    async with hongkong(answer, corporate=corporate, **(settings or {})) as (adapter, far):
        there = await adapter.sign_on.begin(starting(**start))
        back = {"state": "st", "code": "a+b/c=%2B"} if query is None else query
        return await adapter.sign_on.complete(SignOnReturn(back, there.memory, CALLBACK)), far


async def refused(answer: Authority, kind: type[GatewayError] = SignOnFailed, **more: Any) -> GatewayError:
    with pytest.raises(kind) as caught:
        await signed_on(answer, **more)
    said = f"{caught.value.public} {caught.value.detail}"
    assert not [value for value in ("CHAN", "陳大文", "A123456", "60000001", "open-2") if value in said]
    return caught.value


# --- there -------------------------------------------------------------------------------------------------------


async def asked(corporate: bool = False, **start: Any) -> tuple[dict[str, str], Mapping[str, str]]:
    async with hongkong(authority(), corporate=corporate) as (adapter, far):
        there = await adapter.sign_on.begin(starting(**start))
        assert far.seen == []
    return {name: values[0] for name, values in parse_qs(urlsplit(there.url).query).items()}, there.memory


async def test_the_way_to_the_qr_page_is_as_agreed_and_carries_no_secret() -> None:
    query, memory = await asked()
    assert query == {
        "clientID": CLIENT,
        "responseType": "code",
        "source": "PC_Browser",
        "redirectURI": CALLBACK,
        "scope": "eidapi_auth eidapi_profiles",
        "state": "st",
        "lang": "zh-HK",
    }
    assert "st" not in memory.values(), "only the digest of the state is kept"


@pytest.mark.parametrize(
    ("start", "scope"),
    [
        ({"levels": ("auth", "auth_face", "plus", "plus_face")}, "eidapi_auth eidapi_profiles"),
        ({"levels": ("auth_face", "plus_face")}, "eidapi_auth eidapi_profiles eidapi_fr"),
        ({"levels": ("plus", "plus_face")}, "eidapi_auth eidapi_profiles"),
    ],
)
async def test_a_face_is_asked_for_only_where_nothing_less_will_do(start: Any, scope: str) -> None:
    """Data minimisation: a face check is not made in passing."""
    assert (await asked(**start))[0]["scope"] == scope


async def test_a_fresh_proof_and_companies_are_asked_for_when_they_are_wanted() -> None:
    query, _ = await asked(corporate=True, fresh=True)
    assert query["reauth"] == "true"
    assert query["scope"].endswith(" corpid_auth")


@pytest.mark.parametrize(
    ("tag", "page"),
    [
        ("zh-Hans", "zh-CN"),
        ("zh", "zh-CN"),
        ("zh-HK", "zh-HK"),
        ("zh-Hant-MO", "zh-HK"),
        ("en", "en-US"),
        ("pt", "en-US"),
        ("", "en-US"),
    ],
)
def test_the_page_language_is_the_nearest_one(tag: str, page: str) -> None:
    assert page_language(tag) == page


# --- and back ----------------------------------------------------------------------------------------------------


async def test_a_person_signs_on_with_what_was_asked_for() -> None:
    far = authority()
    identity, seen = await signed_on(far)
    assert (identity.subject, identity.method, identity.level) == ("open-1", "IAMSMART", "auth")
    assert identity.authenticated_at == NOW - timedelta(seconds=5)
    assert (identity.organisation, identity.role) == (None, "")
    assert isinstance(identity.claims, dict)
    assert set(identity.claims) == {"enName", "chName", "chNameVerified", "birthDate", "gender", "openID"}
    assert far.plain(seen.seen[2])["profileFields"] == FIELDS
    assert "eMEFields" not in far.plain(seen.seen[2])
    assert identity.assertion.count(b"open-1") == 2, "the answers on which it rests, word for word"


async def test_the_code_goes_on_as_it_came() -> None:
    """It may hold `+`, `/` and `%`: the query was decoded once, and whoever decodes it again spoils it."""
    far = authority()
    _, seen = await signed_on(far)
    assert far.plain(seen.seen[1])["code"] == "a+b/c=%2B"


@pytest.mark.parametrize("state", [None, "", "another", "st "])
async def test_an_answer_to_another_sign_on_is_not_taken(state: str | None) -> None:
    """The first comparison in `_code`."""
    far = authority()
    with pytest.raises(SignOnFailed, match="another sign-on"):
        await signed_on(far, {"code": "c", **({} if state is None else {"state": state})})
    assert far.keys == [], "nothing was sent"


@pytest.mark.parametrize("query", [{}, {"code": ""}, {"code": "a b"}, {"code": "x" * 513}, {"error_code": "D40000"}])
async def test_without_a_code_nothing_is_sent(query: Mapping[str, str]) -> None:
    far = authority()
    with pytest.raises(SignOnFailed):
        await signed_on(far, {"state": "st", **query})
    assert far.keys == []


async def test_a_code_that_is_not_accepted_ends_the_sign_on() -> None:
    await refused(authority(code="D40004"))


async def test_a_content_key_that_has_expired_is_replaced_once() -> None:
    """D30002 once: another key, the same message. Twice: the message was not taken."""
    far = authority()
    far.forgets = 1
    assert (await signed_on(far))[0].subject == "open-1"
    assert len(far.keys) == 2
    far = authority()
    far.forgets = 9
    await refused(far, RegionUnreachable)


@pytest.mark.parametrize(
    "token",
    [{"openID": ""}, {"openID": None}, {"openID": 7}, {"openID": "a b"}, {"openID": "x" * 65}, {"accessToken": ""}],
)
async def test_a_token_without_an_open_id_is_no_sign_on(token: Any) -> None:
    await refused(authority(token), RegionUncertain)


@pytest.mark.parametrize(
    "token",
    [
        {"tokenType": "MAC"},
        {"expiresIn": 0},
        {"expiresIn": -1},
        {"expiresIn": "600"},
        {"scope": "eidapi_auth"},
        {"scope": "eidapi_profiles"},
        {"scope": "eidapi_auth eidapi_profiles eidapi_sign"},
        {"scope": "eidapi_auth eidapi_profiles eidapi_fr"},
        {"authTime": NOW_MS + 301_000},
    ],
)
async def test_an_answer_that_does_not_fit_what_was_asked_signs_nobody_on(token: Any) -> None:
    """`faults` in `_token`: more than was asked for is as wrong as less."""
    await refused(authority(token))


async def test_the_profile_must_be_that_of_the_person_who_signed_on() -> None:
    """The comparison of `openID` in `_profile`; an authority that does not repeat it is believed."""
    await refused(authority(profile={"openID": "open-2"}))
    silent = authority()
    silent.answers["/api/v1/profiles"][1].pop("openID")
    assert (await signed_on(silent))[0].subject == "open-1"


async def test_an_answer_that_is_sent_again_is_told_apart() -> None:
    """`once`: sealed under a fresh IV each time, two answers alike are one. The core remembers it with the session."""
    far = authority()
    first, second = (await signed_on(far))[0], (await signed_on(far))[0]
    assert first.once is not None
    assert second.once is not None
    assert first.once.value != second.once.value
    assert first.once.expires_at > NOW + timedelta(hours=1)


# --- levels and freshness ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("granted", "version", "level"),
    [
        (set(), None, "auth"),
        ({"eidapi_fr"}, "iAMSmart", "auth_face"),
        (set(), "iAMSmart+", "plus"),
        ({"eidapi_fr"}, "iAMSmart+", "plus_face"),
        (set(), "IAMSMART+", "auth"),
        (set(), ["iAMSmart+"], "auth"),
    ],
)
def test_the_level_says_what_this_session_did(granted: set[str], version: Any, level: str) -> None:
    assert session_level(granted, version) == level


async def test_a_level_that_the_service_needs_is_demanded() -> None:
    """`levels` in `demands.unmet`: asked for a face and not given one, nobody is signed on."""
    face = {"scope": "eidapi_auth eidapi_profiles eidapi_fr"}
    assert (await signed_on(authority(face), levels=("auth_face", "plus_face")))[0].level == "auth_face"
    await refused(authority(), levels=("auth_face", "plus_face"))
    await refused(authority(), levels=("plus",))


@pytest.mark.parametrize("at", [None, NOW_MS - 31_000, "now", True, -1, 10**15])
async def test_a_fresh_proof_is_demanded_with_its_time(at: Any) -> None:
    """`since` in `demands.unmet`."""
    assert (await signed_on(authority(), fresh=True))[0].subject == "open-1"
    await refused(authority({"authTime": at}), fresh=True)


# --- what is asked of a profile ----------------------------------------------------------------------------------


async def test_an_hkid_is_asked_for_only_by_name_and_dropped_otherwise() -> None:
    """Domain rule P6: an HKID does not leave Hong Kong by default. `checked` in `_claims`."""
    identity, _ = await signed_on(authority())
    assert "A123456" not in repr(identity.claims)
    far = authority()
    identity, seen = await signed_on(far, settings={"profile_fields": ["enName", "idNo"]})
    assert far.plain(seen.seen[2])["profileFields"] == ["enName", "idNo"]
    assert isinstance(identity.claims, dict)
    assert set(identity.claims) == {"enName", "idNo", "openID"}


async def test_what_people_say_of_themselves_stands_apart_and_is_marked() -> None:
    """Nobody has checked it: it must not be taken for the profile, and not for the subject."""
    far = authority(profile={"prefix": "Dr"})
    identity, seen = await signed_on(far, settings={"eme_fields": ["mobileNumber"]})
    assert far.plain(seen.seen[2])["eMEFields"] == ["mobileNumber"]
    assert isinstance(identity.claims, dict)
    assert identity.claims["eME"] == {
        "assurance": "self-declared",
        "fields": {"mobileNumber": {"CountryCode": "852", "SubscriberNumber": "60000001"}},
    }
    assert not {"mobileNumber", "maritalStatus", "prefix"} & set(identity.claims)
    assert identity.subject == "open-1"


@pytest.mark.parametrize(
    "settings",
    [
        {"profile_fields": []},
        {"profile_fields": ["gender"]},
        {"profile_fields": "enName"},
        {"profile_fields": ["enName", "shoeSize"]},
        {"profile_fields": ["enName", "mobileNumber"]},
        {"profile_fields": ["enName", 7]},
        {"eme_fields": ["enName"]},
        {"eme_fields": ["addressDocFile"]},
        {"corp_base_url": "not an address"},
    ],
)
async def test_a_setting_that_cannot_be_right_refuses_the_start(settings: Any) -> None:
    """A self-declared field among the checked ones would be taken for checked."""
    with pytest.raises(StartRefused):
        async with hongkong(authority(), **settings):
            pass


# --- companies ---------------------------------------------------------------------------------------------------

WITH_TICKET = {"state": "st", "code": "c", "corpTicket": "t+/1"}


async def test_a_person_signs_on_for_a_company_and_in_a_role() -> None:
    far = authority()
    identity, seen = await signed_on(far, WITH_TICKET, corporate=True)
    assert (identity.subject, identity.role) == ("open-1", "handler")
    assert identity.organisation == {
        "corpProfileFields": {"corpID": "HKCORP1", "brn": "12345678", "corpNameEN": "Test Ltd"},
        "corpUserProfileFields": {"openID": "open-1", "corpRole": "Director"},
        "eCorpFields": {"corpStatusEN": "Live"},
    }
    exchange = next(each for each in seen.seen if each.path == "/api/v1/corp/getToken")
    assert exchange.path == "/api/v1/corp/getToken"
    assert b"HKCORP1" in identity.assertion


async def test_a_proprietor_is_the_legal_representative_and_a_director_is_not() -> None:
    """Of several directors no one is: whoever has that say must be meant."""
    proprietor = {"corpUserProfileFields": {"openID": "open-1", "corpRole": "Sole Proprietor"}}
    identity, _ = await signed_on(authority(company=proprietor), WITH_TICKET, corporate=True)
    assert identity.role == "legal_representative"


async def test_the_person_of_a_company_is_the_person_without_it() -> None:
    """The same human being, whatever capacity: the openID is the subject in both."""
    alone = (await signed_on(authority(), corporate=True))[0]
    acting = (await signed_on(authority(), WITH_TICKET, corporate=True))[0]
    assert (alone.subject, alone.claims) == (acting.subject, acting.claims)
    assert alone.organisation is None


async def test_without_an_address_of_corpid_nobody_signs_on_for_a_company() -> None:
    """Absence refuses: a ticket that nobody can check does not quietly become a sign-on without a company."""
    await refused(authority(), query=WITH_TICKET)


@pytest.mark.parametrize(
    ("corp_token", "company"),
    [
        ({"openID": "open-2"}, {}),
        ({}, {"corpUserProfileFields": {"openID": "open-2", "corpRole": "Director"}}),
        ({}, {"corpUserProfileFields": {"corpRole": "Director"}}),
        ({}, {"corpUserProfileFields": {"openID": "open-1"}}),
        ({}, {"corpUserProfileFields": {"openID": "open-1", "corpRole": ""}}),
        ({}, {"corpUserProfileFields": {"openID": "open-1", "corpRole": ["Director"]}}),
        ({}, {"corpUserProfileFields": {"openID": "open-1", "corpRole": "Emperor"}}),
        ({}, {"corpUserProfileFields": {"openID": "open-1", "corpRole": "legal_representative"}}),
        ({}, {"corpUserProfileFields": None}),
        ({}, {"corpProfileFields": {"corpID": "HKCORP2"}}),
        ({}, {"corpProfileFields": []}),
    ],
)
async def test_person_company_and_role_must_belong_together(corp_token: Any, company: Any) -> None:
    """`_acting`: nobody arrives as the director of another company, or as somebody without a role."""
    far = authority(corp_token=corp_token, company=company)
    await refused(far, query=WITH_TICKET, corporate=True)


@pytest.mark.parametrize("corp_token", [{"corpID": ""}, {"corpID": 7}, {"corpAccessToken": None}])
async def test_an_answer_without_a_company_is_no_sign_on(corp_token: Any) -> None:
    await refused(authority(corp_token=corp_token), RegionError, query=WITH_TICKET, corporate=True)
