"""A clerk's whole way, in a browser, against the whole sandbox: sign-on at the region, form, file, timeline, result."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, FilePayload, Page, expect

from gateway.sandbox.neighbourhood import Neighbourhood

pytestmark = pytest.mark.asyncio(loop_scope="session")

ITEM = "11440100MBT40100XX3442011899001"
PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
PATIENCE = 20
"""Seconds that a case may take from the form to its result; the authorities' pauses are 50 ms each."""

UNLABELLED = """() => [...document.querySelectorAll('input:not([type=hidden]), select, textarea')]
    .filter(one => one.labels.length === 0).map(one => one.name)"""


@pytest_asyncio.fixture(loop_scope="session", params=[True, False], ids=["with scripts", "without scripts"])
async def page(request: pytest.FixtureRequest, chromium: Browser) -> AsyncIterator[Page]:
    """Open a page that speaks Chinese; everything works with JavaScript switched off as well."""
    context = await chromium.new_context(locale="zh-CN", java_script_enabled=request.param)
    yield await context.new_page()
    await context.close()


PASSWORD, SCAN = "1", "3"
"""Methods on Guangdong's page: account and password, and 粤省事, which is sure enough for a clerk."""


async def sign_on(page: Page, sandbox: Neighbourhood, role: str, method: str = SCAN) -> None:
    """Sign on at the window with an account of the sandbox, on the region's own page."""
    account = sandbox.account(role)
    await page.goto(f"{sandbox.public_url}/window")
    await page.locator('a[href="/window/sign-in"]').click()
    await page.locator(f'a.choice[href*="/{account["region"]}"]').click()
    await page.locator('[name="account"]').fill(account["account"])
    await page.locator('[name="password"]').fill(account["password"])
    await page.locator('[name="method"]').select_option(method)
    await page.locator('[type="submit"], button').first.click()


async def fill_in(page: Page, sandbox: Neighbourhood) -> None:
    """Fill in the filing for medical treatment elsewhere, for the sandbox's citizen."""
    citizen = sandbox.account("citizen")
    await page.locator('[name="applicant.name"]').fill(citizen["name"])
    await page.locator('[name="applicant.document.type"]').select_option("CN_RIC")
    await page.locator('[name="applicant.document.number"]').fill(citizen["id_number"])
    await page.locator('[name="identity_checked"]').check()
    await page.locator('[name="form.insured_place"]').fill("440100")
    await page.locator('[name="form.destination"]').fill("440600")
    await page.locator('[name="form.kind"]').select_option("resident")
    await page.locator('[name="form.start"]').fill("2026-03-10")
    upload = FilePayload(name="身份证.pdf", mimeType="application/pdf", buffer=PDF)
    await page.locator('[name="material.ID"]').set_input_files([upload])


async def until_completed(page: Page) -> None:
    """Look again, as a clerk would, until the case is completed."""
    current = page.locator(".case-number [data-state]")
    async with asyncio.timeout(PATIENCE):
        while await current.get_attribute("data-state") != "COMPLETED":
            await page.get_by_role("link", name="刷新").click()


async def test_a_clerk_takes_an_application_and_sees_its_result(page: Page, sandbox: Neighbourhood) -> None:
    """The promise of the window: one visit, and the clerk can say at any time where the case is."""
    await sign_on(page, sandbox, "clerk")
    await expect(page.get_by_role("heading", level=1)).to_have_text("天河区跨域通办1号窗口")
    await page.get_by_role("link", name="跨省异地就医备案").first.click()
    await page.get_by_role("link", name="佛山市").click()
    await fill_in(page, sandbox)
    await page.get_by_role("button", name="提交申请").click()
    await expect(page).to_have_url(re.compile(r"/window/cases/KY[0-9A-Z]{27}$"))
    await until_completed(page)
    reached = await page.locator(".timeline [data-state]").evaluate_all("all => all.map(one => one.dataset.state)")
    assert (reached[0], reached[-1]) == ("COLLECTED", "COMPLETED")
    assert "ACCEPTED" in reached
    text = await page.locator("main").inner_text()
    citizen = sandbox.account("citizen")
    assert citizen["name"] not in text
    assert citizen["id_number"] not in text


@pytest.mark.parametrize("page", [False], ids=["without scripts"], indirect=True)
async def test_a_clerk_hands_in_what_the_region_asks_for(page: Page, sandbox: Neighbourhood) -> None:
    """The notice, what it names, one more file, and the case goes on: all on the case's own page."""
    order = {"mode": "course_supplement", "times": 1}
    await page.request.post(f"{sandbox.layout.ports.authority_url('foshan')}/control", data=order)
    await sign_on(page, sandbox, "clerk")
    await page.goto(f"{sandbox.public_url}/window/items/{ITEM}/foshan")
    await fill_in(page, sandbox)
    await page.get_by_role("button", name="提交申请").click()
    async with asyncio.timeout(PATIENCE):
        while await page.get_by_role("button", name="提交补正材料").count() == 0:
            await page.get_by_role("link", name="刷新").click()
    assert await page.evaluate(UNLABELLED) == []
    upload = FilePayload(name="补正.pdf", mimeType="application/pdf", buffer=PDF)
    await page.locator('#f-supplement input[type="file"]').first.set_input_files([upload])
    await page.get_by_role("button", name="提交补正材料").click()
    await until_completed(page)


async def test_an_incomplete_form_comes_back_with_its_problems_and_its_file(page: Page, sandbox: Neighbourhood) -> None:
    """Focus goes to the summary, its links lead to the inputs, and the scan need not be chosen again."""
    await sign_on(page, sandbox, "clerk")
    await page.goto(f"{sandbox.public_url}/window/items/{ITEM}/foshan")
    await fill_in(page, sandbox)
    await page.locator('[name="form.start"]').fill("")
    await page.get_by_role("button", name="提交申请").click()
    await expect(page.locator("#problems")).to_be_focused()
    await page.locator("#problems").get_by_role("link", name="开始日期").click()
    await expect(page.locator('[name="form.start"]')).to_have_attribute("aria-invalid", "true")
    await expect(page.locator('[name="held.ID"]')).to_be_checked()
    await expect(page.locator('[name="applicant.name"]')).to_have_value(sandbox.account("citizen")["name"])
    await page.locator('[name="form.start"]').fill("2026-03-10")
    await page.get_by_role("button", name="提交申请").click()
    await expect(page).to_have_url(re.compile(r"/window/cases/KY[0-9A-Z]{27}$"))


@pytest.mark.parametrize("page", [False], ids=["without scripts"], indirect=True)
async def test_a_form_that_was_saved_is_gone_on_with_and_becomes_one_case(page: Page, sandbox: Neighbourhood) -> None:
    """Browsers send inputs of files that nothing was chosen for as well; the second button leads elsewhere."""
    await sign_on(page, sandbox, "clerk")
    await page.goto(f"{sandbox.public_url}/window/items/{ITEM}/foshan")
    await fill_in(page, sandbox)
    await page.locator('[name="form.start"]').fill("")
    await page.get_by_role("button", name="暂存").click()
    await page.goto(f"{sandbox.public_url}/window")
    await page.get_by_role("region", name="本窗口的草稿").get_by_role("link").first.click()
    await expect(page.locator('[name="held.ID"]')).to_be_checked()
    await expect(page.locator('[name="identity_checked"]')).not_to_be_checked()
    assert await page.evaluate(UNLABELLED) == []
    await page.locator('[name="form.start"]').fill("2026-03-10")
    await page.locator('[name="identity_checked"]').check()
    await page.get_by_role("button", name="提交申请").click()
    await expect(page).to_have_url(re.compile(r"/window/cases/KY[0-9A-Z]{27}$"))
    await page.get_by_role("link", name="评价与投诉").click()
    assert await page.evaluate(UNLABELLED) == []
    await page.goto(f"{sandbox.public_url}/window")
    await expect(page.get_by_role("region", name="本窗口的草稿")).to_have_count(0)


async def test_every_page_names_its_language_and_labels_its_inputs(page: Page, sandbox: Neighbourhood) -> None:
    """What a screen reader needs first."""
    await sign_on(page, sandbox, "clerk")
    for path in ("/window", f"/window/items/{ITEM}", f"/window/items/{ITEM}/foshan"):
        await page.goto(sandbox.public_url + path)
        await expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
        assert await page.locator("h1").count() == 1
        assert await page.evaluate(UNLABELLED) == []
    await page.get_by_role("link", name="English").click()
    await expect(page.locator("html")).to_have_attribute("lang", "en")


async def test_a_password_alone_makes_nobody_a_clerk(page: Page, sandbox: Neighbourhood) -> None:
    """The region is told which level the window needs and takes no less; the surer method is a choice on its page."""
    await sign_on(page, sandbox, "clerk", PASSWORD)
    await expect(page.get_by_role("alert")).to_contain_text("方式不正确")
    assert page.url.startswith(sandbox.layout.ports.authority_url("guangdong"))
    account = sandbox.account("clerk")
    await page.locator('[name="account"]').fill(account["account"])
    await page.locator('[name="password"]').fill(account["password"])
    await page.locator('[name="method"]').select_option(SCAN)
    await page.locator('[type="submit"], button').first.click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("天河区跨域通办1号窗口")


async def test_the_clerks_sign_on_serves_the_window_and_nothing_else(page: Page, sandbox: Neighbourhood) -> None:
    """A counter is shared: whoever opens another service there afterwards must sign on."""
    await sign_on(page, sandbox, "clerk")
    names = {cookie["name"] for cookie in await page.context.cookies()}
    assert "pearl_window" in names
    assert "pearl_session" not in names


async def test_a_citizen_is_not_let_in_as_a_clerk(page: Page, sandbox: Neighbourhood) -> None:
    """Signed on is not authorised."""
    await sign_on(page, sandbox, "citizen")
    await expect(page.get_by_role("alert")).to_contain_text("未登记为窗口工作人员")
