"""Whose signatures count: an identity provider's certificates and addresses, pinned or from signed metadata.

Owns: fetching, verifying and keeping metadata, and how long it may be relied on while no newer can be had. Leaves to
`signatures` the verification. Metadata that does not verify changes nothing; metadata that is too old serves nobody.
Source: SAML 2.0 Metadata §2.3, §2.4.3; the signer is pinned, no certificate chain is followed.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from cryptography import x509
from lxml import etree
from structlog.typing import FilteringBoundLogger
from yarl import URL

from gateway.errors import RegionError
from gateway.ports import Clock
from gateway.protocols.saml.documents import (
    DS,
    MD,
    SAMLP,
    Rejected,
    attribute,
    check_ids,
    child,
    instant,
    parse,
    tag,
)
from gateway.protocols.saml.signatures import check_strength, verify
from gateway.protocols.wire import Wire, nothing_taken_yet

REDIRECT = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect"
POST = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST"

RETRY = timedelta(seconds=60)
"""How long after a refresh that failed the next one is tried, while older metadata still serve."""

MAX_VALIDITY = timedelta(days=31)
"""How far in the future `validUntil` may lie: longer, and whoever kept an old copy could bring retired keys back."""


@dataclass(frozen=True, slots=True)
class IdentityProviderFacts:
    """What we know of the identity provider. `logout_url` is empty when it offers no single logout by redirect."""

    entity_id: str
    sign_on_url: str
    logout_url: str
    certificates: Sequence[x509.Certificate]


class Trust(Protocol):
    """Where the facts come from."""

    async def current(self) -> IdentityProviderFacts:
        """Return facts that may be relied on now. Raises RegionError."""
        ...


@dataclass(frozen=True, slots=True)
class PinnedTrust:
    """Facts from the configuration: they change when an operator changes them."""

    facts: IdentityProviderFacts

    async def current(self) -> IdentityProviderFacts:
        """Return the facts."""
        return self.facts


@dataclass(frozen=True, slots=True)
class Held:
    """The last good metadata: confirmed by the identity provider at `confirmed_at`, of no use from `until` on."""

    facts: IdentityProviderFacts
    confirmed_at: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class MetadataSource:
    """Where metadata are, who signs them, how often they are fetched, and how long the last good ones serve."""

    url: URL
    entity_id: str
    signers: Sequence[x509.Certificate]
    refresh: timedelta
    stale: timedelta


class MetadataTrust:
    """Facts from metadata that a pinned signer signed."""

    def __init__(self, wire: Wire, source: MetadataSource, clock: Clock, log: FilteringBoundLogger) -> None:
        self._wire = wire
        self._source = source
        self._clock = clock
        self._log = log
        self._lock = asyncio.Lock()
        self._held: Held | None = None
        self._due: datetime | None = None

    def confirmed_at(self) -> datetime | None:
        """Return when the identity provider last confirmed what we hold; None while it never did."""
        return None if self._held is None else self._held.confirmed_at

    async def current(self) -> IdentityProviderFacts:
        """Return facts that may be relied on now. Raises RegionError.

        Many who ask at once cause one fetch; nobody waits for it while what we hold may still be relied on, but for the
        one who fetches.
        """
        if self._lock.locked() and (held := self._usable(self._clock())) is not None:
            return held.facts
        async with self._lock:
            now = self._clock()
            if self._usable(now) is None or self._due is None or now >= self._due:
                await self._refresh(now)
            held = self._usable(now)
            if held is None:
                raise self._wire.unreachable("has published no metadata that may still be relied on")
            return held.facts

    def _usable(self, now: datetime) -> Held | None:
        return self._held if self._held is not None and now < self._held.until else None

    async def _refresh(self, now: datetime) -> None:
        """Fetch; what does not come or does not verify leaves the last good metadata, as long as they may serve."""
        try:
            self._held = await self._fetch(now)
            self._due = now + self._source.refresh
        except RegionError as failure:
            if self._usable(now) is None:
                raise
            self._due = now + RETRY
            self._log.warning("metadata not refreshed", code=failure.stable_code, detail=failure.detail)

    async def _fetch(self, now: datetime) -> Held:
        with nothing_taken_yet(self._wire.region):
            answer = await self._wire.exchange("GET", self._source.url, headers={})
        if answer.status != 200:
            raise self._wire.unreachable("gave no metadata", f"HTTP {answer.status}")
        try:
            return await asyncio.to_thread(read_metadata, answer.body, self._source, now)
        except Rejected as wrong:
            raise self._wire.unreachable("gave metadata that are not to be trusted", str(wrong)) from None


def read_metadata(data: bytes, source: MetadataSource, now: datetime) -> Held:
    """Return what signed metadata say. Raises Rejected."""
    root = parse(data, comments=True)
    if root.tag != tag(MD, "EntityDescriptor"):
        raise Rejected("the metadata are no EntityDescriptor")
    check_ids(root)
    entity = verify(root, source.signers, now).element
    valid_until = instant(entity, "validUntil")
    if not now < valid_until <= now + MAX_VALIDITY:
        raise Rejected("the metadata are over, or valid for too long")
    if attribute(entity, "entityID") != source.entity_id:
        raise Rejected("the metadata are those of another entity")
    return Held(_facts(entity, source), now, min(valid_until, now + source.stale))


def _facts(entity: etree._Element, source: MetadataSource) -> IdentityProviderFacts:
    role = child(entity, MD, "IDPSSODescriptor")
    if SAMLP not in attribute(role, "protocolSupportEnumeration").split():
        raise Rejected("the identity provider does not speak SAML 2.0")
    sign_on = _address(role, "SingleSignOnService", source)
    if not sign_on:
        raise Rejected("the identity provider takes no requests by redirect")
    keys = [each for each in role.findall(tag(MD, "KeyDescriptor")) if each.get("use", "signing") == "signing"]
    found = [_certificate(text) for key in keys for text in key.iter(tag(DS, "X509Certificate"))]
    if not found:
        raise Rejected("the metadata name no signing certificate")
    return IdentityProviderFacts(source.entity_id, sign_on, _address(role, "SingleLogoutService", source), found)


def _address(role: etree._Element, service: str, source: MetadataSource) -> str:
    """Return where requests by redirect go, "" when nowhere; never a weaker scheme than that of the metadata."""
    for each in role.findall(tag(MD, service)):
        if each.get("Binding") == REDIRECT:
            return checked_address(attribute(each, "Location"), secure=source.url.scheme == "https")
    return ""


def checked_address(text: str, *, secure: bool) -> str:
    """Return an address that a browser may be sent to. Raises Rejected."""
    try:
        url = URL(text, encoded=True)
    except ValueError:
        raise Rejected("an address is none") from None
    schemes = {"https"} if secure else {"https", "http"}
    if url.scheme not in schemes or not url.host or url.fragment or not (text.isascii() and text.isprintable()):
        raise Rejected("an address is not one that a browser may be sent to")
    return text


def _certificate(element: etree._Element) -> x509.Certificate:
    try:
        der = base64.b64decode("".join((element.text or "").split()), validate=True)
        certificate = x509.load_der_x509_certificate(der)
        check_strength(certificate.public_key())
    except (binascii.Error, ValueError):
        raise Rejected("a certificate in the metadata cannot be read, or its key is weak") from None
    return certificate
