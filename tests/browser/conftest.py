"""The whole sandbox and a real browser: simulated authorities, the gateway as its own process, Debian's Chromium."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from gateway.sandbox.layout import Choices
from gateway.sandbox.neighbourhood import Neighbourhood, free_ports, start

CHROMIUM = "/usr/bin/chromium"
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
"""Chromium as root in a container, and without calls to its maker."""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def sandbox(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Neighbourhood]:
    """Run the neighbourhood once for all browser tests, on free ports."""
    async with start(tmp_path_factory.mktemp("sandbox"), free_ports(), Choices(pace=0.05)) as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """Start the browser once; each test opens a context of its own, with its own cookies."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        await browser.close()
