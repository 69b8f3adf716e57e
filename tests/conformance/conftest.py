"""What the suites over regions share: a region that is opened, with its simulated authority running."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conformance.regions_support import Place, inhabited


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for minted keys that outlives a test."""
    return tmp_path_factory.mktemp("keys")


@pytest.fixture
def ground(tmp_path: Path, keys: Path) -> Path:
    """Return an empty folder but for the keys of earlier tests: minting would take longer than most tests."""
    (tmp_path / "keys").symlink_to(keys)
    return tmp_path


@pytest.fixture
async def place(request: pytest.FixtureRequest, ground: Path) -> AsyncIterator[Place]:
    """Return the region named by the parameter, opened, with its authority running."""
    async with inhabited(ground, request.param) as inhabited_place:
        yield inhabited_place
