"""The archive package: the same bytes for the same case, checked with a public key alone, and handed over once."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import aiohttp
import orjson
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlalchemy import Connection, select

from gateway.cli.main import main
from gateway.crypto.at_rest import Sealer
from gateway.crypto.signing import Es256Signer
from gateway.domain.submission import State
from gateway.errors import Conflict, NotFound, Unavailable
from gateway.evidence import Exchange, record
from gateway.storage import Store
from gateway.storage.blobs import Blobs
from gateway.storage.tables import case_errands
from gateway.submissions import errands
from gateway.submissions.archive import Archive
from gateway.submissions.archive_package import (
    EVENTS,
    MANIFEST,
    SIGNATURE,
    TYP,
    Manifest,
    Package,
    Part,
    bytes_part,
    json_part,
    verify,
)
from gateway.submissions.archive_push import ARCHIVE, ArchivePush, System, Systems
from gateway.submissions.complaints import Complaint
from gateway.submissions.errands import Errands
from gateway.submissions.materials import Materials
from gateway.submissions.results import RESULTS
from gateway.submissions.retry import RetryPolicy
from tests.support.afterwards import AGENCY, STRANGER, Finished, rating
from tests.support.clock import ManualClock


def new_signer() -> Es256Signer:
    key = ec.generate_private_key(ec.SECP256R1())
    return Es256Signer([key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())])


@dataclass
class Files:
    """A finished case with evidence, a rating and a complaint, and what makes its package."""

    done: Finished
    signer: Es256Signer = field(default_factory=new_signer)

    @property
    def archive(self) -> Archive:
        materials = Materials(self.done.store, cast("Blobs", None), self.done.sealer, 0)
        return Archive(
            store=self.done.store, sealer=self.done.sealer, materials=materials, signer=self.signer,
            issuer="https://gateway.example", clock=self.done.clock,
        )  # fmt: skip

    async def bytes(self) -> bytes:
        return await written(await self.archive.of(AGENCY, self.done.case))


async def written(package: Package) -> bytes:
    return b"".join([piece async for piece in package.stream()])


@pytest_asyncio.fixture
async def files(sqlite_store: Store, sealer: Sealer, clock: ManualClock) -> Files:
    """Return a completed case that was rated and complained of."""
    done = Finished(sqlite_store, sealer, clock)
    await done.open()
    await done.ratings.rate(AGENCY, done.case, rating(words="很好"))
    await done.complaints.complain(AGENCY, done.case, Complaint(reference="B-1", text="等了两个小时"))
    return Files(done)


def entries(package: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def kept(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "package.zip"
    path.write_bytes(content)
    return path


async def test_a_package_holds_with_the_public_key_alone(files: Files, tmp_path: Path) -> None:
    package = await files.bytes()
    verdict = verify(kept(tmp_path, package), files.signer.key_set())
    assert (verdict.problems, verdict.case, verdict.issuer) == ((), files.done.case, "https://gateway.example")
    found = entries(package)
    assert verdict.events == len(json.loads(found[EVENTS])) == 3
    assert json.loads(found["application.json"])["applicant"]["name"] == "李芳", "the file of the case is whole"
    assert json.loads(found["receipts.json"])["numbers"][0]["number"] == "FS-1"
    actions = [row["action"] for row in json.loads(found["evidence.json"])]
    assert sorted(actions) == ["complaint.take", "rating.take"]  # of one instant: in the order of their ids
    assert not any("很好" in text or "两个小时" in text for text in map(bytes.decode, found.values()))


async def test_the_same_case_makes_the_same_bytes_although_each_reading_is_evidence(files: Files) -> None:
    """Also after a key change: what was signed once stays signed as it was."""
    first = await files.bytes()
    files.done.clock.advance(3600)
    assert await files.bytes() == first
    files.signer = new_signer()
    assert await files.bytes() == first
    await files.done.store.write(
        lambda tx: files.done.events.note(tx, files.done.case, "paper.sent", files.done.clock(), {})
    )
    assert await files.bytes() != first


@pytest.mark.parametrize("name", ["application.json", EVENTS, "evidence.json", MANIFEST, SIGNATURE])
async def test_a_changed_entry_is_found(files: Files, tmp_path: Path, name: str) -> None:
    found = entries(await files.bytes())
    changed = bytearray(found[name])
    changed[len(changed) // 2] ^= 1
    assert not verify(kept(tmp_path, zipped({**found, name: bytes(changed)})), files.signer.key_set()).holds


async def test_an_entry_that_is_missing_added_doubled_or_packed_is_found(files: Files, tmp_path: Path) -> None:
    found, keys = entries(await files.bytes()), files.signer.key_set()
    assert verify(kept(tmp_path, zipped(found)), keys).holds
    without = {name: content for name, content in found.items() if name != "consents.json"}
    assert verify(kept(tmp_path, zipped(without)), keys).problems == ("consents.json: is missing",)
    more = zipped({**found, "../../etc/passwd": b"x"})
    assert verify(kept(tmp_path, more), keys).problems == ("../../etc/passwd: is not in the manifest",)
    packed = zipped(found, zipfile.ZIP_DEFLATED)
    assert verify(kept(tmp_path, packed), keys).problems == ("has an entry that is compressed or encrypted",)
    with pytest.warns(UserWarning, match="Duplicate"):
        doubled = zipped(found, again="application.json")
    assert verify(kept(tmp_path, doubled), keys).problems == ("has two entries of one name",)
    assert not verify(kept(tmp_path, b"PK no archive at all"), keys).holds
    assert not verify(kept(tmp_path, zipped(found)[:-30]), keys).holds


async def test_a_signature_of_somebody_else_or_of_something_else_is_none(files: Files, tmp_path: Path) -> None:
    found = entries(await files.bytes())
    other = new_signer()
    assert not verify(kept(tmp_path, zipped(found)), other.key_set()).holds
    digest = hashlib.sha256(found[MANIFEST]).hexdigest()
    said = {"case": files.done.case, "manifest_sha256": digest}
    token = files.signer.sign(said, typ="at+jwt")
    assert not verify(kept(tmp_path, zipped({**found, SIGNATURE: token.encode()})), files.signer.key_set()).holds
    unsigned = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=") + b"." + token.split(".")[1].encode() + b"."
    assert not verify(kept(tmp_path, zipped({**found, SIGNATURE: unsigned})), files.signer.key_set()).holds


@pytest.mark.parametrize(
    "change",
    [
        lambda events: events.pop(1),
        lambda events: events.pop(),
        lambda events: events.reverse(),
        lambda events: events[1].update(occurred_at="2020-01-01T00:00:00.000000Z"),
        lambda events: events[1]["detail"].update(score=1),
        lambda events: events[1].update(hash=""),
        lambda events: events.append("no event"),
    ],
)
async def test_a_chain_that_was_tampered_with_is_found_even_when_it_was_signed(
    files: Files, tmp_path: Path, change: Any
) -> None:
    """Whoever holds the signing key can sign anything; the chain still says that the events are not those."""
    manifest = (await files.archive.package(files.done.case)).manifest
    events = json.loads(entries(await files.bytes())[EVENTS])
    change(events)
    parts = [json_part(EVENTS, events) if part.name == EVENTS else part for part in manifest.parts]
    forged = replace(manifest, parts=parts)
    said = {"case": forged.case, "manifest_sha256": forged.sha256()}
    package = await written(Package(forged, files.signer.sign(said, typ=TYP)))
    verdict = verify(kept(tmp_path, package), files.signer.key_set())
    assert verdict.problems
    assert all(problem.startswith((EVENTS, "holds something")) for problem in verdict.problems)


async def test_a_file_that_is_not_what_its_digest_says_never_gets_into_a_package() -> None:
    async def other() -> AsyncIterator[bytes]:
        yield b"other"

    wrong = Part("results/D1", 5, hashlib.sha256(b"bytes").hexdigest(), other)
    with pytest.raises(Unavailable):
        await written(Package(Manifest("C", "", [bytes_part("a", b"a"), wrong]), "x"))


async def test_only_the_file_of_ones_own_case_that_has_ended(files: Files) -> None:
    with pytest.raises(NotFound):
        await files.archive.of(STRANGER, files.done.case)
    with pytest.raises(NotFound):
        await files.archive.of(AGENCY, "KY44010044060020260302000009X")


async def test_an_open_case_has_no_package(sqlite_store: Store, sealer: Sealer, clock: ManualClock) -> None:
    done = Finished(sqlite_store, sealer, clock)
    await done.open(State.ACCEPTED)
    with pytest.raises(Conflict) as refused:
        await Files(done).archive.of(AGENCY, done.case)
    assert refused.value.stable_code == "archive.too_early"


async def test_the_command_checks_a_package_and_says_so(files: Files, tmp_path: Path) -> None:
    package = kept(tmp_path, await files.bytes())
    keys = tmp_path / "jwks.json"
    keys.write_bytes(orjson.dumps(files.signer.public_jwks()))
    good = CliRunner().invoke(main, ["archive", "verify", str(package), "--key", str(keys)])
    assert (good.exit_code, files.done.case in good.output, "holds" in good.output) == (0, True, True)
    package.write_bytes(package.read_bytes().replace("李芳".encode(), "李方".encode()))
    bad = CliRunner().invoke(main, ["archive", "verify", str(package), "--key", str(keys), "--json"])
    assert (bad.exit_code, json.loads(bad.output)["holds"]) == (1, False)
    keys.write_text("{}")
    assert CliRunner().invoke(main, ["archive", "verify", str(package), "--key", str(keys)]).exit_code == 1


def zipped(found: dict[str, bytes], how: int = zipfile.ZIP_STORED, again: str = "") -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", how) as archive:
        for name, content in found.items():
            archive.writestr(name, content)
        if again:
            archive.writestr(again, b"{}")
    return sink.getvalue()


# --- handing over --------------------------------------------------------------------------------------------------


@dataclass
class ArchiveSystem:
    """An archive system: a plain HTTP server that answers with `answers`, then with 201."""

    answers: list[int] = field(default_factory=list)
    got: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.got.append((request.path, dict(request.headers), body))
        status = self.answers.pop(0) if self.answers else 201
        return web.Response(status=status, headers={"X-Receipt": "DA-2026-1"})


@asynccontextmanager
async def handing_over(files: Files, system: ArchiveSystem) -> AsyncIterator[Errands]:
    """Run the system, and yield the errands of a replica that hands packages to it."""
    app = web.Application()
    app.router.add_put("/files/{case}", system.take)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        push = ArchivePush(
            store=files.done.store, archive=files.archive, session=session, note=files.done.events.note,
            systems=Systems({"foshan": System(str(server.make_url("/files")), "token-of-ours")}),
            timeout=aiohttp.ClientTimeout(total=5), clock=files.done.clock,
        )  # fmt: skip
        retry = RetryPolicy(12, timedelta(seconds=1), timedelta(seconds=2), timedelta(hours=1))
        yield Errands(
            store=files.done.store, runners={ARCHIVE: push}, retry=retry, note=files.done.events.note,
            clock=files.done.clock,
        )  # fmt: skip


async def order(files: Files, kind: str = ARCHIVE) -> None:
    def unit(tx: Connection) -> None:
        now = files.done.clock()
        errands.put(tx, submission_id=files.done.case, kind=kind, region="foshan", now=now, due=now)

    await files.done.store.write(unit)


async def turn(files: Files, worker: Errands) -> tuple[str, str | None]:
    files.done.clock.advance(5)
    await worker.turn()
    row = select(case_errands).where(case_errands.c.kind == ARCHIVE)
    found = await files.done.store.read(lambda tx: tx.execute(row).one())
    return found.state, found.last_code


async def test_a_package_is_handed_over_until_the_system_has_it_and_the_case_says_so(
    files: Files, tmp_path: Path
) -> None:
    system = ArchiveSystem([503, 429])
    await order(files)
    async with handing_over(files, system) as worker:
        assert await turn(files, worker) == ("open", "archive.unreachable")
        assert await turn(files, worker) == ("open", "archive.unreachable")
        assert await turn(files, worker) == ("done", "ok")
        await worker.turn()
    assert len({body for _, _, body in system.got}) == 1, "the same bytes each time"
    path, headers, body = system.got[-1]
    assert (path, headers["Authorization"]) == (f"/files/{files.done.case}", "Bearer token-of-ours")
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    assert headers["Content-Digest"] == f"sha-256=:{digest}:"
    assert verify(kept(tmp_path, body), files.signer.key_set()).holds
    [(_, told)] = await files.done.facts(["archived"])
    assert (told["receipt"], told["manifest_sha256"]) == ("DA-2026-1", headers["Idempotency-Key"])


async def test_a_system_that_refuses_a_package_needs_a_person(files: Files) -> None:
    await order(files)
    async with handing_over(files, ArchiveSystem([422])) as worker:
        assert await turn(files, worker) == ("dead", "archive.refused")
    assert [kind for kind, _ in await files.done.facts(["archive.failed"])] == ["archive.failed"]


async def test_a_package_waits_for_the_documents_that_belong_in_it(files: Files) -> None:
    await order(files)
    await order(files, RESULTS)
    system = ArchiveSystem()
    async with handing_over(files, system) as worker:
        assert await turn(files, worker) == ("open", "NotYet")
        await files.done.store.write(
            lambda tx: tx.execute(case_errands.update().where(case_errands.c.kind == RESULTS).values(state="done"))
        )
        assert await turn(files, worker) == ("done", "ok")
    assert len(system.got) == 1


async def test_evidence_of_the_case_is_found_by_its_number(files: Files) -> None:
    """And not that of another case, nor of the package itself."""
    now = files.done.clock()

    def unit(tx: Connection) -> None:
        for what in ({"case": "another"}, {"region": "foshan"}):
            record(tx, Exchange("x", "done", "y", {}, what, "z", now), now=now)

    before = entries(await files.bytes())["evidence.json"]
    await files.done.store.write(unit)
    assert entries(await files.bytes())["evidence.json"] == before
