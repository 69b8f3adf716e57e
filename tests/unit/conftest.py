"""Where files of cases are kept, and who takes them: for whatever is tried over them in several files."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.crypto.at_rest import Sealer
from gateway.storage import Store
from gateway.storage.blobs import Blobs, open_blob_store
from gateway.submissions.materials import Materials
from gateway.submissions.uploads import Uploads
from tests.support.clock import ManualClock
from tests.support.uploads import LIMIT, uploads_over


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of the blob store."""
    return tmp_path / "blobs"


@pytest.fixture
def blobs(folder: Path, sealer: Sealer) -> Blobs:
    """Open a blob store in that folder."""
    return Blobs(open_blob_store("blobs", folder.parent), sealer)


@pytest.fixture
def uploads(sqlite_store: Store, blobs: Blobs, sealer: Sealer, clock: ManualClock) -> Uploads:
    """Take uploads into it."""
    return uploads_over(sqlite_store, blobs, sealer, clock)


@pytest.fixture
def materials(sqlite_store: Store, blobs: Blobs, sealer: Sealer) -> Materials:
    """Lend its files to cases."""
    return Materials(sqlite_store, blobs, sealer, LIMIT)
