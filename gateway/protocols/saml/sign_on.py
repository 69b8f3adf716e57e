"""Sign-on by SAML 2.0: our signed request by redirect, the answer by a form that the browser posts.

Owns: the request, and what becomes of a verified statement. Leaves to `responses` every check of the answer, to the
core whether an assertion was used before, and the binding to one browser. Everything that is refused is refused in one
text: whoever tries learns nothing from it; our log has the reason. Source: SAML 2.0 Profiles §4.1, Bindings §3.4, §3.5.
"""

from __future__ import annotations

import asyncio
import base64
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from lxml import etree

from gateway.errors import SignOnFailed
from gateway.ports import Kit, OnceOnly, SignOnRedirect, SignOnReturn, SignOnStart, UpstreamIdentity
from gateway.protocols.saml.documents import SAML, SAMLP, Rejected, tag, written
from gateway.protocols.saml.party import ServiceProvider
from gateway.protocols.saml.responses import PERSISTENT, Expected, Statement, read_response
from gateway.protocols.saml.signatures import signed_query
from gateway.protocols.saml.trust import POST, IdentityProviderFacts, Trust

REFUSED = "The sign-on could not be completed; please start it again."
"""All that anybody is told, whatever was wrong."""

_NAMESPACES = {"saml": SAML, "samlp": SAMLP}


@dataclass(frozen=True, slots=True)
class Profile:
    """What a region says in its attributes. `attributes` is their name → the name in the region's document of a person.

    `subject` is the name under which that document carries the persistent name. `organisation` is likewise for the
    document of a legal person (法人), which is there when the attribute `role` is: as what the person signs on for it,
    in one of the words of `roles` (theirs → ours).
    """

    attributes: Mapping[str, str]
    subject: str
    organisation: Mapping[str, str] = field(default_factory=dict)
    role: str = ""
    roles: Mapping[str, str] = field(default_factory=dict)


class SamlSignOn:
    """The sign-on of one region."""

    def __init__(self, kit: Kit, us: ServiceProvider, trust: Trust, profile: Profile) -> None:
        self._kit = kit
        self._us = us
        self._trust = trust
        self._profile = profile

    async def begin(self, start: SignOnStart) -> SignOnRedirect:
        """Return the address with our signed request. Raises RegionError."""
        facts, now = await self._trust.current(), self._kit.clock()
        request_id = f"_{self._kit.random_token()}"
        request = authn_request(request_id, now, start, facts, self._us)
        url = redirect_to(facts.sign_on_url, "SAMLRequest", request, start.state, self._us)
        return SignOnRedirect(url, {"request": request_id, "fresh_since": now.isoformat() if start.fresh else ""})

    async def complete(self, back: SignOnReturn) -> UpstreamIdentity:
        """Return what the posted response says of the person. Raises SignOnFailed or RegionError."""
        facts = await self._trust.current()
        expected = self._expected(back, facts)
        answer = back.query.get("SAMLResponse") if back.posted else None
        try:
            keys = self._us.decryption_keys
            said = await asyncio.to_thread(read_response, answer, expected, facts.certificates, keys)
            return self._identity(said)
        except Rejected as why:
            raise SignOnFailed(REFUSED, detail=str(why), region=self._kit.region) from None

    def _expected(self, back: SignOnReturn, facts: IdentityProviderFacts) -> Expected:
        since = back.memory.get("fresh_since")
        return Expected(
            issuer=facts.entity_id,
            audience=self._us.entity_id,
            address=self._us.callback_url,
            request_id=back.memory.get("request", ""),
            now=self._kit.clock(),
            fresh_since=datetime.fromisoformat(since) if since else None,
        )

    def _identity(self, said: Statement) -> UpstreamIdentity:
        name, profile = said.name_id, self._profile
        role = self._role(said)
        return UpstreamIdentity(
            subject=name.value,
            claims={**_taken(said, profile.attributes), profile.subject: name.value},
            method=said.context.rpartition(":")[2][:64],
            level=said.context,
            organisation=dict(_taken(said, profile.organisation)) if role else None,
            role=role,
            authenticated_at=said.authenticated_at,
            assertion=said.data,
            once=OnceOnly(said.assertion_id, said.until),
            session_ref=said.session_index,
            kept={
                "name_id": name.value,
                "name_qualifier": name.name_qualifier,
                "sp_name_qualifier": name.sp_name_qualifier,
                "session_index": said.session_index,
            },
        )

    def _role(self, said: Statement) -> str:
        """Return our word for as what the person signs on for an organisation; "" for themselves. Raises Rejected."""
        word = _taken(said, {self._profile.role: "role"}).get("role", "") if self._profile.role else ""
        if word and word not in self._profile.roles:
            raise Rejected("a role that nobody here knows")
        return self._profile.roles.get(word, "")


def _taken(said: Statement, names: Mapping[str, str]) -> dict[str, str]:
    """Return the attributes of these names under ours, each with one value. Raises Rejected."""
    taken: dict[str, str] = {}
    for theirs, ours in names.items():
        values = said.attributes.get(theirs, ())
        if len(values) > 1:
            raise Rejected("an attribute has several values")
        if values and values[0]:
            taken[ours] = values[0]
    return taken


def authn_request(
    request_id: str, now: datetime, start: SignOnStart, facts: IdentityProviderFacts, us: ServiceProvider
) -> bytes:
    """Return an AuthnRequest (Core §3.4.1). The levels, if any, are named exactly: one of them must be reached."""
    request = etree.Element(
        tag(SAMLP, "AuthnRequest"),
        {
            "ID": request_id,
            "Version": "2.0",
            "IssueInstant": written(now),
            "Destination": facts.sign_on_url,
            "AssertionConsumerServiceURL": us.callback_url,
            "ProtocolBinding": POST,
            **({"ForceAuthn": "true"} if start.fresh else {}),
        },
        nsmap=_NAMESPACES,
    )
    etree.SubElement(request, tag(SAML, "Issuer")).text = us.entity_id
    etree.SubElement(request, tag(SAMLP, "NameIDPolicy"), {"Format": PERSISTENT, "AllowCreate": "true"})
    if start.levels:
        wanted = etree.SubElement(request, tag(SAMLP, "RequestedAuthnContext"), {"Comparison": "exact"})
        for level in start.levels:
            etree.SubElement(wanted, tag(SAML, "AuthnContextClassRef")).text = level
    return etree.tostring(request)


def redirect_to(address: str, kind: str, message: bytes, state: str, us: ServiceProvider) -> str:
    """Return an address with a deflated, signed message (Bindings §3.4.4)."""
    packer = zlib.compressobj(wbits=-15)
    packed = base64.b64encode(packer.compress(message) + packer.flush()).decode()
    query = signed_query({kind: packed, "RelayState": state}, us.signing_key)
    return f"{address}{'&' if '?' in address else '?'}{query}"
