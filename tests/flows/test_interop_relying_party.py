"""Relying parties that we did not write: Authlib's client, and panva's certified openid-client with FAPI 2.0.

Each finds its way by discovery alone, and judges our answers by its own code.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from yarl import URL

from tests.flows.flow_support import World, neighbourhood, prepare
from tests.flows.interop_support import (
    BYE,
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

CERTIFIED, FAPI = "certified-portal", "fapi-portal"
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
        register(layout, FAPI, profile="fapi2", dpop_bound_access_tokens=True)
        async with neighbourhood(layout) as world:
            yield Table(world, heard)


async def sign_on(person: Browser, url: str, account: str = "citizen") -> str:
    """Sign on at Guangdong and return the address at which the browser comes back to the portal."""
    page = await person.to_region(url, "guangdong")
    back = await person.send(page, account=account, password=f"sandbox-{account}", method="3")
    return await person.agree(back)


async def signed_on(person: Browser, party: Program, **asked: Any) -> dict[str, Any]:
    url = (await party.ask("begin", redirect_uri=HOME, scope="openid profile document", **asked))["url"]
    tokens: dict[str, Any] = await party.ask("finish", url=await sign_on(person, url))
    return tokens


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
        out = await party.ask("sign_out", id_token=tokens["id_token"], back=BYE, state="bye")
        assert (await person.open(out["url"])).url == URL(f"{BYE}?state=bye")
        token = await asyncio.wait_for(table.heard.tokens.get(), 10)
        heard = await party.ask("heard", token=token)
        assert (heard["sub"], heard["sid"]) == (tokens["claims"]["sub"], tokens["claims"]["sid"])
        with pytest.raises(RefusedByProgram, match=r"unexpected .*typ|audience|requiredClaims|missing required"):
            await party.ask("heard", token=tokens["id_token"])


async def test_a_certified_client_keeps_the_profile_fapi_2(table: Table) -> None:
    """Pushed request, DPoP with our nonces at both endpoints, sender-constrained refresh."""
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
