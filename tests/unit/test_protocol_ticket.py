"""The ticket exchange from our side: every rule of docs/ticket-exchange.md with the attack that it stops.

The far side signs and encrypts with the desk of the simulated province, which shares no code and no SM2 library with
what is tested; each test says what the content is, or spoils the finished answer.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web

from gateway.config import HOUSE
from gateway.crypto.sm2 import Sm2PrivateKey, generate
from gateway.crypto.sm4 import Sealed, unseal
from gateway.crypto.sm_keys import private_pem, public_pem
from gateway.errors import (
    ForgedCallback,
    InvalidRequest,
    RegionError,
    RegionUncertain,
    RegionUnreachable,
    ReplayedCallback,
    SignOnFailed,
    StartRefused,
)
from gateway.ports import Callback, SignOnReturn, SignOnStart, SignOutStart, UpstreamIdentity
from gateway.protocols.ticket import TicketSignOn, TicketSignOut, open_province
from gateway.sandbox.authority import MISBEHAVIOUR, Misbehaviour
from gateway.sandbox.ticket_authority import ATTACKS, Desk, Traits, sm3_hex
from tests.unit.protocol_support import NOW, FarSide, Seen, far_side, kit

REDIRECT = "https://gateway.test/sign-in/testland/callback"
TICKET, STATE = "a-ticket-that-was-issued-once", "the-state-of-this-sign-on"
NOW_MS = int(NOW.timestamp() * 1000)
MINUTE = timedelta(minutes=1)
PATHS = {"login": "/l", "token": "/t", "person": "/p", "organisation": "/o", "logout": "/x"}
CODES = {"ok": ["200"], "ticket": ["4001", "4002"], "caller": ["4003"], "gone": ["4004"]}
SETTINGS: Mapping[str, Any] = {
    "app_id": "pearl",
    "signing_key_id": "gateway-signing",
    "decryption_key_id": "gateway-encryption",
    "our_id": "1234567812345678",
    "their_id": "1234567812345678",
    "signature": "der",
    "cipher": "c1c3c2",
    "suite": "SM4-GCM",
    "tolerance_seconds": 120,
    "subject": "userId",
    "levels": ["1", "2", "3"],
    "paths": PATHS,
    "codes": CODES,
    "methods": {"PWD": "1", "FACE": "2", "CERT": "3"},
    "roles": {"1": "handler", "2": "legal_representative"},
    "echo": {"e_type": "2"},
}
TRAITS = Traits(
    title="测试省",
    paths=PATHS,
    methods={"PWD": ("密码", "1")},
    levels=("1", "2", "3"),
    codes={name: words[0] for name, words in CODES.items()},
    roles=("1", "2"),
    subject="userId",
    person=dict,
    company=dict,
)


@cache
def keys() -> Mapping[str, Sm2PrivateKey]:
    names = ("signing", "encryption", "province-current", "province-next", "province-retired")
    return {name: generate() for name in names}


def pins(*names: str) -> bytes:
    return "".join(_pin(name) for name in names or ("province-current", "province-retired")).encode()


def _pin(name: str) -> str:
    begins = NOW - timedelta(days=400) if name == "province-retired" else NOW - timedelta(days=1)
    term = f"not_before = {begins.isoformat()}\nnot_after = {(begins + timedelta(days=365)).isoformat()}\n"
    return f'[[key]]\nid = "{name}"\n{term}public_key = "{keys()[name].public.point.hex()}"\n'


def secrets(pinned: bytes | None = None) -> dict[str, bytes]:
    return {
        "signing_key": private_pem(keys()["signing"]),
        "decryption_key": private_pem(keys()["encryption"]),
        "province_keys": pins() if pinned is None else pinned,
    }


# --- the far side ------------------------------------------------------------------------------------------------

Spoil = Callable[[web.Response], web.Response]


@dataclass(slots=True)
class Far:
    """A province that says what it is told to say. `spoil` changes finished answers to a path."""

    traits: Traits = TRAITS
    key: str = "province-current"
    tolds: dict[str, dict[str, Any]] = field(default_factory=dict)
    codes: dict[str, str] = field(default_factory=dict)
    spoil: dict[str, Spoil] = field(default_factory=dict)
    attacks: Misbehaviour = field(default_factory=lambda: Misbehaviour(known=ATTACKS))
    clock: datetime = NOW
    desk: Desk = field(init=False)

    def __post_init__(self) -> None:
        app = web.Application()
        app[MISBEHAVIOUR] = self.attacks
        given = {
            "app_id": b"pearl",
            "signing_key": private_pem(keys()[self.key]),
            "retired_key": private_pem(keys()["province-retired"]),
            "gateway_signing": public_pem(keys()["signing"].public),
            "gateway_encryption": public_pem(keys()["encryption"].public),
        }
        self.desk = Desk(self.traits, given, app, lambda: self.clock.timestamp())

    def __call__(self, seen: Seen) -> web.Response:
        nonce = seen.headers["X-Nonce"]
        code = self.codes.get(seen.path, "200")
        content = self.content(seen.path) if code == "200" else None
        answer = self.desk.answer(seen.path, nonce, code, content)
        return self.spoil[seen.path](answer) if seen.path in self.spoil else answer

    def content(self, path: str) -> dict[str, Any]:
        common = {"app_id": "pearl", "e_type": "2"}
        return {**common, **_usual(path), **self.tolds.get(path, {})}


def _usual(path: str) -> dict[str, Any]:
    if path == PATHS["token"]:
        return {
            "ticket": sm3_hex(TICKET.encode()), "state": STATE, "return_url": REDIRECT, "issued_at": NOW_MS - 1000,
            "access_token": "an-access-token", "expires_in": 300, "user_type": "1", "subject": "u-1",
        }  # fmt: skip
    if path == PATHS["logout"]:
        return {}
    legal = {"corp": {"corpId": "c-1", "enterpriseName": "测试有限公司"}, "role": "1"}
    return {"state": STATE, "session": dict(SESSION), "user": {"userId": "u-1", "userName": "测试甲"}} | (
        legal if path == PATHS["organisation"] else {}
    )


SESSION: Mapping[str, Any] = {
    "id": "s-1", "method": "FACE", "level": "2", "authenticated_at": NOW_MS - 2000, "proof_nonce": "the-login",
}  # fmt: skip
MEMORY: Mapping[str, str] = {"state": STATE, "levels": "", "nonce": "the-login", "fresh": "0"}
BACK = SignOnReturn({"ticket": TICKET, "state": STATE}, MEMORY, REDIRECT)


@dataclass(frozen=True, slots=True)
class Near:
    """Our side, opened against a far side that remembers what it saw."""

    sign_on: TicketSignOn
    sign_out: TicketSignOut
    seen: FarSide


@asynccontextmanager
async def opened(far: Far, pinned: bytes | None = None, **changed: Any) -> AsyncIterator[Near]:
    async with (
        far_side(far) as (seen, base),
        kit(base, settings={**SETTINGS, **changed}, secrets=secrets(pinned)) as lent,
    ):
        wire, province = open_province(lent)
        yield Near(TicketSignOn(wire, province), TicketSignOut(wire, province), seen)


async def signed_on(
    far: Far, back: SignOnReturn = BACK, pinned: bytes | None = None, **changed: Any
) -> UpstreamIdentity:
    async with opened(far, pinned, **changed) as near:
        return await near.sign_on.complete(back)


def remembering(**changed: str) -> SignOnReturn:
    return replace(BACK, memory={**MEMORY, **changed})


def session(**changed: Any) -> dict[str, dict[str, Any]]:
    return {PATHS["person"]: {"session": {**SESSION, **changed}}}


# --- going there -------------------------------------------------------------------------------------------------


async def login(**start: Any) -> tuple[str, Mapping[str, str]]:
    async with opened(Far()) as near:
        there = await near.sign_on.begin(SignOnStart(STATE, "n", REDIRECT, "zh-CN", **start))
        return there.url, there.memory


async def test_the_login_is_signed_over_everything_that_it_asks() -> None:
    """The province checks it: an address with another level or another way back is none of ours."""
    url, memory = await login(levels=("2", "3"), fresh=True)
    parts = urlsplit(url)
    query, _, _ = parts.query.partition("&sign=")
    asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
    assert (asked["level"], asked["fresh"], asked["return_url"], asked["state"]) == ("2", "1", REDIRECT, STATE)
    assert memory == {"state": STATE, "levels": "2\n3", "nonce": asked["nonce"], "fresh": "1"}
    Far().desk.check("GET", "/l", query, asked, b"")
    for forged in (query.replace("level=2", "level=1"), query.replace("gateway.test", "elsewhere.test")):
        with pytest.raises(Exception, match="caller"):
            Far().desk.check("GET", "/l", forged, asked, b"")


async def test_a_service_that_demands_nothing_asks_for_no_level_and_no_fresh_proof() -> None:
    url, memory = await login()
    asked = parse_qs(urlsplit(url).query, keep_blank_values=True)
    assert (asked["level"], asked["fresh"], memory["levels"]) == ([""], ["0"], "")


# --- and back ----------------------------------------------------------------------------------------------------


async def test_a_natural_person_comes_with_everything_that_the_core_needs() -> None:
    async with opened(Far()) as near:
        identity = await near.sign_on.complete(BACK)
    assert (identity.subject, identity.method, identity.level) == ("u-1", "FACE", "2")
    assert identity.claims == {"userId": "u-1", "userName": "测试甲", "userType": "1"}
    assert (identity.organisation, identity.role) == (None, "")
    assert identity.authenticated_at == NOW - timedelta(seconds=2)
    assert (identity.session_ref, identity.kept) == ("s-1", {"session": "s-1"})
    assert identity.once is not None
    assert identity.once.value == f"ticket:{sm3_hex(TICKET.encode())}"
    assert identity.once.expires_at > NOW + MINUTE
    assert [seen.path for seen in near.seen.seen] == [PATHS["token"], PATHS["person"]]
    assert json.loads(near.seen.seen[0].body) == {
        "ticket": TICKET, "state": STATE, "return_url": REDIRECT, "e_type": "2",
    }  # fmt: skip


async def test_the_assertion_is_what_the_province_signed() -> None:
    """Kept as a digest in the evidence: whoever has the answer later can show that it is the one."""
    answers: list[web.Response] = []

    def keep(answer: web.Response) -> web.Response:
        answers.append(answer)
        return answer

    identity = await signed_on(Far(spoil={PATHS["person"]: keep}))
    [answer] = answers
    assert isinstance(answer.body, bytes)
    assert identity.assertion.startswith(b"PEARL-TICKET-1 ANSWER\n200\n/p\npearl\nprovince-current\n")
    assert identity.assertion.endswith(b"\n" + answer.body)


async def test_a_legal_person_comes_with_its_handler_and_the_role() -> None:
    """The person is the natural one: an organisation proves nothing by itself."""
    async with opened(Far(tolds={PATHS["token"]: {"user_type": "2"}})) as near:
        identity = await near.sign_on.complete(BACK)
    assert near.seen.seen[1].path == PATHS["organisation"]
    assert (identity.subject, identity.claims["userType"]) == ("u-1", "1")  # type: ignore[call-overload] # a JSON object
    assert identity.organisation == {"corpId": "c-1", "enterpriseName": "测试有限公司"}
    assert identity.role == "handler"


@pytest.mark.parametrize("signature", ["der", "raw"])
@pytest.mark.parametrize("cipher", ["c1c3c2", "c1c2c3", "der"])
@pytest.mark.parametrize("suite", ["SM4-GCM", "SM4-CBC-HMAC-SM3"])
async def test_every_dialect_signs_on(signature: str, cipher: str, suite: str) -> None:
    far = Far(replace(TRAITS, raw_signature=signature == "raw", cipher=cipher, suite=suite))
    assert (await signed_on(far, signature=signature, cipher=cipher, suite=suite)).subject == "u-1"


async def test_a_province_may_sign_under_an_id_of_its_own() -> None:
    far = Far(replace(TRAITS, our_id=b"province@test"))
    assert (await signed_on(far, their_id="province@test")).subject == "u-1"
    with pytest.raises(RegionUncertain, match="does not verify"):
        await signed_on(far)


async def test_two_keys_of_the_province_count_while_it_rolls_over() -> None:
    both = pins("province-current", "province-next")
    assert (await signed_on(Far(), pinned=both)).subject == "u-1"

    far = Far(key="province-next")  # the desk calls whatever key it has province-current
    moved = both.replace(b'"province-current"', b'"x"').replace(b'"province-next"', b'"province-current"')
    assert (await signed_on(far, pinned=moved)).subject == "u-1"


# --- whose word it is --------------------------------------------------------------------------------------------


def without(header: str) -> Spoil:
    def spoil(answer: web.Response) -> web.Response:
        del answer.headers[header]
        return answer

    return spoil


def saying(header: str, value: str) -> Spoil:
    def spoil(answer: web.Response) -> web.Response:
        answer.headers[header] = value
        return answer

    return spoil


def with_status(status: int) -> Spoil:
    def spoil(answer: web.Response) -> web.Response:
        answer.set_status(status)
        return answer

    return spoil


def with_body(change: Callable[[bytes], bytes]) -> Spoil:
    def spoil(answer: web.Response) -> web.Response:
        assert isinstance(answer.body, bytes)
        answer.body = change(answer.body)
        return answer

    return spoil


SPOILT: Mapping[str, Spoil] = {
    **{f"no {name}": without(name) for name in ("X-App-Id", "X-Key-Id", "X-Timestamp", "X-Nonce", "X-Sign")},
    "another app": saying("X-App-Id", "another"),
    "another nonce": saying("X-Nonce", "0" * 32),
    "another time": saying("X-Timestamp", str(NOW_MS + 1)),
    "no time": saying("X-Timestamp", "now"),
    "an unknown key": saying("X-Key-Id", "stranger"),
    "an expired key": saying("X-Key-Id", "province-retired"),
    "no base64": saying("X-Sign", "!!"),
    "an endless signature": saying("X-Sign", "A" * 4000),
    "another status": with_status(400),
    "a byte more": with_body(lambda body: body + b" "),
    "a byte changed": with_body(lambda body: body.replace(b"200", b"201", 1)),
    "no body": with_body(lambda _: b""),
}


@pytest.mark.parametrize("spoilt", SPOILT)
@pytest.mark.parametrize("path", [PATHS["token"], PATHS["person"]])
async def test_an_answer_that_is_not_signed_as_it_is_is_nobodys_word(spoilt: str, path: str) -> None:
    """Guard: `_verified` and the comparisons before it in `TicketWire._read`; nothing is parsed before they pass."""
    with pytest.raises(RegionUncertain, match="does not verify"):
        await signed_on(Far(spoil={path: SPOILT[spoilt]}))


FORGING = [
    "hostile_wrong_key", "hostile_unsigned", "hostile_empty_signature", "hostile_out_of_range", "hostile_other_bytes",
    "hostile_other_nonce", "hostile_expired_key", "hostile_clock", "hostile_plain", "hostile_other_suite",
]  # fmt: skip


@pytest.mark.parametrize("signature", ["der", "raw"])
@pytest.mark.parametrize("attack", FORGING)
async def test_an_attack_on_signature_or_envelope_signs_nobody_on(attack: str, signature: str) -> None:
    """The signatures here are right for what they cover, but for key, nonce, time, term, range or encryption."""
    far = Far(replace(TRAITS, raw_signature=signature == "raw"))
    far.attacks.order(attack, 1)
    with pytest.raises(RegionUncertain, match="does not verify"):
        await signed_on(far, signature=signature)
    assert not far.attacks.active


async def test_an_answer_to_an_earlier_question_is_not_taken_again() -> None:
    """Guard: the nonce of our question stands in what must be signed (`TicketWire._read`)."""
    far = Far()
    async with opened(far) as near:
        await near.sign_on.complete(BACK)
        far.attacks.order("hostile_replay", 1)
        with pytest.raises(RegionUncertain, match="does not verify"):
            await near.sign_on.complete(BACK)


async def test_an_answer_of_one_address_is_not_taken_at_another() -> None:
    """Guard: the path in the head of an answer. A token's content can never pass for information."""
    far = Far()
    far.spoil[PATHS["person"]] = lambda _: _moved(far)

    with pytest.raises(RegionUncertain, match="does not verify"):
        await signed_on(far)


def _moved(far: Far) -> web.Response:
    """Return an answer that is right in everything but that it was signed for the token's address."""
    return far.desk.answer(PATHS["token"], "the nonce", "200", far.content(PATHS["person"]))


@pytest.mark.parametrize("minutes", [-3, 3])
async def test_an_answer_out_of_its_time_is_not_taken(minutes: int) -> None:
    """Guard: `_check_now`."""
    with pytest.raises(RegionUncertain, match="does not verify"):
        await signed_on(Far(clock=NOW + minutes * MINUTE))


async def test_an_answer_for_another_decryption_key_is_not_opened() -> None:
    with pytest.raises(RegionUncertain, match="does not verify"):
        await signed_on(Far(), decryption_key_id="another")


async def test_a_wrapped_key_in_the_other_order_opens_nothing() -> None:
    """C1C2C3 for C1C3C2: found out at the first sign-on, and never by a person's data coming out wrong."""
    with pytest.raises(RegionUncertain, match="does not verify"):
        await signed_on(Far(replace(TRAITS, cipher="c1c2c3")))


@pytest.mark.parametrize("other", ["der", "raw"])
async def test_a_signature_in_the_other_form_does_not_verify(other: str) -> None:
    far = Far(replace(TRAITS, raw_signature=other == "raw"))
    with pytest.raises(RegionUncertain, match="does not verify"):
        await signed_on(far, signature={"der": "raw", "raw": "der"}[other])


# --- for whom it is ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["app_id", "ticket", "state", "return_url", "e_type"])
@pytest.mark.parametrize("value", ["another", None, 2])
async def test_a_token_for_another_sign_on_is_refused(name: str, value: object) -> None:
    """Guard: `_bound` in `_redeem`. Such a ticket was injected; an `e_type` of 1 would be a step down to RSA."""
    with pytest.raises(SignOnFailed, match="for another sign-on"):
        await signed_on(Far(tolds={PATHS["token"]: {name: value}}))


@pytest.mark.parametrize("name", ["app_id", "state", "e_type"])
async def test_information_for_another_sign_on_is_refused(name: str) -> None:
    """Guard: `_bound` in `complete`."""
    with pytest.raises(SignOnFailed, match="for another sign-on"):
        await signed_on(Far(tolds={PATHS["person"]: {name: "another"}}))


async def test_information_about_somebody_else_is_refused() -> None:
    """Guard: the comparison of subjects in `_identity`; as userinfo's `sub` in OpenID Connect Core §5.3.2."""
    told = {PATHS["person"]: {"user": {"userId": "u-2", "userName": "测试乙"}}}
    with pytest.raises(SignOnFailed, match="somebody else"):
        await signed_on(Far(tolds=told))


@pytest.mark.parametrize("seconds", [-181, 121])
async def test_a_ticket_that_was_too_long_under_way_is_refused(seconds: int) -> None:
    """Guard: the age in `_redeem`: 60 s and the tolerance of the clocks, whatever the province thinks of it."""
    told = {PATHS["token"]: {"issued_at": NOW_MS + seconds * 1000}}
    with pytest.raises(SignOnFailed, match="too long"):
        await signed_on(Far(tolds=told))


@pytest.mark.parametrize(
    "back",
    [
        replace(BACK, query={"ticket": TICKET, "state": "another"}),
        replace(BACK, query={"ticket": TICKET}),
        replace(BACK, query={"ticket": TICKET, "state": "非"}),
        replace(BACK, memory={}),
        replace(BACK, query={"state": STATE}),
        replace(BACK, query={"state": STATE, "ticket": ""}),
        replace(BACK, query={"state": STATE, "ticket": "x" * 513}),
        replace(BACK, query={"state": STATE, "ticket": "票"}),
        replace(BACK, query={"state": STATE, "ticket": "a\ud800b"}),
        replace(BACK, query={"state": STATE, "ticket": "a ticket\n"}),
        replace(BACK, query={"ticket": TICKET, "state": "\ud800"}),
        replace(BACK, query={"state": STATE, "error": "declined"}),
    ],
)
async def test_what_came_back_for_another_sign_on_or_without_a_ticket_asks_the_province_nothing(
    back: SignOnReturn,
) -> None:
    async with opened(Far()) as near:
        with pytest.raises(SignOnFailed):
            await near.sign_on.complete(back)
        assert near.seen.seen == []


# --- how sure it is ----------------------------------------------------------------------------------------------


async def test_the_level_is_that_of_the_session_and_never_better_than_its_method() -> None:
    """Guard: `_method_and_level`. The best that the account ever reached says nothing of who sits there now."""
    with pytest.raises(SignOnFailed, match="better level than the method"):
        await signed_on(Far(tolds=session(method="PWD", level="3")))
    assert (await signed_on(Far(tolds=session(method="CERT", level="2")))).level == "2"


@pytest.mark.parametrize("changed", [{"method": "PALM"}, {"level": "9"}, {"level": None}, {"method": ""}, {"level": 2}])
async def test_a_method_or_level_that_nobody_knows_is_no_level(changed: Mapping[str, Any]) -> None:
    with pytest.raises(SignOnFailed, match="cannot be used"):
        await signed_on(Far(tolds=session(**changed)))


async def test_a_weaker_level_than_the_service_demands_is_refused() -> None:
    """Guard: `_as_asked`."""
    with pytest.raises(SignOnFailed, match="not sure enough"):
        await signed_on(Far(), remembering(levels="3"))
    assert (await signed_on(Far(), remembering(levels="2\n3"))).level == "2"


@pytest.mark.parametrize("nonce", ["", "an-earlier-login", None])
async def test_a_proof_for_an_earlier_login_is_not_a_fresh_one(nonce: str | None) -> None:
    """Guard: `_as_asked`. A nonce is compared and not a time: clocks differ, and a session of a minute ago is old."""
    with pytest.raises(SignOnFailed, match="prove it anew"):
        await signed_on(Far(tolds=session(proof_nonce=nonce)), remembering(fresh="1"))
    assert await signed_on(Far(), remembering(fresh="1"))
    assert await signed_on(Far(tolds=session(proof_nonce=nonce)))


@pytest.mark.parametrize("moment", [NOW_MS + 121_000, "soon", None, -1, 10**15])
async def test_a_proof_in_the_future_or_at_no_time_is_refused(moment: object) -> None:
    with pytest.raises(SignOnFailed, match="cannot be used"):
        await signed_on(Far(tolds=session(authenticated_at=moment)))


@pytest.mark.parametrize(
    ("path", "told"),
    [
        (PATHS["token"], {"user_type": "3"}),
        (PATHS["token"], {"access_token": ""}),
        (PATHS["token"], {"access_token": "x" * 513}),
        (PATHS["token"], {"subject": None}),
        (PATHS["token"], {"issued_at": None}),
        (PATHS["organisation"], {"user": None}),
        (PATHS["organisation"], {"user": {}}),
        (PATHS["organisation"], {"session": None}),
        (PATHS["organisation"], {"session": {**SESSION, "id": "x" * 129}}),
        (PATHS["organisation"], {"corp": None}),
        (PATHS["organisation"], {"corp": "测试有限公司"}),
        (PATHS["organisation"], {"role": "9"}),
        (PATHS["organisation"], {"role": None}),
    ],
)
async def test_a_signed_answer_that_says_too_little_signs_nobody_on(path: str, told: dict[str, Any]) -> None:
    """No `RegionError`: anybody with an odd account could otherwise have the breaker opened for everybody."""
    tolds = {PATHS["token"]: {"user_type": "2"}}
    tolds[path] = {**tolds.get(path, {}), **told}
    with pytest.raises(SignOnFailed, match="cannot be used"):
        await signed_on(Far(tolds=tolds))


NONSENSE: Sequence[Any] = (None, 1, -1, 1e300, True, [], {}, "", "x" * 600, "1", [1], {"a": 1}, 10**30, "非", "a\nb")


async def test_whatever_a_signed_answer_says_ends_in_a_refusal_or_a_person() -> None:
    """A province's fault must not become ours: no answer of its, however odd, ends in anything but our own errors."""
    far, chance = Far(), random.Random(20260301)  # noqa: S311 - a repeatable choice, no secret
    outcomes = Counter[str]()
    async with opened(far) as near:
        for _ in range(30):
            far.tolds = {PATHS["token"]: _odd(chance, {"user_type": chance.choice("12")}, far.content(PATHS["token"]))}
            for path in (PATHS["person"], PATHS["organisation"]):
                far.tolds[path] = _odd(chance, {"session": _odd(chance, dict(SESSION), SESSION)}, far.content(path))
            try:
                outcomes[type(await near.sign_on.complete(BACK)).__name__] += 1
            except (SignOnFailed, RegionError) as refused:
                outcomes[type(refused).__name__] += 1
    assert outcomes["UpstreamIdentity"]
    assert outcomes["SignOnFailed"]


def _odd(chance: random.Random, told: dict[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """Put nonsense into one place of what is told, more often than not."""
    return {**told, chance.choice(list(usual)): chance.choice(NONSENSE)} if chance.random() < 0.4 else told


# --- refusals of the province ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "error"),
    [("4001", SignOnFailed), ("4002", SignOnFailed), ("4003", RegionUnreachable), ("5", RegionUncertain)],
)
@pytest.mark.parametrize("path", [PATHS["token"], PATHS["person"]])
async def test_a_refusal_is_read_by_the_provinces_own_table(code: str, error: type[Exception], path: str) -> None:
    with pytest.raises(error):
        await signed_on(Far(codes={path: code}))


async def test_a_refusal_that_is_not_signed_is_no_refusal() -> None:
    """Whatever stands between may say no; the person did nothing wrong, and it is not told so."""
    spoil = {PATHS["token"]: without("X-Sign")}
    with pytest.raises(RegionUncertain):
        await signed_on(Far(codes={PATHS["token"]: "4001"}, spoil=spoil))


# --- sign-out ----------------------------------------------------------------------------------------------------

KEPT = SignOutStart({"session": "s-1"}, "state", "https://gateway.test/sign-in/testland/signed-out", "en")


@pytest.mark.parametrize("code", ["200", "4004"])
async def test_the_province_is_told_that_a_session_is_over(code: str) -> None:
    """One that it no longer knows is over too: the browser need not go there either way."""
    async with opened(Far(codes={PATHS["logout"]: code})) as near:
        assert await near.sign_out.end(KEPT) is None
        [seen] = near.seen.seen
    assert (seen.path, json.loads(seen.body)) == (PATHS["logout"], {"session": "s-1", "e_type": "2"})
    stamp = {name: seen.headers[f"X-{header}"] for name, header in STAMP.items()}
    Far().desk.check("POST", seen.path, "", stamp, seen.body)


STAMP = {"app_id": "App-Id", "key_id": "Key-Id", "timestamp": "Timestamp", "nonce": "Nonce", "sign": "Sign"}


async def test_a_session_of_which_nothing_was_kept_asks_the_province_nothing() -> None:
    async with opened(Far()) as near:
        assert await near.sign_out.end(replace(KEPT, kept={})) is None
        assert near.seen.seen == []


@pytest.mark.parametrize(("code", "attack"), [("4003", ""), ("4001", ""), ("200", "hostile_wrong_key")])
async def test_a_sign_out_that_the_province_did_not_confirm_is_an_error(code: str, attack: str) -> None:
    """Guard: an answer to a sign-out, too, counts only when it is signed; otherwise it is tried again."""
    far = Far(codes={PATHS["logout"]: code})
    if attack:
        far.attacks.order(attack, 1)
    async with opened(far) as near:
        with pytest.raises(RegionError):
            await near.sign_out.end(KEPT)


NOTICE_PATH = "/sign-in/testland/logout"
ENDED = {"event": "session_ended", "session": "s-1", "subject": "u-1"}


def notice(far: Far, content: object = ENDED, path: str = NOTICE_PATH, *, sealed: bool = True) -> Callback:
    nonce = "0123456789abcdef0123456789abcdef"
    assert isinstance(content, dict)
    document = {"sealed": far.desk.sealed(content, nonce)} if sealed else content
    body = json.dumps(document).encode()
    headers = far.desk.stamp(("NOTICE", "POST", path), nonce, body, "forged_notice")
    return Callback("POST", path, {name.lower(): value for name, value in headers.items()}, body, NOW)


async def test_the_provinces_word_that_a_session_has_ended_is_taken() -> None:
    async with opened(Far()) as near:
        read = await near.sign_out.ended(notice(Far()))
        everywhere = await near.sign_out.ended(notice(Far(), {**ENDED, "session": ""}))
    assert (read.session_ref, read.subject) == ("s-1", "u-1")
    assert (everywhere.session_ref, everywhere.subject) == ("", "u-1")
    assert read.once is not None
    assert read.once.value == "notice:0123456789abcdef0123456789abcdef"
    assert read.once.expires_at > NOW + 2 * MINUTE


def headed(callback: Callback, **changed: str) -> Callback:
    return replace(callback, headers={**callback.headers, **{f"x-{name}": value for name, value in changed.items()}})


@pytest.mark.parametrize(
    "forge",
    [
        lambda n: replace(n, body=n.body + b" "),
        lambda n: replace(n, path="/sign-in/elsewhere/logout"),
        lambda n: replace(n, path=NOTICE_PATH + "/"),
        lambda n: replace(n, method="PUT"),
        lambda n: replace(n, headers={}),
        lambda n: headed(n, sign=""),
        lambda n: headed(n, nonce="0" * 32),
        lambda n: headed(n, timestamp=str(NOW_MS + 1)),
        lambda n: headed(n, **{"app-id": "another"}),
        lambda n: headed(n, **{"key-id": "province-retired"}),
        lambda n: headed(n, **{"key-id": "stranger"}),
    ],
)
async def test_a_notice_that_is_not_signed_as_it_is_ends_no_session(forge: Callable[[Callback], Callback]) -> None:
    """Guard: `TicketWire.notice`. Whoever could forge one could sign anybody off."""
    async with opened(Far()) as near:
        with pytest.raises(ForgedCallback):
            await near.sign_out.ended(forge(notice(Far())))


@pytest.mark.parametrize("attack", ["forged_notice", "hostile_expired_key", "hostile_empty_signature"])
async def test_a_notice_signed_by_a_key_that_may_not_is_forged(attack: str) -> None:
    far = Far()
    far.attacks.order(attack, 1)
    async with opened(Far()) as near:
        with pytest.raises(ForgedCallback):
            await near.sign_out.ended(notice(far))


async def test_a_notice_for_another_region_is_not_taken_here() -> None:
    """It is right in everything but the address, which is signed."""
    async with opened(Far()) as near:
        with pytest.raises(ForgedCallback):
            await near.sign_out.ended(replace(notice(Far(), path="/sign-in/elsewhere/logout"), path=NOTICE_PATH))


@pytest.mark.parametrize("minutes", [-3, 3])
async def test_a_notice_out_of_its_time_is_refused(minutes: int) -> None:
    async with opened(Far()) as near:
        with pytest.raises(ReplayedCallback):
            await near.sign_out.ended(replace(notice(Far()), received_at=NOW + minutes * MINUTE))


@pytest.mark.parametrize(
    ("content", "sealed"),
    [
        (ENDED, False),
        ({**ENDED, "event": "session_began"}, True),
        ({**ENDED, "session": "", "subject": ""}, True),
        ({**ENDED, "session": 1}, True),
        ({**ENDED, "subject": "x" * 129}, True),
        ({}, True),
    ],
)
async def test_a_genuine_notice_that_does_not_say_whose_session_ended_is_invalid(
    content: dict[str, Any], sealed: bool
) -> None:
    async with opened(Far()) as near:
        with pytest.raises(InvalidRequest):
            await near.sign_out.ended(notice(Far(), content, sealed=sealed))


async def test_an_answer_cannot_pass_for_a_notice() -> None:
    """Guard: the first line of what is signed. Answers go through our hands; notices end sessions."""
    far, nonce = Far(), "0" * 32
    body = json.dumps({"sealed": far.desk.sealed(ENDED, nonce)}).encode()
    headers = far.desk.stamp(("ANSWER", "200", NOTICE_PATH), nonce, body)
    passed = Callback("POST", NOTICE_PATH, {name.lower(): value for name, value in headers.items()}, body, NOW)
    async with opened(Far()) as near:
        with pytest.raises(ForgedCallback):
            await near.sign_out.ended(passed)


# --- the page ----------------------------------------------------------------------------------------------------


def vectors() -> list[list[str]]:
    """Return what stands in code marks in each row of the vectors of docs/ticket-exchange.md."""
    page = (HOUSE / "docs" / "ticket-exchange.md").read_text(encoding="utf-8")
    table = page.partition("### Vectors")[2].partition("## ")[0]
    return [re.findall(r"`([^`]+)`", row) for row in table.splitlines() if row.startswith("| ")][1:]


def test_the_vectors_on_the_page_are_right() -> None:
    """Whoever writes a side of this from the page begins with them."""
    asked, digest, request, told, answer, content, gcm, cbc = vectors()
    key = Sm2PrivateKey(bytes.fromhex("3945208F7B2144B13F36E38AC6D39F95889393692860B51A42FB81EF4DF7C5B8")).public
    nonce, path = "0123456789abcdef0123456789abcdef", "/tacs-uc/ticket/token"
    assert sm3_hex(asked[0].encode()) == digest[0]
    signed = ("PEARL-TICKET-1 REQUEST", "POST", path, "", "pearl", request[2], request[1], nonce, digest[0])
    assert key.verify("\n".join(signed).encode(), bytes.fromhex(request[-1]), "raw")
    head = ("PEARL-TICKET-1 ANSWER", "200", path, "pearl", answer[1], answer[0], nonce, told[0])
    assert key.verify("\n".join(head).encode(), bytes.fromhex(answer[-1]), "raw")
    bound, plain = f"pearl\n{nonce}".encode(), content[0].encode()
    first = Sealed(bytes.fromhex(gcm[1]), *map(bytes.fromhex, gcm[2:]))
    assert unseal("SM4-GCM", bytes.fromhex(gcm[0]), first, bound) == plain
    second = Sealed(bytes(range(16)), *map(bytes.fromhex, cbc))
    assert unseal("SM4-CBC-HMAC-SM3", bytes(range(48)), second, bound) == plain


# --- opening -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("signature", "pgp"), ("cipher", "c2c1c3"), ("suite", "SM4-CBC"), ("app_id", ""), ("their_id", None),
        ("tolerance_seconds", 0), ("tolerance_seconds", "120"), ("tolerance_seconds", True),
        ("tolerance_seconds", 3600),
        ("levels", []), ("levels", "123"), ("levels", [1]), ("methods", {}), ("methods", {"PWD": "9"}), ("methods", []),
        ("paths", {"login": "/l"}), ("paths", {**PATHS, "more": "/m"}), ("paths", {**PATHS, "login": ""}),
        ("codes", {}), ("codes", {**CODES, "ok": []}), ("codes", {**CODES, "ok": "200"}),
        ("codes", {**CODES, "more": ["1"]}),
        ("roles", {"1": 1}), ("echo", {"e_type": 2}), ("subject", 7),
    ],
)  # fmt: skip
async def test_a_setting_that_cannot_be_one_is_named_at_the_start(name: str, value: object) -> None:
    async with kit("http://x.test", settings={**SETTINGS, name: value}, secrets=secrets()) as lent:
        with pytest.raises(StartRefused) as refused:
            open_province(lent)
    assert f"settings.{name}" in str(refused.value)


@pytest.mark.parametrize("name", ["signing_key", "decryption_key", "province_keys"])
@pytest.mark.parametrize("value", [b"\n", b"nonsense", b"\xff"])
async def test_a_key_that_cannot_be_one_is_named_at_the_start(name: str, value: bytes) -> None:
    async with kit("http://x.test", settings=SETTINGS, secrets={**secrets(), name: value}) as lent:
        with pytest.raises(StartRefused) as refused:
            open_province(lent)
    assert f"secrets.{name}" in str(refused.value)


def test_the_clock_of_these_tests_stands_still() -> None:
    """The terms of the pins are made around it."""
    assert datetime.fromtimestamp(NOW_MS / 1000, UTC) == NOW
