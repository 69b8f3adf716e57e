"""Relying parties that we did not write: Authlib's client, and panva's certified openid-client with FAPI 2.0.

Each finds its way by discovery alone, and judges our answers by its own code.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from authlib.integrations.base_client import BaseApp, OAuth2Mixin, OpenIDMixin
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet
from yarl import URL

from gateway.storage.tables import submissions
from tests.flows.flow_support import SLIP, World, eventually, neighbourhood, prepare
from tests.flows.interop_support import (
    BYE,
    DEMO_HOME,
    HOME,
    Browser,
    Program,
    Receiver,
    RefusedByProgram,
    browser,
    receiver,
    register,
    relying_party,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

CERTIFIED, FAPI, AUTHLIB, BOUND = "certified-portal", "fapi-portal", "authlib-portal", "bound-agency"
PORTAL, SYSTEM = "demo-portal", "demo-agency"
LOGOUT = "http://schemas.openid.net/event/backchannel-logout"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
ANOTHER: dict[str, Any] = {
    "kind": "person",
    "name": "黄文员",
    "document": {"type": "CN_RIC", "number": "440106198806150019"},
}
MAY_FILE = f"""
[[grant]]
client = "{BOUND}"
capability = "submissions.create"
items = ["*"]
purposes = ["cross-region-service"]
regions = ["guangdong"]
"""
A2 = "urn:pearl:assurance:A2"


@dataclass(frozen=True, slots=True)
class Table:
    """The gateway with its neighbours, and the ears of the portals."""

    world: World
    heard: Receiver

    @property
    def keys(self) -> Path:
        return self.world.layout.folder / "keys"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def table(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Table]:
    async with receiver() as heard:
        layout = prepare(tmp_path_factory.mktemp("interop"))
        register(layout, CERTIFIED, backchannel_logout_uri=heard.url)
        register(layout, AUTHLIB, backchannel_logout_uri=heard.url)
        register(layout, FAPI, profile="fapi2", dpop_bound_access_tokens=True)
        register(
            layout, BOUND, dpop_bound_access_tokens=True, grant_types=["client_credentials", EXCHANGE],
            exchanges_from=[CERTIFIED], scopes=["submissions"], redirect_uris=[], post_logout_redirect_uris=[],
        )  # fmt: skip
        with (layout.folder / "grants.toml").open("a", encoding="utf-8") as file:
            file.write(MAY_FILE)
        async with neighbourhood(layout) as world:
            yield Table(world, heard)


class Authlib(OAuth2Mixin, OpenIDMixin, BaseApp):  # type: ignore[misc] # Authlib ships no types
    """Authlib's client of an OpenID Provider, as its integration of Flask has it, without Flask."""

    client_cls = OAuth2Session


@dataclass(frozen=True, slots=True)
class Client:
    """A registered client by Authlib, which works on requests: each call goes into a thread."""

    table: Table
    id: str
    home: str = HOME

    @property
    def session(self) -> OAuth2Session:
        """Return a session with `private_key_jwt`: Authlib signs one assertion with each call."""
        proof = PrivateKeyJWT(self.table.world.url, alg="ES256", claims={"exp": int(time.time()) + 60})
        how = {"token_endpoint_auth_method": proof, "revocation_endpoint_auth_method": proof}
        return OAuth2Session(self.id, self._key(), **how)

    @property
    def app(self) -> Authlib:
        proof = PrivateKeyJWT(self.table.world.url, alg="ES256", claims={"exp": int(time.time()) + 60})
        return Authlib(
            framework=None,
            client_id=self.id,
            client_secret=self._key(),
            server_metadata_url=f"{self.table.world.url}/.well-known/openid-configuration",
            client_kwargs={
                "scope": "openid profile document",
                "code_challenge_method": "S256",
                "token_endpoint_auth_method": proof,
            },
        )

    async def sign_on(self, person: Browser, app: Authlib, account: str = "citizen") -> tuple[Any, Any]:
        """Have a person sign on; return the tokens, and what Authlib makes of the ID token."""
        asked = await asyncio.to_thread(app.create_authorization_url, self.home)
        answer = await sign_on(person, asked["url"], account)
        given = {"authorization_response": answer, "state": asked["state"], "code_verifier": asked["code_verifier"]}
        tokens = await asyncio.to_thread(partial(app.fetch_access_token, redirect_uri=self.home, **given))
        return tokens, await asyncio.to_thread(app.parse_id_token, tokens, asked["nonce"])

    async def call(self, what: Callable[[OAuth2Session, str], Any]) -> Any:
        """Do something with a session, and close it."""

        def done() -> Any:
            with self.session as session:
                return what(session, f"{self.table.world.url}/oauth2")

        return await asyncio.to_thread(done)

    def _key(self) -> ECKey:
        return ECKey.import_key((self.table.keys / f"{self.id}.pem").read_bytes())


async def sign_on(person: Browser, url: str, account: str = "citizen") -> str:
    """Sign on at Guangdong and return the address at which the browser comes back to the portal."""
    page = await person.to_region(url, "guangdong")
    back = await person.send(page, account=account, password=f"sandbox-{account}", method="3")
    return await person.agree(back)


async def signed_on(person: Browser, party: Program, **asked: Any) -> dict[str, Any]:
    url = (await party.ask("begin", redirect_uri=HOME, scope="openid profile document", **asked))["url"]
    tokens: dict[str, Any] = await party.ask("finish", url=await sign_on(person, url))
    return tokens


async def decided(world: World, case: str) -> None:
    """Wait until the authority has done its part: a case that is under way would outlive the neighbourhood."""

    async def look() -> bool | None:
        return (await world.rows(submissions, id=case))[0]["state"] == "COMPLETED" or None

    await eventually(look)


# --- openid-client -----------------------------------------------------------------------------------------------


async def test_a_certified_client_goes_the_whole_way(table: Table) -> None:
    """Discovery, PKCE, private_key_jwt, ID token by our keys, userinfo, refresh, introspection, revocation."""
    async with relying_party(table.world.url, CERTIFIED, table.keys) as party, browser() as person:
        tokens = await signed_on(person, party, max_age=300)
        assert (tokens["claims"]["acr"], tokens["userinfo"]["name"]) == (A2, "陈小明")
        assert tokens["token_type"] == "bearer"
        fresh = await party.ask("refresh", token=tokens["refresh_token"])
        told = await party.ask("userinfo", token=fresh["access_token"], sub=tokens["claims"]["sub"])
        assert told == tokens["userinfo"]
        said = await party.ask("introspect", token=fresh["access_token"])
        assert (said["active"], said["client_id"], said["sub"]) == (True, CERTIFIED, tokens["claims"]["sub"])
        await party.ask("revoke", token=fresh["refresh_token"])
        assert await party.ask("introspect", token=fresh["access_token"]) == {"active": False}
        with pytest.raises(RefusedByProgram, match="invalid_grant"):
            await party.ask("refresh", token=fresh["refresh_token"])


async def test_a_certified_client_signs_out_and_hears_of_it(table: Table) -> None:
    """RP-initiated logout by its own address, and the back-channel logout token judged by jose."""
    async with relying_party(table.world.url, CERTIFIED, table.keys) as party, browser() as person:
        tokens = await signed_on(person, party)
        table.heard.forget()
        out = await party.ask("sign_out", id_token=tokens["id_token"], back=BYE, state="bye")
        assert (await person.open(out["url"])).url == URL(f"{BYE}?state=bye")
        token = await table.heard.next()
        heard = await party.ask("heard", token=token)
        assert (heard["sub"], heard["sid"]) == (tokens["claims"]["sub"], tokens["claims"]["sid"])
        with pytest.raises(RefusedByProgram, match=r"unexpected .*typ|audience|requiredClaims|missing required"):
            await party.ask("heard", token=tokens["id_token"])


async def test_a_certified_client_keeps_the_profile_fapi_2(table: Table) -> None:
    """Pushed request, DPoP with our nonces at both endpoints; another key opens nothing (guarded by `Proofs.check`)."""
    async with (
        relying_party(table.world.url, FAPI, table.keys, dpop=True) as party,
        relying_party(table.world.url, FAPI, table.keys, dpop=True) as thief,
        browser() as person,
    ):
        tokens = await signed_on(person, party, par=True)
        assert (tokens["token_type"], tokens["userinfo"]["name"]) == ("dpop", "陈小明")
        fresh = await party.ask("refresh", token=tokens["refresh_token"])
        assert (await party.ask("userinfo", token=fresh["access_token"], sub=tokens["claims"]["sub"]))["sub"]
        said = await party.ask("introspect", token=fresh["access_token"])
        assert said["cnf"]["jkt"]
        with pytest.raises(RefusedByProgram, match=r"invalid_token|invalid_dpop_proof"):
            await thief.ask("userinfo", token=fresh["access_token"], sub=tokens["claims"]["sub"])


async def test_a_bound_system_files_for_a_person_by_exchange_and_proves_its_key_with_every_call(table: Table) -> None:
    """openid-client exchanges a portal's token for one that is bound to its key, and hears our nonce at the API too.

    Guarded by `acting_problems` (another applicant) and `Proofs.check` (the token without its key).
    """
    world, api = table.world, f"{table.world.url}/v1"
    async with (
        relying_party(world.url, CERTIFIED, table.keys) as portal,
        relying_party(world.url, BOUND, table.keys, dpop=True) as agency,
        browser() as person,
    ):
        tokens = await signed_on(person, portal)
        asked = {"subject_token": tokens["access_token"], "subject_token_type": ACCESS_TOKEN, "scope": "submissions"}
        acting = await agency.ask("grant", grant_type=EXCHANGE, **asked)
        assert acting["token_type"] == "dpop"

        async def call(path: str, body: str, kind: str = "application/json") -> Any:
            sent = {"token": acting["access_token"], "method": "POST", "url": f"{api}{path}"}
            return await agency.ask("call", body=body, type=kind, **sent)

        blob = (await call("/blobs", SLIP.decode(), "application/pdf"))["body"]["id"]
        application = await world.application("guangdong", mode="online", materials=[{"code": "ID", "blob": blob}])
        filed = await call("/submissions", json.dumps(application))
        assert filed["status"] == 201, filed
        other = await call("/submissions", json.dumps({**application, "reference": "other", "applicant": ANOTHER}))
        assert (other["status"], [each["code"] for each in other["body"]["problems"]]) == (422, ["another_person"])
        stolen = await world.ask("GET", "/v1/items", token=acting["access_token"])
        assert (stolen.status, stolen.json()["code"]) == (401, "auth.invalid_dpop_proof")
        await decided(world, filed["body"]["id"])


# --- Authlib -----------------------------------------------------------------------------------------------------


async def test_authlibs_client_goes_the_whole_way(table: Table) -> None:
    """It knows neither pushed requests nor DPoP, which openid-client has shown; the rest is the same by other code."""
    portal = Client(table, AUTHLIB)
    app = portal.app
    async with browser() as person:
        tokens, claims = await portal.sign_on(person, app)
        told = await asyncio.to_thread(partial(app.userinfo, token=tokens))
        assert (claims["acr"], told["sub"], told["name"]) == (A2, claims["sub"], "陈小明")
        old, access = tokens["refresh_token"], tokens["access_token"]
        fresh = await portal.call(lambda session, at: session.refresh_token(f"{at}/token", refresh_token=old))
        said = await portal.call(lambda session, at: session.introspect_token(f"{at}/introspect", token=access))
        assert (said.json()["active"], said.json()["sub"]) == (True, claims["sub"])
        new = fresh["refresh_token"]
        ended = await portal.call(lambda session, at: session.revoke_token(f"{at}/revoke", token=new))
        assert ended.status_code == 200
        said = await portal.call(lambda session, at: session.introspect_token(f"{at}/introspect", token=access))
        assert said.json() == {"active": False}


async def test_authlibs_client_signs_out_and_hears_of_it(table: Table) -> None:
    """The logout token is judged by what OpenID Connect Back-Channel Logout 1.0 §2.6 says, over Authlib's key set."""
    portal = Client(table, AUTHLIB)
    app = portal.app
    async with browser() as person:
        tokens, claims = await portal.sign_on(person, app)
        table.heard.forget()
        out = await asyncio.to_thread(app.create_logout_url, BYE, tokens["id_token"], "bye")
        assert (await person.open(out["url"])).url == URL(f"{BYE}?state=bye")
    token = await table.heard.next()
    keys = KeySet.import_key_set(await asyncio.to_thread(app.fetch_jwk_set))
    heard = jwt.decode(token, keys, algorithms=["ES256"])
    wanted = {"iss": table.world.url, "aud": AUTHLIB, "sub": claims["sub"], "sid": claims["sid"]}
    rules: dict[str, Any] = {name: {"essential": True} for name in ("iat", "exp", "jti")}
    rules |= {name: {"essential": True, "value": value} for name, value in wanted.items()}
    jwt.JWTClaimsRegistry(**rules).validate(heard.claims)
    assert (heard.header["typ"], heard.claims["events"]) == ("logout+jwt", {LOGOUT: {}})
    assert "nonce" not in heard.claims


async def test_an_agencys_system_files_for_the_person_who_signed_on_and_for_nobody_else(table: Table) -> None:
    """Token exchange (RFC 8693) by Authlib: sign-on at the portal, submission by the agency, and the end of both.

    Guarded by `acting_problems`.
    """
    portal, agency, world = Client(table, PORTAL, DEMO_HOME), Client(table, SYSTEM), table.world
    app = portal.app
    async with browser() as person:
        tokens, _ = await portal.sign_on(person, app)
        asked = {"subject_token": tokens["access_token"], "subject_token_type": ACCESS_TOKEN, "scope": "submissions"}
        acting = await agency.call(lambda session, at: session.fetch_token(f"{at}/token", grant_type=EXCHANGE, **asked))
        application = await world.application("guangdong", mode="online")
        filed = await world.ask("POST", "/v1/submissions", application, token=acting["access_token"])
        assert filed.status == 201, filed.body
        other = {**application, "reference": secrets.token_hex(8), "applicant": ANOTHER}
        refusal = await world.refused(
            lambda: world.ask("POST", "/v1/submissions", other, token=acting["access_token"]), ANOTHER["name"]
        )
        assert (refusal.status, refusal.codes) == (422, {"another_person"})
        await decided(world, filed.json()["id"])
        out = await asyncio.to_thread(app.create_logout_url, None, tokens["id_token"])
        await person.open(out["url"])
    assert (await world.ask("GET", "/v1/items", token=acting["access_token"])).status == 401
