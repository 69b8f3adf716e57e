"""Sign-on in one process: the provider's own addresses over two regions that answer as a test tells them.

Owns: a world with a clock of its own, clients with keys, browsers and requests. Leaves to the tests every promise.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from aiohttp import ClientResponse, DummyCookieJar, web
from aiohttp.test_utils import TestClient, TestServer
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey
from prometheus_client import CollectorRegistry

from gateway.config import Config
from gateway.crypto.at_rest import References, Sealer
from gateway.crypto.signing import Es256Signer, Signer
from gateway.domain.caller import Caller
from gateway.domain.identity import Assurance
from gateway.domain.mandate import Rules
from gateway.domain.region import Place, RegionNames, Zone
from gateway.errors import GatewayError
from gateway.identity.clients import Client
from gateway.identity.families import is_revoked
from gateway.identity.linked import Links
from gateway.identity.mandates import Mandates
from gateway.identity.mtls import Authorities, CertificateReader
from gateway.identity.proofs import Presented
from gateway.identity.provider import ClientsAsked
from gateway.identity.revocations import WatchedStore
from gateway.identity.service import IdentityService
from gateway.identity.verified import VerifiedTokens
from gateway.policy.recognition import Line, Recognition
from gateway.policy.transfer import Basis
from gateway.ports import Adapter, RegionDocument, SignOnRedirect, SignOnReturn, SignOnStart, UpstreamIdentity
from gateway.storage import Store
from gateway.telemetry import Metrics
from gateway.web import logout, provider_endpoints, sign_on
from gateway.web.middlewares import edge
from gateway.web.peer import connection_of
from gateway.web.problems import problem_response
from tests.support.pages import pages

ISSUER = "https://gateway.test"
REDIRECT = "https://service.test/back?keep=1"
PERSON = {
    "subject": "gd-1",
    "kind": "natural",
    "name": "李芳",
    "document": {"type": "CN_RIC", "number": "11010519491231002X"},
    "sex": "F",
    "birth_date": "1949-12-31",
    "mobile": "+8613800000000",
}


EVERYBODY = Recognition(
    {1: Line.model_validate({"regions": ["guangdong", "hongkong"], "services": ["*"], "purposes": ["*"], "least": "A0",
                             "kinds": ["person", "organisation"]})}
)  # fmt: skip
"""A matrix that recognises both regions for everything."""


class ManualClock:
    """Time that moves only when the test says so."""

    def __init__(self) -> None:
        self.now = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def stamp(self) -> int:
        return int(self.now.timestamp())


class FakeProvider:
    """A region's sign-on that can be told how to answer."""

    def __init__(self, region: str, clock: ManualClock) -> None:
        self.region = region
        self.clock = clock
        self.failure: GatewayError | None = None
        self.level = "L2"
        self.subject = "gd-1"
        self.says: dict[str, Any] = {}
        self.more: dict[str, Any] = {}
        """Further fields of the identity: `once`, `organisation`, …; `authenticated_at` is now otherwise."""
        self.begun: list[SignOnStart] = []
        self.returned: list[SignOnReturn] = []

    async def begin(self, start: SignOnStart) -> SignOnRedirect:
        self.begun.append(start)
        if self.failure:
            raise self.failure
        return SignOnRedirect(f"https://{self.region}.test/login?state={start.state}", {"nonce": start.nonce})

    async def complete(self, back: SignOnReturn) -> UpstreamIdentity:
        self.returned.append(back)
        if self.failure:
            raise self.failure
        claims = {**PERSON, "subject": self.subject, **self.says}
        said = {"authenticated_at": self.clock(), **self.more}
        return UpstreamIdentity(self.subject, claims, "YSS", self.level, **said)


class SamePack:
    version = "same"

    def to_canonical(self, document: RegionDocument) -> dict[str, Any]:
        assert isinstance(document, dict)
        return document


@dataclass(frozen=True)
class FakeRegion:
    id: str
    names: RegionNames
    adapter: Adapter
    assurance: Mapping[str, Assurance]
    place: Place = field(default_factory=lambda: Place("440000", Zone.MAINLAND))
    packs: Mapping[str, SamePack] = field(
        default_factory=lambda: {name: SamePack() for name in ("person", "organisation")}
    )


@dataclass
class World:
    """Everything a test may want to reach."""

    http: TestClient[web.Request, web.Application]
    service: IdentityService
    store: Store
    clock: ManualClock
    providers: dict[str, FakeProvider]
    regions: dict[str, FakeRegion]
    clients: dict[str, Client]
    keys: dict[str, Any]
    app: web.Application
    mandates: Mandates
    disabled: set[str]
    """Clients that another replica disabled: `find` has them in memory still."""

    def assertion(self, client_id: str = "agency", key: Any = None, algorithm: str = "", **changes: Any) -> str:
        now = self.clock.stamp()
        claims = {
            "iss": client_id, "sub": client_id, "aud": ISSUER, "iat": now, "exp": now + 60, "jti": secrets.token_hex(8),
        }  # fmt: skip
        claims = {name: value for name, value in {**claims, **changes}.items() if value is not None}
        key = key or self.keys[client_id]
        algorithm = algorithm or {"EC": "ES256", "RSA": "PS256", "OKP": "Ed25519"}[key.key_type]
        return jwt.encode({"alg": algorithm}, claims, key, algorithms=[algorithm])

    async def token(self, **form: str) -> tuple[int, dict[str, Any]]:
        answer = await self.http.post("/oauth2/token", data=form)
        return answer.status, await answer.json()

    async def post(
        self, path: str, form: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Post a form and return status and JSON."""
        answer = await self.http.post(path, data=dict(form), headers=dict(headers or {}))
        return answer.status, await answer.json()

    def signed(self, client_id: str = "agency") -> dict[str, str]:
        """Return the fields by which a client proves itself."""
        kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        return {"client_assertion_type": kind, "client_assertion": self.assertion(client_id)}

    async def machine_token(self, assertion: str, **form: str) -> tuple[int, dict[str, Any]]:
        kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        form = {"grant_type": "client_credentials", **form}
        return await self.token(client_assertion_type=kind, client_assertion=assertion, **form)

    async def caller(self, token: str) -> Caller:
        """Return the caller that the API takes a bearer token for. Raises NotAuthenticated."""
        return await self.service.resources.authenticate(Presented(scheme="Bearer", token=token))

    async def userinfo(self, token: str) -> ClientResponse:
        return await self.http.get("/oauth2/userinfo", headers={"Authorization": f"Bearer {token}"})


class DpopKey:
    """A client's key for DPoP, and the proofs that it makes (RFC 9449 §4.2)."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.key = ECKey.generate_key("P-256")

    @property
    def thumbprint(self) -> str:
        return str(self.key.thumbprint())

    def proof(self, method: str, path: str, token: str | None = None, **changes: Any) -> str:
        """Return a proof for one of our addresses, with the nonce that the server would hand out now."""
        claims: dict[str, Any] = {
            "htm": method, "htu": ISSUER + path, "iat": self.world.clock.stamp(), "jti": secrets.token_hex(8),
            "nonce": self.world.service.nonces.current(self.world.clock()),
        }  # fmt: skip
        if token is not None:
            digest = hashlib.sha256(token.encode()).digest()
            claims["ath"] = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        claims = {name: value for name, value in {**claims, **changes}.items() if value is not None}
        header = {"typ": "dpop+jwt", "alg": "ES256", "jwk": self.key.as_dict(private=False)}
        return jwt.encode(header, claims, self.key, algorithms=["ES256"])


class Browser:
    """A browser with its own cookies, which follows no redirect by itself."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.cookies: dict[str, str] = {}
        self.set_cookies: list[str] = []

    async def get(self, url: str, **headers: str) -> ClientResponse:
        headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = await self.world.http.get(url, headers=headers, allow_redirects=False)
        for line in answer.headers.getall("Set-Cookie", []):
            self.set_cookies.append(line)
            for morsel in SimpleCookie(line).values():
                self.cookies[morsel.key] = morsel.value
        await answer.read()
        return answer

    async def to(self, url: str) -> str:
        """Return where the address sends the browser."""
        answer = await self.get(url)
        assert answer.status == 302, await answer.text()
        return answer.headers["Location"]

    async def sign_on(self, request: Request, region: str = "guangdong") -> dict[str, str]:
        """Go the whole way and return what the service's redirect URI got."""
        return parameters(await self.through(request.url(), region))

    async def through(self, url: str, region: str = "guangdong") -> str:
        """Go the whole way from an address of the authorization endpoint, and return where it ends."""
        chooser = await self.to(url)
        upstream = await self.to(choice(chooser, region))
        return await self.to(f"/sign-in/{region}/callback?{urlencode({**parameters(upstream), 'code': 'c'})}")


@dataclass
class Request:
    """An authorization request of a test service, with its PKCE verifier."""

    client_id: str = "portal"
    scope: str = "openid profile"
    extra: dict[str, str | None] = field(default_factory=dict)
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    def fields(self) -> dict[str, str]:
        challenge = base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()
        fields: dict[str, str | None] = {
            "response_type": "code", "client_id": self.client_id, "redirect_uri": REDIRECT, "scope": self.scope,
            "state": "s-1", "nonce": "n-1", "code_challenge": challenge, "code_challenge_method": "S256",
        }  # fmt: skip
        fields.update(self.extra)
        return {name: value for name, value in fields.items() if value is not None}

    def url(self) -> str:
        return f"/oauth2/authorize?{urlencode(self.fields())}"

    def redemption(self, issued: str, /, **changes: str) -> dict[str, str]:
        form = {
            "grant_type": "authorization_code", "code": issued, "redirect_uri": REDIRECT, "client_id": self.client_id,
            "code_verifier": self.verifier,
        }  # fmt: skip
        return {**form, **changes}


def parameters(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))


def choice(chooser: str, region: str) -> str:
    return f"/sign-in/{region}?{urlencode({'interaction': parameters(chooser)['interaction']})}"


def pem() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def a_client(client_id: str, keys: KeySet | None = None, **changes: Any) -> Client:
    values: dict[str, Any] = {
        "id": client_id,
        "name": client_id,
        "organisation": "广州市政务服务数据管理局",
        "organisation_code": "11440100696927671X",
        "origin_code": "440100",
        "redirect_uris": (REDIRECT,),
        "grant_types": frozenset(
            {"authorization_code"} if keys is None else {"authorization_code", "client_credentials"}
        ),
        "scopes": frozenset({"openid", "profile", "document", "phone"} | ({"submissions"} if keys else set())),
        "authentication": "none" if keys is None else "private_key_jwt",
        "keys": keys,
        "consent": "trusted",  # most tests are not about consent
    }
    return Client(**{**values, **changes})


def a_region(region_id: str, provider: FakeProvider | None, top: Assurance = Assurance.A3) -> FakeRegion:
    ladder = {"L0": Assurance.A0, "L1": Assurance.A1, "L2": Assurance.A2, "L3": Assurance.A3}
    return FakeRegion(
        id=region_id,
        names=RegionNames(f"{region_id}省", f"{region_id}省", region_id.title(), region_id.title()),
        adapter=Adapter(sign_on=provider),
        assurance={word: level for word, level in ladder.items() if level <= top},
    )


def a_config(folder: Path) -> Config:
    keys = {"signing": ["env:X"], "at_rest": ["env:X"], "references": "env:X"}
    store = {"url": f"sqlite:///{folder}/db", "blobs": str(folder)}
    return Config.model_validate({"public_url": ISSUER, "store": store, "keys": keys, "regions": {"guangdong": {}}})


def public(key: Any) -> Any:
    return type(key).import_key(key.as_dict(private=False))


def published(body: Mapping[str, Any]) -> KeySet:
    return KeySet.import_key_set({"keys": list(body["keys"])})


def agency_keys() -> dict[str, Any]:
    """Return keys of three kinds; better born once per module, because an RSA key takes its time."""
    return {
        "agency": ECKey.generate_key("P-256"),
        "rsa": RSAKey.generate_key(2048),
        "okp": OKPKey.generate_key("Ed25519"),
    }


@asynccontextmanager
async def open_world(
    folder: Path,
    keys: Mapping[str, Any],
    store: Store,
    sealing: bytes | None = None,
    clock: ManualClock | None = None,
    config: Config | None = None,
    links: Links | None = None,
    authorities: Authorities = Authorities(),  # noqa: B008 - none vouches, and nobody changes it here
    signer: Signer | None = None,
    monotonic: Callable[[], float] | None = None,
    recognition: Recognition | None = None,
    bases: Sequence[Basis] = (),
) -> AsyncIterator[World]:
    """Serve the provider's addresses over two regions that answer as they are told, and one without sign-on.

    Two worlds over one store with the same `sealing` are two replicas.
    """
    clock = clock or ManualClock()
    providers = {name: FakeProvider(name, clock) for name in ("guangdong", "hongkong")}
    regions = {name: a_region(name, provider) for name, provider in providers.items()}
    regions["foshan"] = a_region("foshan", None)
    clients = {name: a_client(name, KeySet([public(key)])) for name, key in keys.items() if name != "signing"}
    clients["portal"] = a_client("portal")
    metrics, secret = Metrics(CollectorRegistry()), sealing or secrets.token_bytes(32)

    async def find(client_id: str) -> Client | None:
        return clients.get(client_id)

    disabled: set[str] = set()
    asked = ClientsAsked(
        lambda _tx, client_id: client_id not in disabled,
        lambda tx, client_id, token_id, _issued_at: client_id not in disabled and not is_revoked(tx, token_id),
    )
    verified = VerifiedTokens(clock, monotonic or (lambda: clock().timestamp()))
    store = WatchedStore(store, verified)
    mandates = Mandates(store, Sealer(secret), References(secret), clock, Rules(), {"item-1", "item-2"})
    service = IdentityService(
        config=config or a_config(folder), find=find, asked=asked, recognition=recognition or EVERYBODY, bases=bases,
        regions=regions, store=store, sealer=Sealer(secret), references=References(secret),
        signer=signer or Es256Signer([keys.get("signing") or pem()]), clock=clock, metrics=metrics,
        authorities=authorities, verified=verified, mandates=mandates, links=links,
    )  # fmt: skip
    app = web.Application(middlewares=edge(metrics, lambda _request, error: problem_response(error, "page")))
    reader = CertificateReader(config.listen.proxies if config else ())
    app.add_routes(
        provider_endpoints.routes(service, lambda request: reader.presented(connection_of(request), request.headers))
    )
    shown = pages(secure=True)
    app.add_routes([*sign_on.routes(service, shown), *logout.routes(service, shown, clock, 65536)])
    async with TestClient(TestServer(app), cookie_jar=DummyCookieJar()) as http:
        yield World(http, service, store, clock, providers, regions, clients, dict(keys), app, mandates, disabled)
