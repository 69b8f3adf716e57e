"""A certificate file is genuine when everything about it is, and otherwise the verdict names the step that failed.

The files come from `gateway.sandbox.sealed_files`, which shares no code with the verifier; what both might have
misread is held against asn1crypto and pyHanko.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import warnings
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gmalg
import pytest
from asn1crypto import core
from asn1crypto import keys as asn1_keys
from asn1crypto import x509 as asn1_x509
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.sign import PdfSignatureMetadata, PdfSigner, SimpleSigner, fields
from pyhanko_certvalidator.registry import SimpleCertificateStore

from gateway.certificates.files import sm2_certificates, verifier
from gateway.certificates.files.registry import Registry
from gateway.certificates.files.verdict import REASONS, Check, Form, Outcome, Stated
from gateway.certificates.files.verifier import FileVerifier, verify
from gateway.errors import Unavailable
from gateway.sandbox.sealed_files import ofd, pdf
from gateway.sandbox.sealed_files.hostile import SEAL, VALUE
from gateway.sandbox.sealed_files.identities import EcIdentity, sm2_identity, years
from gateway.sandbox.sealed_files.seals import sm3
from tests.support.sealed_files import CERTIFICATE, NOW, OWNER, SECOND_OWNER, SealedWorld, sealed_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SealedWorld:
    return sealed_world(tmp_path_factory.mktemp("seals"))


# --- genuine -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "standard"),
    [
        ({}, "GB/T 38540-2020"),
        ({"by_digest": True}, "GB/T 38540-2020"),
        ({"old": True}, "GM/T 0031-2014"),
    ],
)
def test_an_ofd_under_its_seal_is_genuine(world: SealedWorld, changes: dict[str, bool], standard: str) -> None:
    sealer = world.files.owners[OWNER].sealer.but(**changes)
    data = ofd.zipped(world.files.entries(CERTIFICATE, [sealer]))
    verdict = world.verdict(data)
    assert verdict.genuine
    assert verdict.form is Form.OFD
    assert verdict.sha256 == hashlib.sha256(data).hexdigest()
    assert [step.check for step in (*verdict.seals[0].steps, verdict.seals[0].scope)] == list(Check)
    assert (verdict.seals[0].standard, verdict.seals[0].owner, verdict.seals[0].signed_at) == (standard, OWNER, NOW)


def test_a_pdf_under_its_seal_is_genuine(world: SealedWorld) -> None:
    verdict = world.verdict(world.files.sealed_pdf(CERTIFICATE, OWNER))
    assert verdict.genuine
    assert verdict.form is Form.PDF
    assert verdict.seals[0].owner == OWNER
    assert verdict.seals[0].signed_at == NOW


@pytest.mark.parametrize("form", Form)
def test_a_file_says_of_itself_what_it_is(world: SealedWorld, form: Form) -> None:
    made = world.files.sealed_ofd if form is Form.OFD else world.files.sealed_pdf
    said = world.verdict(made(CERTIFICATE, OWNER)).stated
    assert said.identifier == CERTIFICATE.identifier
    assert said.type == CERTIFICATE.type_code
    assert said.type_name == CERTIFICATE.type_name
    assert said.holder is not None
    assert said.holder.reveal() == CERTIFICATE.holder
    assert CERTIFICATE.holder not in repr(said)


def test_the_type_is_read_from_the_identifier_where_nothing_else_says_it() -> None:
    assert Stated(identifier=CERTIFICATE.identifier).type == CERTIFICATE.type_code
    assert Stated(identifier="1.2.3").type is None


def test_two_seals_are_two_verdicts(world: SealedWorld) -> None:
    sealers = [world.files.owners[code].sealer for code in (OWNER, SECOND_OWNER)]
    verdict = world.verdict(ofd.zipped(world.files.entries(CERTIFICATE, [sealers[0], sealers[1].but(old=True)])))
    assert verdict.genuine
    assert [seal.owner for seal in verdict.seals] == [OWNER, SECOND_OWNER]


def test_one_bad_seal_of_two_spoils_the_file(world: SealedWorld) -> None:
    good = world.files.owners[OWNER].sealer
    bad = world.files.owners[SECOND_OWNER].sealer.but(seal_id="NOBODYS")
    verdict = world.verdict(ofd.zipped(world.files.entries(CERTIFICATE, [good, bad])))
    assert [seal.genuine for seal in verdict.seals] == [True, False]
    assert not verdict.genuine


def test_what_a_later_seal_adds_is_covered_by_it_or_by_nothing(world: SealedWorld) -> None:
    """An entry that came with a second seal, and that the second covers, is not what the first one sealed."""
    sealers = [world.files.owners[code].sealer for code in (OWNER, SECOND_OWNER)]
    first = ofd.seal(ofd.entries(CERTIFICATE.metadata, CERTIFICATE.lines), sealers[:1], NOW)
    both = world.files.entries(CERTIFICATE, sealers)
    added = {**first, "Doc_0/Annots/Annot.xml": b"<Annot/>"}
    folder = "Doc_0/Signs/Sign_1"
    description = ofd._description({k: v for k, v in added.items() if k != ofd.LIST}, folder, NOW, "SM3")
    added |= {
        f"{folder}/Signature.xml": description,
        f"{folder}/Seal.esl": sealers[1].seal,
        ofd.LIST: both[ofd.LIST],
    }
    added[f"{folder}/SignedValue.dat"] = sealers[1].sign(sm3(description), "x", NOW, seal=added[f"{folder}/Seal.esl"])
    verdict = world.verdict(ofd.zipped(added))
    assert [seal.failure and seal.failure.reason for seal in verdict.seals] == ["entry_uncovered", None]


def test_an_intermediate_beside_its_anchor_leads_to_it(world: SealedWorld) -> None:
    between = sm2_identity("中间（沙箱）", world.files.root, NOW - years(4), NOW + years(4), authority=True)
    maker = sm2_identity("制章人二（沙箱）", between, NOW - years(4), NOW + years(4))
    data = ofd.zipped(world.files.entries(CERTIFICATE, [world.files.owners[OWNER].sealer.but(maker=maker)]))
    assert failure(world, data) == ("seal", "chain_broken")
    known = sm2_certificates.read(between.certificate)
    seal = world.registry.seals[f"SBX{OWNER}"]
    registry = replace(
        world.registry, maker_intermediates=[known], seals={seal.id: replace(seal, maker=maker.sha256)}
    )  # fmt: skip
    assert verify(data, registry, NOW).genuine


# --- not genuine ---------------------------------------------------------------------------------------------------

EXPECTED: Mapping[str, tuple[str, str]] = {
    "ofd_swapped_seal": ("document", "digest_wrong"),
    "ofd_swapped_seal_file": ("seal", "seal_differs"),
    "ofd_unlisted_signer": ("signer_listed", "signer_not_listed"),
    "ofd_unlisted_signer_by_digest": ("signer_listed", "signer_not_listed"),
    "ofd_foreign_signature": ("signature", "signature_wrong"),
    "ofd_forged_seal": ("seal", "seal_signature_wrong"),
    "ofd_forged_old_seal": ("seal", "seal_signature_wrong"),
    "ofd_maker_of_another_root": ("seal", "chain_broken"),
    "ofd_maker_under_a_signer": ("seal", "chain_broken"),
    "ofd_signer_as_maker": ("scope", "seal_other_maker"),
    "ofd_maker_may_not_sign": ("seal", "maker_certificate"),
    "ofd_seal_ended": ("seal", "seal_term"),
    "ofd_seal_made_later": ("seal", "seal_term"),
    "ofd_expired_signer": ("signer_certificate", "certificate_term"),
    "ofd_signer_not_yet_valid": ("signer_certificate", "certificate_term"),
    "ofd_signer_for_encryption": ("signer_certificate", "key_usage"),
    "ofd_signer_without_usage": ("signer_certificate", "key_usage"),
    "ofd_signed_in_future": ("signer_certificate", "signed_in_future"),
    "ofd_r_is_zero": ("signature", "signature_range"),
    "ofd_r_is_negative": ("signature", "signature_range"),
    "ofd_r_is_order": ("signature", "signature_range"),
    "ofd_s_is_too_large": ("signature", "signature_range"),
    "ofd_r_and_s_cancel": ("signature", "signature_range"),
    "ofd_value_in_ber": ("signature", "seal_malformed"),
    "ofd_value_with_tail": ("signature", "seal_malformed"),
    "ofd_value_is_noise": ("signature", "seal_malformed"),
    "ofd_wrong_version": ("signature", "seal_version"),
    "ofd_critical_extension": ("signature", "seal_extension"),
    "ofd_digests_by_sha1": ("document", "algorithm"),
    "ofd_plain_signature": ("signature", "not_a_seal"),
    "ofd_changed_page": ("document", "entry_changed"),
    "ofd_changed_metadata": ("document", "entry_changed"),
    "ofd_added_page": ("document", "entry_uncovered"),
    "ofd_removed_page": ("document", "entry_missing"),
    "ofd_wrong_scope": ("scope", "type_outside_scope"),
    "ofd_two_types": ("scope", "type_contradicts"),
    "ofd_no_type": ("scope", "type_unknown"),
    "ofd_unregistered_seal": ("scope", "seal_unregistered"),
    "ofd_unsealed": ("", "file_unsealed"),
    "ofd_xxe": ("", "xml_refused"),
    "ofd_hidden_doctype": ("", "xml_refused"),
    "ofd_broken_xml": ("", "xml_refused"),
    "ofd_reference_to_a_file": ("", "path_refused"),
    "ofd_reference_outside": ("", "path_refused"),
    "ofd_bomb": ("", "package_refused"),
    "ofd_many_entries": ("", "package_refused"),
    "ofd_path_traversal": ("", "package_refused"),
    "ofd_absolute_name": ("", "package_refused"),
    "ofd_double_entry": ("", "package_refused"),
    "ofd_double_entry_by_case": ("", "package_refused"),
    "ofd_link": ("", "package_refused"),
    "ofd_encrypted_entry": ("", "package_refused"),
    "ofd_cut_short": ("", "package_refused"),
    "ofd_something_in_front": ("", "package_refused"),
    "pdf_appended_update": ("document", "content_appended"),
    "pdf_appended_nothing_visible": ("document", "content_appended"),
    "pdf_appended_bytes": ("document", "content_appended"),
    "pdf_changed_page": ("document", "content_changed"),
    "pdf_changed_metadata": ("document", "content_changed"),
    "pdf_broken_signature": ("signature", "signature_wrong"),
    "pdf_unlisted_signer": ("signer_listed", "signer_not_listed"),
    "pdf_signed_in_future": ("signer_certificate", "signed_in_future"),
    "pdf_expired_signer": ("signer_certificate", "certificate_term"),
    "pdf_wrong_scope": ("scope", "type_outside_scope"),
    "pdf_unsealed": ("", "file_unsealed"),
    "pdf_encrypted": ("", "pdf_refused"),
    "pdf_script": ("", "pdf_refused"),
    "pdf_cut_short": ("", "file_unreadable"),
    "pdf_no_objects": ("", "file_unreadable"),
    "pdf_table_in_circles": ("", "file_unreadable"),
    "pdf_fields_in_circles": ("", "file_unreadable"),
    "pdf_fields_in_a_net": ("", "file_unreadable"),
    "pdf_deep_arrays": ("", "file_unreadable"),
    "pdf_signature_is_noise": ("", "file_unreadable"),
    "pdf_many_objects": ("", "file_unreadable"),
}
"""Variant → the step that fails, and the reason; no step where no seal could be looked at."""


def failure(world: SealedWorld, data: bytes, registry: Registry | None = None) -> tuple[str, str]:
    verdict = verify(data, registry or world.registry, NOW + timedelta(hours=1))
    assert not verdict.genuine
    if verdict.problem:
        return "", verdict.problem
    failed = verdict.seals[0].failure
    assert failed is not None
    return failed.check, failed.reason


def test_every_variant_is_expected_to_fail_somewhere(world: SealedWorld) -> None:
    assert list(EXPECTED) == world.hostile.names()


@pytest.mark.parametrize("name", EXPECTED)
def test_a_hostile_file_fails_at_its_step(world: SealedWorld, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # zipfile warns of a double name while one is made
        data = world.hostile.make(name)
    assert failure(world, data) == EXPECTED[name]


def test_nothing_is_said_of_steps_behind_the_one_that_failed(world: SealedWorld) -> None:
    seal = world.verdict(world.hostile.make("ofd_forged_seal")).seals[0]
    outcomes = [step.outcome for step in (*seal.steps, seal.scope)]
    assert outcomes == [Outcome.PASSED] * 2 + [Outcome.FAILED] + [Outcome.NOT_REACHED] * 3


def test_every_reason_has_words_for_a_person(world: SealedWorld) -> None:
    seal = world.verdict(world.hostile.make("ofd_wrong_scope")).seals[0]
    assert seal.failure is not None
    assert seal.failure.help == REASONS["type_outside_scope"]
    assert all(text.endswith(".") for text in REASONS.values())


@pytest.mark.parametrize(
    ("data", "problem"), [(b"", "file_form"), (b"\x89PNG", "file_form"), (b"%PDF-", "file_unreadable")]
)
def test_what_is_no_certificate_file_has_a_verdict_too(world: SealedWorld, data: bytes, problem: str) -> None:
    assert failure(world, data) == ("", problem)


def test_a_file_beyond_the_bound_is_not_looked_at(world: SealedWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifier, "MAX_SIZE", 1000)
    assert failure(world, world.files.sealed_pdf(CERTIFICATE, OWNER)) == ("", "file_size")


def test_a_file_that_finds_a_fault_of_ours_has_a_verdict_too(
    world: SealedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.certificates.files.ofd.read", lambda _: 1 // 0)
    assert failure(world, world.files.sealed_ofd(CERTIFICATE, OWNER)) == ("", "file_unexpected")


def test_a_certificate_whose_names_cannot_be_read_fails_its_step(world: SealedWorld) -> None:
    """`cryptography` reads names when they are asked for: it must not be later than a verdict can say so."""
    maker = world.files.maker
    broken = replace(maker, certificate=maker.certificate.replace(b"\x06\x03\x55\x04\x03", b"\x04\x03\x55\x04\x03"))
    data = ofd.zipped(world.files.entries(CERTIFICATE, [world.files.owners[OWNER].sealer.but(maker=broken)]))
    assert failure(world, data) == ("seal", "certificate_malformed")


def test_the_clock_of_who_signs_may_be_a_little_ahead(world: SealedWorld) -> None:
    for made in (world.files.sealed_ofd(CERTIFICATE, OWNER), world.files.sealed_pdf(CERTIFICATE, OWNER)):
        assert verify(made, world.registry, NOW - timedelta(minutes=4)).genuine
        assert not verify(made, world.registry, NOW - timedelta(minutes=6)).genuine


# --- the register decides ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", Form)
def test_nothing_is_genuine_without_an_anchor(world: SealedWorld, form: Form) -> None:
    """Also not under what the operating system trusts, to which pyHanko would fall back when nothing was said."""
    made = world.files.sealed_ofd if form is Form.OFD else world.files.sealed_pdf
    bare = Registry(world.registry.seals)
    assert failure(world, made(CERTIFICATE, OWNER), bare) == ("seal", "chain_broken")


@pytest.mark.parametrize("form", Form)
def test_a_seal_of_another_regions_maker_is_not_the_registered_one(world: SealedWorld, form: Form) -> None:
    """A seal maker of one region could otherwise make a seal under the id of another's."""
    made = world.files.sealed_ofd if form is Form.OFD else world.files.sealed_pdf
    elsewhere = replace(world.registry, regions=dict.fromkeys(world.registry.regions, frozenset({"hunan"})))
    assert failure(world, made(CERTIFICATE, OWNER), elsewhere) == ("scope", "seal_other_anchor")
    everywhere = replace(world.registry, regions=dict.fromkeys(world.registry.regions, frozenset({"*"})))
    assert verify(made(CERTIFICATE, OWNER), everywhere, NOW).genuine


@pytest.mark.parametrize("form", Form)
def test_a_seal_counts_inside_the_term_of_the_register(world: SealedWorld, form: Form) -> None:
    """The register is how a seal is withdrawn: no list of revocations is fetched."""
    made = world.files.sealed_ofd if form is Form.OFD else world.files.sealed_pdf
    ended = {
        name: replace(seal, valid_until=(NOW - timedelta(days=1)).date()) for name, seal in world.registry.seals.items()
    }
    assert failure(world, made(CERTIFICATE, OWNER), replace(world.registry, seals=ended)) == (
        "scope",
        "seal_not_in_force",
    )


# --- laws ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def entries(world: SealedWorld) -> ofd.Entries:
    return world.files.entries(CERTIFICATE, [world.files.owners[OWNER].sealer], scan=b"\xff\xd8\xff" * 9)


@pytest.fixture(scope="module")
def sealed_pdf(world: SealedWorld) -> bytes:
    return world.files.sealed_pdf(CERTIFICATE, OWNER)


@settings(max_examples=50)
@given(st.data())
def test_a_byte_changed_in_any_protected_entry_is_never_genuine(
    world: SealedWorld, entries: ofd.Entries, data: st.DataObject
) -> None:
    """Protected is everything but the list of seals, which nobody signs."""
    name = data.draw(st.sampled_from(sorted(entries.keys() - {ofd.LIST})))
    changed = bytearray(entries[name])
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    assert not world.verdict(ofd.zipped({**entries, name: bytes(changed)})).genuine


@settings(max_examples=25)
@given(st.data())
def test_a_byte_changed_in_a_pdf_is_never_genuine(world: SealedWorld, sealed_pdf: bytes, data: st.DataObject) -> None:
    """Everywhere but in the digits of the signature, which may be large or small, and are filled up with zeros."""
    begin = sealed_pdf.index(b"/Contents <") + len(b"/Contents <")
    places = st.one_of(st.integers(0, begin - 1), st.integers(begin + pdf.ROOM, len(sealed_pdf) - 1))
    changed = bytearray(sealed_pdf)
    changed[data.draw(places)] ^= data.draw(st.integers(1, 255))
    assert not world.verdict(bytes(changed)).genuine


@settings(max_examples=15)
@given(st.data())
def test_another_byte_in_a_pdfs_signature_changes_neither_signer_nor_time(
    world: SealedWorld, sealed_pdf: bytes, data: st.DataObject
) -> None:
    """Some bytes of a CMS are nobody's (a version, a repeated algorithm): what counts is still what was signed."""
    begin = sealed_pdf.index(b"/Contents <") + len(b"/Contents <")
    signature = bytearray.fromhex(sealed_pdf[begin : begin + pdf.ROOM].decode())
    signature[data.draw(st.integers(0, len(signature.rstrip(b"\0")) - 1))] ^= data.draw(st.integers(1, 255))
    changed = sealed_pdf[:begin] + signature.hex().encode() + sealed_pdf[begin + pdf.ROOM :]
    verdict, signer = world.verdict(changed), world.files.owners[OWNER].signer
    assert not verdict.genuine or (verdict.seals[0].seal_id, verdict.seals[0].signed_at) == (signer.sha256, NOW)


@settings(max_examples=60)
@given(st.binary(max_size=400), st.sampled_from([b"PK\x03\x04", b"%PDF-1.7\n", b""]))
def test_noise_gives_a_verdict(world: SealedWorld, noise: bytes, beginning: bytes) -> None:
    assert not world.verdict(beginning + noise).genuine


@settings(max_examples=40)
@given(st.binary(min_size=1, max_size=200))
def test_noise_in_place_of_the_signed_value_gives_a_verdict(
    world: SealedWorld, entries: ofd.Entries, noise: bytes
) -> None:
    assert not world.verdict(ofd.zipped({**entries, VALUE: noise})).genuine


# --- against other people's code -----------------------------------------------------------------------------------


def record(title: str, /, **parts: Any) -> Any:
    """Return an asn1crypto SEQUENCE with these fields."""
    return type(title, (core.Sequence,), {"_fields": list(parts.items())})


CERTIFICATES = type("Certificates", (core.SequenceOf,), {"_child_spec": core.OctetString})
HEADER = record("SES_Header", ID=core.IA5String, version=core.Integer, Vid=core.IA5String)
PROPERTY = record(
    "SES_ESPropertyInfo", type=core.Integer, name=core.UTF8String, certListType=core.Integer, certList=CERTIFICATES,
    createDate=core.GeneralizedTime, validStart=core.GeneralizedTime, validEnd=core.GeneralizedTime,
)  # fmt: skip
PICTURE = record(
    "SES_ESPictrueInfo", type=core.IA5String, data=core.OctetString, width=core.Integer, height=core.Integer
)
SEAL_INFO = record("SES_SealInfo", header=HEADER, esID=core.IA5String, property=PROPERTY, picture=PICTURE)
SES_SEAL = record(
    "SESeal", eSealInfo=SEAL_INFO, cert=core.OctetString, signAlgID=core.ObjectIdentifier, signedValue=core.BitString
)
TO_SIGN = record(
    "TBS_Sign", version=core.Integer, eseal=SES_SEAL, timeInfo=core.GeneralizedTime, dataHash=core.BitString,
    propertyInfo=core.IA5String,
)  # fmt: skip
SES_SIGNATURE = record(
    "SES_Signature", toSign=TO_SIGN, cert=core.OctetString, signatureAlgID=core.ObjectIdentifier,
    signature=core.BitString,
)  # fmt: skip


def test_the_seal_has_the_fields_of_the_standard(entries: ofd.Entries) -> None:
    """Writer and reader are ours; asn1crypto reads the structure as GB/T 38540-2020 prints it."""
    read = SES_SIGNATURE.load(entries[VALUE], strict=True)
    native = read["toSign"]["eseal"]["eSealInfo"].native
    assert (native["header"]["ID"], native["header"]["version"]) == ("ES", 4)
    assert native["property"]["name"].endswith("电子证照专用章")
    assert read["toSign"]["timeInfo"].native == NOW
    assert read["toSign"]["eseal"].dump() == entries[SEAL]
    assert read["signatureAlgID"].native == "1.2.156.10197.1.501"


def test_what_is_signed_is_what_the_standard_has_signed(entries: ofd.Entries, world: SealedWorld) -> None:
    """Held against a third SM2 (gmalg) over the bytes that asn1crypto cuts out: TBS_Sign, and SES_SealInfo."""
    read = SES_SIGNATURE.load(entries[VALUE], strict=True)
    seal = read["toSign"]["eseal"]
    for text, signature, secret in (
        (read["toSign"].dump(), read["signature"], world.files.owners[OWNER].sealer.signer.secret),
        (seal["eSealInfo"].dump(), seal["signedValue"], world.files.maker.secret),
    ):
        r, s = decode_dss_signature(bytes(signature.cast(core.OctetBitString).native))
        assert gmalg.SM2(secret.to_bytes(32), b"1234567812345678").verify(text, r.to_bytes(32), s.to_bytes(32))


class SignerAtNow(PdfSigner):
    """Takes the time from the test, not from the machine."""

    def init_signing_session(self, *args: Any, **kwargs: Any) -> Any:
        session = super().init_signing_session(*args, **kwargs)
        session.system_time = NOW
        return session


def by_pyhanko(raw: bytes, signer: EcIdentity, field: str) -> bytes:
    """Seal a PDF with pyHanko, in an update behind what is there."""
    key = signer.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    simple = SimpleSigner(
        asn1_x509.Certificate.load(signer.certificate),
        asn1_keys.PrivateKeyInfo.load(key),
        SimpleCertificateStore(),
    )
    metadata = PdfSignatureMetadata(field_name=field, subfilter=fields.SigSeedSubFilter.PADES, md_algorithm="sha256")
    sealed: BytesIO = SignerAtNow(metadata, simple).sign_pdf(IncrementalPdfFileWriter(BytesIO(raw)))
    return sealed.getvalue()


def test_a_seal_by_pyhanko_behind_the_first_is_genuine_and_the_first_stays_so(world: SealedWorld) -> None:
    first = world.files.sealed_pdf(CERTIFICATE, OWNER)
    twice = by_pyhanko(first, world.files.owners[SECOND_OWNER].signer, "Seal2")
    verdict = world.verdict(twice)
    assert [seal.failure for seal in verdict.seals] == [None, None]
    assert verdict.genuine


def test_a_change_between_two_seals_spoils_the_first(world: SealedWorld) -> None:
    changed = world.hostile.make("pdf_appended_update")
    twice = by_pyhanko(changed, world.files.owners[SECOND_OWNER].signer, "Seal2")
    verdict = world.verdict(twice)
    assert [seal.failure and seal.failure.reason for seal in verdict.seals] == ["content_appended", None]


# --- the service ---------------------------------------------------------------------------------------------------


async def test_the_verifier_works_beside_the_event_loop(world: SealedWorld) -> None:
    files = FileVerifier(world.registry, lambda: NOW)
    made = [world.files.sealed_ofd(CERTIFICATE, OWNER), world.files.sealed_pdf(CERTIFICATE, OWNER)]
    verdicts = await asyncio.gather(*map(files.verify, made))
    assert [verdict.genuine for verdict in verdicts] == [True, True]
    files.close()


async def test_a_file_that_takes_too_long_is_no_bad_file_and_one_that_waits_behind_it_neither(
    world: SealedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread goes on; its caller does not wait for it. That the gateway is slow says nothing of a file."""
    released = threading.Event()
    monkeypatch.setattr(verifier, "verify", lambda *_: released.wait())
    files = FileVerifier(world.registry, lambda: NOW, workers=1, seconds=0.01)
    refused = await asyncio.gather(files.verify(b"%PDF-1"), files.verify(b"%PDF-2"), return_exceptions=True)
    released.set()
    files.close()
    assert [error.stable_code for error in refused if isinstance(error, Unavailable)] == [
        "certificate.file_not_looked_at"
    ] * 2


async def test_the_time_of_a_file_begins_when_a_thread_takes_it(
    world: SealedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two files and one thread, one is looked at and the other waits: no time for its verdict runs yet."""
    released, third = threading.Event(), asyncio.Event()
    begun: list[Any] = []

    async def waited(coming: Any, _seconds: float) -> Any:
        begun.append(coming)
        if len(begun) == 3:
            third.set()
        return await coming

    monkeypatch.setattr(verifier, "verify", lambda *_: released.wait() and SimpleNamespace(problem=""))
    monkeypatch.setattr(asyncio, "wait_for", waited)
    files = FileVerifier(world.registry, lambda: NOW, workers=1)
    both = asyncio.gather(files.verify(b"1"), files.verify(b"2"))
    await third.wait()
    assert [asyncio.iscoroutine(one) for one in begun] == [True, True, False]  # two turns, and one verdict
    released.set()
    await both
    files.close()
    assert len(begun) == 4


async def test_a_defect_of_ours_is_no_fault_of_the_file(world: SealedWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.certificates.files.ofd.read", lambda _: 1 // 0)
    files = FileVerifier(world.registry, lambda: NOW)
    with pytest.raises(Unavailable) as refused:
        await files.verify(world.files.sealed_ofd(CERTIFICATE, OWNER))
    files.close()
    assert refused.value.stable_code == "certificate.file_not_looked_at"


# --- seals.toml ----------------------------------------------------------------------------------------------------


def test_the_register_is_read_from_where_it_was_written(tmp_path: Path) -> None:
    """A world that is written and read again knows its seals: two of each owner, one for OFD and one for PDF."""
    assert len(sealed_world(tmp_path).registry.seals) == 4
