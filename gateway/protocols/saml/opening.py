"""From settings and secrets to a region that signs on by SAML.

Owns: reading and checking everything that an operator gives, before the first person comes. Makes no network call.

Settings: `base_url`, `idp_entity_id`; `trust` says where the identity provider's keys come from: "metadata" (then
`metadata_path`, `metadata_refresh_seconds`, `metadata_stale_seconds`) or "pinned" (then `sso_path`, `slo_path`). The
secret `trust_anchors` holds the certificates of whoever signs the metadata, or the identity provider's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from cryptography import x509

from gateway.ports import Kit
from gateway.protocols.saml.party import ServiceProvider
from gateway.protocols.saml.sign_on import Profile, SamlSignOn
from gateway.protocols.saml.sign_out import SamlSignOut
from gateway.protocols.saml.signatures import belongs, certificates, decryption_keys, signing_key
from gateway.protocols.saml.trust import IdentityProviderFacts, MetadataSource, MetadataTrust, PinnedTrust
from gateway.protocols.wire import Wire, refuse_start, secret_bytes, text_setting

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Saml:
    """A region's sign-on by SAML, ready for an adapter."""

    sign_on: SamlSignOn
    sign_out: SamlSignOut
    metadata: Callable[[], bytes]
    trust_confirmed_at: Callable[[], datetime | None] | None
    wire: Wire


def open_saml(kit: Kit, profile: Profile) -> Saml:
    """Compose everything. Raises StartRefused that names the setting or secret."""
    wire, us = Wire(kit), _service_provider(kit)
    anchors = _loaded(kit, "trust_anchors", certificates)
    way = text_setting(kit, "trust")
    if way == "metadata":
        fetched = MetadataTrust(wire, _source(kit, wire, anchors), kit.clock, kit.log)
        trust: MetadataTrust | PinnedTrust = fetched
        confirmed_at: Callable[[], datetime | None] | None = fetched.confirmed_at
    elif way == "pinned":
        trust, confirmed_at = PinnedTrust(_pinned(kit, wire, anchors)), None
    else:
        raise refuse_start(kit, "settings.trust", 'must be "metadata" or "pinned"')
    sign_on, sign_out = SamlSignOn(kit, us, trust, profile), SamlSignOut(kit, us, trust)
    metadata = us.metadata()
    return Saml(sign_on, sign_out, lambda: metadata, confirmed_at, wire)


def _service_provider(kit: Kit) -> ServiceProvider:
    base = f"{kit.public_url}/sign-in/{kit.region}"
    key = _loaded(kit, "signing_key", signing_key)
    own = _loaded(kit, "signing_certificate", certificates)
    openers = _loaded(kit, "encryption_key", decryption_keys)
    sealing = _loaded(kit, "encryption_certificate", certificates)
    if not belongs(own[0], key):
        raise refuse_start(kit, "secrets.signing_certificate", "does not belong to signing_key")
    if not belongs(sealing[0], openers[0]):
        raise refuse_start(kit, "secrets.encryption_certificate", "does not belong to encryption_key")
    return ServiceProvider(f"{base}/metadata", base, key, own, openers, sealing[0])


def _source(kit: Kit, wire: Wire, anchors: Sequence[x509.Certificate]) -> MetadataSource:
    return MetadataSource(
        url=wire.url(_path(kit, "metadata_path")),
        entity_id=text_setting(kit, "idp_entity_id"),
        signers=anchors,
        refresh=_seconds(kit, "metadata_refresh_seconds"),
        stale=_seconds(kit, "metadata_stale_seconds"),
    )


def _pinned(kit: Kit, wire: Wire, anchors: Sequence[x509.Certificate]) -> IdentityProviderFacts:
    sign_on, logout = (str(wire.url(_path(kit, name))) for name in ("sso_path", "slo_path"))
    return IdentityProviderFacts(text_setting(kit, "idp_entity_id"), sign_on, logout, anchors)


def _path(kit: Kit, name: str) -> str:
    value = text_setting(kit, name)
    if not value.startswith("/"):
        raise refuse_start(kit, f"settings.{name}", "must be a path that begins with /")
    return value


def _seconds(kit: Kit, name: str) -> timedelta:
    value = kit.settings.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise refuse_start(kit, f"settings.{name}", "must be a number of seconds")
    return timedelta(seconds=value)


def _loaded(kit: Kit, name: str, load: Callable[[bytes], T]) -> T:
    try:
        return load(secret_bytes(kit, name))
    except (ValueError, TypeError) as wrong:
        raise refuse_start(kit, f"secrets.{name}", f"cannot be used: {wrong}") from None
