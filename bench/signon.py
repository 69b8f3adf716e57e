"""Complete code flows and introspections per second, ours beside a bare aiohttp program that handles the same JWTs.

A flow is what a portal and a browser with a living session do: authorization request (pushed before, or not), redirect
with a code, redemption with a signed assertion. The bare program verifies the same assertions and signs the same two
tokens, keeps codes in a dictionary, and does nothing else: no rules, no store, no evidence. Ours is the real gateway as
`pearl serve` runs it, on SQLite with its durable writes. Both are one process on one core; the load comes from another.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import aiohttp
from joserfc import jwt
from joserfc.jwk import ECKey
from lxml import html
from yarl import URL

from bench.report import report, row
from gateway.sandbox.layout import Choices
from gateway.sandbox.neighbourhood import Neighbourhood, free_ports, start
from gateway.waiting import new_event_loop

CONNECTIONS = 16
SECONDS = 3.0
ROUNDS = 3
BAR = 0.4
MEASURED = ("code flows", "code flows with PAR", "introspections")
PORTAL, REDIRECT = "demo-portal", "http://127.0.0.1:8400/callback"
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
VERIFIER = secrets.token_urlsafe(32)
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
ASKED = {
    "client_id": PORTAL, "response_type": "code", "redirect_uri": REDIRECT, "scope": "openid profile", "state": "s",
    "nonce": "n", "code_challenge": CHALLENGE, "code_challenge_method": "S256",
}  # fmt: skip

BARE = """
import secrets, sys, time
import orjson, uvloop
from aiohttp import web
from joserfc import jwt
from joserfc.jwk import ECKey
client, own = ECKey.import_key(open(sys.argv[1]).read()), ECKey.generate_key("P-256", auto_kid=True)
port, issuer = int(sys.argv[2]), f"http://127.0.0.1:{sys.argv[2]}"
codes, pushed = {}, {}
def answer(body, status=200):
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")
def prove(form):
    return jwt.decode(form["client_assertion"], client, algorithms=["ES256"]).claims["sub"]
def sign(typ, **claims):
    now = int(time.time())
    claims |= {"iss": issuer, "iat": now, "exp": now + 600}
    return jwt.encode({"alg": "ES256", "kid": own.kid, "typ": typ}, claims, own, algorithms=["ES256"])
async def push(request):
    form = dict(await request.post())
    prove(form)
    uri = "urn:ietf:params:oauth:request_uri:" + secrets.token_urlsafe(32)
    pushed[uri] = form
    return answer({"request_uri": uri, "expires_in": 60}, 201)
async def authorize(request):
    asked = request.query
    if "request_uri" in asked:
        asked = pushed.pop(asked["request_uri"])
    code = secrets.token_urlsafe(32)
    codes[code] = dict(asked)
    location = f"{asked['redirect_uri']}?code={code}&state={asked['state']}"
    return web.Response(status=302, headers={"Location": location})
async def token(request):
    form = dict(await request.post())
    client_id, asked = prove(form), codes.pop(form["code"])
    access = sign("at+jwt", sub="p", aud=issuer + "/v1", client_id=client_id, jti=secrets.token_hex(16),
                  scope=asked["scope"], sid="s", acr="a", auth_time=1, grant_id=secrets.token_hex(16))
    identity = sign("JWT", sub="p", aud=client_id, azp=client_id, nonce=asked["nonce"], acr="a", amr=["3"],
                    auth_time=1, sid="s", at_hash="x" * 22)
    return answer({"access_token": access, "id_token": identity, "token_type": "Bearer", "expires_in": 600})
async def introspect(request):
    form = dict(await request.post())
    prove(form)
    claims = jwt.decode(form["token"], own, algorithms=["ES256"]).claims
    return answer({**claims, "active": claims["exp"] > time.time()})
async def main():
    app = web.Application()
    app.add_routes([web.post("/oauth2/par", push), web.get("/oauth2/authorize", authorize),
                    web.post("/oauth2/token", token), web.post("/oauth2/introspect", introspect)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print("ready", flush=True)
    await __import__("asyncio").Event().wait()
uvloop.run(main())
"""


@dataclass(slots=True)
class Line:
    """One kept-alive connection, as lean as can be: aiohttp as a client costs more than what is to be measured."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    cookie: str = ""

    async def ask(
        self, method: str, target: str, body: str | bytes = "", more: str = ""
    ) -> tuple[int, dict[bytes, bytes], bytes]:
        """Send one request (a form as text, JSON as bytes) and return status, headers and body."""
        head = f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {self.cookie}\r\n{more}"
        sent = body if isinstance(body, bytes) else body.encode()
        if method == "POST":
            kind = "json" if isinstance(body, bytes) else "x-www-form-urlencoded"
            head += f"Content-Type: application/{kind}\r\nContent-Length: {len(sent)}\r\n"
        self.writer.write(f"{head}\r\n".encode() + sent)
        raw = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = raw[:-4].split(b"\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        answer = await self.reader.readexactly(int(headers.get(b"content-length", b"0")))
        return int(first.split(b" ", 2)[1]), headers, answer


@dataclass(slots=True)
class Portal:
    """A portal against one server: its key, assertions made beforehand, and the browsers' cookie."""

    port: int
    key: ECKey
    issuer: str
    cookie: str = ""
    assertions: list[str] = field(default_factory=list)

    def stock(self, count: int) -> None:
        """Sign assertions before the clock runs."""
        now = int(time.time())
        who = {"iss": PORTAL, "sub": PORTAL, "aud": self.issuer, "iat": now, "exp": now + 280}
        while len(self.assertions) < count:
            claims = {**who, "jti": secrets.token_hex(12)}
            self.assertions.append(jwt.encode({"alg": "ES256"}, claims, self.key, algorithms=["ES256"]))

    def proof(self) -> str:
        """Return the fields of one assertion."""
        return f"client_assertion_type={quote(ASSERTION, safe='')}&client_assertion={self.assertions.pop()}"

    async def flow(self, line: Line, *, push: bool = False) -> bytes:
        """Go through one code flow and return the token response."""
        target = f"/oauth2/authorize?{urlencode(ASKED)}"
        if push:
            status, _, body = await line.ask("POST", "/oauth2/par", f"{urlencode(ASKED)}&{self.proof()}")
            expect(status == 201, body)
            uri = json.loads(body)["request_uri"]
            target = f"/oauth2/authorize?{urlencode({'client_id': PORTAL, 'request_uri': uri})}"
        status, headers, body = await line.ask("GET", target)
        location = headers.get(b"location", b"").decode()
        expect(status == 302 and location.startswith(REDIRECT), body or location.encode())
        code = parse_qs(urlsplit(location).query)["code"][0]
        redeemed = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT,
                    "code_verifier": VERIFIER}  # fmt: skip
        status, _, body = await line.ask("POST", "/oauth2/token", f"{urlencode(redeemed)}&{self.proof()}")
        expect(status == 200, body)
        return body

    async def introspection(self, line: Line, token: str) -> None:
        """Ask what a token is worth."""
        status, _, body = await line.ask("POST", "/oauth2/introspect", f"token={token}&{self.proof()}")
        expect(status == 200 and b'"active":true' in body, body)


def expect(held: bool, body: bytes) -> None:
    """Stop when an answer is not what it should be: a benchmark of refusals would be fast."""
    if not held:
        raise RuntimeError(body[:300].decode(errors="replace"))


async def rate(portal: Portal, work: Callable[[Line], Awaitable[object]], assertions: int) -> float:
    """Return how often a second the work is done over all connections."""
    portal.stock(assertions)
    lines = [await connected(portal) for _ in range(CONNECTIONS)]
    begun, done = time.perf_counter(), 0

    async def repeat(line: Line) -> None:
        nonlocal done
        while time.perf_counter() - begun < SECONDS and len(portal.assertions) > CONNECTIONS * 2:
            await work(line)
            done += 1

    await asyncio.gather(*(repeat(line) for line in lines))
    seconds = time.perf_counter() - begun
    for line in lines:
        line.writer.close()
    return done / seconds


async def connected(portal: Portal) -> Line:
    """Open a connection to a portal's server."""
    reader, writer = await asyncio.open_connection("127.0.0.1", portal.port)
    return Line(reader, writer, portal.cookie)


@asynccontextmanager
async def bare(folder: Path, key: Path) -> AsyncIterator[Portal]:
    """Run the bare program."""
    pem = key.read_bytes()  # noqa: ASYNC240 - nothing else runs yet
    port = free_ports([]).public
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", BARE, str(key), str(port), stdout=asyncio.subprocess.PIPE, cwd=folder
    )
    try:
        if process.stdout is None or not await process.stdout.readline():
            raise RuntimeError("the bare program did not start")
        yield Portal(port, ECKey.import_key(pem), f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        await process.wait()


async def signed_on(around: Neighbourhood, key: Path) -> Portal:
    """Sign the citizen on once at Guangdong, agree to what the portal asks for, and keep the session's cookie."""
    url, citizen = around.public_url, around.account("citizen")
    pem = key.read_bytes()  # noqa: ASYNC240 - nothing else runs yet
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
        chooser = html.fromstring(await (await browser.get(f"{url}/oauth2/authorize?{urlencode(ASKED)}")).text())
        link = next(str(a) for a in chooser.xpath("//a/@href") if str(a).startswith("/sign-in/guangdong"))
        answer = await browser.get(url + link)
        wishes = {"account": citizen["account"], "password": citizen["password"], "method": "3"}
        for filled in (wishes, {"decision": "agree"}):
            page = html.fromstring(await answer.text(), base_url=str(answer.url))
            form = page.forms[0]
            form.make_links_absolute()
            fields = {**{k: v for k, v in form.form_values() if k != "decision"}, **filled}
            answer = await browser.post(form.action or answer.url, data=fields, allow_redirects=False)
            while answer.status in {302, 303}:
                target = answer.url.join(URL(answer.headers["Location"], encoded=True))
                if str(target).startswith(REDIRECT):
                    break
                answer = await browser.get(target, allow_redirects=False)
        cookies = browser.cookie_jar.filter_cookies(URL(url))
        cookie = "; ".join(f"{name}={morsel.value}" for name, morsel in cookies.items())
    return Portal(around.layout.ports.public, ECKey.import_key(pem), url, cookie)


async def measure() -> list[tuple[str, float, float]]:
    """Return name, ours and theirs of everything, medians of interleaved rounds."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        async with start(folder, free_ports(), Choices()) as around:
            key = folder / "keys" / f"{PORTAL}.pem"
            async with bare(folder, key) as theirs:
                ours = await signed_on(around, key)
                return [
                    await compared(name, ours, theirs)
                    for name in ("code flows", "code flows with PAR", "introspections")
                ]


async def compared(name: str, ours: Portal, theirs: Portal) -> tuple[str, float, float]:
    """Measure both in turn, several times, and return the medians."""
    rounds = [(await once(name, ours), await once(name, theirs)) for _ in range(ROUNDS)]
    return name, statistics.median(a for a, _ in rounds), statistics.median(b for _, b in rounds)


async def once(name: str, portal: Portal) -> float:
    """Measure one server once."""
    portal.assertions.clear()
    if name != "introspections":
        push = name.endswith("PAR")
        return await rate(portal, lambda line: portal.flow(line, push=push), 24_000)
    portal.stock(CONNECTIONS)
    line = await connected(portal)
    token = json.loads(await portal.flow(line))["access_token"]
    return await rate(portal, lambda line: portal.introspection(line, token), 30_000)


def main() -> int:
    """Measure, print and write bench/results/signon.json."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        found = runner.run(measure())
    results = [row(name, ours, theirs, "per second", BAR, at_least=True) for name, ours, theirs in found]
    return 0 if report("signon", results) else 1


if __name__ == "__main__":
    sys.exit(main())
