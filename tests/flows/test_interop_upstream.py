"""Identity providers that we did not write, each in the place of a region: a person signs on through the whole gateway.

Macau is panva's certified oidc-provider, Hainan is pyop, Guangxi is pysaml2, and the portal is panva's certified
openid-client: the gateway alone stands in between.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from joserfc.jwk import RSAKey
from yarl import URL

from gateway.sandbox.layout import Layout
from tests.flows.flow_support import World, neighbourhood, prepare, rewrite
from tests.flows.interop_support import (
    BYE,
    HOME,
    NODE_FOLDER,
    PROGRAMS,
    Browser,
    Page,
    Program,
    Receiver,
    browser,
    node,
    point,
    program,
    python,
    receiver,
    register,
    relying_party,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

PORTAL = "certified-portal"
A1, A2, A3 = (f"urn:pearl:assurance:A{number}" for number in (1, 2, 3))
PASSWORD = "interop"
MACAU = {
    "sub": "mo-subject-1", "account_type": "SINGULAR", "name_zh": "李嘉欣", "name": "LEI Ka Ian", "family_name": "LEI",
    "given_name": "Ka Ian", "birthdate": "1988-11-11", "gender": "F", "doc_type": "SALVO_CONDUTO",
    "doc_no": "M01234567", "phone_number": "+85366000001", "email": "mo@example.invalid",
}  # fmt: skip
HAINAN = {
    "sub": "hi-subject-1", "userType": 1, "name": "符海燕", "idType": "111", "idNumber": "460106198703120021",
    "gender": "女", "birthdate": "1987-03-12", "phone_number": "13800000003", "email": "hi@example.invalid",
}  # fmt: skip
GUANGXI = {
    "userType": ["1"], "userName": ["韦小兰"], "certificateType": ["111"], "certificateNumber": ["450103199203070025"],
    "sex": ["女"], "birthday": ["1992-03-07"], "mobile": ["13800000045"],
}  # fmt: skip
FACE = "urn:oasis:names:tc:SAML:2.0:ac:classes:MobileTwoFactorContract"
LEVELS = {"palavra-passe": ["pwd"], "otp": ["pwd", "otp"], "rosto": ["pwd", "face"], "assinatura": ["pwd", "swk"]}
SCOPES = {
    "profile": ["account_type", "name_zh", "name", "family_name", "given_name", "birthdate", "gender"],
    "document": ["doc_type", "doc_no"],
    "phone": ["phone_number"],
    "email": ["email"],
    "business": ["entidade", "qualidade"],
}


@dataclass(frozen=True, slots=True)
class Table:
    """The gateway between programs that know nothing of each other."""

    world: World
    heard: Receiver
    macau: Program
    issuer: str
    guangxi: Program

    @property
    def keys(self) -> Path:
        return self.world.layout.folder / "keys"

    async def at_macau(self) -> dict[str, Any]:
        """Return what happened at the certified provider, which has refused nothing."""
        told: dict[str, Any] = await self.macau.ask("told")
        assert told["refused"] == []
        return told

    async def lives(self, access_token: str) -> bool:
        bearer = {"Authorization": f"Bearer {access_token}"}
        return (await self.world.send("GET", "/oauth2/userinfo", headers=bearer)).status == 200


async def opened_macau(macau: Program, layout: Layout) -> str:
    """Open the certified provider for the gateway, and have the gateway believe it; return its issuer."""
    sign_in = f"{layout.ports.public_url}/sign-in/macau"
    key = RSAKey.import_key((layout.folder / "keys/macau/client.pub.pem").read_bytes())
    client = {
        "client_id": "pearl",
        "redirect_uris": [f"{sign_in}/callback"],
        "post_logout_redirect_uris": [f"{sign_in}/signed-out"],
        "backchannel_logout_uri": f"{sign_in}/logout",
        "backchannel_logout_session_required": True,
        "grant_types": ["authorization_code"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "private_key_jwt",
        "token_endpoint_auth_signing_alg": "PS256",
        "id_token_signed_response_alg": "ES256",
        "require_auth_time": True,
        "scope": "openid profile document phone email business",
        "jwks": {"keys": [{**key.as_dict(private=False), "kid": key.thumbprint(), "alg": "PS256", "use": "sig"}]},
    }
    people = {"mo": {"password": PASSWORD, "claims": MACAU}}
    issuer = str((await macau.ask("open", client=client, people=people, levels=LEVELS, scopes=SCOPES))["issuer"])
    point(
        layout, "macau", base_url=issuer, issuer=issuer, client_id="pearl", authorization_endpoint="/auth",
        token_endpoint="/token", userinfo_endpoint="/me", jwks_uri="/jwks", end_session_endpoint="/session/end",
        exchange_base_url=issuer, exchange_issuer=issuer, exchange_client_id="pearl",  # not what is tried here
    )  # fmt: skip
    return issuer


async def opened_hainan(hainan: Program, layout: Layout) -> None:
    """Open pyop for the gateway, and have the gateway find its addresses by discovery."""
    client = {
        "redirect_uris": [f"{layout.ports.public_url}/sign-in/hainan/callback"],
        "response_types": ["code"],
        "client_secret": (layout.folder / "keys/hainan/client_secret").read_text(encoding="utf-8").strip(),
        "token_endpoint_auth_method": "client_secret_basic",
    }
    accounts = {"hi": {"password": PASSWORD, "claims": HAINAN}}
    issuer = (await hainan.ask("open", client_id="pearl", client=client, accounts=accounts))["issuer"]
    point(layout, "hainan", base_url=issuer, issuer=issuer, client_id="pearl", algorithms="RS256")


async def opened_guangxi(guangxi: Program, layout: Layout) -> None:
    """Open pysaml2, and have the gateway believe its certificate."""
    keys = layout.folder / "keys/guangxi"
    people = {"gx": {"password": PASSWORD, "attributes": GUANGXI}}
    files = {"key": str(keys / "idp.key.pem"), "certificate": str(keys / "idp.cert.pem")}
    origin = (await guangxi.ask("open", people=people, **files))["origin"]
    point(layout, "guangxi", base_url=origin, idp_entity_id=f"{origin}/saml/metadata", trust="pinned")
    rewrite(layout.config, {"keys/guangxi/federation.cert.pem": "keys/guangxi/idp.cert.pem"})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def table(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Table]:
    async with AsyncExitStack() as down:
        heard = await down.enter_async_context(receiver())
        macau = await down.enter_async_context(program(node("openid_provider.mjs"), NODE_FOLDER))
        layout = prepare(tmp_path_factory.mktemp("upstream"))
        register(layout, PORTAL, backchannel_logout_uri=heard.url)
        issuer = await opened_macau(macau, layout)
        hainan, guangxi = [
            await down.enter_async_context(program(python(name), PROGRAMS.parent.parent))
            for name in ("pyop_provider", "pysaml2_provider")
        ]
        await opened_hainan(hainan, layout)
        await opened_guangxi(guangxi, layout)
        world = await down.enter_async_context(neighbourhood(layout))
        metadata = layout.folder / "our-metadata.xml"
        metadata.write_bytes((await world.send("GET", "/sign-in/guangxi/metadata")).body)
        await guangxi.ask("meet", metadata=str(metadata))
        yield Table(world, heard, macau, issuer, guangxi)


@pytest_asyncio.fixture(loop_scope="module")
async def portal(table: Table) -> AsyncIterator[Program]:
    async with relying_party(table.world.url, PORTAL, table.keys) as party:
        yield party


@pytest_asyncio.fixture(loop_scope="module")
async def person() -> AsyncIterator[Browser]:
    async with browser() as one:
        yield one


async def asked(portal: Program, **how: Any) -> str:
    """Return the address to which the portal sends the person."""
    scope = "openid profile document phone email"
    return str((await portal.ask("begin", redirect_uri=HOME, scope=scope, **how))["url"])


async def in_macau(portal: Program, person: Browser, page: Page, method: str) -> dict[str, Any]:
    """Sign on at the certified provider's page; return what the portal makes of it."""
    back = await person.agree(await person.send(page, account="mo", password=PASSWORD, method=method))
    tokens: dict[str, Any] = await portal.ask("finish", url=back)
    return tokens


def offered(page: Page) -> list[str]:
    return [str(value) for value in page.form.xpath(".//select[@name='method']/option/@value")]


# --- a certified OpenID Provider ---------------------------------------------------------------------------------


async def test_a_person_of_a_certified_provider_is_known_to_a_certified_client(
    table: Table, portal: Program, person: Browser
) -> None:
    """Claims, level and the time of the proof come through: from one that we did not write to another."""
    page = await person.to_region(await asked(portal, max_age=300), "macau")
    assert str(page.url).startswith(f"{table.issuer}/interaction/")
    tokens = await in_macau(portal, person, page, "otp")
    told, claims = tokens["userinfo"], tokens["claims"]
    assert (told["name"], told["document"]["number"], told["birthdate"]) == ("李嘉欣", "M01234567", "1988-11-11")
    assert claims["acr"] == A2
    assert claims["sub"] != MACAU["sub"]
    proof = (await table.at_macau())["proofs"][-1]
    assert abs(claims["auth_time"] - proof["at"]) <= 1


async def test_a_level_that_is_demanded_is_demanded_of_the_certified_provider(
    table: Table, portal: Program, person: Browser
) -> None:
    """Step-up: it knows the person by password, and asks for more because we do (Core §5.5.1.1)."""
    page = await person.to_region(await asked(portal), "macau")
    low = await in_macau(portal, person, page, "palavra-passe")
    assert low["claims"]["acr"] == A1
    demanded = json.dumps({"id_token": {"acr": {"essential": True, "values": [A3]}}})
    page = await person.to_region(await asked(portal, claims=demanded), "macau")
    assert offered(page) == ["assinatura"]
    high = await in_macau(portal, person, page, "assinatura")
    assert (high["claims"]["acr"], high["claims"]["sub"]) == (A3, low["claims"]["sub"])
    assert "essential_acrs" in (await table.at_macau())["proofs"][-1]["prompt"]


async def test_a_level_that_is_wished_for_is_passed_on_and_binds_nobody(
    table: Table, portal: Program, person: Browser
) -> None:
    """The rules of recognition demand A1 here; what the portal would like stands first among all that would do."""
    page = await person.to_region(await asked(portal, acr_values=A3), "macau")
    assert offered(page) == ["assinatura", "palavra-passe", "otp", "rosto"]
    assert (await in_macau(portal, person, page, "otp"))["claims"]["acr"] == A2
    await table.at_macau()


async def test_a_proof_made_now_is_asked_for_although_the_provider_knows_the_browser(
    table: Table, portal: Program, person: Browser
) -> None:
    """Without `prompt=login` it would let the person through at once by its session."""
    await in_macau(portal, person, await person.to_region(await asked(portal), "macau"), "otp")
    before = len((await table.at_macau())["proofs"])
    page = await person.to_region(await asked(portal, prompt="login", max_age=60), "macau")
    tokens = await in_macau(portal, person, page, "otp")
    proofs = (await table.at_macau())["proofs"]
    assert len(proofs) == before + 1
    assert {"login_prompt", "max_age"} & set(proofs[-1]["prompt"])
    assert abs(tokens["claims"]["auth_time"] - proofs[-1]["at"]) <= 1


async def test_a_session_that_ends_at_the_portal_ends_at_the_certified_provider(
    table: Table, portal: Program, person: Browser
) -> None:
    """RP-initiated logout goes on from us to the region, whose page asks the person, and comes back to the portal."""
    tokens = await in_macau(portal, person, await person.to_region(await asked(portal), "macau"), "otp")
    out = await portal.ask("sign_out", id_token=tokens["id_token"], back=BYE, state="bye")
    page = await person.open(out["url"])
    assert str(page.url).startswith(f"{table.issuer}/session/end")
    assert (await person.send(page, logout="yes")).url == URL(f"{BYE}?state=bye")
    assert not await table.lives(tokens["access_token"])
    again = await person.to_region(await asked(portal), "macau")
    assert "/interaction/" in again.url.path, "the provider still knows this browser"
    await table.at_macau()


async def test_a_session_that_ends_at_the_certified_provider_ends_at_the_portal(
    table: Table, portal: Program, person: Browser
) -> None:
    """Back-channel logout twice: from the provider to us, and from us to the portal, which judges our token by jose."""
    tokens = await in_macau(portal, person, await person.to_region(await asked(portal), "macau"), "otp")
    table.heard.forget()
    page = await person.open(f"{table.issuer}/session/end")
    await person.send(page, logout="yes")
    heard = await portal.ask("heard", token=await table.heard.next())
    assert (heard["sub"], heard["sid"]) == (tokens["claims"]["sub"], tokens["claims"]["sid"])
    assert not await table.lives(tokens["access_token"])
    assert (await table.at_macau())["backchannel"][-1]["accountId"] == MACAU["sub"]


# --- an OpenID Provider in Python --------------------------------------------------------------------------------


async def test_a_person_of_pyop_is_known_to_the_portal(table: Table, portal: Program, person: Browser) -> None:
    """Discovery, client_secret_basic, PKCE and RS256. It offers no logout; the sign-on can be ended here."""
    page = await person.to_region(await asked(portal), "hainan")
    back = await person.send(page, account="hi", password=PASSWORD, method="L2")
    tokens = await portal.ask("finish", url=await person.agree(back))
    told = tokens["userinfo"]
    assert (told["name"], told["gender"], told["document"]["number"]) == ("符海燕", "female", HAINAN["idNumber"])
    assert (tokens["claims"]["acr"], tokens["claims"]["amr"]) == (A2, ["face"])
    out = await portal.ask("sign_out", id_token=tokens["id_token"], back=BYE, state="bye")
    assert (await person.open(out["url"])).url == URL(f"{BYE}?state=bye")
    assert not await table.lives(tokens["access_token"])


async def test_a_level_that_pyop_does_not_reach_is_refused(table: Table, portal: Program, person: Browser) -> None:
    """It takes no notice of a wish for a level; what comes instead is not passed off as what the portal demands."""
    demanded = json.dumps({"id_token": {"acr": {"essential": True, "values": [A3]}}})
    page = await person.to_region(await asked(portal, claims=demanded), "hainan")
    back = await person.send(page, account="hi", password=PASSWORD, method="L2")
    assert (back.url.path, back.url.query["failed"]) == ("/sign-in", "hainan")
    back = await person.send(
        await person.open(back.link("/sign-in/hainan?")), account="hi", password=PASSWORD, method="L3"
    )
    assert (await portal.ask("finish", url=await person.agree(back)))["claims"]["acr"] == A3


# --- a SAML identity provider ------------------------------------------------------------------------------------


async def in_guangxi(table: Table, portal: Program, person: Browser) -> dict[str, Any]:
    """Sign on at pysaml2's page, which posts the answer from another site: without our cookies."""
    page = await person.to_region(await asked(portal, acr_values=A2), "guangxi")
    posting = await person.send(page, account="gx", password=PASSWORD, method=FACE)
    posted = await table.world.send("POST", URL(str(posting.form.action)).path, data=dict(posting.form.form_values()))
    assert posted.status == 303
    back = await person.open(table.world.url + posted.headers["Location"])
    tokens: dict[str, Any] = await portal.ask("finish", url=await person.agree(back))
    return tokens


async def test_a_person_of_pysaml2_is_known_to_the_portal(table: Table, portal: Program, person: Browser) -> None:
    tokens = await in_guangxi(table, portal, person)
    told = tokens["userinfo"]
    assert (told["name"], told["birthdate"], told["document"]["number"]) == (
        "韦小兰",
        "1992-03-07",
        "450103199203070025",
    )
    assert tokens["claims"]["acr"] == A2


async def test_a_session_that_ends_at_the_portal_ends_at_pysaml2(
    table: Table, portal: Program, person: Browser
) -> None:
    """It verifies our LogoutRequest, and we its LogoutResponse, which the browser brings back."""
    tokens = await in_guangxi(table, portal, person)
    out = await portal.ask("sign_out", id_token=tokens["id_token"], back=BYE, state="bye")
    assert (await person.open(out["url"])).url == URL(f"{BYE}?state=bye")
    assert not await table.lives(tokens["access_token"])
    told = await table.guangxi.ask("told")
    assert told["ended"] == told["last"]


async def test_a_session_that_ends_at_pysaml2_ends_at_the_portal(
    table: Table, portal: Program, person: Browser
) -> None:
    tokens = await in_guangxi(table, portal, person)
    address = f"{table.world.url}/sign-in/guangxi/logout"
    us = f"{table.world.url}/sign-in/guangxi/metadata"
    last = (await table.guangxi.ask("told"))["last"]
    order = {"us": us, "address": address, "name_id": last, "session": ""}
    request = (await table.guangxi.ask("logout", **order))["request"]
    form = {"SAMLRequest": base64.b64encode(request.encode()).decode()}
    assert (await table.world.send("POST", "/sign-in/guangxi/logout", data=form)).status == 200
    assert not await table.lives(tokens["access_token"])
