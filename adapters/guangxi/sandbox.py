"""The simulated authority of Guangxi (广西壮族自治区): an identity provider that speaks SAML 2.0.

Owns: `build_authority`, its addresses and its sessions. Leaves to `sandbox_messages` the messages, to
`sandbox_signature` the cryptography, to `sandbox_attacks` what it does when it is told to attack. An independent
reading of README.md: it shares no code with `adapter.py` or with the gateway's own SAML.
"""

from __future__ import annotations

import base64
import hmac
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, quote

import aiohttp
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from lxml import etree

from adapters.guangxi.sandbox_attacks import ATTACKS, Means, stranger
from adapters.guangxi.sandbox_messages import (
    CLASSES,
    SAMLP,
    Errand,
    Facts,
    assertion,
    attributes_of,
    check_request,
    deflated,
    inflated,
    logout_request,
    logout_response,
    metadata,
    new_id,
    organisation_of,
    read_errand,
    response,
)
from adapters.guangxi.sandbox_pages import METHODS, back_page, refusal_page, sign_in_page
from adapters.guangxi.sandbox_signature import SAML, Signing, encrypt, sign, sign_query, verified_query
from gateway.sandbox.authority import MISBEHAVIOUR, AuthoritySettings, authority_app
from gateway.sandbox.province_authority import Exchange, join_exchange

Clock = Callable[[], float]
DECLINED = "urn:oasis:names:tc:SAML:2.0:status:Responder"
VALID = timedelta(days=7)
"""How long metadata are valid."""

METADATA_ATTACKS: Mapping[str, str] = {
    "hostile_metadata_key": "publishes metadata that it signed with a key of its own",
    "hostile_metadata_expired": "publishes metadata whose validity is over",
    "hostile_metadata_unsigned": "publishes metadata without a signature",
}


def build_authority(settings: AuthoritySettings, clock: Clock = time.time) -> web.Application:
    """Return the authority as an application. `clock` gives seconds since 1970.

    Secrets, all PEM: `idp_key`, `idp_certificate`, `metadata_key`, `metadata_certificate`, `sp_certificate`,
    `sp_encryption_certificate`; and those of the case exchange. Raises KeyError or ValueError for a missing one.
    """
    attacks = {name: words for name, (_, words) in ATTACKS.items()}
    app = authority_app(settings, modes={**attacks, **METADATA_ATTACKS})
    provider = IdentityProvider(settings, clock)
    app.add_routes(
        [
            web.get("/saml/metadata", provider.metadata),
            web.get("/saml/sso", provider.page),
            web.post("/saml/sso", provider.sign_in),
            web.get("/saml/slo", provider.sign_out),
            web.post("/saml/end", provider.end),
        ]
    )
    return join_exchange(app, settings, CASES, clock)


CASES = Exchange(
    service="/zwfw/exchange",
    materials="/zwfw/files",
    area="450000",
    area_name="广西壮族自治区",
    department="广西壮族自治区数据局（沙箱）",
    department_code="11450000MBT450004Y",
    suite="ES256",
    shown="GXLZ:",
)


class IdentityProvider:
    """The one identity provider, with one service provider registered and the accounts of the seed."""

    def __init__(self, settings: AuthoritySettings, clock: Clock) -> None:
        given = settings.secrets
        self._people = [row for row in settings.people if row.get("region") == "guangxi"]
        self._base = f"{settings.gateway_url.rstrip('/')}/sign-in/{settings.region}"
        self._signing = Signing(_key(given["idp_key"]), _certificate(given["idp_certificate"]))
        self._publishing = Signing(_key(given["metadata_key"]), _certificate(given["metadata_certificate"]))
        self._sp = _certificate(given["sp_certificate"])
        self._sealing = _certificate(given["sp_encryption_certificate"])
        self._clock = clock
        self._sessions: dict[str, dict[str, str]] = {}
        self._earlier: bytes | None = None

    @property
    def _audience(self) -> str:
        return f"{self._base}/metadata"

    @property
    def _callback(self) -> str:
        return f"{self._base}/callback"

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    # --- metadata

    async def metadata(self, request: web.Request) -> web.Response:
        """Publish signed metadata (`GET /saml/metadata`)."""
        wrong, now = request.app[MISBEHAVIOUR], self._now()
        signing = stranger() if wrong.due("hostile_metadata_key") else self._publishing
        until = now - VALID if wrong.due("hostile_metadata_expired") else now + VALID
        signed = not wrong.due("hostile_metadata_unsigned")
        body = metadata(_origin(request), [self._signing.certificate], until, signing if signed else None)
        return web.Response(body=body, content_type="application/samlmetadata+xml")

    # --- sign-on

    async def page(self, request: web.Request) -> web.Response:
        """Show the page for a signed AuthnRequest (`GET /saml/sso`)."""
        try:
            errand = self._errand(request)
        except ValueError as error:
            return refusal_page(str(error))
        return sign_in_page(request.rel_url.raw_query_string, _offered(errand))

    async def sign_in(self, request: web.Request) -> web.Response:
        """Take the form, and have the browser carry the answer back."""
        form = dict(parse_qsl((await request.read()).decode("utf-8", "replace"), keep_blank_values=True))
        try:
            errand = self._errand(request)
        except ValueError as error:
            return refusal_page(str(error))
        if form.get("decision") == "decline":
            facts = self._facts(request, errand, {"user_id": ""}, "")
            return self._back(errand, etree.tostring(response(facts, status=DECLINED)))
        person, offered = self._person(form.get("account", ""), form.get("password", "")), _offered(errand)
        if person is None or form.get("method") not in offered:
            return sign_in_page(request.rel_url.raw_query_string, offered, wrong=True)
        facts = self._facts(request, errand, person, CLASSES + METHODS[form["method"]][0])
        if form.get("capacity") == "organisation":
            facts = facts.but(attributes={**facts.attributes, **organisation_of(person)})
        self._sessions[facts.session_index] = {"name_id": facts.name_id, "index": facts.session_index}
        return self._back(errand, self._answer(request, facts))

    def _errand(self, request: web.Request) -> Errand:
        """Read the signed request in the query, each time that it comes. Raises ValueError."""
        query = verified_query(request.rel_url.raw_query_string, self._sp)
        message = inflated(query.get("SAMLRequest", ""))
        check_request(message, "AuthnRequest", self._audience, f"{_origin(request)}/saml/sso", self._now())
        return read_errand(message, query.get("RelayState", ""), self._callback)

    def _person(self, account: str, password: str) -> Mapping[str, Any] | None:
        for person in self._people:
            if person["account"] == account:
                right = hmac.compare_digest(str(person["password"]).encode(), password.encode())
                return person if right else None
        return None

    def _facts(self, request: web.Request, errand: Errand, person: Mapping[str, Any], context: str) -> Facts:
        return Facts(
            issuer=f"{_origin(request)}/saml/metadata",
            audience=self._audience,
            callback=self._callback,
            request_id=errand.request_id,
            now=self._now(),
            name_id=str(person["user_id"]),
            context=context,
            session_index=new_id(),
            attributes=attributes_of(person) if context else {},
        )

    def _answer(self, request: web.Request, facts: Facts) -> bytes:
        """Return the response: an encrypted assertion that was signed before; or the attack that was ordered."""
        signed = assertion(facts)
        sign(signed, self._signing)
        earlier = self._earlier or etree.tostring(response(facts.but(request_id=new_id()), signed))
        for name, (attack, _) in ATTACKS.items():
            if request.app[MISBEHAVIOUR].due(name):
                return attack(Means(facts, self._signing, self._sealing, earlier))
        self._earlier = etree.tostring(response(facts, signed))
        return etree.tostring(response(facts, encrypt(etree.tostring(signed), self._sealing)))

    def _back(self, errand: Errand, answer: bytes) -> web.Response:
        fields = {"SAMLResponse": base64.b64encode(answer).decode(), "RelayState": errand.relay_state}
        return back_page(self._callback, fields)

    # --- single logout

    async def sign_out(self, request: web.Request) -> web.Response:
        """End a session that a signed LogoutRequest names, and send the browser back (`GET /saml/slo`)."""
        try:
            query = verified_query(request.rel_url.raw_query_string, self._sp)
            message = inflated(query.get("SAMLRequest", ""))
            check_request(message, "LogoutRequest", self._audience, f"{_origin(request)}/saml/slo", self._now())
            self._end(message)
        except ValueError as error:
            return refusal_page(str(error))
        address = f"{self._base}/signed-out"
        answer = logout_response(f"{_origin(request)}/saml/metadata", address, str(message.get("ID")), self._now())
        location = f"{address}?{self._signed_query('SAMLResponse', answer, query.get('RelayState', ''))}"
        return web.Response(status=302, headers={"Location": location, "Cache-Control": "no-store"})

    def _end(self, message: etree._Element) -> None:
        index, name = message.findtext(f"{{{SAMLP}}}SessionIndex"), message.findtext(f"{{{SAML}}}NameID")
        session = self._sessions.get(index or "")
        if session is None or session["name_id"] != name:
            raise ValueError("there is no such session of this person")
        del self._sessions[session["index"]]

    def _signed_query(self, kind: str, message: etree._Element, relay_state: str) -> str:
        method = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
        parts = {kind: deflated(message), "RelayState": relay_state, "SigAlg": method}
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in parts.items())
        signature = base64.b64encode(sign_query(query, self._signing.key, self._signing.certificate)).decode()
        return f"{query}&Signature={quote(signature, safe='')}"

    async def end(self, request: web.Request) -> web.Response:
        """End a person's sessions here and tell the gateway (`POST /saml/end`, form field `account`)."""
        form = dict(parse_qsl((await request.read()).decode("utf-8", "replace")))
        names = {str(person["user_id"]) for person in self._people if person["account"] == form.get("account")}
        sessions = [session for session in self._sessions.values() if session["name_id"] in names]
        told = [await self._tell(_origin(request), session) for session in sessions]
        return web.json_response({"told": told})

    async def _tell(self, origin: str, session: Mapping[str, str]) -> int:
        """Post a signed LogoutRequest; return the gateway's HTTP status."""
        address, issuer = f"{self._base}/logout", f"{origin}/saml/metadata"
        message = logout_request(issuer, self._audience, address, session, self._now())
        sign(message, self._signing)
        del self._sessions[session["index"]]
        form = {"SAMLRequest": base64.b64encode(etree.tostring(message)).decode()}
        async with aiohttp.ClientSession() as client, client.post(address, data=form, allow_redirects=False) as answer:
            return answer.status


def _offered(errand: Errand) -> dict[str, str]:
    """Return the methods whose class suffices."""
    return {
        name: words for name, (kind, words) in METHODS.items() if not errand.classes or CLASSES + kind in errand.classes
    }


def _origin(request: web.Request) -> str:
    return f"{request.scheme}://{request.host}"


def _key(pem: bytes) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(pem, None)
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise TypeError("keys are RSA or EC")
    return key


def _certificate(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)
