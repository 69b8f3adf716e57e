"""The registered clients: which systems may ask, how they prove who they are, and where answers may go.

Owns: reading clients.toml, every rule about an entry, and the lookup by id. Leaves to `provider` and `assertion` how a
client proves itself, and to `gateway.policy` what it may do once it has.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import orjson
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, KeySet, OKPKey, RSAKey
from pydantic import Field

from gateway.config import Config, Problems, Settings, parse, read_toml
from gateway.domain.identifiers import region_code_problem, uscc_problem
from gateway.errors import FieldProblem, StartRefused

Authentication = Literal["private_key_jwt", "none"]
GrantType = Literal["authorization_code", "client_credentials"]
ScopeToken = Annotated[str, Field(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]{1,64}$")]  # RFC 6749 appendix A.4
RSA_BITS = 2048


@dataclass(frozen=True, slots=True)
class Client:
    """One registered client (RFC 6749 §2). `organisation_code` is a USCC, `origin_code` a GB/T 2260 code.

    `keys` verify its assertions and are None for a public client, which proves itself by PKCE alone.
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


class ClientEntry(Settings):
    """One `[[client]]` of clients.toml, as it is written."""

    id: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    name: str = Field(min_length=1)
    organisation: str = Field(min_length=1)
    organisation_code: str
    origin_code: str
    redirect_uris: list[str] = Field(default_factory=list)
    grant_types: list[GrantType] = Field(min_length=1)
    scopes: list[ScopeToken] = Field(default_factory=list)
    authentication: Authentication
    jwks: dict[str, Any] | list[dict[str, Any]] | None = None
    jwks_file: Path | None = None


class ClientsFile(Settings):
    """clients.toml as a whole; each entry is checked by itself, so that all mistakes are heard in one go."""

    client: list[dict[str, Any]] = Field(default_factory=list)


def load_clients(config: Config) -> dict[str, Client]:
    """Return every client by id. Raises StartRefused with all problems of all entries."""
    path = config.path(config.files.clients)
    clients: dict[str, Client] = {}
    problems = Problems()
    for number, data in enumerate(parse(ClientsFile, read_toml(path), str(path)).client, start=1):
        place = f"{path}: client {number}" + (f" ({data['id']})" if isinstance(data.get("id"), str) else "")
        with problems.collect():
            client = _client(parse(ClientEntry, data, place), place, config)
            if client.id in clients:
                problems.add(place, "has an id that an earlier client has")
            clients[client.id] = client
    problems.refuse()
    return clients


def _client(entry: ClientEntry, place: str, config: Config) -> Client:
    problems = Problems()
    problems.found.extend(FieldProblem(f"{place}.{field}", reason) for field, reason in _mistakes(entry, config))
    keys: KeySet | None = None
    with problems.collect():
        keys = _keys(entry, place, config)
    problems.refuse()
    return Client(
        id=entry.id,
        name=entry.name,
        organisation=entry.organisation,
        organisation_code=entry.organisation_code,
        origin_code=entry.origin_code,
        redirect_uris=tuple(entry.redirect_uris),
        grant_types=frozenset(entry.grant_types),
        scopes=frozenset(entry.scopes),
        authentication=entry.authentication,
        keys=keys,
    )


def _mistakes(entry: ClientEntry, config: Config) -> Iterator[tuple[str, str]]:
    for field, problem in (
        ("organisation_code", uscc_problem(entry.organisation_code)),
        ("origin_code", region_code_problem(entry.origin_code)),
    ):
        if problem:
            yield field, problem
    yield from _flow_mistakes(entry)
    for uri in entry.redirect_uris:
        problem = redirect_uri_problem(uri, plain_http=config.environment == "sandbox")
        if problem:
            yield "redirect_uris", f"{uri} {problem}"


def _flow_mistakes(entry: ClientEntry) -> Iterator[tuple[str, str]]:
    """Say where grant types, redirect URIs, authentication and keys do not fit each other."""
    public = entry.authentication == "none"
    if "authorization_code" in entry.grant_types and not entry.redirect_uris:
        yield "redirect_uris", "is required for the grant type authorization_code"
    if public and "client_credentials" in entry.grant_types:
        yield "grant_types", "client_credentials needs a client that authenticates (private_key_jwt)"
    sources = sum(source is not None for source in (entry.jwks, entry.jwks_file))
    if public and sources:
        yield "jwks", "is not for a public client: it has no key to authenticate with"
    if not public and sources != 1:
        yield "jwks", "private_key_jwt needs public keys: give either jwks or jwks_file"


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


def _keys(entry: ClientEntry, place: str, config: Config) -> KeySet | None:
    data = entry.jwks if entry.jwks_file is None else _read_json(config.path(entry.jwks_file), place)
    if data is None or entry.authentication == "none":
        return None
    listed = data.get("keys") if isinstance(data, dict) else data
    if not isinstance(listed, list) or not listed or not all(isinstance(key, dict) for key in listed):
        raise _refused(f"{place}.jwks", "must be a JWK set: a table with a list `keys`, or the list itself")
    problems = Problems()
    keys: list[Key] = []
    for number, jwk in enumerate(listed, start=1):
        with problems.collect():
            keys.append(_public_key(jwk, f"{place}.jwks.{number}"))
    problems.refuse()
    return KeySet(keys)


def _read_json(path: Path, place: str) -> Any:
    try:
        return orjson.loads(path.read_bytes())
    except OSError as error:
        raise _refused(f"{place}.jwks_file", f"{path} cannot be read ({error.strerror})") from None
    except orjson.JSONDecodeError as error:
        raise _refused(f"{place}.jwks_file", f"{path} is not JSON: {error}") from None


def _public_key(jwk: Mapping[str, Any], place: str) -> ECKey | OKPKey | RSAKey:
    """Import one public key that an allowed algorithm can use: P-256, Ed25519, or RSA of 2048 bits and more."""
    if "d" in jwk or "k" in jwk:
        raise _refused(place, "holds a secret; register the public part only, and replace this key")
    kinds: Mapping[str, type[ECKey | OKPKey | RSAKey]] = {"EC": ECKey, "OKP": OKPKey, "RSA": RSAKey}
    kind = kinds.get(str(jwk.get("kty")))
    if kind is None:
        raise _refused(place, "must be of kty EC, OKP or RSA")
    if kind is RSAKey and len(str(jwk.get("n", ""))) * 6 < RSA_BITS:
        raise _refused(place, f"must have at least {RSA_BITS} bits")
    try:
        key = kind.import_key(dict(jwk))
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise _refused(place, f"is not a key that can be read ({type(error).__name__})") from None
    if isinstance(key, ECKey | OKPKey) and key.curve_name not in {"P-256", "Ed25519"}:
        raise _refused(place, "must be on the curve P-256 (ES256) or Ed25519 (EdDSA)")
    return key


def _refused(field: str, reason: str) -> StartRefused:
    return StartRefused("client", problems=[FieldProblem(field, reason)])
