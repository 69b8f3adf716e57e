"""A person with a browser: signs on at the simulated authorities and looks at the account pages.

Owns: cookies, following redirects, filling in forms as a browser would. Leaves to the tests every promise.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from lxml import html
from yarl import URL

from gateway.sandbox.layout import SEED
from gateway.storage.tables import sign_on_sessions
from tests.flows.flow_support import World

STEPS = 20
"""Redirects in a row; more would be a loop."""


@dataclass(slots=True)
class Page:
    """What the browser shows at the end of all redirects."""

    status: int
    url: URL
    text: str

    @property
    def document(self) -> Any:
        return html.fromstring(self.text, base_url=str(self.url))

    @property
    def heading(self) -> str:
        return str(self.document.xpath("string(//h1)")).strip()

    @property
    def words(self) -> str:
        """Return everything that stands in the page, with single blanks."""
        return " ".join(self.document.xpath("string(//main)").split())

    def form(self, action: str, **wanted: str) -> Any:
        """Return the form that posts to this address and holds these hidden values."""
        for form in self.document.forms:
            fields = dict(form.form_values())
            if form.get("action") == action and all(fields.get(name) == value for name, value in wanted.items()):
                return form
        raise AssertionError(f"{self.url.path} has no form for {action} with {wanted}: {self.words}")


class Person:
    """One person at one browser. English pages, so that the tests can be read."""

    def __init__(self, world: World, session: aiohttp.ClientSession) -> None:
        self.world = world
        self.session = session

    @property
    def here(self) -> str:
        return self.world.url

    async def follow(self, method: str, url: str, **sent: Any) -> Page:
        """Send a request and follow the redirects, as a browser does: by GET, with its cookies."""
        headers = {"Accept-Language": "en"}
        target = URL(url if url.startswith("http") else self.here + url, encoded=True)
        for _ in range(STEPS):
            async with self.session.request(method, target, allow_redirects=False, headers=headers, **sent) as answer:
                text = await answer.text()
                if answer.status not in {302, 303}:
                    return Page(answer.status, answer.url, text)
                target = answer.url.join(URL(answer.headers["Location"], encoded=True))
                method, sent = "GET", {}
        raise AssertionError(f"redirected for ever, at last to {target}")

    async def open(self, path: str) -> Page:
        """Open an address."""
        return await self.follow("GET", path)

    async def send(self, page: Page, action: str, wanted: dict[str, str] | None = None, **fields: Any) -> Page:
        """Fill in a form of a page and send it. A list stands for several boxes of one name; None leaves one out."""
        form = page.form(action, **(wanted or {}))
        values = [(name, value) for name, value in form.form_values() if name not in fields]
        for name, value in fields.items():
            values += [(name, one) for one in ([] if value is None else value if isinstance(value, list) else [value])]
        url = str(page.url.join(URL(form.get("action") or "", encoded=True)))
        return await self.follow("POST", url, data=aiohttp.FormData(values))

    async def post(self, path: str, *fields: tuple[str, str]) -> Page:
        """Send a form that no page offered."""
        return await self.follow("POST", path, data=aiohttp.FormData(fields))

    # --- signing on

    async def choose(self, chooser: Page, region: str) -> Page:
        """Follow the link to a region from the chooser."""
        (link,) = [one for one in chooser.document.xpath("//a/@href") if str(one).startswith(f"/sign-in/{region}?")]
        return await self.open(str(link))

    async def sign_in(self, page: Page, account: str, method: str = "3") -> Page:
        """Fill in an authority's own sign-on, and come back. Guangdong's method 3 is a scan (L2), 1 a password (L1)."""
        known = next(one for one in people() if one["account"] == account)
        form = page.document.forms[0]
        fields = {**dict(form.form_values()), "account": account}
        fields |= {"password": known["password"], "method": method} if "password" in known else {"decision": "accept"}
        return await self.follow("POST", str(page.url.join(URL(form.get("action") or ""))), data=fields)

    async def sign_on(
        self, region: str = "guangdong", account: str = "citizen", *, at: str = "/account", method: str = "3"
    ) -> Page:
        """Open a page of the account and sign on for it."""
        return await self.sign_in(await self.choose(await self.open(at), region), account, method)

    @property
    def handle(self) -> str:
        """Return the handle of the provider's session."""
        return next(cookie.value for cookie in self.session.cookie_jar if cookie.key == "pearl_session")


def people() -> Sequence[dict[str, Any]]:
    """Return the people of the simulated authorities."""
    import tomllib  # noqa: PLC0415 - nothing else here reads TOML

    found: Sequence[dict[str, Any]] = tomllib.loads((SEED / "people.toml").read_text(encoding="utf-8"))["person"]
    return found


@asynccontextmanager
async def person(world: World) -> AsyncIterator[Person]:
    """Give somebody a browser of their own."""
    jar = aiohttp.CookieJar(unsafe=True)  # cookies for 127.0.0.1
    async with aiohttp.ClientSession(cookie_jar=jar) as session:
        yield Person(world, session)


async def live_sessions(world: World, region: str) -> list[dict[str, Any]]:
    """Return the rows of sessions that have not ended."""
    return [row for row in await world.rows(sign_on_sessions, region=region) if row["ended_at"] is None]


def some_reference() -> str:
    """Return a random text that stands nowhere else."""
    return secrets.token_hex(8)
