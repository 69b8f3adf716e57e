"""A person's own pages in a real browser, with and without scripts: a mandate given and ended, two accounts linked."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from gateway.sandbox.neighbourhood import Neighbourhood

pytestmark = pytest.mark.asyncio(loop_scope="session")

SCAN = "3"
"""粤省事 on Guangdong's page: sure enough for a mandate and for a link."""
UNLABELLED = """() => [...document.querySelectorAll('input:not([type=hidden]), select, textarea')]
    .filter(one => one.labels.length === 0).map(one => one.name)"""


@pytest_asyncio.fixture(loop_scope="session", params=[True, False], ids=["with scripts", "without scripts"])
async def page(request: pytest.FixtureRequest, chromium: Browser) -> AsyncIterator[Page]:
    """Open a page that speaks Chinese, in a window of its own."""
    context = await chromium.new_context(locale="zh-CN", java_script_enabled=request.param)
    yield await context.new_page()
    await context.close()


async def choose(page: Page, sandbox: Neighbourhood, role: str) -> None:
    """Choose the region of this person, and sign on there."""
    await page.locator(f'a.choice[href*="/sign-in/{sandbox.account(role)["region"]}"]').click()
    await sign_in(page, sandbox, role)


async def sign_in(page: Page, sandbox: Neighbourhood, role: str) -> None:
    """Fill in the region's own page."""
    account = sandbox.account(role)
    await page.locator('[name="account"]').fill(account["account"])
    if "password" in account:
        await page.locator('[name="password"]').fill(account["password"])
        await page.locator('[name="method"]').select_option(SCAN)
    await page.locator('[type="submit"], button').first.click()


async def test_a_mandate_is_given_and_ended_in_the_browser(page: Page, sandbox: Neighbourhood) -> None:
    """An empty form comes back with a summary that has the focus; what is filled in then is taken."""
    await page.goto(f"{sandbox.public_url}/account/mandates/new")
    await choose(page, sandbox, "citizen")
    await expect(page.locator("h1")).to_have_text("授权他人代办")
    await page.locator("main form button").click()
    await expect(page.locator("#problems")).to_be_focused()
    await page.locator('[name="agent.name"]').fill("黄文员")
    await page.locator('[name="agent.document.number"]').fill("440106198806150019")
    await page.locator('[name="relation"]').select_option("family")
    await page.locator('[name="items"]').first.check()
    await page.locator('[name="agreed"]').check()
    await page.locator("main form button").click()
    await expect(page.locator("h1")).to_have_text("授权委托")
    await expect(page.locator(".badge.good").first).to_have_text("有效")
    await page.locator('form[action="/account/mandates/revoke"] button').first.click()
    await expect(page.locator(".badge.plain").first).to_have_text("已终止")


async def test_two_accounts_are_linked_in_the_browser(page: Page, sandbox: Neighbourhood) -> None:
    """The way to the second region passes our own `form-action`, because it is a link and no redirect of a form."""
    await page.goto(f"{sandbox.public_url}/account/links/new?region=guangdong")
    await choose(page, sandbox, "hk-citizen")
    await expect(page.locator("h1")).to_have_text("与广东省账号关联")
    await page.locator('[name="agreed"]').check()
    await page.locator("main form button").click()
    await page.locator('main a[href^="/sign-in/guangdong"]').click()
    await sign_in(page, sandbox, "hk-resident")
    await expect(page.locator('[role="status"]')).to_have_text("两个账号已关联。")
    await page.locator('form[action="/account/links/end"] button').first.click()
    await expect(page.locator('[role="status"]')).to_have_text("关联已解除。")


@pytest.mark.parametrize("path", ["", "/sessions", "/consents", "/mandates", "/mandates/new", "/links"])
async def test_every_account_page_fits_a_narrow_screen_and_names_its_inputs(
    page: Page, sandbox: Neighbourhood, path: str
) -> None:
    """WCAG 1.4.10 (320 pixels wide without scrolling sideways) and 1.3.1."""
    await page.set_viewport_size({"width": 320, "height": 640})
    await page.goto(f"{sandbox.public_url}/account{path}")
    await choose(page, sandbox, "citizen")
    await expect(page.locator("h1")).to_have_count(1)
    assert await page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
    assert await page.evaluate(UNLABELLED) == []
