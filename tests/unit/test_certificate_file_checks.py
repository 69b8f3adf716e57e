"""A certificate's file that was handed in: step by step, with its issuer's word of now, and gone afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import select

from gateway.certificates.file_checks import FileAnswer, FileChecks, Verdict
from gateway.certificates.files.registry import Registry, load_seals
from gateway.certificates.files.verdict import Outcome
from gateway.certificates.files.verifier import FileVerifier
from gateway.certificates.places import Places
from gateway.certificates.request import VerifyRequest
from gateway.crypto.at_rest import References, Sealer
from gateway.domain.certificate import Standing
from gateway.errors import GatewayError, InvalidRequest, NotFound, NotPermitted, RegionUnreachable, Unavailable
from gateway.sandbox.sealed_files import Certificate, SealedFiles
from gateway.storage import Store
from gateway.storage.tables import evidence
from gateway.submissions.materials import Materials
from gateway.submissions.uploads import Uploads
from gateway.web.api.certificate_files import looked_at
from tests.support.clock import ManualClock
from tests.support.issuers import CALLER, FRAME, HOLDER, IDENTIFIER, ISSUER, KIND, Issuer, certificate, grants, services
from tests.support.sealed_files import moved
from tests.support.uploads import pieces

NOW = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)
STEPS = ["signature", "signer_listed", "seal", "signer_certificate", "document", "scope"]


@pytest.fixture(scope="module")
def files() -> SealedFiles:
    made = SealedFiles("guangdong", NOW)
    made.add_owner(ISSUER, "广东省市场监督管理局（沙箱）", [KIND.code])
    return made


class Desk:
    """Who verifies files, over one issuer."""

    def __init__(self, store: Store, uploads: Uploads, materials: Materials, references: References) -> None:
        self.store, self.uploads, self.materials, self.references = store, uploads, materials, references
        self.issuer, self.sealer = Issuer(), Sealer(bytes(32))
        self.clock = ManualClock(NOW + timedelta(hours=1))
        self.registry: Registry
        self.verifier: FileVerifier

    def move_seals(self, region: str) -> None:
        """Let the register have its seals and anchors in another region."""
        self.verifier.close()
        self.registry = moved(self.registry, region)
        self.verifier = FileVerifier(self.registry, self.clock)

    def checks(self, most: int = 1 << 20, **more: Any) -> FileChecks:
        asked = services(self.store, self.clock, self.references, self.issuer, **more)
        show, drop = self.materials.show, self.uploads.drop
        return FileChecks(asked.named, self.verifier, show, self.materials.open, drop, most, Places(2))

    async def upload(self, data: bytes, media_type: str = "application/ofd") -> str:
        blob = await self.uploads.upload(CALLER, name="f", media_type=media_type, chunks=pieces(data))
        return blob.id

    async def verify(self, blob: str, checks: FileChecks | None = None, **changes: Any) -> FileAnswer:
        said = VerifyRequest.model_validate({**FRAME, "file": blob, **changes})
        return await (checks or self.checks()).verify(CALLER, said)

    async def is_there(self, blob: str) -> bool:
        try:
            await self.materials.show(CALLER, blob)
        except NotFound:
            return False
        return True


@pytest_asyncio.fixture
async def desk(
    sqlite_store: Store, uploads: Uploads, materials: Materials, references: References, files: SealedFiles,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Desk]:  # fmt: skip
    made = Desk(sqlite_store, uploads, materials, references)
    register = files.write_register(tmp_path_factory.mktemp("seals"))
    made.registry = load_seals(register, regions={"guangdong"}, types={KIND.code})
    made.verifier = FileVerifier(made.registry, made.clock)
    yield made
    made.verifier.close()


def of_this(**changes: Any) -> Certificate:
    known = {"identifier": IDENTIFIER, "type_code": KIND.code, "type_name": KIND.name, "holder": "陈小明", "fields": {}}
    return Certificate(**{**known, **changes})


async def test_a_good_file_passes_every_step_and_its_issuer_says_that_it_is_in_force(
    desk: Desk, files: SealedFiles
) -> None:
    blob = await desk.upload(files.sealed_ofd(of_this(), ISSUER))
    told = await desk.verify(blob, holder=HOLDER, claims={"number": "SBX777"})
    assert (told.verdict, told.answer.answer.standing) == (Verdict.GOOD, Standing.VALID)
    (seal,) = told.file.seals
    assert [(str(step.check), step.outcome) for step in (*seal.steps, seal.scope)] == [
        (name, Outcome.PASSED) for name in STEPS
    ]
    assert {str(match) for match in told.answer.claims.values()} == {"match"}
    assert desk.issuer.asked == ["data"]
    assert not await desk.is_there(blob)
    written = looked_at(told)
    assert (written["verdict"], written["file"]["genuine"]) == ("good", True)
    assert [step["check"] for step in written["file"]["seals"][0]["steps"]] == STEPS


@pytest.mark.parametrize(
    ("issuer", "changes", "verdict"),
    [
        ({"holds": [certificate(state="REVOKED")]}, {}, Verdict.BAD),
        ({"holds": []}, {}, Verdict.BAD),
        ({"trouble": RegionUnreachable("away", region="guangdong")}, {}, Verdict.UNDECIDED),
        ({}, {"claims": {"number": "SBX778"}}, Verdict.BAD),
    ],
    ids=["revoked", "not known to its issuer", "nobody heard", "a claim that does not fit"],
)
async def test_a_genuine_file_is_worth_what_its_issuer_says_now(
    desk: Desk, files: SealedFiles, issuer: dict[str, Any], changes: dict[str, Any], verdict: Verdict
) -> None:
    for name, value in issuer.items():
        setattr(desk.issuer, name, value)
    told = await desk.verify(await desk.upload(files.sealed_ofd(of_this(), ISSUER)), **changes)
    assert (told.file.genuine, told.verdict) == (True, verdict)


@pytest.mark.parametrize("form", ["ofd", "pdf"])
async def test_a_seal_of_one_region_says_nothing_of_anothers_certificate(
    desk: Desk, files: SealedFiles, form: str
) -> None:
    """The register lets a seal of Hunan be put on this type; it was not Hunan that issued this one."""
    desk.move_seals("hunan")
    make = files.sealed_ofd if form == "ofd" else files.sealed_pdf
    told = await desk.verify(await desk.upload(make(of_this(), ISSUER), f"application/{form}"))
    assert (told.verdict, told.file.genuine, told.answer.answer.standing) == (Verdict.BAD, False, Standing.VALID)
    assert [seal.failure and seal.failure.reason for seal in told.file.seals] == ["seal_other_region"]


async def test_a_standing_that_is_remembered_serves_no_file(desk: Desk, files: SealedFiles) -> None:
    checks = desk.checks()
    for _ in range(2):
        await desk.verify(await desk.upload(files.sealed_ofd(of_this(), ISSUER)), checks)
    assert desk.issuer.asked == ["data", "data"]


async def test_a_file_that_was_changed_is_bad_whatever_its_issuer_says(desk: Desk, files: SealedFiles) -> None:
    sealed = files.sealed_pdf(of_this(), ISSUER)
    told = await desk.verify(await desk.upload(sealed + b"\n% more\n", "application/pdf"))
    assert (told.verdict, told.answer.answer.standing) == (Verdict.BAD, Standing.VALID)
    (row,) = [
        row for row in await desk.store.read(lambda tx: tx.execute(select(evidence)).mappings().all())
        if row["action"] == "certificate.verify"
    ]  # fmt: skip
    assert row["what"]["file"] == "not_genuine"
    assert row["id"] == told.answer.evidence_id
    assert row["parts"]["file"]["size"] == len(sealed) + 8


async def test_a_file_that_names_no_certificate_is_refused_in_words_and_stays(desk: Desk) -> None:
    blob = await desk.upload(b"%PDF-1.4\n1 0 obj<<>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n", "application/pdf")
    with pytest.raises(InvalidRequest) as refused:
        await desk.verify(blob)
    assert refused.value.stable_code == "certificate.file_nameless"
    assert refused.value.evidence is not None
    assert await desk.is_there(blob)


async def test_an_identifier_with_a_wrong_check_character_is_asked_of_nobody(desk: Desk, files: SealedFiles) -> None:
    wrong = of_this(identifier=IDENTIFIER[:-1] + ("A" if IDENTIFIER[-1] != "A" else "B"))
    with pytest.raises(InvalidRequest) as refused:
        await desk.verify(await desk.upload(files.sealed_ofd(wrong, ISSUER)))
    assert [problem.code for problem in refused.value.problems] == ["check_character"]
    assert desk.issuer.asked == []


async def test_without_a_grant_no_seal_is_told_of(desk: Desk, files: SealedFiles) -> None:
    checks = desk.checks(allowed=grants(capabilities=["certificates.data"]))
    with pytest.raises(NotPermitted):
        await desk.verify(await desk.upload(files.sealed_ofd(of_this(), ISSUER)), checks)


async def test_a_file_that_could_not_be_looked_at_stays_and_nobody_is_asked(
    desk: Desk, files: SealedFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.certificates.files.ofd.read", lambda _: 1 // 0)
    blob = await desk.upload(files.sealed_ofd(of_this(), ISSUER))
    with pytest.raises(Unavailable) as refused:
        await desk.verify(blob)
    assert (refused.value.stable_code, refused.value.evidence is None) == ("certificate.file_not_looked_at", False)
    assert (desk.issuer.asked, await desk.is_there(blob)) == ([], True)


async def test_a_file_beyond_the_bound_is_not_read(desk: Desk, files: SealedFiles) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await desk.verify(await desk.upload(files.sealed_ofd(of_this(), ISSUER)), desk.checks(most=100))
    assert [problem.code for problem in refused.value.problems] == ["too_large"]


@pytest.mark.parametrize("blob", ["BL" + "0" * 32, "x"])
async def test_an_upload_that_is_not_the_callers_is_not_there(desk: Desk, blob: str) -> None:
    with pytest.raises(NotFound):
        await desk.verify(blob)


async def test_a_file_stands_alone(desk: Desk, files: SealedFiles) -> None:
    """Not beside another name of the certificate, and not in a batch."""
    blob = await desk.upload(files.sealed_ofd(of_this(), ISSUER))
    with pytest.raises(InvalidRequest):
        await desk.verify(blob, identifier=IDENTIFIER)
    said = VerifyRequest.model_validate({**FRAME, "file": blob})
    with pytest.raises(GatewayError) as refused:
        await desk.checks().named.verify(CALLER, said)
    assert [problem.field for problem in refused.value.problems] == ["file"]
