"""Where files of cases are kept, and who takes them: for whatever is tried over them in several files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.crypto.at_rest import Sealer
from gateway.storage import Store
from gateway.storage.blobs import Blobs
from gateway.storage.places import open_blob_store
from gateway.submissions.materials import Materials
from gateway.submissions.uploads import Uploads
from tests.support.clock import ManualClock
from tests.support.s3 import S3, s3_server
from tests.support.uploads import LIMIT, uploads_over


@pytest.fixture(scope="session")
def s3_running() -> Iterator[S3]:
    """Run S3 once."""
    with s3_server() as running:
        yield running


@pytest.fixture
def s3(s3_running: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    """Lend S3 to one test, with the variables of a gateway that uses it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)  # of the machine's own
    for name, value in s3_running.variables().items():
        monkeypatch.setenv(name, value)
    return s3_running


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
