"""What a region that signs on by SAML does with the core: requests, answers, logout, metadata, and how it is opened."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from lxml import etree
from yarl import URL

from adapters.guangxi.sandbox_messages import inflated, logout_request, metadata
from adapters.guangxi.sandbox_signature import Signing, sign, verified_query
from gateway.errors import (
    ForgedCallback,
    InvalidRequest,
    NotFound,
    NotOffered,
    RegionError,
    RegionUnreachable,
    ReplayedCallback,
    SignOnFailed,
    StartRefused,
)
from gateway.ports import Callback, Kit, SignOnReturn, SignOnStart, SignOutStart, UpstreamIdentity
from gateway.protocols.saml import Profile, Saml, open_saml
from gateway.protocols.saml.documents import MD, SAML, SAMLP, Rejected
from gateway.protocols.saml.sign_on import REFUSED
from gateway.protocols.saml.trust import MetadataSource, read_metadata
from tests.unit.protocol_support import NOW, FarSide, Seen, closed_port, far_side, kit
from tests.unit.saml_support import (
    CALLBACK,
    FACTS,
    IDP,
    US,
    Answer,
    Tweak,
    adding,
    cert_pem,
    certificate,
    ec_key,
    find,
    idp_signing,
    nothing,
    pem,
    rsa_key,
    saying,
    sealing,
    setting,
    without,
)

PROFILE = Profile({"userType": "userType", "userName": "userName", "mobile": "mobile"}, subject="userId")
LEVELS = ("urn:test:low", "urn:test:high")
LOGOUT = "http://gateway.test/sign-in/testland/logout"
PATHS = {"sso_path": "/saml/sso", "slo_path": "/saml/slo"}
PINNED = {"trust": "pinned", "idp_entity_id": IDP, **PATHS}
FETCHED = {
    "trust": "metadata",
    "metadata_path": "/saml/metadata",
    "metadata_refresh_seconds": 3600,
    "metadata_stale_seconds": 7200,
}


def signer() -> Signing:
    """Return whoever signs the metadata."""
    return Signing(ec_key("federation"), certificate(ec_key("federation")))


def given(anchors: bytes, **changes: bytes) -> dict[str, bytes]:
    """Return the secrets of a region."""
    return {
        "trust_anchors": anchors,
        "signing_key": pem(rsa_key("signing")),
        "signing_certificate": cert_pem(certificate(rsa_key("signing"))),
        "encryption_key": pem(rsa_key("ours")),
        "encryption_certificate": cert_pem(sealing()),
        **changes,
    }


@asynccontextmanager
async def pinned(base: str = "https://idp.test", **secrets: bytes) -> AsyncIterator[Saml]:
    """Open a region whose identity provider is pinned."""
    known = given(cert_pem(idp_signing().certificate), **secrets)
    async with kit(base, settings=PINNED, secrets=known) as lent:
        yield open_saml(lent, PROFILE)


@cache
def weak_key() -> rsa.RSAPrivateKey:
    """Return a key that nobody may rely on any more."""
    return rsa.generate_private_key(65537, 1024)  # noqa: S505 - weak on purpose


def start(**changes: Any) -> SignOnStart:
    return replace(SignOnStart("state-1", "nonce-1", CALLBACK, "zh-CN"), **changes)


async def asked(saml: Saml, **changes: Any) -> tuple[etree._Element, Mapping[str, str], Mapping[str, str]]:
    """Begin a sign-on; return the verified request, its query, and what is to be remembered."""
    redirect = await saml.sign_on.begin(start(**changes))
    query = verified_query(urlsplit(redirect.url).query, certificate(rsa_key("signing")))
    return inflated(query["SAMLRequest"]), query, redirect.memory


def back(answer: Answer, memory: Mapping[str, str], **changes: Any) -> SignOnReturn:
    fields = {"SAMLResponse": base64.b64encode(answer.bytes()).decode(), "RelayState": "state-1", "state": "state-1"}
    return replace(SignOnReturn(fields, memory, CALLBACK, posted=True), **changes)


# --- the request -------------------------------------------------------------------------------------------------


async def test_a_request_says_who_asks_and_where_the_answer_goes() -> None:
    async with pinned() as saml:
        request, query, memory = await asked(saml)
    assert query["RelayState"] == "state-1"
    assert request.get("ID") == memory["request"]
    assert request.get("Destination") == "https://idp.test/saml/sso"
    assert request.get("AssertionConsumerServiceURL") == CALLBACK
    assert (request.get("ForceAuthn"), request.find(f"{{{SAMLP}}}RequestedAuthnContext")) == (None, None)
    assert request.findtext(f"{{{SAML}}}Issuer") == US


async def test_each_request_has_an_id_of_its_own() -> None:
    async with pinned() as saml:
        assert (await asked(saml))[2]["request"] != (await asked(saml))[2]["request"]


async def test_levels_and_a_fresh_proof_are_asked_for() -> None:
    async with pinned() as saml:
        request, _, _ = await asked(saml, levels=LEVELS, fresh=True)
    wanted = request.find(f"{{{SAMLP}}}RequestedAuthnContext")
    assert wanted is not None
    assert (wanted.get("Comparison"), [each.text for each in wanted]) == ("exact", list(LEVELS))
    assert request.get("ForceAuthn") == "true"


async def test_a_request_that_was_changed_does_not_verify() -> None:
    async with pinned() as saml:
        url = (await saml.sign_on.begin(start())).url
    with pytest.raises(ValueError, match="does not verify"):
        verified_query(urlsplit(url).query.replace("state-1", "state-2"), certificate(rsa_key("signing")))


async def test_an_elliptic_key_signs_requests_too() -> None:
    own = certificate(ec_key("signing"))
    async with pinned(signing_key=pem(ec_key("signing")), signing_certificate=cert_pem(own)) as saml:
        url = (await saml.sign_on.begin(start())).url
    query = verified_query(urlsplit(url).query, own)
    assert "ecdsa-sha256" in query["SigAlg"]
    assert len(base64.b64decode(query["Signature"])) == 64  # r and s side by side, no byte more


# --- the answer --------------------------------------------------------------------------------------------------


async def test_an_answer_becomes_an_identity() -> None:
    async with pinned() as saml:
        _, _, memory = await asked(saml)
        facts = FACTS.but(request_id=memory["request"])
        identity = await saml.sign_on.complete(back(Answer(facts=facts, sealed=True), memory))
    assert identity.claims == {"userType": "1", "userName": "韦小兰", "mobile": "13800000045", "userId": "GX-1"}
    assert (identity.subject, identity.method, identity.level) == ("GX-1", "PasswordProtectedTransport", FACTS.context)
    assert (identity.session_ref, identity.authenticated_at) == ("_session-1", NOW)
    assert identity.once is not None
    assert identity.once.value.encode() in identity.assertion
    assert identity.once.expires_at > NOW + timedelta(minutes=2)
    assert identity.kept["name_id"] == "GX-1"


async def test_the_same_answer_twice_has_the_same_id_for_the_core_to_remember() -> None:
    """An adapter has no store that replicas share: however many use an assertion at once, the core decides."""
    async with pinned() as saml:
        _, _, memory = await asked(saml)
        answer = back(Answer(facts=FACTS.but(request_id=memory["request"])), memory)
        identities = await asyncio.gather(*(saml.sign_on.complete(answer) for _ in range(5)))
    assert len({identity.once for identity in identities}) == 1


async def test_an_older_key_of_ours_still_opens_while_ours_roll_over() -> None:
    """The identity provider may have read our metadata yesterday."""
    keys = pem(rsa_key("next")) + pem(rsa_key("ours"))
    async with pinned(encryption_key=keys, encryption_certificate=cert_pem(certificate(rsa_key("next")))) as saml:
        _, _, memory = await asked(saml)
        facts = FACTS.but(request_id=memory["request"])
        assert (await saml.sign_on.complete(back(Answer(facts=facts, sealed=True), memory))).subject == "GX-1"


@pytest.mark.parametrize(
    "answer",
    [
        Answer(inside=setting("SubjectConfirmationData", Recipient="https://elsewhere.example")),
        Answer(signing=Signing(rsa_key("next"), certificate(rsa_key("next")))),
        Answer(outside=without("Signature")),
        Answer(sealed=True, outside=saying("CipherValue", "AAAA")),
        Answer(outside=setting("StatusCode", Value="urn:oasis:names:tc:SAML:2.0:status:AuthnFailed")),
        Answer(facts=FACTS.but(request_id="_another")),
        Answer(inside=adding("AttributeStatement", SAML, "Attribute", Name="mobile")),
    ],
)
async def test_every_refusal_is_the_same_to_whoever_tries(answer: Answer) -> None:
    """No oracle: what was wrong stands in our log (`detail`) and nowhere else."""
    async with pinned() as saml:
        _, _, memory = await asked(saml)
        if answer.facts is FACTS:
            answer = replace(answer, facts=FACTS.but(request_id=memory["request"]))
        with pytest.raises(SignOnFailed) as refused:
            await saml.sign_on.complete(back(answer, memory))
    assert (refused.value.public, refused.value.stable_code) == (REFUSED, "signon.failed")
    assert refused.value.detail
    assert not [value for value in ("GX-1", "韦小兰", "13800000045") if value in refused.value.detail]


async def test_a_response_that_came_by_a_query_is_none() -> None:
    """Guard: `posted` in `complete`. The redirect binding is not for responses (Profiles §4.1.2)."""
    async with pinned() as saml:
        _, _, memory = await asked(saml)
        answer = back(Answer(facts=FACTS.but(request_id=memory["request"])), memory)
        with pytest.raises(SignOnFailed):
            await saml.sign_on.complete(replace(answer, posted=False))


async def test_without_a_request_of_ours_no_response_is_taken() -> None:
    """Sign-on that the identity provider begins is not offered: there is nothing that it could be an answer to."""
    async with pinned() as saml:
        for facts in (FACTS.but(request_id=None), FACTS.but(request_id="_made-up")):
            with pytest.raises(SignOnFailed):
                await saml.sign_on.complete(back(Answer(facts=facts), {}))


async def test_a_fresh_proof_is_demanded_of_the_answer() -> None:
    async with pinned() as saml:
        _, _, memory = await asked(saml, fresh=True)
        facts = FACTS.but(request_id=memory["request"], authenticated_at=NOW - timedelta(minutes=5))
        with pytest.raises(SignOnFailed) as refused:
            await saml.sign_on.complete(back(Answer(facts=facts), memory))
    assert "fresh" in refused.value.detail


async def test_an_attribute_with_two_values_is_refused() -> None:
    """Guard: `_taken`. Which of two numbers is the person's is not for us to choose."""
    async with pinned() as saml:
        _, _, memory = await asked(saml)
        answer = Answer(
            facts=FACTS.but(request_id=memory["request"]), inside=adding("Attribute", SAML, "AttributeValue", "2")
        )
        with pytest.raises(SignOnFailed) as refused:
            await saml.sign_on.complete(back(answer, memory))
    assert "several values" in refused.value.detail


COMPANY = {"corpId": "C-1", "enterpriseName": "南宁示例科技有限公司", "agentRole": "经办人"}


async def completed(profile: Profile, **attributes: str) -> UpstreamIdentity:
    """Sign somebody on under a profile, with these attributes beside the usual ones."""
    known = given(cert_pem(idp_signing().certificate))
    async with kit("https://idp.test", settings=PINNED, secrets=known) as lent:
        saml = open_saml(lent, profile)
        _, _, memory = await asked(saml)
        facts = FACTS.but(request_id=memory["request"], attributes={**FACTS.attributes, **attributes})
        return await saml.sign_on.complete(back(Answer(facts=facts), memory))


async def test_who_signs_on_for_an_organisation_does_so_in_a_known_role() -> None:
    """Guard: `_role`. Without the role there is no organisation, whatever attributes of one came along."""
    names = {name: name for name in COMPANY}
    profile = replace(PROFILE, organisation=names, role="agentRole", roles={"经办人": "handler"})
    identity = await completed(profile, **COMPANY)
    assert (identity.role, identity.organisation) == ("handler", COMPANY)
    assert "corpId" not in identity.claims
    alone = await completed(profile, corpId="C-1")
    assert (alone.role, alone.organisation) == ("", None)
    with pytest.raises(SignOnFailed) as refused:
        await completed(profile, **{**COMPANY, "agentRole": "过客"})
    assert "a role that nobody here knows" in refused.value.detail
    assert (await completed(PROFILE, **COMPANY)).organisation is None


# --- logout ------------------------------------------------------------------------------------------------------

KEPT = {"name_id": "GX-1", "name_qualifier": IDP, "sp_name_qualifier": US, "session_index": "_session-1"}
SESSION = {"name_id": "GX-1", "index": "_session-1"}


async def test_a_session_is_ended_by_the_name_and_index_that_it_had() -> None:
    async with pinned() as saml:
        redirect = await saml.sign_out.end(SignOutStart(KEPT, "state-2", CALLBACK, "zh-CN"))
    assert redirect is not None
    assert redirect.url.startswith("https://idp.test/saml/slo?")
    query = verified_query(urlsplit(redirect.url).query, certificate(rsa_key("signing")))
    request = inflated(query["SAMLRequest"])
    name = find(request, "NameID")
    assert (query["RelayState"], name.text, find(request, "SessionIndex").text) == ("state-2", "GX-1", "_session-1")
    assert (name.get("NameQualifier"), name.get("SPNameQualifier")) == (IDP, US)


def notice(
    tweak: Tweak = nothing,
    *,
    after: Tweak = nothing,
    signing: Signing | None = None,
    at: datetime = NOW,
    **changes: Any,
) -> Callback:
    """Return a posted LogoutRequest, changed before or after it is signed."""
    request = logout_request(IDP, US, LOGOUT, SESSION, at)
    tweak(request)
    sign(request, signing or idp_signing())
    after(request)
    body = urlencode({"SAMLRequest": base64.b64encode(etree.tostring(request)).decode()}).encode()
    path = urlsplit(LOGOUT).path
    return replace(Callback("POST", path, {}, body, NOW), **changes)


async def test_a_logout_that_the_region_tells_of_names_session_and_person() -> None:
    async with pinned() as saml:
        heard = await saml.sign_out.ended(notice())
        everywhere = await saml.sign_out.ended(notice(without("SessionIndex")))
    assert (heard.session_ref, heard.subject) == ("_session-1", "GX-1")
    assert heard.once is not None
    assert heard.once.expires_at > NOW + timedelta(minutes=5)
    assert (everywhere.session_ref, everywhere.subject) == ("", "GX-1")


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (notice(after=without("Signature")), ForgedCallback),
        (notice(after=saying("SessionIndex", "_other")), ForgedCallback),
        (notice(signing=Signing(rsa_key("next"), certificate(rsa_key("next")))), ForgedCallback),
        (notice(body=b"SAMLRequest=%3C"), ForgedCallback),
        (notice(body=b"\xff"), ForgedCallback),
        (notice(body=b""), ForgedCallback),
        (notice(body=b"SAMLRequest=a&SAMLRequest=b"), ForgedCallback),
        (notice(setting("LogoutRequest", Destination="https://elsewhere.example")), InvalidRequest),
        (notice(saying("Issuer", "https://elsewhere.example")), InvalidRequest),
        (notice(setting("NameID", SPNameQualifier="https://elsewhere.example")), InvalidRequest),
        (notice(adding("LogoutRequest", SAMLP, "SessionIndex", "_session-2")), InvalidRequest),
        (notice(setting("LogoutRequest", Version="1.1")), InvalidRequest),
        (notice(at=NOW - timedelta(minutes=7)), ReplayedCallback),
        (notice(at=NOW + timedelta(minutes=7)), ReplayedCallback),
        (notice(setting("LogoutRequest", NotOnOrAfter="2023-11-14T22:00:00Z")), ReplayedCallback),
        (notice(method="GET"), InvalidRequest),
        (notice(path="/sign-in/elsewhere/logout"), NotFound),
    ],
)
async def test_a_logout_that_is_not_the_regions_word_to_us_ends_nothing(
    wrong: Callback, error: type[Exception]
) -> None:
    async with pinned() as saml:
        with pytest.raises(error):
            await saml.sign_out.ended(wrong)


async def test_a_logout_request_is_unambiguous() -> None:
    """Guards: `check_ids` in `_verified`, and the count in `_form`: two of anything could be read as either."""
    twice = notice(lambda root: find(root, "NameID").set("Id", str(root.get("ID"))))
    once = notice()
    async with pinned() as saml:
        for wrong, reason in (
            (twice, "an id stands twice"),
            (replace(once, body=once.body + b"&" + once.body), "twice"),
        ):
            with pytest.raises(ForgedCallback) as refused:
                await saml.sign_out.ended(wrong)
            assert reason in refused.value.detail


async def test_a_response_is_no_logout_request_however_well_it_is_signed() -> None:
    """Guard: the tag in `_verified`: a signature says who speaks, and not what was meant."""
    body = urlencode({"SAMLRequest": base64.b64encode(Answer(response_signed=True).bytes()).decode()}).encode()
    async with pinned() as saml:
        with pytest.raises(ForgedCallback) as refused:
            await saml.sign_out.ended(notice(body=body))
    assert refused.value.detail == "the message is no LogoutRequest"


# --- metadata of the identity provider ---------------------------------------------------------------------------


@dataclass
class Clock:
    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now


class Publisher:
    """Publishes metadata that a test may spoil, or nothing."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.certificates = [idp_signing().certificate]
        self.signing: Signing | None = signer()
        self.valid = timedelta(days=7)
        self.before: Tweak = nothing
        self.status = 200
        self.origin = ""

    def __call__(self, _seen: Seen) -> web.Response:
        unsigned = etree.fromstring(metadata(self.origin, self.certificates, self.clock.now + self.valid, None))
        self.before(unsigned)
        if self.signing is not None:
            sign(unsigned, self.signing, position=0)
        return web.Response(body=etree.tostring(unsigned), status=self.status)


@asynccontextmanager
async def fetched() -> AsyncIterator[tuple[Saml, Publisher, FarSide]]:
    """Open a region whose identity provider publishes metadata."""
    clock = Clock()
    publisher = Publisher(clock)
    async with far_side(publisher) as (far, base):
        publisher.origin = base
        settings = {**FETCHED, "idp_entity_id": f"{base}/saml/metadata"}
        async with kit(base, settings=settings, secrets=given(cert_pem(signer().certificate))) as lent:
            yield open_saml(replace(lent, clock=clock), PROFILE), publisher, far


async def test_metadata_say_where_to_go_and_are_fetched_once_an_hour() -> None:
    async with fetched() as (saml, publisher, far):
        assert saml.trust_confirmed_at is not None
        assert saml.trust_confirmed_at() is None
        urls = await asyncio.gather(*(saml.sign_on.begin(start()) for _ in range(5)))
        assert {url.url.partition("?")[0] for url in urls} == {f"{publisher.origin}/saml/sso"}
        assert (len(far.seen), saml.trust_confirmed_at()) == (1, NOW)
        publisher.clock.now += timedelta(hours=1)
        await saml.sign_on.begin(start())
        assert (len(far.seen), saml.trust_confirmed_at()) == (2, publisher.clock.now)


async def test_the_last_good_metadata_serve_while_no_newer_can_be_had_but_not_for_ever() -> None:
    """A region whose metadata are away signs on for the time that the operator allows; then it is refused."""
    async with fetched() as (saml, publisher, far):
        await saml.sign_on.begin(start())
        publisher.status = 500
        publisher.clock.now += timedelta(minutes=61)
        for _ in range(3):
            await saml.sign_on.begin(start())
        assert len(far.seen) == 2  # not asked again at once
        publisher.clock.now = NOW + timedelta(minutes=119)
        await saml.sign_on.begin(start())
        publisher.clock.now = NOW + timedelta(minutes=120)
        with pytest.raises(RegionUnreachable):
            await saml.sign_on.begin(start())
        publisher.status = 200
        await saml.sign_on.begin(start())


async def test_nobody_but_the_one_who_fetches_waits_for_newer_metadata() -> None:
    """A slow region would otherwise hold everybody up once an hour, and once a minute while it is ill."""
    async with fetched() as (saml, publisher, far):
        await saml.sign_on.begin(start())
        asked_for, may_answer, answer = asyncio.Event(), asyncio.Event(), far.answer

        async def slowly(seen: Seen) -> web.Response:
            asked_for.set()
            await may_answer.wait()
            return publisher(seen)

        far.answer = slowly
        publisher.clock.now += timedelta(hours=1)
        first = asyncio.create_task(saml.sign_on.begin(start()))
        await asked_for.wait()
        assert (await saml.sign_on.begin(start())).url
        assert not first.done()
        may_answer.set()
        far.answer = answer
        assert (await first).url
        assert saml.trust_confirmed_at is not None
        assert saml.trust_confirmed_at() == publisher.clock.now


async def test_a_key_that_left_the_metadata_verifies_nothing_more() -> None:
    """Roll-over: announced beside the old one, then alone."""
    async with fetched() as (saml, publisher, _):
        publisher.certificates.append(certificate(rsa_key("next")))
        first = await saml.sign_on.begin(start())
        facts = FACTS.but(issuer=f"{publisher.origin}/saml/metadata", request_id=first.memory["request"])
        new = Signing(rsa_key("next"), publisher.certificates[1])
        for signing in (idp_signing(), new):
            await saml.sign_on.complete(back(Answer(facts=facts, signing=signing), first.memory))
        del publisher.certificates[0]
        publisher.clock.now += timedelta(hours=1)
        later = FACTS.but(**{**_of(facts), "now": publisher.clock.now})
        await saml.sign_on.complete(back(Answer(facts=later, signing=new), first.memory))
        with pytest.raises(SignOnFailed):
            await saml.sign_on.complete(back(Answer(facts=later), first.memory))


def _of(facts: Any) -> dict[str, Any]:
    return {"issuer": facts.issuer, "request_id": facts.request_id}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda p: setattr(p, "signing", None),
        lambda p: setattr(p, "signing", Signing(ec_key("x"), certificate(ec_key("x")))),
        lambda p: setattr(p, "valid", timedelta(seconds=-1)),
        lambda p: setattr(p, "valid", timedelta(days=400)),
        lambda p: setattr(p, "status", 404),
        lambda p: setattr(p, "certificates", []),
        lambda p: setattr(p, "before", setting("EntityDescriptor", entityID="https://elsewhere.example")),
        lambda p: setattr(p, "before", setting("EntityDescriptor", validUntil=None)),
        lambda p: setattr(p, "before", setting("IDPSSODescriptor", protocolSupportEnumeration="urn:x")),
        lambda p: setattr(p, "before", without("SingleSignOnService")),
        lambda p: setattr(p, "before", setting("SingleSignOnService", Location="javascript:alert(1)")),
        lambda p: setattr(p, "before", setting("SingleSignOnService", Location="//elsewhere.example/")),
        lambda p: setattr(p, "before", setting("SingleSignOnService", Location="http:///nowhere")),
        lambda p: setattr(p, "certificates", [certificate(weak_key())]),
        lambda p: setattr(p, "before", saying("X509Certificate", "AAAA")),
        lambda p: setattr(p, "before", setting("KeyDescriptor", use="encryption")),
        lambda p: setattr(p, "before", adding("EntityDescriptor", MD, "IDPSSODescriptor")),
    ],
)
async def test_metadata_that_are_not_to_be_trusted_change_nothing(spoil: Any) -> None:
    """Alone they sign nobody on; after good ones, the good ones stay."""
    async with fetched() as (saml, publisher, _):
        good = vars(publisher).copy()
        spoil(publisher)
        with pytest.raises(RegionUnreachable):
            await saml.sign_on.begin(start())
        vars(publisher).update(good)
        await saml.sign_on.begin(start())
        spoil(publisher)
        publisher.clock.now += timedelta(hours=1)
        await saml.sign_on.begin(start())
        assert saml.trust_confirmed_at is not None
        assert saml.trust_confirmed_at() == NOW


async def test_metadata_serve_no_longer_than_they_say() -> None:
    """Guard: `until` in `current`, which `validUntil` may bring nearer than the operator's own limit."""
    async with fetched() as (saml, publisher, _):
        publisher.valid = timedelta(minutes=30)
        await saml.sign_on.begin(start())
        publisher.status = 500
        publisher.clock.now += timedelta(minutes=29)
        await saml.sign_on.begin(start())
        publisher.clock.now += timedelta(minutes=1)
        with pytest.raises(RegionUnreachable):
            await saml.sign_on.begin(start())
        publisher.status = 200
        await saml.sign_on.begin(start())  # fetched at once, though the hour is not over


def published(tweak: Tweak) -> bytes:
    """Return signed metadata after a change."""
    unsigned = etree.fromstring(
        metadata("https://idp.test", [idp_signing().certificate], NOW + timedelta(days=7), None)
    )
    tweak(unsigned)
    sign(unsigned, signer(), position=0)
    return etree.tostring(unsigned)


@pytest.mark.parametrize(
    ("tweak", "reason"),
    [
        (setting("SingleSignOnService", Location="http://idp.test/saml/sso"), "may be sent to"),
        (lambda root: find(root, "IDPSSODescriptor").set("Id", str(root.get("ID"))), "an id stands twice"),
    ],
)
def test_metadata_over_tls_lead_to_no_weaker_place_and_are_unambiguous(tweak: Tweak, reason: str) -> None:
    """Guards: `secure` in `checked_address`, and `check_ids` in `read_metadata`."""
    url = URL("https://idp.test/saml/metadata")
    source = MetadataSource(url, IDP, [signer().certificate], timedelta(hours=1), timedelta(days=1))
    assert read_metadata(published(nothing), source, NOW).facts.sign_on_url == "https://idp.test/saml/sso"
    with pytest.raises(Rejected, match=reason):
        read_metadata(published(tweak), source, NOW)


async def test_comments_in_metadata_do_no_harm() -> None:
    """People edit metadata by hand; what is read is what was signed, and comments are not."""
    async with fetched() as (saml, publisher, _):
        publisher.before = lambda root: root.insert(0, etree.Comment("by hand"))
        await saml.sign_on.begin(start())


async def test_without_metadata_the_region_is_out_of_reach() -> None:
    base = closed_port()
    settings = {**FETCHED, "idp_entity_id": IDP}
    async with kit(base, settings=settings, secrets=given(cert_pem(signer().certificate))) as lent:
        saml = open_saml(lent, PROFILE)
        for call in (saml.sign_on.begin(start()), saml.sign_on.complete(back(Answer(), {}))):
            with pytest.raises(RegionError):
                await call


async def test_a_region_without_logout_in_its_metadata_ends_no_sessions_there() -> None:
    async with fetched() as (saml, publisher, _):
        publisher.before = without("SingleLogoutService")
        with pytest.raises(NotOffered):
            await saml.sign_out.end(SignOutStart(KEPT, "s", CALLBACK, "en"))


# --- our own metadata --------------------------------------------------------------------------------------------


async def test_our_metadata_say_what_an_identity_provider_must_know() -> None:
    next_one = certificate(rsa_key("next"))
    own = cert_pem(certificate(rsa_key("signing")), next_one)
    async with pinned(signing_certificate=own) as saml:
        root = etree.fromstring(saml.metadata())
    role = find(root, "SPSSODescriptor")
    assert root.get("entityID") == US
    assert (role.get("AuthnRequestsSigned"), role.get("WantAssertionsSigned")) == ("true", "true")
    assert [each.get("use") for each in role.findall(f"{{{MD}}}KeyDescriptor")] == ["signing", "signing", "encryption"]
    consumer = find(root, "AssertionConsumerService")
    assert (consumer.get("Location"), consumer.get("Binding", "").rpartition(":")[2]) == (CALLBACK, "HTTP-POST")
    assert {each.get("Location") for each in role.findall(f"{{{MD}}}SingleLogoutService")} == {LOGOUT}
    assert b"PRIVATE" not in saml.metadata()


# --- opening -----------------------------------------------------------------------------------------------------


async def _refused(lent: Kit) -> str:
    with pytest.raises(StartRefused) as refused:
        open_saml(lent, PROFILE)
    return str(refused.value)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"trust": "anybody"}, "settings.trust"),
        ({"trust": ""}, "settings.trust"),
        ({"idp_entity_id": ""}, "settings.idp_entity_id"),
        ({"sso_path": "saml"}, "settings.sso_path"),
        ({**FETCHED, "metadata_stale_seconds": 0}, "settings.metadata_stale_seconds"),
        ({**FETCHED, "metadata_refresh_seconds": True}, "settings.metadata_refresh_seconds"),
        ({**FETCHED, "metadata_refresh_seconds": "often"}, "settings.metadata_refresh_seconds"),
    ],
)
async def test_a_wrong_setting_is_named_at_the_start(changes: Mapping[str, Any], named: str) -> None:
    known = given(cert_pem(idp_signing().certificate))
    async with kit("https://idp.test", settings={**PINNED, **changes}, secrets=known) as lent:
        assert f"regions.testland.{named}" in await _refused(lent)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("trust_anchors", b"no certificate"),
        ("signing_key", b"no key"),
        ("signing_certificate", cert_pem(certificate(rsa_key("ours")))),
        ("encryption_key", pem(ec_key("ours"))),
        ("encryption_certificate", cert_pem(certificate(rsa_key("signing")))),
    ],
)
async def test_a_secret_that_cannot_be_used_is_named_at_the_start(name: str, value: bytes) -> None:
    """Also one that belongs to another: the identity provider would refuse us, or nobody could decrypt."""
    known = given(cert_pem(idp_signing().certificate), **{name: value})
    async with kit("https://idp.test", settings=PINNED, secrets=known) as lent:
        assert f"regions.testland.secrets.{name}" in await _refused(lent)


async def test_a_weak_key_is_refused_at_the_start() -> None:
    """Guard: `check_strength`."""
    for weak in (weak_key(), ec.generate_private_key(ec.SECP224R1())):
        known = given(cert_pem(certificate(weak)))
        async with kit("https://idp.test", settings=PINNED, secrets=known) as lent:
            assert "trust_anchors" in await _refused(lent)
