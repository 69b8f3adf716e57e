"""A service that signs people on through the gateway: a relying party as small as one can be.

Owns: the authorization request, redeeming the code, verifying the ID token, and pages that say what came of it. Leaves
to the tests every promise.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
from aiohttp import web
from joserfc import jwt
from joserfc.jwk import KeySet

from gateway.sandbox.neighbourhood import Neighbourhood

PURPOSE = {
    "zh-CN": "预约门诊时核对就诊人",
    "zh-HK": "預約門診時核對求診人",
    "en": "To check who comes when a visit is booked",
    "pt": "Para confirmar quem vem à consulta marcada",
}


@dataclass(slots=True)
class RelyingParty:
    """One service. `claims` are those of the last person, `told` how many logout tokens came."""

    client_id: str
    name: str
    gateway: str
    url: str
    started: dict[str, tuple[str, str]] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)
    told: int = 0

    def start(self, **more: str) -> str:
        """Return the address at which a person begins."""
        return f"{self.url}/start?{urlencode(more)}"

    # --- handlers

    async def begin(self, request: web.Request) -> web.Response:
        """Send the browser to the gateway. The query of this address is added to the authorization request."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        self.started[state] = (nonce, verifier)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "client_id": self.client_id, "response_type": "code", "redirect_uri": f"{self.url}/callback",
            "scope": "openid profile", "state": state, "nonce": nonce, "code_challenge": challenge,
            "code_challenge_method": "S256", **request.query,
        }  # fmt: skip
        raise web.HTTPFound(f"{self.gateway}/oauth2/authorize?{urlencode(query)}")

    async def callback(self, request: web.Request) -> web.Response:
        """Redeem the code and show who came, or the error."""
        if "error" in request.query:
            return _page(f"<h1>{escape(request.query['error'])}</h1>")
        nonce, verifier = self.started.pop(request.query["state"])
        form = {
            "grant_type": "authorization_code", "client_id": self.client_id, "code": request.query["code"],
            "redirect_uri": f"{self.url}/callback", "code_verifier": verifier,
        }  # fmt: skip
        async with aiohttp.ClientSession(self.gateway) as session:
            tokens = await _json(await session.post("/oauth2/token", data=form))
            keys = KeySet.import_key_set(await _json(await session.get("/oauth2/jwks")))  # type: ignore[arg-type] # what came is JSON
            bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
            userinfo = await _json(await session.get("/oauth2/userinfo", headers=bearer))
        identity = jwt.decode(tokens["id_token"], keys, algorithms=["ES256"]).claims
        assert (identity["nonce"], request.query["iss"]) == (nonce, self.gateway)
        self.claims = {**identity, **userinfo}
        return _page(f"<h1>signed on</h1><pre id=claims>{escape(json.dumps(self.claims, ensure_ascii=False))}</pre>")

    async def logged_out(self, _request: web.Request) -> web.Response:
        """Take a logout token (OpenID Connect Back-Channel Logout 1.0); whether it is right, others try."""
        self.told += 1
        return web.Response(headers={"Cache-Control": "no-store"})


@asynccontextmanager
async def relying_party(sandbox: Neighbourhood, client_id: str, name: str, place: str) -> AsyncIterator[RelyingParty]:
    """Run a service at a place, and register it with the running gateway as an operator would."""
    party = RelyingParty(client_id, name, sandbox.public_url, "")
    app = web.Application()
    app.add_routes([
        web.get("/start", party.begin), web.get("/callback", party.callback), web.get("/privacy", _privacy),
        web.post("/logged-out", party.logged_out),
    ])  # fmt: skip
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        party.url = f"http://{host}:{port}"
        await _register(sandbox.layout.config, party, place)
        yield party
    finally:
        await runner.cleanup()


async def _register(config: Path, party: RelyingParty, place: str) -> None:
    entry: dict[str, Any] = {
        "id": party.client_id, "name": party.name, "organisation": "测试卫生健康委员会",
        "organisation_code": "11440100MBT40100XX", "origin_code": place, "redirect_uris": [f"{party.url}/callback"],
        "grant_types": ["authorization_code"], "scopes": ["openid", "profile", "document", "phone"],
        "authentication": "none", "contact": "clinic@sandbox.example", "privacy_url": f"{party.url}/privacy",
        "legal_basis": "《个人信息保护法》第十三条", "backchannel_logout_uri": f"{party.url}/logged-out",
    }  # fmt: skip
    lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in entry.items()]
    lines += ["[purpose]", *(f'{tag} = "{text}"' for tag, text in PURPOSE.items())]
    file = config.parent / f"{party.client_id}.toml"
    file.write_text("\n".join(lines), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway.cli", "clients", "add", "--config", str(config), "--file", str(file),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


async def _privacy(_request: web.Request) -> web.Response:
    return _page("<h1>privacy</h1>")


async def _json(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    body: dict[str, Any] = await answer.json()
    assert answer.status == 200, body
    return body


def _page(body: str) -> web.Response:
    html = f"<!doctype html><html lang=en><meta charset=utf-8><title>service</title>{body}</html>"
    return web.Response(text=html, content_type="text/html")
