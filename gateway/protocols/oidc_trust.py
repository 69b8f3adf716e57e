"""What of an OpenID Provider is trusted: its issuer, addresses, algorithms and keys.

Owns: the settings that pin them, discovery held against the pins (OpenID Connect Discovery 1.0 §4), and the provider's
key set (RFC 7517). Leaves to `kept` how long what was fetched is believed, to `oidc_tokens` what is verified with it.

Nothing that a provider says of itself widens what is accepted: algorithms come from the configuration alone, the issuer
is compared character by character, and an address that discovery names must lie at the pinned origin.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, Key, OKPKey, RSAKey
from yarl import URL

from gateway.ports import Kit
from gateway.protocols.kept import Kept, Terms
from gateway.protocols.wire import Wire, refuse_start, text_setting

ALGORITHMS: Mapping[str, str] = {"ES256": "EC", "PS256": "RSA", "EdDSA": "OKP", "RS256": "RSA"}
"""The only signatures that can be allowed at all, with the type of their keys. RS256 is for regions with no better."""

ENDPOINTS = ("authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri", "end_session_endpoint")
_NEEDED = ("authorization_endpoint", "token_endpoint", "jwks_uri")

KEYS_FRESH = timedelta(minutes=10)
METADATA_FRESH = timedelta(hours=24)
PAUSE = timedelta(seconds=10)

_MOST_KEYS = 64
_RSA_BITS = 2048


# --- pins --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where a provider is asked. `userinfo` and `end_session` are None where there is no such thing."""

    authorization: URL
    token: URL
    jwks: URL
    userinfo: URL | None
    end_session: URL | None


@dataclass(frozen=True, slots=True)
class Pins:
    """What the configuration says of a provider, whatever the provider says. `endpoints` is None: by discovery."""

    issuer: str
    client_id: str
    algorithms: tuple[str, ...]
    endpoints: Endpoints | None
    stale: timedelta


def read_pins(kit: Kit, wire: Wire) -> Pins:
    """Read the settings. Raises StartRefused.

    `issuer`, `client_id`; `algorithms`, words with a space between; the five addresses, each a whole one or a path at
    `base_url`, or none of them; `keys_stale_seconds`.
    """
    issuer = text_setting(kit, "issuer")
    endpoints = _pinned_endpoints(kit, wire)
    if endpoints is None and not _is_at(issuer, wire.base_url):
        raise refuse_start(kit, "settings.issuer", "must lie at base_url, or all addresses must be given")
    return Pins(issuer, text_setting(kit, "client_id"), _algorithms(kit), endpoints, _stale(kit))


def _algorithms(kit: Kit) -> tuple[str, ...]:
    given = tuple(text_setting(kit, "algorithms").split())
    if not given or not set(given) <= ALGORITHMS.keys():
        raise refuse_start(kit, "settings.algorithms", f"must be some of {' '.join(ALGORITHMS)}")
    return given


def _stale(kit: Kit) -> timedelta:
    seconds = kit.settings.get("keys_stale_seconds", 86_400)
    if isinstance(seconds, bool) or not isinstance(seconds, int) or seconds < KEYS_FRESH.total_seconds():
        reason = f"must be whole seconds, {int(KEYS_FRESH.total_seconds())} or more"
        raise refuse_start(kit, "settings.keys_stale_seconds", reason)
    return timedelta(seconds=seconds)


def _pinned_endpoints(kit: Kit, wire: Wire) -> Endpoints | None:
    given = {name: kit.settings[name] for name in ENDPOINTS if name in kit.settings}
    if not given:
        return None
    for name in _NEEDED:
        if name not in given:
            raise refuse_start(kit, f"settings.{name}", "must be given, because other addresses are")
    whole = {name: wire.base_url + value if str(value).startswith("/") else value for name, value in given.items()}
    for name, value in whole.items():
        if _address(value) is None:
            raise refuse_start(kit, f"settings.{name}", "must be an address, or a path at base_url")
    return _endpoints(whole)


def _endpoints(addresses: Mapping[str, Any]) -> Endpoints:
    authorization, token, userinfo, jwks, end_session = (_address(addresses.get(name)) for name in ENDPOINTS)
    if authorization is None or token is None or jwks is None:
        raise ValueError("an address is missing")
    return Endpoints(authorization, token, jwks, userinfo, end_session)


def _address(text: object) -> URL | None:
    """Return an http(s) address without user and fragment, else None."""
    try:
        url = URL(text) if isinstance(text, str) else URL()
    except ValueError:
        return None
    return url if url.scheme in ("http", "https") and url.host and not (url.user or url.fragment) else None


def _is_at(text: object, base_url: str) -> bool:
    url = _address(text)
    return url is not None and url.origin() == URL(base_url).origin()


# --- discovery ---------------------------------------------------------------------------------------------------


class Trust:
    """The addresses and keys of one provider, as far as they can be relied on now."""

    def __init__(self, wire: Wire, pins: Pins, kit: Kit) -> None:
        self.pins = pins
        self._wire = wire
        metadata = Terms(METADATA_FRESH, METADATA_FRESH + pins.stale, PAUSE)
        self._metadata = Kept(wire.region, "metadata", self._discover, metadata, kit.clock)
        keys = Terms(KEYS_FRESH, pins.stale, PAUSE)
        self.keys = Kept(wire.region, "keys", self._fetch_keys, keys, kit.clock)

    async def endpoints(self) -> Endpoints:
        """Return the addresses: those of the configuration, or else the provider's own. Raises RegionUnreachable."""
        return self.pins.endpoints or await self._metadata.current()

    async def _discover(self) -> Endpoints:
        document = await self._document(URL(f"{self.pins.issuer.rstrip('/')}/.well-known/openid-configuration"))
        if document.get("issuer") != self.pins.issuer:
            raise self._wire.uncertain("describes itself as another provider", "metadata: issuer")
        strangers = [n for n in ENDPOINTS if n in document and not _is_at(document[n], self._wire.base_url)]
        if strangers:
            raise self._wire.uncertain("names addresses that are not its own", f"metadata: {' '.join(strangers)}")
        try:
            return _endpoints(document)
        except ValueError:
            raise self._wire.uncertain("lacks addresses in its metadata", "metadata: no endpoints") from None

    async def _fetch_keys(self) -> tuple[Key, ...]:
        document = await self._document((await self.endpoints()).jwks)
        keys = usable_keys(document.get("keys"), self.pins.algorithms)
        if not keys:
            raise self._wire.uncertain("publishes no key that could be used", "keys")
        return keys

    async def _document(self, url: URL) -> dict[str, Any]:
        answer = await self._wire.exchange("GET", url, headers={"Accept": "application/json"})
        if answer.status != 200:
            raise self._wire.uncertain("gave an unexpected answer", f"HTTP {answer.status} for {url.path}")
        return self._wire.json_object(answer.body)


# --- keys --------------------------------------------------------------------------------------------------------


def usable_keys(listed: object, algorithms: Collection[str]) -> tuple[Key, ...]:
    """Return the public signing keys of a key set that can serve one of the algorithms.

    Others are passed over, as RFC 7517 §5 asks. So is a key whose private part is published: anybody could use it.
    """
    entries = listed[:_MOST_KEYS] if isinstance(listed, list) else []
    keys = (_key(entry) for entry in entries if isinstance(entry, dict))
    return tuple(key for key in keys if key is not None and any(_fits(key, name) for name in algorithms))


def keys_for(keys: Collection[Key], algorithm: str, kid: object) -> list[Key]:
    """Return the keys that a token with this header may be signed with; without `kid` every one that fits."""
    return [key for key in keys if _fits(key, algorithm) and (kid is None or key.kid == kid)]


def _key(entry: dict[str, Any]) -> Key | None:
    if entry.get("kty") not in ALGORITHMS.values() or "d" in entry or entry.get("use", "sig") != "sig":
        return None
    try:
        key = JWKRegistry.import_key(entry)
        strong = not isinstance(key, RSAKey) or key.raw_value.key_size >= _RSA_BITS
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    return key if strong else None


def _fits(key: Key, algorithm: str) -> bool:
    """Say whether a key can serve an algorithm (RFC 7518 §3.4, RFC 8037 §3.1)."""
    if key.key_type != ALGORITHMS[algorithm] or key.get("alg", algorithm) != algorithm:
        return False
    curve = key.get("crv")
    return curve in (None, "P-256") if not isinstance(key, OKPKey) else curve == "Ed25519"
