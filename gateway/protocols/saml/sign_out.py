"""Single logout by SAML 2.0: our request by redirect, and the identity provider's own requests, posted to us.

Owns: both messages. Leaves to the core: which sessions end, and whether a notice was seen before.
Source: SAML 2.0 Core §3.7, Profiles §4.4.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from urllib.parse import parse_qsl

from cryptography import x509
from lxml import etree

from gateway.errors import ForgedCallback, InvalidRequest, NotOffered, ReplayedCallback
from gateway.ports import Callback, Kit, OnceOnly, SignOnRedirect, SignOutNotice, SignOutStart
from gateway.protocols.saml.documents import (
    LOGOUT_GRAMMAR,
    SAML,
    SAMLP,
    Rejected,
    attribute,
    check_ids,
    check_shape,
    decoded,
    id_of,
    parse,
    tag,
    text_of,
    written,
)
from gateway.protocols.saml.party import ServiceProvider
from gateway.protocols.saml.responses import (
    MAX_AGE,
    PERSISTENT,
    SKEW,
    check_issued,
    check_issuer,
    equal,
    not_over,
    read_name_id,
)
from gateway.protocols.saml.sign_on import redirect_to
from gateway.protocols.saml.signatures import verify
from gateway.protocols.saml.trust import IdentityProviderFacts, Trust
from gateway.protocols.wire import check_path, check_posted

LIFE = timedelta(minutes=5)
"""How long our own logout request is good for."""

_NAMESPACES = {"saml": SAML, "samlp": SAMLP}
_MOST_FIELDS = 20


class SamlSignOut:
    """The end of a session of one region, asked for by us or told by it."""

    def __init__(self, kit: Kit, us: ServiceProvider, trust: Trust) -> None:
        self._kit = kit
        self._us = us
        self._trust = trust

    async def end(self, start: SignOutStart) -> SignOnRedirect | None:
        """Return the address with our signed request. Raises RegionError; NotOffered when the region has no logout."""
        facts = await self._trust.current()
        if not facts.logout_url:
            raise NotOffered("This region publishes no logout.", region=self._kit.region)
        request_id = f"_{self._kit.random_token()}"
        request = logout_request(request_id, self._kit.clock(), start.kept, facts, self._us)
        url = redirect_to(facts.logout_url, "SAMLRequest", request, start.state, self._us)
        return SignOnRedirect(url, {"request": request_id})

    async def ended(self, notice: Callback) -> SignOutNotice:
        """Verify and read a posted LogoutRequest. Raises ForgedCallback, ReplayedCallback or InvalidRequest."""
        check_path(notice, f"/sign-in/{self._kit.region}/logout")
        check_posted(notice)
        facts = await self._trust.current()
        try:
            posted = _form(notice).get("SAMLRequest")
            element = await asyncio.to_thread(_verified, posted, facts.certificates, notice.received_at)
        except Rejected as why:
            raise ForgedCallback("The logout request does not verify.", detail=str(why)) from None
        until = self._check_time(element, notice.received_at)
        try:
            return self._read(element, facts, until)
        except Rejected as why:
            text = "The logout request is signed, but is not one for us."
            raise InvalidRequest(text, detail=str(why)) from None

    def _check_time(self, element: etree._Element, now: datetime) -> datetime:
        """Return until when this request could be played again. Raises ReplayedCallback."""
        try:
            check_issued(element, now)
            if element.get("NotOnOrAfter") is not None:
                not_over(element, now)
        except Rejected as why:
            raise ReplayedCallback("The logout request is out of time.", detail=str(why)) from None
        return now + MAX_AGE + 2 * SKEW

    def _read(self, element: etree._Element, facts: IdentityProviderFacts, until: datetime) -> SignOutNotice:
        check_shape(element, LOGOUT_GRAMMAR)
        equal(attribute(element, "Version"), "2.0", "Version")
        equal(attribute(element, "Destination"), self._us.logout_url, "Destination")
        check_issuer(element, facts.entity_id)
        name = read_name_id(element, facts.entity_id, self._us.entity_id)
        sessions = [text_of(each) for each in element.findall(tag(SAMLP, "SessionIndex"))]
        return SignOutNotice(sessions[0] if sessions else "", name.value, OnceOnly(id_of(element), until))


def _form(notice: Callback) -> dict[str, str]:
    try:
        pairs = parse_qsl(notice.body.decode("ascii"), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise Rejected("the body is no form") from None
    if len(dict(pairs)) != len(pairs):
        raise Rejected("a field stands twice")
    return dict(pairs)


def _verified(posted: object, trusted: Sequence[x509.Certificate], now: datetime) -> etree._Element:
    request = parse(decoded(posted))
    if request.tag != tag(SAMLP, "LogoutRequest"):
        raise Rejected("the message is no LogoutRequest")
    check_ids(request)
    return verify(request, trusted, now).element


def logout_request(
    request_id: str, now: datetime, kept: Mapping[str, str], facts: IdentityProviderFacts, us: ServiceProvider
) -> bytes:
    """Return a LogoutRequest (Core §3.7.1) that names the person and the session as the assertion did."""
    request = etree.Element(
        tag(SAMLP, "LogoutRequest"),
        {
            "ID": request_id,
            "Version": "2.0",
            "IssueInstant": written(now),
            "NotOnOrAfter": written(now + LIFE),
            "Destination": facts.logout_url,
        },
        nsmap=_NAMESPACES,
    )
    etree.SubElement(request, tag(SAML, "Issuer")).text = us.entity_id
    name_id = etree.SubElement(request, tag(SAML, "NameID"), {"Format": PERSISTENT})
    name_id.text = kept.get("name_id")
    for name, key in (("NameQualifier", "name_qualifier"), ("SPNameQualifier", "sp_name_qualifier")):
        if kept.get(key):
            name_id.set(name, kept[key])
    if kept.get("session_index"):
        etree.SubElement(request, tag(SAMLP, "SessionIndex")).text = kept["session_index"]
    return etree.tostring(request)
