"""The registered clients: which systems may ask, how they prove who they are, and where answers may go.

Owns: what a registration says and every rule about it, read from clients.toml or from the database alike. Leaves to
`registry` keeping them, to `client_keys` the rules about a key, to `provider` and `assertion` how a client proves
itself, and to `gateway.policy` what it may do once it has.

The fields are those of OAuth 2.0 Dynamic Client Registration (RFC 7591), OpenID Connect Registration 1.0, RFC 8705,
RFC 9126 and RFC 9449 under their own names; what is ours is said so.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args
from urllib.parse import urlsplit

from joserfc.jwk import KeySet
from pydantic import Field

from gateway.config import Config, Problems, Settings, parse, read_toml
from gateway.domain.identifiers import region_code_problem, uscc_problem
from gateway.errors import FieldProblem
from gateway.identity.client_keys import key_set, public_jwks, read_jwks
from gateway.identity.mtls import read_subject

Authentication = Literal["private_key_jwt", "tls_client_auth", "self_signed_tls_client_auth", "none"]
TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 - the name of a grant (RFC 8693 §2.1)
GrantType = Literal[
    "authorization_code",
    "client_credentials",
    "refresh_token",
    "urn:ietf:params:oauth:grant-type:token-exchange",
]
GRANT_TYPES: tuple[GrantType, ...] = get_args(GrantType)
IdTokenAlgorithm = Literal["ES256", "PS256", "EdDSA"]
DEFAULT_ALGORITHM: IdTokenAlgorithm = "ES256"
ScopeToken = Annotated[str, Field(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]{1,64}$")]  # RFC 6749 appendix A.4
CLIENT_ID = r"^[A-Za-z0-9._-]{1,64}$"
ClientId = Annotated[str, Field(pattern=CLIENT_ID)]
Language = Literal["zh-CN", "zh-HK", "en", "pt"]
Text = Annotated[str, Field(min_length=1, max_length=200)]
OWN = "{public_url}"
"""Stands for the gateway's public address at the begin of an address, so that it may move and its clients stay."""


@dataclass(frozen=True, slots=True)
class Client:
    """One registered client (RFC 6749 §2). `organisation_code` is a USCC, `origin_code` a GB/T 2260 code.

    `keys` verify its assertions, or hold its certificates for self_signed_tls_client_auth; None where there are none,
    or none is in force. `purpose` is by language. `service` is the code under which the recognition matrix knows it.
    """

    id: str
    name: str
    organisation: str
    organisation_code: str
    origin_code: str
    redirect_uris: tuple[str, ...]
    grant_types: frozenset[GrantType]
    scopes: frozenset[str]
    authentication: Authentication
    keys: KeySet | None
    tls_client_auth_subject_dn: str | None = None
    tls_client_auth_san_dns: str | None = None
    profile: Literal["standard", "fapi2"] = "standard"
    require_pushed_requests: bool = False
    dpop_bound_access_tokens: bool = False
    tls_client_certificate_bound_access_tokens: bool = False
    id_token_signed_response_alg: IdTokenAlgorithm = DEFAULT_ALGORITHM
    backchannel_logout_uri: str | None = None
    post_logout_redirect_uris: tuple[str, ...] = ()
    exchanges_from: frozenset[str] = frozenset()
    consent: Literal["ask", "trusted"] = "ask"
    contact: str = ""
    privacy_url: str | None = None
    purpose: Mapping[str, str] = field(default_factory=dict)
    legal_basis: str = ""
    service: str = ""
    enabled_at: datetime | None = None
    """When it was last enabled again. What it got before that stays ended."""

    @property
    def sender_constrained(self) -> bool:
        """Say whether every token of this client is bound to a key or a certificate."""
        return self.dpop_bound_access_tokens or self.tls_client_certificate_bound_access_tokens


class ClientEntry(Settings):
    """One registration as it is written: `[[client]]` of clients.toml, `pearl clients add`, the table `clients`."""

    id: ClientId
    name: str = Field(min_length=1, max_length=200)
    organisation: str = Field(min_length=1, max_length=200)
    organisation_code: str
    origin_code: str
    redirect_uris: list[str] = Field(default_factory=list)
    grant_types: list[GrantType] = Field(min_length=1)
    scopes: list[ScopeToken] = Field(default_factory=list)
    authentication: Authentication
    jwks: dict[str, Any] | list[dict[str, Any]] | None = None
    jwks_file: Path | None = None
    tls_client_auth_subject_dn: str | None = None
    tls_client_auth_san_dns: str | None = Field(
        None, pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$", max_length=253
    )
    profile: Literal["standard", "fapi2"] = "standard"
    require_pushed_requests: bool = False
    dpop_bound_access_tokens: bool = False
    tls_client_certificate_bound_access_tokens: bool = False
    id_token_signed_response_alg: IdTokenAlgorithm = DEFAULT_ALGORITHM
    backchannel_logout_uri: str | None = None
    post_logout_redirect_uris: list[str] = Field(default_factory=list)
    exchanges_from: list[ClientId] = Field(default_factory=list)
    consent: Literal["ask", "trusted"] = "ask"
    contact: str = Field("", max_length=200)
    privacy_url: str | None = None
    purpose: dict[Language, Text] = Field(default_factory=dict)
    legal_basis: str = Field("", max_length=200)
    service: str | None = Field(None, pattern=CLIENT_ID)

    def registration(self) -> dict[str, Any]:
        """Return what is kept: everything that differs from the default."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def public_keys(self) -> list[dict[str, Any]]:
        """Return the keys of an entry that was checked."""
        return list(self.jwks["keys"]) if isinstance(self.jwks, dict) else list(self.jwks or [])


class ClientsFile(Settings):
    """clients.toml as a whole; each entry is checked by itself, so that all mistakes are heard in one go."""

    client: list[dict[str, Any]] = Field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a registration is checked against: our own address, and whether plain http may stand in addresses."""

    public_url: str
    plain_http: bool

    @classmethod
    def of(cls, config: Config) -> Self:
        """Return those of a deployment."""
        return cls(config.public_url, config.environment == "sandbox")

    def resolved(self, uri: str) -> str:
        """Return an address with `{public_url}` filled in."""
        return self.public_url + uri.removeprefix(OWN) if uri.startswith(OWN) else uri


# --- reading -----------------------------------------------------------------------------------------------------


def load_clients(config: Config) -> dict[str, ClientEntry]:
    """Return every entry of clients.toml by id, checked, its keys read in. Raises StartRefused with all problems."""
    path = config.path(config.files.clients)
    entries: dict[str, ClientEntry] = {}
    problems = Problems()
    for number, data in enumerate(parse(ClientsFile, read_toml(path), str(path)).client, start=1):
        place = f"{path}: client {number}" + (f" ({data['id']})" if isinstance(data.get("id"), str) else "")
        with problems.collect():
            entry = checked(data, place, Surroundings.of(config), config.folder)
            if entry.id in entries:
                problems.add(place, "has an id that an earlier client has")
            entries[entry.id] = entry
    problems.refuse()
    return entries


def checked(data: Mapping[str, Any], place: str, surroundings: Surroundings, folder: Path) -> ClientEntry:
    """Return a registration that keeps every rule, with its keys read in from a file that lies in `folder`.

    Raises StartRefused with all problems at once, each under `place`.
    """
    entry = parse(ClientEntry, data, place)
    problems = Problems()
    problems.found.extend(FieldProblem(f"{place}.{name}", why) for name, why in _mistakes(entry, surroundings))
    keys: list[dict[str, Any]] = []
    with problems.collect():
        keys = _keys(entry, place, folder)
    problems.refuse()
    return entry.model_copy(update={"jwks": {"keys": keys} if keys else None, "jwks_file": None})


def _keys(entry: ClientEntry, place: str, folder: Path) -> list[dict[str, Any]]:
    data = entry.jwks if entry.jwks_file is None else read_jwks(folder / entry.jwks_file, place)
    if data is None or not _needs_keys(entry):
        return []
    return public_jwks(data, place, certificates=entry.authentication == "self_signed_tls_client_auth")


def client_of(entry: ClientEntry, surroundings: Surroundings, now: datetime) -> Client:
    """Return the client that a checked registration describes, with the keys that are in force at `now`.

    The surroundings may have changed since it was checked: an address that would be refused today is left out, and
    only a client that is still under our address is trusted.
    """
    same: dict[str, Any] = {name: getattr(entry, name) for name in _SAME}
    addresses: dict[str, Any] = {
        name: getattr(entry, name) and surroundings.resolved(getattr(entry, name)) for name in _ADDRESSES
    }
    return Client(
        **same,
        **addresses,
        redirect_uris=_allowed(entry.redirect_uris, entry, surroundings),
        consent=entry.consent if _is_own(entry, surroundings) else "ask",
        grant_types=frozenset(entry.grant_types),
        scopes=frozenset(entry.scopes),
        keys=key_set(entry.public_keys(), now),
        require_pushed_requests=entry.require_pushed_requests or entry.profile == "fapi2",
        post_logout_redirect_uris=_allowed(entry.post_logout_redirect_uris, entry, surroundings),
        exchanges_from=frozenset(entry.exchanges_from),
        purpose={str(language): text for language, text in entry.purpose.items()},
        service=entry.service or entry.id,
    )


_SAME = (
    "id", "name", "organisation", "organisation_code", "origin_code", "authentication", "tls_client_auth_subject_dn",
    "tls_client_auth_san_dns", "profile", "dpop_bound_access_tokens", "tls_client_certificate_bound_access_tokens",
    "id_token_signed_response_alg", "contact", "legal_basis",
)  # fmt: skip
"""Fields that a client has just as its registration says them."""
_ADDRESSES = ("backchannel_logout_uri", "privacy_url")


# --- the rules ---------------------------------------------------------------------------------------------------


def _mistakes(entry: ClientEntry, surroundings: Surroundings) -> Iterator[tuple[str, str]]:
    for name, problem in (
        ("organisation_code", uscc_problem(entry.organisation_code)),
        ("origin_code", region_code_problem(entry.origin_code)),
    ):
        if problem:
            yield name, problem
    yield from _flow_mistakes(entry)
    yield from _proof_mistakes(entry)
    yield from _binding_mistakes(entry)
    yield from _exchange_mistakes(entry)
    yield from _consent_mistakes(entry, surroundings)
    yield from _address_mistakes(entry, surroundings)


def _flow_mistakes(entry: ClientEntry) -> Iterator[tuple[str, str]]:
    """Say where grant types and redirect URIs do not fit each other."""
    code = "authorization_code" in entry.grant_types
    if code and not entry.redirect_uris:
        yield "redirect_uris", "is required for the grant type authorization_code"
    if "refresh_token" in entry.grant_types and not code:
        yield "grant_types", "refresh_token goes with authorization_code, which begins what it prolongs"
    if entry.require_pushed_requests and not code:
        yield "require_pushed_requests", "means nothing without the grant type authorization_code"


def _needs_keys(entry: ClientEntry) -> bool:
    return entry.authentication in {"private_key_jwt", "self_signed_tls_client_auth"}


def _proof_mistakes(entry: ClientEntry) -> Iterator[tuple[str, str]]:
    """Say where authentication, keys and the certificate's names do not fit each other (RFC 7523, RFC 8705 §2)."""
    method = entry.authentication
    sources = sum(source is not None for source in (entry.jwks, entry.jwks_file))
    if _needs_keys(entry) and sources != 1:
        yield "jwks", f"{method} needs public keys: give either jwks or jwks_file"
    if method == "none" and sources:
        yield "jwks", "is not for a public client: it has no key to authenticate with"
    if method == "tls_client_auth" and sources:
        yield "jwks", "means nothing for tls_client_auth: the certificate's name is what proves the client"
    names = [name for name in _CERTIFICATE_NAMES if getattr(entry, name) is not None]
    if method == "tls_client_auth" and len(names) != 1:
        yield "tls_client_auth_subject_dn", f"tls_client_auth needs exactly one of {' and '.join(_CERTIFICATE_NAMES)}"
    if method != "tls_client_auth":
        yield from ((name, f"means nothing for {method}; it is for tls_client_auth") for name in names)
    if entry.tls_client_auth_subject_dn is not None and not _is_dn(entry.tls_client_auth_subject_dn):
        yield "tls_client_auth_subject_dn", "is not a distinguished name as RFC 4514 writes it (CN=…,O=…,C=CN)"


_CERTIFICATE_NAMES = ("tls_client_auth_subject_dn", "tls_client_auth_san_dns")


def _is_dn(text: str) -> bool:
    try:
        read_subject(text)
    except ValueError:
        return False
    return True


def _binding_mistakes(entry: ClientEntry) -> Iterator[tuple[str, str]]:
    """Say what sender-constraining and the profile FAPI 2.0 (Security Profile §5.3) miss."""
    dpop, mtls = entry.dpop_bound_access_tokens, entry.tls_client_certificate_bound_access_tokens
    if dpop and mtls:
        yield "dpop_bound_access_tokens", "bars tls_client_certificate_bound_access_tokens: a token has one binding"
    if entry.profile != "fapi2":
        return
    if entry.authentication == "none":
        yield "profile", "fapi2 knows no public client: choose private_key_jwt or mutual TLS"
    if not (dpop or mtls):
        yield (
            "profile",
            (
                "fapi2 demands sender-constrained tokens: set dpop_bound_access_tokens or "
                "tls_client_certificate_bound_access_tokens"
            ),
        )
    if "require_pushed_requests" in entry.model_fields_set and not entry.require_pushed_requests:
        yield "require_pushed_requests", "cannot be false for fapi2, which demands pushed requests"


def _exchange_mistakes(entry: ClientEntry) -> Iterator[tuple[str, str]]:
    """Say what is missing for grants that a client's own proof carries (RFC 6749 §4.4, RFC 8693)."""
    if entry.authentication == "none":
        for grant in ("client_credentials", TOKEN_EXCHANGE):
            if grant in entry.grant_types:
                yield "grant_types", f"{grant} needs a client that authenticates (private_key_jwt or mutual TLS)"
    exchanges = TOKEN_EXCHANGE in entry.grant_types
    if exchanges and not entry.exchanges_from:
        yield "exchanges_from", "is required for token exchange: the clients whose persons' tokens it may exchange"
    if entry.exchanges_from and not exchanges:
        yield "exchanges_from", f"means nothing without the grant type {TOKEN_EXCHANGE}"


def _consent_mistakes(entry: ClientEntry, surroundings: Surroundings) -> Iterator[tuple[str, str]]:
    if entry.consent != "trusted":
        return
    if not _is_own(entry, surroundings):
        yield "consent", "trusted is for clients of the gateway's own: every redirect URI under its public address"


def _is_own(entry: ClientEntry, surroundings: Surroundings) -> bool:
    """Say whether a client can only ever return to the gateway itself."""
    own = [surroundings.resolved(uri).startswith(surroundings.public_url + "/") for uri in entry.redirect_uris]
    return bool(own) and all(own)


def _allowed(uris: Iterable[str], entry: ClientEntry, surroundings: Surroundings) -> tuple[str, ...]:
    """Return the addresses that would be taken today."""
    plain_http = surroundings.plain_http and entry.profile != "fapi2"
    resolved = map(surroundings.resolved, uris)
    return tuple(uri for uri in resolved if redirect_uri_problem(uri, plain_http=plain_http) is None)


def _address_mistakes(entry: ClientEntry, surroundings: Surroundings) -> Iterator[tuple[str, str]]:
    strict = entry.profile == "fapi2"
    named = [
        *(("redirect_uris", uri) for uri in entry.redirect_uris),
        *(("post_logout_redirect_uris", uri) for uri in entry.post_logout_redirect_uris),
        *((name, uri) for name in _ADDRESSES if (uri := getattr(entry, name))),
    ]
    for name, uri in named:
        problem = redirect_uri_problem(surroundings.resolved(uri), plain_http=surroundings.plain_http and not strict)
        if problem:
            yield name, f"{uri} {problem}"


def redirect_uri_problem(uri: str, *, plain_http: bool) -> str | None:
    """Check a redirect URI: absolute, no fragment, https; plain http for loopback, or anywhere when `plain_http`.

    Source: RFC 6749 §3.1.2, RFC 9700 §2.1, RFC 8252 §7.3.
    """
    try:
        parts = urlsplit(uri)
        host = parts.hostname
    except ValueError:
        return "is not an address"
    if not host or "@" in parts.netloc or not (uri.isascii() and uri.isprintable()) or " " in uri:
        return "is not an absolute address"
    if parts.fragment or uri.endswith("#"):
        return "must not have a fragment"
    if parts.scheme == "https" or (parts.scheme == "http" and (plain_http or _is_loopback(host))):
        return None
    return "must be https"


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def unknown_names(entries: Iterable[ClientEntry], known: Collection[str]) -> list[FieldProblem]:
    """Return a problem for each client that an entry exchanges from and that nobody knows: it would deny in silence."""
    return [
        FieldProblem(f"client {entry.id}.exchanges_from", f"{name} is not registered")
        for entry in entries
        for name in entry.exchanges_from
        if name not in known
    ]
