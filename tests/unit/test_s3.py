"""Files in S3: what an operator must set is looked at before anything is stored, and what goes wrong there is told."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from prometheus_client import CollectorRegistry

from gateway.crypto.at_rest import Sealer
from gateway.errors import StartRefused, Unavailable
from gateway.storage import Store
from gateway.storage.blobs import Blobs
from gateway.storage.places import check_place, open_blob_store
from gateway.submissions.disposal import Disposal, Terms
from gateway.submissions.upload_rows import UploadBusy
from gateway.submissions.uploads import PART, Piece, Wish
from gateway.telemetry import Metrics
from tests.support.certificates import certificate
from tests.support.clock import ManualClock
from tests.support.s3 import BUCKET, S3, SECRET, over_tls
from tests.support.uploads import AGENCY, PDF, append, breaking, finish, uploads_over, whole

HTTPS = "https://s3.example.gov.cn"


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    """Return a part of the bucket that no other test has."""
    return f"{tmp_path.name}/"


@pytest.fixture
def stored(s3: S3, prefix: str, sealer: Sealer, tmp_path: Path) -> Blobs:
    """Open it."""
    return Blobs(open_blob_store(f"s3://{BUCKET}/{prefix}", tmp_path), sealer)


# --- before the start ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "variables", "field"),
    [
        ("s3://", {}, "store.blobs"),
        ("gs://pearl/x", {}, "store.blobs"),
        ("s3://key:secret@pearl/x", {}, "store.blobs"),
        ("s3://pearl/x?versionId=1", {}, "store.blobs"),
        ("s3://pearl/x", {"AWS_ENDPOINT_URL": "not a url"}, "AWS_ENDPOINT_URL"),
        ("s3://pearl/x", {"AWS_ENDPOINT_URL_S3": "s3.example"}, "AWS_ENDPOINT_URL_S3"),
        ("s3://pearl/x", {"AWS_ENDPOINT": "https://key:secret@s3.example"}, "AWS_ENDPOINT"),
        ("s3://pearl/x", {"AWS_ENDPOINT_URL": "http://s3.example"}, "AWS_ENDPOINT_URL"),
    ],
)
def test_a_place_that_cannot_be_right_refuses_the_start(place: str, variables: Mapping[str, str], field: str) -> None:
    """Most of these would only be found by the first file, one of them in a way that ends the process's thread."""
    with pytest.raises(StartRefused) as refused:
        check_place(place, variables)
    assert [problem.field for problem in refused.value.problems] == [field]
    assert "secret" not in str(refused.value)


def test_an_encryption_that_s3_does_not_know_refuses_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SERVER_SIDE_ENCRYPTION", "rot13")
    with pytest.raises(StartRefused, match="rot13"):
        check_place("s3://pearl/x")


@pytest.mark.parametrize(
    "variables",
    [{}, {"AWS_ENDPOINT_URL": HTTPS}, {"AWS_ENDPOINT_URL": "http://s3.internal:9000", "AWS_ALLOW_HTTP": "true"}],
)
def test_a_place_that_can_be_right_is_taken(variables: Mapping[str, str]) -> None:
    check_place("s3://pearl/production", variables)


# --- while it runs -------------------------------------------------------------------------------------------------


async def test_wrong_keys_are_told_and_no_secret_with_them(stored: Blobs, s3: S3) -> None:
    await stored.put("one", b"1")
    with s3.refusing():
        assert await stored.trouble() == "it refuses with InvalidAccessKeyId"
        with pytest.raises(Unavailable) as refused:
            await stored.put("two", b"2")
        with pytest.raises(Unavailable):
            await whole(stored.get("one"))
        with pytest.raises(Unavailable):
            await stored.drop(["one"])
    told = f"{refused.value} {refused.value.detail}"
    assert "InvalidAccessKeyId" in told
    assert SECRET not in told
    assert "<" not in told, "what S3 says may repeat what was signed"
    assert await whole(stored.get("one")) == b"1"


async def test_in_a_bucket_that_is_not_there_nothing_counts_as_deleted(s3: S3, sealer: Sealer, tmp_path: Path) -> None:
    """Otherwise a wrong name in the configuration would have rows forgotten whose files are elsewhere."""
    lost = Blobs(open_blob_store("s3://nobody/x", tmp_path), sealer)
    assert await lost.trouble() == "it refuses with NoSuchBucket"
    for attempt in (lost.drop(["BL1/1-0"]), lost.drop_all("BL1"), lost.put("BL1/1-0", b"1")):
        with pytest.raises(Unavailable):
            await attempt


async def test_a_place_that_is_away_is_told_within_seconds(
    s3: S3, sealer: Sealer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By itself obstore would try for three minutes, while somebody waits at a window."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{nobody.getsockname()[1]}")
    away = Blobs(open_blob_store(f"s3://{BUCKET}/x", tmp_path), sealer)
    assert await away.trouble() == "it does not answer"
    with pytest.raises(Unavailable):
        await away.put("one", b"1")


@pytest.mark.parametrize(
    ("variables", "asked"),
    [
        ({"AWS_SERVER_SIDE_ENCRYPTION": "AES256"}, {"ServerSideEncryption": "AES256"}),
        (
            {"AWS_SERVER_SIDE_ENCRYPTION": "aws:kms", "AWS_SSE_KMS_KEY_ID": "alias/pearl"},
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/pearl"},
        ),
    ],
)
async def test_the_encryption_of_the_bucket_is_asked_for_too(
    variables: Mapping[str, str], asked: Mapping[str, str], s3: S3, prefix: str, sealer: Sealer,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    await Blobs(open_blob_store(f"s3://{BUCKET}/{prefix}", tmp_path), sealer).put("one", b"1")
    kept: Mapping[str, Any] = s3.client.head_object(Bucket=BUCKET, Key=f"{prefix}one")
    assert {name: kept[name] for name in asked} == asked


@pytest.mark.parametrize(("hosted", "path"), [("false", f"/{BUCKET}/"), ("true", "/")])
async def test_the_bucket_stands_in_the_path_unless_the_operator_has_it_in_the_host(
    hosted: str, path: str, s3: S3, sealer: Sealer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", hosted)
    there = Blobs(open_blob_store(f"s3://{BUCKET}/elsewhere", tmp_path), sealer)
    with s3.refusing(), pytest.raises(Unavailable) as refused:
        await there.put("one", b"1")
    assert f"{s3.url}{path}elsewhere/one" in refused.value.detail


async def test_a_store_whose_certificate_is_of_an_authority_of_ones_own_is_trusted_when_that_is_named(
    s3: S3, prefix: str, sealer: Sealer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    begins, ends = (datetime.now(UTC) + timedelta(days=days) for days in (-1, 1))
    names = [x509.IPAddress(ip_address("127.0.0.1"))]
    authority = certificate("CN=Authority", ca=True, begins=begins, ends=ends)
    server = certificate("CN=s3", authority, names=names, begins=begins, ends=ends)
    for name, content in {"ca": authority.pem, "cert": server.pem, "key": server.key_pem}.items():
        (tmp_path / name).write_bytes(content)
    with over_tls(tmp_path / "cert", tmp_path / "key") as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        monkeypatch.delenv("AWS_ALLOW_HTTP")
        stranger = Blobs(open_blob_store(f"s3://{BUCKET}/{prefix}", tmp_path), sealer)
        assert await stranger.trouble() == "it does not answer"
        monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca"))
        known = Blobs(open_blob_store(f"s3://{BUCKET}/{prefix}", tmp_path), sealer)
        await known.put("one", b"1")
        assert await whole(known.get("one")) == b"1"


def test_authorities_that_cannot_be_read_refuse_the_start(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("no certificate")
    for named in ("ca", "nobody"):
        with pytest.raises(StartRefused, match="AWS_CA_BUNDLE"):
            check_place("s3://pearl/x", {"AWS_CA_BUNDLE": str(tmp_path / named)})


# --- uploads -------------------------------------------------------------------------------------------------------


async def test_an_upload_is_written_in_objects_of_bounded_size(
    stored: Blobs, s3: S3, prefix: str, sqlite_store: Store, sealer: Sealer, clock: ManualClock
) -> None:
    """An object is what a request holds in memory; S3's own uploads in parts, which outlive a process, are not used."""
    content = PDF + bytes(2 * PART)
    uploads = uploads_over(sqlite_store, stored, sealer, clock)
    begun = await uploads.begin(AGENCY, Wish("id.pdf", "application/pdf", len(content)))
    await append(uploads, begun.id, 0, content[:100])
    await append(uploads, begun.id, 100, content[100:PART])
    blob = await finish(uploads, begun.id, PART, content[PART:])
    assert blob.size == len(content)
    sizes = {key: size for key, size in s3.sizes().items() if key.startswith(prefix)}
    assert len(sizes) >= 4
    assert all(size < PART + 4096 for size in sizes.values())
    assert s3.unfinished() == []


async def test_what_was_broken_off_or_refused_leaves_nothing_for_ever(
    stored: Blobs, s3: S3, prefix: str, sqlite_store: Store, sealer: Sealer, clock: ManualClock
) -> None:
    uploads = uploads_over(sqlite_store, stored, sealer, clock)
    half = breaking(PDF + bytes(PART + 5), ConnectionError())
    with pytest.raises(ConnectionError):
        await uploads.upload(AGENCY, name="a.pdf", media_type="application/pdf", chunks=half)
    begun = await uploads.begin(AGENCY, Wish("b.pdf", "application/pdf"))
    broken_off = Piece(0, breaking(PDF + bytes(PART + 5), ConnectionError()), last=True)
    with pytest.raises(ConnectionError):
        await uploads.append(AGENCY, begun.id, broken_off)
    assert {key.partition("/")[0] for key in s3.keys(prefix)} == {begun.id}, "it can go on"
    clock.advance(86_401)
    terms = Terms(unfinished=timedelta(hours=24), orphan=timedelta(hours=72), retention=timedelta(days=30))
    await Disposal(
        store=sqlite_store, blobs=stored, clock=clock, terms=terms, metrics=Metrics(CollectorRegistry())
    ).tidy()  # fmt: skip
    assert s3.keys(prefix) == []
    assert s3.unfinished() == []


async def test_what_is_written_after_its_upload_was_deleted_is_deleted_too(
    stored: Blobs, s3: S3, prefix: str, sqlite_store: Store, sealer: Sealer, clock: ManualClock
) -> None:
    """A request may still write while another deletes its upload; afterwards no row would lead there."""
    uploads = uploads_over(sqlite_store, stored, sealer, clock)
    begun = await uploads.begin(AGENCY, Wish("c.pdf", "application/pdf"))

    async def chunks() -> AsyncIterator[bytes]:
        yield PDF + bytes(PART)
        await uploads.drop(AGENCY, begun.id)
        assert s3.keys(prefix) == []
        yield bytes(PART)

    with pytest.raises(UploadBusy):
        await uploads.append(AGENCY, begun.id, Piece(0, chunks(), last=True))
    assert s3.keys(prefix) == []
