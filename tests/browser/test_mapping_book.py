"""The mapping book in a real browser: it stands alone, fits the window, and speaks the language that is chosen."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser, Page

from tests.support.mapping_folder import MappingFolder, pearl

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture
def book(tmp_path: Path) -> Path:
    folder = MappingFolder(tmp_path / "mappings")
    path = tmp_path / "book.html"
    result = pearl("explain", "--all", "--html", str(path), "--mappings", str(folder.root))
    assert result.exit_code == 0, result.output
    return path


async def opened(chromium: Browser, book: Path, width: int) -> tuple[Page, list[str]]:
    """Open the book in a window of its own; return the page and what it asked for or complained of."""
    page = await (await chromium.new_context(viewport={"width": width, "height": 900})).new_page()
    heard: list[str] = []
    page.on("console", lambda message: heard.append(message.text))
    page.on("request", lambda request: heard.append(request.url))
    await page.goto(book.as_uri())
    return page, heard


@pytest.mark.parametrize("width", [1400, 400])
async def test_the_book_asks_for_nothing_and_fits_the_window(chromium: Browser, book: Path, width: int) -> None:
    page, heard = await opened(chromium, book, width)
    assert heard == [book.as_uri()]
    assert await page.evaluate("document.documentElement.scrollWidth") <= width
    await page.context.close()


async def test_one_language_can_be_chosen_without_a_script(chromium: Browser, book: Path) -> None:
    page, _ = await opened(chromium, book, 1400)
    chinese, english = page.get_by_text("怎样转换").first, page.get_by_text("how it is converted").first
    assert await chinese.is_visible()
    assert await english.is_visible()
    await page.get_by_label("English", exact=True).check()
    assert not await chinese.is_visible()
    assert await english.is_visible()
    await page.get_by_label("中文", exact=True).check()
    assert await chinese.is_visible()
    assert not await english.is_visible()
    await page.context.close()


async def test_the_contents_lead_to_each_chapter(chromium: Browser, book: Path) -> None:
    page, _ = await opened(chromium, book, 1400)
    await page.get_by_role("navigation").get_by_role("link", name="XML").click()
    assert page.url.endswith("#west-note")
    heading = page.get_by_role("article").nth(1).get_by_role("heading", level=3)
    assert await heading.evaluate("one => one.getBoundingClientRect().top") < 200
    await page.context.close()
