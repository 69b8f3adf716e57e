"""Sign-on at Guangdong's unified identity: every rule of adapters/guangdong/README.md, each with the attack on it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest
from aiohttp import web

from adapters.guangdong.adapter import open_adapter
from gateway.errors import GatewayError, NotOffered, RegionUncertain, RegionUnreachable, SignOnFailed
from gateway.ports import Callback, SignOnReturn, SignOnStart, SignOutStart, UpstreamIdentity
from gateway.protocols.tif_levels import beijing_time, session_level
from tests.unit.protocol_support import NOW, FarSide, Seen, far_side, kit

SETTINGS = {"paas_id": "pearl", "client_id": "gateway"}
SECRETS = {"paas_token": b"TESTTOKEN0123456789ABCDEFGHIJKLM", "client_secret": b"a secret"}
CALLBACK = "http://gateway.test/sign-in/guangdong/callback"
WAYS = "L2@YSS@x||L1@PLV@y||L3@GW@z"
PERSON: Mapping[str, Any] = {
    "useridcode": "U1",
    "usertype": "1",
    "cn": "陈大文",
    "accout_type": "3",
    "creditable_level_of_account": "L3",
    "creditable_level_of_account_way": WAYS,
}
LEGAL: Mapping[str, Any] = {
    **PERSON,
    "useridcode": "GDFR1",
    "usertype": "2",
    "cn": "测试有限公司",
    "idcardtype": "49",
    "idcardnumber": "91440101MA5T00010Q",
    "telephonenumber": "13800000003",
    "accout_type": "1",
    "creditable_level_of_account_way": "L2@IC@x||L1@PLV@y||L3@CA@z",
    "link_person_name": "何经办",
    "link_person_type": "10",
    "link_person_code": "440106199203080028",
    "legal_person": "林法定",
    "legal_id_type": "10",
    "legal_code": "440303198506159013",
}
CHILD: Mapping[str, Any] = {**PERSON, "idcardtype": "10", "idcardnumber": "440106199203080028", "parent_uidcode": "P1"}
PARENT: Mapping[str, Any] = {
    "useridcode": "P1",
    "usertype": "2",
    "cn": "测试有限公司",
    "legal_id_type": "10",
    "legal_code": "440303198506159013",
}


@dataclass
class Province:
    """The far side: gives out a token and tells what the test says."""

    told: Any
    named: str | None = None

    def __call__(self, seen: Seen) -> web.Response:
        token = {"access_token": "t+/=", "token_type": "bearer", **({"useridcode": self.named} if self.named else {})}
        said = token if seen.path.endswith("/access_token") else self.told
        return web.Response(body=said if isinstance(said, bytes) else orjson.dumps(said))


@asynccontextmanager
async def guangdong(answer: Callable[[Seen], web.Response]) -> AsyncIterator[tuple[Any, FarSide]]:
    async with (
        far_side(answer) as (far, base),
        kit(base, region="guangdong", settings=SETTINGS, secrets=SECRETS) as lent,
    ):
        yield open_adapter(lent), far


def starting(**changes: Any) -> SignOnStart:
    return SignOnStart(**{"state": "st/ate", "nonce": "n", "redirect_uri": CALLBACK, "language": "zh-CN", **changes})


async def signed_on(
    answer: Callable[[Seen], web.Response], query: Mapping[str, str] | None = None, **start: Any
) -> tuple[UpstreamIdentity, FarSide]:
    """Go there and come back, as the broker does."""
    async with guangdong(answer) as (adapter, far):
        there = await adapter.sign_on.begin(starting(**start))
        back = {"state": "st/ate", "code": "a+b/c="} if query is None else query
        return await adapter.sign_on.complete(SignOnReturn(back, there.memory, CALLBACK)), far


async def told(document: Any, **start: Any) -> UpstreamIdentity:
    return (await signed_on(Province(document), **start))[0]


async def refused(document: Any, kind: type[GatewayError] = SignOnFailed, **start: Any) -> GatewayError:
    with pytest.raises(kind) as caught:
        await told(document, **start)
    said = f"{caught.value.public} {caught.value.detail}"
    assert not [value for value in ("陈大文", "440106199203080028", "a secret", "t+/=") if value in said]
    return caught.value


def entry(level: str, way: str, at: str = "-1") -> dict[str, str]:
    return {"identity_level": level, "way_code": way, "auth_time": at, "credential_no": "1", "uniqueid": "u"}


# --- there -------------------------------------------------------------------------------------------------------


async def test_the_way_to_the_identity_provider_carries_no_secret() -> None:
    async with guangdong(Province({})) as (adapter, far):
        redirect = await adapter.sign_on.begin(starting())
    parts = urlsplit(redirect.url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    assert parts.path == "/tif/sso/connect/page/oauth2/authorize"
    assert (query["state"], query["redirect_uri"]) == ("st/ate", CALLBACK)
    assert "auth_level" not in query
    assert "prompt" not in query
    assert "a secret" not in redirect.url
    assert redirect.memory["verifier"] not in redirect.url
    assert "st/ate" not in redirect.memory.values(), "only the digest of the state is kept"
    assert far.seen == []


async def test_what_the_service_demands_is_passed_on() -> None:
    async with guangdong(Province({})) as (adapter, _):
        redirect = await adapter.sign_on.begin(starting(levels=("L2", "L3"), fresh=True))
    query = parse_qs(urlsplit(redirect.url).query)
    assert (query["auth_level"], query["prompt"]) == (["L2"], ["login"])


async def test_the_code_is_tied_to_this_sign_on_by_a_challenge() -> None:
    """RFC 7636: a code that somebody slips in was made for another challenge. `code_verifier` in `_access_token`."""
    async with guangdong(Province(PERSON)) as (adapter, far):
        there = await adapter.sign_on.begin(starting())
        await adapter.sign_on.complete(SignOnReturn({"state": "st/ate", "code": "c"}, there.memory, CALLBACK))
    digest = hashlib.sha256(far.seen[0].query["code_verifier"].encode()).digest()
    challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    asked = parse_qs(urlsplit(there.url).query)
    assert (asked["code_challenge"], asked["code_challenge_method"]) == ([challenge], ["S256"])


# --- and back ----------------------------------------------------------------------------------------------------


async def test_a_sign_on_gives_the_level_of_the_session_not_the_best_ever() -> None:
    identity, far = await signed_on(Province(PERSON))
    assert (identity.subject, identity.method, identity.level) == ("U1", "3", "L2")
    assert (identity.claims, identity.organisation, identity.role) == (PERSON, None, "")
    assert far.seen[0].query["code"] == "a+b/c="
    assert far.seen[1].query["access_token"] == "t+/="


async def test_the_assertion_is_the_answer_byte_for_byte() -> None:
    """What is kept as evidence must verify against what the region really said, blanks and all."""
    body = orjson.dumps(PERSON) + b" \n"
    assert (await told(body)).assertion == body


async def test_the_code_may_sign_on_once() -> None:
    """The core remembers it in the transaction of the session: `once` in `_identity`."""
    one, other = await told(PERSON), (await signed_on(Province(PERSON), {"state": "st/ate", "code": "d"}))[0]
    assert one.once is not None
    assert other.once is not None
    assert one.once.value != other.once.value
    assert "a+b/c=" not in one.once.value
    assert one.once.expires_at > NOW + timedelta(seconds=60)


@pytest.mark.parametrize(
    "query",
    [
        {"code": "c"},
        {"state": "", "code": "c"},
        {"state": "another", "code": "c"},
        {"state": "st/ate ", "code": "c"},
    ],
)
async def test_an_answer_to_another_sign_on_is_not_taken(query: Mapping[str, str]) -> None:
    """The first comparison in `_code`; nothing is sent to the region for it."""
    asked: list[Seen] = []
    with pytest.raises(SignOnFailed, match="another sign-on"):
        await signed_on(lambda seen: asked.append(seen) or Province(PERSON)(seen), query)  # type: ignore[func-returns-value] # append gives None
    assert asked == []


@pytest.mark.parametrize("code", ["", " ", "a b", "a\nb", "é", "x" * 513])
async def test_a_code_that_cannot_be_one_is_not_sent(code: str) -> None:
    """`_CODE` in `_code`."""
    asked: list[Seen] = []
    with pytest.raises(SignOnFailed):
        await signed_on(
            lambda seen: asked.append(seen) or Province(PERSON)(seen),  # type: ignore[func-returns-value] # as above
            {"state": "st/ate", "code": code},
        )
    assert asked == []


async def test_a_person_who_gave_up_is_told_to_start_again() -> None:
    with pytest.raises(SignOnFailed):
        await signed_on(Province(PERSON), {"state": "st/ate", "error": "access_denied"})


async def test_a_code_that_is_not_accepted_ends_the_sign_on() -> None:
    refusal = orjson.dumps({"error": "invalid_grant", "error_description": "used"})
    with pytest.raises(SignOnFailed):
        await signed_on(lambda _: web.Response(status=400, body=refusal))


async def test_a_client_that_the_province_does_not_know_is_an_operators_problem() -> None:
    refusal = orjson.dumps({"error": "invalid_client"})
    with pytest.raises(RegionUnreachable):
        await signed_on(lambda _: web.Response(status=400, body=refusal))


@pytest.mark.parametrize(
    "token",
    [
        {},
        {"access_token": ""},
        {"access_token": 7},
        {"access_token": "a b"},
        {"access_token": "t", "token_type": "mac"},
    ],
)
async def test_an_answer_without_a_bearer_token_is_no_sign_on(token: Any) -> None:
    with pytest.raises(RegionUncertain):
        await signed_on(lambda _: web.Response(body=orjson.dumps(token)))


async def test_the_attributes_must_be_those_of_the_account_that_the_token_was_given_for() -> None:
    """`named != who.account` in `complete`."""
    assert (await signed_on(Province(PERSON, named="U1")))[0].subject == "U1"
    with pytest.raises(SignOnFailed, match="not those of the account"):
        await signed_on(Province(PERSON, named="U2"))


@pytest.mark.parametrize("subject", [None, "", "-1", "   ", 'x"y z', "x" * 65, {"a": 1}, ["U1"], {}])
async def test_an_account_without_a_stable_id_is_no_sign_on(subject: Any) -> None:
    """`_account_id`."""
    await refused({**PERSON, "useridcode": subject})


@pytest.mark.parametrize("kind", [None, "", "0", "3", "person", "-1"])
async def test_a_kind_of_user_that_is_not_known_is_no_sign_on(kind: Any) -> None:
    await refused({**PERSON, "usertype": kind})


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"<html>", b"null", b'{"a":' * 5000, b"x" * (1 << 21)])
async def test_an_answer_that_is_no_document_is_no_sign_on(body: bytes) -> None:
    await refused(body, RegionUncertain)


# --- levels ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "ways", "level"),
    [
        ("1", WAYS, "L1"),
        ("4", WAYS, "L3"),
        ("2", "L2@YSS@x", "L0"),
        ("9", "L3@None@x", "L0"),
        ("", "L3@@x", "L0"),
        ("1", "L3@PLV@x||L1@PLV@y", "L1"),
        ("1", "L9@PLV@x", "L0"),
        ("1", "L3 @PLV@x", "L0"),
        ("1", "L3@PLV", "L3"),
        ("1", None, "L0"),
        ("1", "||@@||L3", "L0"),
        ("1", [entry("L1", "PLV"), entry("L3", "GW")], "L1"),
        ("1", [entry("L3", "GW")], "L0"),
        ("1", [entry("L4", "PLV"), "L3@PLV@x", None, {}, 7], "L3"),
        ("1", {"identity_level": "L3"}, "L0"),
        ("1", ["L0@IDV@x"] * 50 + ["L3@PLV@x"], "L0"),
    ],
)
def test_the_level_is_the_one_of_the_sessions_method(method: str, ways: object, level: str) -> None:
    """Both forms; `_lowest`. A method that nobody knows has no level, whatever the account has."""
    assert session_level(method, ways) == level


@pytest.mark.parametrize(("usertype", "level"), [("1", "L1"), ("2", "L2"), ("3", "L0")])
def test_behind_the_same_method_stands_another_check_for_a_legal_person(usertype: str, level: str) -> None:
    assert session_level("1", "L1@PLV@x||L2@IC@y", usertype) == level


@pytest.mark.parametrize(
    "changes",
    [
        {"isreal": "false"},
        {"isreal": False},
        {"is_real": "false"},
        {"isreal": "true", "is_real": "false"},
        {"isreal": "yes"},
        {
            "isreal": "true",
            "creditable_level_of_account": "L0",
            "creditable_level_of_account_way": "L0@YSS@x",
        },
        {"creditable_level_of_account": "L1"},
        {"creditable_level_of_account": "L2"},
        {"attributes": ["accout_type=4"]},
        {"attributes": ["useridcode=U2"]},
        {"attributes": ["x=1", "x=2"]},
        {"attributes": "accout_type=3"},
        {"attributes": [{"accout_type": "3"}]},
        {"accout_type": ["3"]},
        {"accout_type": {"3": "3"}},
    ],
)
async def test_an_answer_that_contradicts_itself_signs_nobody_on(changes: Mapping[str, Any]) -> None:
    """`contradiction`, and `Account.text`; with L3 listed, isreal=false and a best level of L1 or L2 are lies."""
    await refused({**PERSON, **changes})


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({"isreal": "true"}, "L2"),
        ({"isreal": True, "is_real": "true"}, "L2"),
        ({"isreal": "-1"}, "L2"),
        ({"creditable_level_of_account": "-1"}, "L2"),
        ({"attributes": ["accout_type=3", "sfxw=-1", "no pair"]}, "L2"),
        ({"accout_type": "-1", "attributes": ["accout_type=4"]}, "L3"),
        ({"accout_type": 4}, "L3"),
        ({"isreal": "false", "creditable_level_of_account": "L0", "creditable_level_of_account_way": "L0@IDV@x"}, "L0"),
    ],
)
async def test_what_was_not_given_contradicts_nothing(changes: Mapping[str, Any], level: str) -> None:
    """Absent is left out, empty or -1; an attribute may stand in the list of further ones instead."""
    assert (await told({**PERSON, **changes})).level == level


# --- when --------------------------------------------------------------------------------------------------------


def listed(at: str) -> dict[str, Any]:
    """Return the person whose methods are told in list form, this session's proved at a Beijing time."""
    return {**PERSON, "creditable_level_of_account_way": [entry("L2", "YSS", at), entry("L3", "GW", "20200101000000")]}


async def test_the_time_of_the_proof_is_that_of_the_sessions_method() -> None:
    """NOW is 2023-11-15 06:13:20 in Beijing."""
    identity = await told(listed("2023-11-15 06:13:05"))
    assert identity.authenticated_at == NOW - timedelta(seconds=15)
    assert isinstance(identity.claims, dict)
    assert identity.claims["creditable_level_of_account_way"] == "L2@YSS@u||L3@GW@u"
    assert (await told(PERSON)).authenticated_at is None


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("20231115061320", NOW),
        ("2023-11-15 06:13:20", NOW),
        ("2023-11-15T06:13:20", NOW),
        ("20231315061320", None),
        ("-1", None),
        ("1700000000", None),
        ("٢٠٢٣١١١٥٠٦١٣٢٠", None),
        ("00000101000000", None),
        ("00010101000000", None),
    ],
)
def test_a_time_is_read_in_beijing_time_or_not_at_all(text: str, time: datetime | None) -> None:
    assert beijing_time(text) == time


async def test_a_proof_that_lies_ahead_signs_nobody_on() -> None:
    """`the proof lies in the future` in `contradiction`; a little is forgiven, since clocks differ."""
    assert (await told(listed("20231115061500"))).authenticated_at == datetime(2023, 11, 14, 22, 15, tzinfo=UTC)
    await refused(listed("20231115071320"))


async def test_of_a_method_that_is_listed_twice_the_earlier_proof_counts() -> None:
    ways = [entry("L2", "YSS", "20231115061320"), entry("L2", "YSS", "20231115050000")]
    identity = await told({**PERSON, "creditable_level_of_account_way": ways})
    assert identity.authenticated_at == datetime(2023, 11, 14, 21, 0, tzinfo=UTC)
    ways[1]["auth_time"] = "-1"
    assert (await told({**PERSON, "creditable_level_of_account_way": ways})).authenticated_at is None


async def test_a_fresh_proof_is_demanded_with_its_time() -> None:
    """`since` in `demands.unmet`: without a time, or with an old one, nobody can say that it was made now."""
    assert (await told(listed("20231115061310"), fresh=True)).level == "L2"
    await refused(listed("20231115060000"), fresh=True)
    await refused(listed("-1"), fresh=True)
    await refused(PERSON, fresh=True)


async def test_a_level_that_the_service_needs_is_demanded() -> None:
    """`levels` in `demands.unmet`; the account's L3 by another method does not help."""
    assert (await told(PERSON, levels=("L2", "L3"))).level == "L2"
    await refused(PERSON, levels=("L3",))


# --- legal persons -----------------------------------------------------------------------------------------------


async def test_a_legal_person_signs_on_by_its_handler() -> None:
    identity = await told(LEGAL)
    assert identity.organisation == LEGAL
    assert (identity.role, identity.method, identity.level) == ("handler", "1", "L2")
    assert identity.claims == {
        "useridcode": identity.subject,
        "usertype": "1",
        "cn": "何经办",
        "idcardtype": "10",
        "idcardnumber": "440106199203080028",
        "telephonenumber": "13800000003",
    }


async def test_whoever_handles_the_account_next_is_somebody_else() -> None:
    """An account outlives its handler: made of the account alone, the subject would inherit the old one's rights."""
    first = await told(LEGAL)
    again = await told({**LEGAL, "link_person_name": "何 经办", "telephonenumber": "-1"})
    following = await told({**LEGAL, "link_person_code": "440106198806150019"})
    elsewhere = await told({**LEGAL, "useridcode": "GDFR2"})
    assert first.subject == again.subject
    assert len({first.subject, following.subject, elsewhere.subject}) == 3
    assert "440106199203080028" not in first.subject


async def test_the_handler_who_is_the_legal_representative_is_said_to_be() -> None:
    """By kind and number of the document; a name alone may be anybody's."""
    assert (await told({**LEGAL, "link_person_code": LEGAL["legal_code"]})).role == "legal_representative"
    assert (await told({**LEGAL, "link_person_name": "林法定"})).role == "handler"
    other_kind = {**LEGAL, "link_person_code": LEGAL["legal_code"], "legal_id_type": "20"}
    assert (await told(other_kind)).role == "handler"


@pytest.mark.parametrize("name", ["link_person_name", "link_person_type", "link_person_code"])
@pytest.mark.parametrize("value", ["", "-1", None])
async def test_an_account_that_does_not_say_who_handles_it_signs_nobody_on(name: str, value: Any) -> None:
    """The check in `_handler`: an organisation alone is no person, and nobody else can be held to what it does."""
    await refused({**LEGAL, name: value})


async def test_a_natural_account_under_a_legal_person_signs_on_as_itself() -> None:
    identity = await told({"userobj": CHILD, "pareobj": PARENT, "user_creditable_level": "L3"})
    assert (identity.subject, identity.level, identity.role) == ("U1", "L2", "handler")
    assert (identity.claims, identity.organisation) == (CHILD, PARENT)
    head = {**CHILD, "idcardnumber": PARENT["legal_code"]}
    assert (await told({"userobj": head, "pareobj": PARENT})).role == "legal_representative"


@pytest.mark.parametrize(
    ("child", "parent"),
    [
        ({"parent_uidcode": "P2"}, {}),
        ({"parent_uidcode": "-1"}, {}),
        ({"usertype": "2"}, {}),
        ({}, {"usertype": "1"}),
        ({}, {"useridcode": "P2"}),
        ({}, {"useridcode": ""}),
        ({"useridcode": ""}, {}),
        ({"isreal": "false"}, {}),
    ],
)
async def test_halves_that_do_not_belong_together_sign_nobody_on(
    child: Mapping[str, Any], parent: Mapping[str, Any]
) -> None:
    """`_child`: a person who works for one company must not arrive as the handler of another."""
    await refused({"userobj": {**CHILD, **child}, "pareobj": {**PARENT, **parent}})


@pytest.mark.parametrize(
    "halves", [{"userobj": dict(CHILD)}, {"pareobj": dict(PARENT)}, {"userobj": [], "pareobj": {}}]
)
async def test_one_half_alone_signs_nobody_on(halves: Mapping[str, Any]) -> None:
    await refused({**PERSON, **halves})


# --- the end of it -----------------------------------------------------------------------------------------------


async def test_the_session_there_is_ended_by_sending_the_browser() -> None:
    async with guangdong(Province({})) as (adapter, far):
        there = await adapter.sign_out.end(SignOutStart({}, "st/ate", "http://gateway.test/out", "zh-CN"))
        with pytest.raises(NotOffered):
            await adapter.sign_out.ended(Callback("POST", "/x", {}, b"", NOW))
    parts = urlsplit(there.url)
    query = parse_qs(parts.query)
    assert parts.path == "/tif/sso/connect/page/logout"
    assert (query["state"], query["redirect_uri"]) == (["st/ate"], ["http://gateway.test/out"])
    assert "a secret" not in there.url
    assert far.seen == []
