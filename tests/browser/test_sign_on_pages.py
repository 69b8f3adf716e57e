"""The pages of sign-on in a real browser: whole journeys, by keyboard, without scripts, in four languages.

The checks of accessibility are our own (`audit.js`): they run offline and say in words what is wrong.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
import pytest_asyncio
from babel.messages.pofile import read_po
from playwright.async_api import Browser, Locator, Page, Route, expect

import gateway.web
from gateway.domain.languages import LANGUAGES
from gateway.sandbox.neighbourhood import Neighbourhood
from tests.browser.relying_party import PURPOSE, RelyingParty, relying_party

pytestmark = pytest.mark.asyncio(loop_scope="session")

AUDIT = (Path(__file__).parent / "audit.js").read_text(encoding="utf-8")
LOCALES = Path(gateway.web.__file__).parent / "locales"
GUANGZHOU = "440100"
METHOD = {"guangdong": "3", "guangxi": "app"}
"""A method on the region's page by which it makes sure of the person."""
PERSON = {"guangdong": "citizen", "hongkong": "hk-citizen", "guangxi": "gx-citizen"}
PATIENCE = 20
"""Seconds that it may take until everybody is told that a person has signed out."""
WIDE, NARROW, ZOOMED = 1280, 360, 640
"""CSS pixels: a desktop, a small phone, and what 200 % zoom leaves of the desktop (WCAG 1.4.4, 1.4.10)."""

Opener = Callable[..., AbstractAsyncContextManager[Page]]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def clinic(sandbox: Neighbourhood) -> AsyncIterator[RelyingParty]:
    """Run a service in Guangzhou to which nobody agrees in these tests, so that it always asks."""
    async with relying_party(sandbox, "test-clinic", "门诊预约", GUANGZHOU) as party:
        yield party


@asynccontextmanager
async def opened(chromium: Browser, language: str = "en", *, scripts: bool = True) -> AsyncIterator[Page]:
    """Open a window of a browser with cookies of its own, that wishes for a language; colours change at once."""
    context = await chromium.new_context(
        locale=language,
        java_script_enabled=scripts,
        viewport={"width": WIDE, "height": 900},
        reduced_motion="reduce",
    )
    try:
        yield await context.new_page()
    finally:
        await context.close()


@pytest.fixture
def window(chromium: Browser) -> Opener:
    return partial(opened, chromium)


async def choose(page: Page, sandbox: Neighbourhood, region: str) -> None:
    """Choose a region, and sign on there."""
    await page.locator(f'a.choice[href*="/sign-in/{region}?"]').click()
    await sign_in(page, sandbox, region)


async def sign_in(page: Page, sandbox: Neighbourhood, region: str) -> None:
    """Fill in a region's own page."""
    account = sandbox.account(PERSON[region])
    await page.locator('[name="account"]').fill(account["account"])
    if "password" in account:
        await page.locator('[name="password"]').fill(account["password"])
        await page.locator('[name="method"]').select_option(METHOD[region])
    await press(page, sandbox, page.locator("button").first)


async def press(page: Page, sandbox: Neighbourhood, button: Locator) -> None:
    """Press a button, and send on by hand what a region's page would send on by a script, where there are none."""
    scripted = await page.evaluate("matchMedia('(scripting: enabled)').matches")
    await button.click()
    onward = page.locator("form button", has_text="继续 Continue")
    regions = tuple(sandbox.layout.ports.authority_url(region) for region in PERSON)
    async with asyncio.timeout(PATIENCE):
        await page.wait_for_load_state()
        while not scripted and page.url.startswith(regions) and await onward.count():
            await onward.click()
            await page.wait_for_load_state()


async def audited(page: Page) -> list[str]:
    """Return what is wrong with a page by light and by dark, narrow, zoomed, and with letters twice as large."""
    found = [f"{page.url}: {one}" for one in await page.evaluate(AUDIT)]
    await page.emulate_media(color_scheme="dark")
    found += [f"{page.url}, dark: {one}" for one in await page.evaluate(AUDIT)]
    await page.emulate_media(color_scheme="light")
    for width, letters in ((NARROW, "100%"), (ZOOMED, "100%"), (WIDE, "200%"), (ZOOMED, "200%")):
        await page.set_viewport_size({"width": width, "height": 900})
        await page.evaluate("size => { document.documentElement.style.fontSize = size }", letters)
        if (wide := await page.evaluate("document.documentElement.scrollWidth")) > width:
            found.append(f"{page.url}: {wide} pixels wide in a window of {width} with letters of {letters}")
    await page.evaluate("document.documentElement.style.fontSize = ''")
    await page.set_viewport_size({"width": WIDE, "height": 900})
    return found


# --- journeys --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("region", "scripts"), [("guangdong", True), ("hongkong", False), ("guangxi", True), ("guangxi", False)]
)
async def test_a_person_signs_on_agrees_once_and_signs_out(
    sandbox: Neighbourhood, window: Opener, region: str, scripts: bool
) -> None:
    """The promise of the product as a person meets it, over three protocols; Guangxi comes back by a posted form.

    Guard: `take_consent` answers with a page that leads on. Chromium stops a redirect there, by our own `form-action`.
    """
    client = f"journey-{region}-{'with' if scripts else 'without'}"
    async with relying_party(sandbox, client, "门诊预约", GUANGZHOU) as party, window(scripts=scripts) as page:
        await page.goto(party.start())
        await expect(page.locator(".asking strong")).to_have_text("门诊预约")
        await choose(page, sandbox, region)
        await expect(page.locator("h1")).to_have_text("May this service have your data?")
        await page.locator('[name="claim.name"]').check()
        await page.get_by_role("button", name="Agree", exact=True).click()
        await expect(page.locator("h1")).to_have_text("signed on")
        first = dict(party.claims)
        assert first["name"]
        await page.goto(party.start())  # one authentication: no chooser, no consent
        await expect(page.locator("h1")).to_have_text("signed on")
        await page.goto(party.start(prompt="login"))  # the chooser, and still no consent
        await choose(page, sandbox, region)
        await expect(page.locator("h1")).to_have_text("signed on")
        assert (party.claims["sub"], party.claims["name"]) == (first["sub"], first["name"])
        await sign_out(page, sandbox)
        await page.goto(party.start())
        await expect(page.locator("h1")).to_have_text("Sign on with your region")
        assert party.told >= 1


async def sign_out(page: Page, sandbox: Neighbourhood) -> None:
    """Sign out on the gateway's own page, and see that the service was told; looking again shows it again."""
    await page.goto(f"{sandbox.public_url}/oauth2/logout")
    await press(page, sandbox, page.get_by_role("button", name="Yes, sign out"))
    await expect(page.locator("h1")).to_have_text("You are signed out here")
    service = page.locator(".results li", has_text="门诊预约")
    async with asyncio.timeout(PATIENCE):
        while await service.get_by_text("is being told").count():
            await page.get_by_role("link", name="Look again").click()
    await expect(service).to_contain_text("signed out")
    await page.reload()
    await expect(service).to_contain_text("signed out")


async def test_a_person_who_does_not_agree_is_back_at_the_service_as_easily(
    sandbox: Neighbourhood, clinic: RelyingParty, window: Opener
) -> None:
    """The two buttons differ in their words alone: neither is larger, nearer or more colourful."""
    async with window(scripts=False) as page:
        await page.goto(clinic.start())
        await choose(page, sandbox, "guangdong")
        agree, decline = (page.get_by_role("button", name=name, exact=True) for name in ("Agree", "Do not agree"))
        looks = "one => { const s = getComputedStyle(one); return [s.color, s.backgroundColor, s.border, s.fontSize] }"
        assert await agree.evaluate(looks) == await decline.evaluate(looks)
        await decline.press("Enter")
        await expect(page.locator("h1")).to_have_text("access_denied")


async def test_consent_to_a_transfer_abroad_stands_apart_and_nothing_is_ticked_beforehand(
    sandbox: Neighbourhood, clinic: RelyingParty, window: Opener
) -> None:
    """PIPL art. 39: a separate consent that names recipient, contact, purpose and data. By keyboard alone."""
    async with window("zh-HK", scripts=False) as page:
        await page.goto(clinic.start(claims='{"userinfo":{"name":{"essential":true}}}'))
        await choose(page, sandbox, "hongkong")
        apart = page.locator("fieldset.crossing")
        await expect(apart.locator("legend")).to_contain_text("單獨同意")
        await expect(apart).to_contain_text("廣東省廣州市")
        await expect(apart).to_contain_text("粵港澳大灣區（內地、香港）個人信息跨境流動標準合同 GBA-SANDBOX-2026-0002")
        assert await apart.locator("input:checked").count() == 0
        await expect(apart.locator("li", has_text="姓名").first).to_contain_text("必需")
        facts = page.locator("dl.facts")
        for said in (PURPOSE["zh-HK"], "香港特別行政區", "测试卫生健康委员会", "clinic@sandbox.example"):
            await expect(facts).to_contain_text(said)
        assert await page.locator(f'a[href="{clinic.url}/privacy"]').count() == 1
        box = apart.locator('[name="claim.birthdate"]')
        await tab_to(page, box)
        await page.keyboard.press("Space")
        await expect(box).to_be_checked()
        await tab_to(page, page.get_by_role("button", name="不同意"))
        await page.keyboard.press("Enter")
        await expect(page.locator("h1")).to_have_text("access_denied")


async def test_a_consent_page_that_waited_too_long_says_so_kindly(
    sandbox: Neighbourhood, clinic: RelyingParty, window: Opener
) -> None:
    """Answered already in another tab, it is as over as one whose time is up."""
    async with window("pt", scripts=False) as page:
        await page.goto(clinic.start())
        await choose(page, sandbox, "guangdong")
        other = await page.context.new_page()
        await other.goto(page.url)
        await other.get_by_role("button", name="Não concordo").click()
        await page.get_by_role("button", name="Concordo", exact=True).click()
        await expect(page.locator("h1")).to_have_text("Este início de sessão terminou")
        assert re.fullmatch(r"[0-9a-f]{16}", await page.locator(".reference code").inner_text())


# --- the chooser -----------------------------------------------------------------------------------------------------


OUTLINE = "one => { const style = getComputedStyle(one); return [style.outlineStyle, style.outlineWidth] }"


async def tab_to(page: Page, target: Locator, *, most: int = 60) -> list[str]:
    """Press Tab until a thing has the focus; return what had it on the way. Each of them must show that it has."""
    passed: list[str] = []
    for _ in range(most):
        await page.keyboard.press("Tab")
        here = page.locator(":focus")
        style = await here.evaluate(OUTLINE)
        passed.append((await here.inner_text() or await here.get_attribute("name") or "").strip())
        assert style[0] == "solid", f"{passed[-1]} does not show the focus"
        assert float(style[1].removesuffix("px")) >= 2
        if await target.evaluate("one => one === document.activeElement"):
            return passed
    raise AssertionError(f"never reached by Tab; passed {passed}")


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without scripts"])
async def test_a_region_is_chosen_by_keyboard_alone(
    sandbox: Neighbourhood, clinic: RelyingParty, window: Opener, scripts: bool
) -> None:
    """Skip link first, then languages, search, regions in order; the search finds 桂林's region by its code."""
    async with window(scripts=scripts) as page:
        await page.goto(clinic.start())
        passed = await tab_to(page, page.locator("#search"))
        assert passed[0] == "Skip to the content"
        await page.keyboard.type("4503")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("status")).to_contain_text("Regions found: 1")
        await tab_to(page, page.locator("a.choice"))
        await page.keyboard.press("Enter")
        await expect(page.locator('[name="capacity"]')).to_be_visible()
        assert page.url.startswith(sandbox.layout.ports.authority_url("guangxi"))


@pytest.mark.parametrize("wanted", ["Guangdong", "廣東", "广东", "guang dong", "440000"])
async def test_the_search_works_without_scripts_in_every_spelling(
    clinic: RelyingParty, window: Opener, wanted: str
) -> None:
    async with window("pt", scripts=False) as page:
        await page.goto(clinic.start())
        everything = await page.locator("a.choice").count()
        await page.get_by_role("searchbox").fill(wanted)
        await page.get_by_role("searchbox").press("Enter")
        await expect(page.locator("a.choice .choice-name")).to_have_text(["Guangdong"])
        await expect(page.locator('a.choice [lang="zh-Hans"]')).to_have_text("广东省")
        await page.get_by_role("link", name="Mostrar todas as regiões").click()
        await expect(page.locator("a.choice")).to_have_count(everything)


async def test_another_language_keeps_the_sign_on_and_is_remembered(
    sandbox: Neighbourhood, clinic: RelyingParty, window: Opener
) -> None:
    """From Portuguese to traditional Chinese in the middle; the region is told the language too."""
    async with window("pt-PT", scripts=False) as page:
        await page.goto(clinic.start())
        await expect(page.locator("html")).to_have_attribute("lang", "pt")
        before = parse_qs(urlsplit(page.url).query)["interaction"]
        await page.get_by_role("link", name="繁體中文").click()
        await expect(page.locator("html")).to_have_attribute("lang", "zh-HK")
        assert parse_qs(urlsplit(page.url).query)["interaction"] == before
        await page.locator('a.choice[href*="/sign-in/hongkong?"]').click()
        await expect(page.locator("html")).to_have_attribute("lang", "zh-HK")
        await sign_in(page, sandbox, "hongkong")
        await expect(page.locator("h1")).to_have_text("是否同意向這項服務提供你的資料？")
        await page.get_by_role("link", name="English").click()
        await expect(page.locator("h1")).to_have_text("May this service have your data?")


async def test_the_service_may_wish_for_a_language(clinic: RelyingParty, window: Opener) -> None:
    """`ui_locales` (OpenID Connect Core §3.1.2.1): the first one that we speak, by its nearest writing."""
    async with window("en") as page:
        await page.goto(clinic.start(ui_locales="fr zh-Hant-MO pt"))
        await expect(page.locator("html")).to_have_attribute("lang", "zh-HK")


@pytest.mark.parametrize("mode", ["hostile_page_for_a_document", "down"])
async def test_a_region_that_fails_leads_back_to_the_chooser_with_its_name(
    sandbox: Neighbourhood, clinic: RelyingParty, window: Opener, mode: str
) -> None:
    """Garbage or silence at Guangdong: the person reads which region it was, and signs on elsewhere all the same."""
    async with window("zh-CN", scripts=False) as page:
        await page.goto(clinic.start())
        await page.locator('a.choice[href*="/sign-in/guangdong?"]').click()
        async with misbehaving(sandbox, "guangdong", mode):
            if mode == "down":
                await silent_at_the_back(page, sandbox)
            else:
                await sign_in(page, sandbox, "guangdong")
        alert = page.get_by_role("alert")
        await expect(alert).to_contain_text("广东省")
        reference = await alert.locator(".reference code").inner_text()
        log = (sandbox.layout.folder / "gateway.log").read_text(encoding="utf-8")
        assert any(reference in line and "sign-on interrupted" in line for line in log.splitlines())
        assert not re.search(r"Traceback|Error|[\w.]+\.[a-z_]+:", await page.locator("main").inner_text())
        await choose(page, sandbox, "hongkong")
        await expect(page.locator("fieldset.crossing")).to_be_visible()


@asynccontextmanager
async def misbehaving(sandbox: Neighbourhood, region: str, mode: str) -> AsyncIterator[None]:
    url = f"{sandbox.layout.ports.authority_url(region)}/control"
    async with aiohttp.ClientSession() as session:
        if mode != "down":
            assert (await session.post(url, json={"mode": mode})).status == 200
        try:
            yield
        finally:
            assert (await session.post(url, json={"mode": "clear"})).status == 200


async def silent_at_the_back(page: Page, sandbox: Neighbourhood) -> None:
    """Sign in at a region that falls silent as soon as it has sent the browser back."""
    authority = sandbox.layout.ports.authority_url("guangdong")

    async def fall_silent(route: Route) -> None:
        answer = await route.fetch(max_redirects=0)
        async with aiohttp.ClientSession() as session:
            assert (await session.post(f"{authority}/control", json={"mode": "down"})).status == 200
        await route.fulfill(response=answer)

    await page.route(f"{authority}/**", fall_silent)
    await sign_in(page, sandbox, "guangdong")
    await page.unroute(f"{authority}/**")


async def test_a_closed_region_is_shown_with_the_reason_and_is_no_link(
    sandbox: Neighbourhood, clinic: RelyingParty, window: Opener
) -> None:
    async with window("zh-HK", scripts=False) as page, closed(sandbox, "yunnan"):
        await page.goto(clinic.start())
        row = page.locator(".choices li", has_text="雲南省")
        await expect(row).to_contain_text("已暫停")
        await expect(row.locator("a")).to_have_count(0)
        assert await page.evaluate(AUDIT) == []


@asynccontextmanager
async def closed(sandbox: Neighbourhood, region: str) -> AsyncIterator[None]:
    async with aiohttp.ClientSession() as session:
        body = {"reason": "a test", "operator": "test"}
        switch = f"{sandbox.admin_url}/ops/regions/{region}"
        assert (await session.post(f"{switch}/close", json=body)).status == 200
        try:
            yield
        finally:
            assert (await session.post(f"{switch}/open", json=body)).status == 200


async def test_the_region_of_last_time_stands_first(
    sandbox: Neighbourhood, clinic: RelyingParty, window: Opener
) -> None:
    async with window("en", scripts=False) as page:
        await page.goto(clinic.start())
        await choose(page, sandbox, "hongkong")
        await page.goto(clinic.start(prompt="login"))
        await expect(page.locator("a.choice").first).to_contain_text("Your last choice")
        await expect(page.locator("a.choice .choice-name").first).to_have_text("Hong Kong")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/sign-in?interaction=none"), ("GET", "/sign-in/consent?interaction=none"),
        ("POST", "/sign-in/consent"), ("GET", "/sign-in/guangdong?interaction=none"),
        ("GET", "/sign-in/guangdong/callback?state=none"), ("GET", "/oauth2/authorize?client_id=nobody"),
        ("GET", "/oauth2/logout?client_id=nobody"),
        ("GET", "/oauth2/logout/result?logout=none"), ("POST", "/oauth2/logout/confirm"), ("PUT", "/sign-in"),
        ("GET", "/account/nothing"), ("GET", "/account/callback?state=none"), ("GET", "/window/nothing"),
    ],
)  # fmt: skip
async def test_every_error_page_quotes_the_request_that_the_log_names(
    sandbox: Neighbourhood, method: str, path: str
) -> None:
    """What a person reads to the operator on the telephone; nothing foreign may be loaded into such a page either."""
    headers = {"Accept-Language": "pt"}
    async with aiohttp.ClientSession() as session:
        answer = await session.request(method, sandbox.public_url + path, headers=headers)
        text = await answer.text()
    assert 400 <= answer.status < 500
    assert f"{answer.headers['X-Request-Id']}</code>" in text
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self';")
    assert (answer.headers["Cache-Control"], "Traceback" in text) == ("no-store", False)
    log = (sandbox.layout.folder / "gateway.log").read_text(encoding="utf-8")
    assert answer.headers["X-Request-Id"] in log


# --- every page in every language ------------------------------------------------------------------------------------

NAMES = re.compile(r"Pearl Gateway|PDF|GBA-SANDBOX\S*|\S+@\S+|\bA[0-3]\b|https?://\S+|\bX\b|[HM]\b")
"""What stays as it is in every language."""


def english_left(text: str, language: str) -> list[str]:
    """Return what of a page's text is English although the page is not."""
    plain = NAMES.sub(" ", text)
    found = [one for one in untranslated(language) if one in plain]
    return found + (re.findall(r"[A-Za-z]{2,}", plain) if language.startswith("zh") else [])


def untranslated(language: str) -> list[str]:
    """Return the English texts that differ from their translations and are long enough to be told from a name."""
    found: list[str] = []
    for path in sorted((LOCALES / language.replace("-", "_")).glob("*.po")):
        with path.open("rb") as source:
            found += [str(one.id) for one in read_po(source) if one.id and one.id != one.string and len(one.id) >= 12]
    return [text for text in found if "%(" not in text]


TEXT = """() => {
    const copy = document.body.cloneNode(true);
    for (const one of copy.querySelectorAll("code, [lang]")) one.remove();
    return document.title + " " + copy.textContent;
}"""


async def every_page(page: Page, sandbox: Neighbourhood, clinic: RelyingParty) -> AsyncIterator[str]:
    """Go to every page that a citizen can see, one after the other."""
    here = sandbox.public_url
    await page.goto(clinic.start())
    chooser = page.url
    yield "the chooser"
    for query in ("q=guang", "q=atlantis"):
        await page.goto(f"{chooser}&{query}")
        yield f"the chooser with {query}"
    for why in ("unreachable", "closed", "step_up", "not_recognised", "failed"):
        await page.goto(f"{chooser}&failed=guangdong&why={why}&ref=0123456789abcdef")
        yield f"the chooser after {why}"
    await page.goto(chooser)
    await choose(page, sandbox, "guangdong")
    yield "the consent page"
    for path in ("", "/sessions", "/consents", "/mandates", "/mandates/new", "/links"):
        await page.goto(f"{here}/account{path}")
        yield f"the account page {path}"
    await page.goto(f"{here}/account/mandates/new")
    await page.locator("main form button").click()
    yield "a mandate with problems"
    await page.goto(f"{here}/account/nothing")
    yield "an account page that does not exist"
    await page.goto(f"{here}/oauth2/logout?client_id=nobody")
    yield "a refused sign-out"
    await page.goto(f"{here}/oauth2/logout")
    yield "the question whether to sign out"
    await press(page, sandbox, page.locator("main form button"))
    await expect(page.locator(".results")).to_be_visible()
    yield "the result of signing out"
    await page.goto(clinic.start())
    await choose(page, sandbox, "hongkong")
    yield "the consent page across a border"
    await page.goto(f"{here}/account/mandates/new")
    yield "a mandate that cannot be given"
    await page.goto(f"{here}/account/links/new?region=guangdong")
    if "/sign-in" in urlsplit(page.url).path:
        await choose(page, sandbox, "hongkong")
    yield "the question whether to link"
    await page.goto(f"{here}/sign-in?interaction=none")
    yield "a sign-on that is over"
    await page.goto(f"{here}/oauth2/authorize?client_id=nobody")
    yield "a request that cannot be answered"


@pytest.mark.parametrize("language", LANGUAGES)
async def test_every_page_of_citizens_speaks_the_language_and_serves_everybody(
    sandbox: Neighbourhood, clinic: RelyingParty, window: Opener, language: str
) -> None:
    """One h1, labels, names, contrast, target size, no sideways scrolling, and no English left over."""
    wrong: list[str] = []
    async with window(language) as page:
        async for name in every_page(page, sandbox, clinic):
            assert await page.locator("html").get_attribute("lang") == language, name
            wrong += [f"{name}: {one}" for one in await audited(page)]
            if language != "en":
                wrong += [f"{name}: English: {one}" for one in english_left(await page.evaluate(TEXT), language)]
    assert wrong == []


async def test_the_audit_finds_what_is_wrong(window: Opener) -> None:
    """An audit that finds nothing would promise nothing."""
    async with window() as page:
        await page.set_content(
            "<title> </title><main><h1>a</h1><h1>b</h1><h3>c</h3><input name=x><a href=#>&nbsp;</a><a>dead</a>"
            "<p id=y style='color:#999;background:#fff'>pale</p><p id=y aria-labelledby=z>twice</p>"
            "<button style='width:9px;height:9px;padding:0'>s</button><nav></nav><fieldset></fieldset></main>"
        )
        found = " ".join(await page.evaluate(AUDIT))
    for one in (
        "2 headings", "no title", "skips a level", "no label", "no name", "dead link", "contrast of 2.8",
        "stands twice", "leads nowhere", "is a target of 9x9", "is inline", "nav without a name",
        "fieldset without a legend",
    ):  # fmt: skip
        assert one in found, one
