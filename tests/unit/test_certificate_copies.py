"""A copy of a certificate file (加注件) says on every page and in its metadata what it is for, and bears no seal."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from io import BytesIO

import pytest
from lxml import etree
from pyhanko.pdf_utils.reader import PdfFileReader

from gateway.certificates.files import ofd as verified
from gateway.certificates.files.copies import Copier, NotCopied
from gateway.certificates.files.glyphs import SIMPLIFIED, Glyphs
from gateway.certificates.files.package import unpack
from gateway.certificates.files.verdict import Form
from gateway.certificates.files.verifier import verify
from gateway.certificates.files.watermark import ACROSS, Use, ems, marks
from gateway.sandbox.sealed_files import ofd
from tests.support.sealed_files import CERTIFICATE, NOW, OWNER, SealedWorld, sealed_world

USE = Use(
    purpose="城乡居民医疗保险参保登记",
    organisation="广州市政务服务和数据管理局（沙箱）",
    case="GZ20260504-000123",
    maker="Pearl Gateway",
    made_at=NOW,
    expires_at=NOW + timedelta(days=30),
)
SAID = [
    "仅供广州市政务服务和数据管理局（沙箱）",
    "办理城乡居民医疗保险参保登记使用",
    "GZ20260504-000123",
    "2026-06-03 17:00",
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SealedWorld:
    return sealed_world(tmp_path_factory.mktemp("seals"))


@pytest.fixture(scope="module")
def copier() -> Copier:
    return Copier()


def original(world: SealedWorld, form: Form) -> bytes:
    return (world.files.sealed_ofd if form is Form.OFD else world.files.sealed_pdf)(CERTIFICATE, OWNER)


@pytest.mark.parametrize("form", Form)
def test_a_copy_names_its_original_and_bears_no_seal(world: SealedWorld, copier: Copier, form: Form) -> None:
    data = original(world, form)
    copy = copier.annotated(data, world.verdict(data), USE)
    verdict = world.verdict(copy.data)
    assert (verdict.form, verdict.problem, verdict.seals) == (form, "file_unsealed", ())
    assert copy.original_sha256 == hashlib.sha256(data).hexdigest()
    assert copy.sha256 == hashlib.sha256(copy.data).hexdigest()


@pytest.mark.parametrize("form", Form)
def test_only_a_genuine_file_is_copied_and_only_under_its_own_verdict(
    world: SealedWorld, copier: Copier, form: Form
) -> None:
    data = original(world, form)
    unknown = verify(data, replace(world.registry, seals={}), NOW)
    for verdict in (unknown, world.verdict(original(world, form)[:-1]), world.verdict(data + b" ")):
        with pytest.raises(NotCopied):
            copier.annotated(data, verdict, USE)


# --- OFD -----------------------------------------------------------------------------------------------------------


def copied_ofd(world: SealedWorld, copier: Copier, entries: ofd.Entries) -> dict[str, bytes]:
    data = ofd.zipped(entries)
    return unpack(copier.annotated(data, world.verdict(data), USE).data).entries


def words(entry: bytes) -> str:
    return "".join(etree.fromstring(entry).itertext())


def test_a_copied_ofd_has_a_watermark_on_its_page_and_the_metadata_of_a_copy(
    world: SealedWorld, copier: Copier
) -> None:
    entries = world.files.entries(CERTIFICATE, [world.files.owners[OWNER].sealer], scan=b"\xff\xd8\xffscan")
    copied = copied_ofd(world, copier, entries)
    assert not [name for name in copied if "Signs" in name]
    assert [word for word in SAID if word not in words(copied["Doc_0/PearlCopyPage0.xml"])] == []
    assert b'Type="Watermark"' in copied["Doc_0/PearlCopyPage0.xml"]
    body = etree.fromstring(copied["OFD.xml"])[0]
    said = verified.metadata(body[0])
    assert said["ZZBS"] == CERTIFICATE.identifier
    assert said["certificate_copy_creator"] == "Pearl Gateway"
    assert said["certificate_copy_expiring_time"] == "2026-06-03T17:00:00+08:00"
    assert USE.purpose in said["certificate_copy_cause"]
    assert said["certificate_copy_original_sha256"] == hashlib.sha256(ofd.zipped(entries)).hexdigest()


def test_what_a_copied_ofd_shows_is_byte_for_byte_the_originals(world: SealedWorld, copier: Copier) -> None:
    entries = world.files.entries(CERTIFICATE, [world.files.owners[OWNER].sealer], scan=b"\xff\xd8\xffscan")
    copied = copied_ofd(world, copier, entries)
    shown = ["Doc_0/Pages/Page_0/Content.xml", "Doc_0/PublicRes.xml", "Doc_0/Res/scan.jpg"]
    assert [copied[name] for name in shown] == [entries[name] for name in shown]


def test_ids_and_resources_of_a_copied_ofd_are_its_own(world: SealedWorld, copier: Copier) -> None:
    """Two objects of one id are two readings of one file; a font that is not listed is no font."""
    copied = copied_ofd(world, copier, world.files.entries(CERTIFICATE, [world.files.owners[OWNER].sealer]))
    ids = [number for entry in copied.values() for number in re.findall(rb' ID="(\d+)"', entry)]
    assert len(ids) == len(set(ids))
    assert max(map(int, ids)) == int(re.findall(rb"<ofd:MaxUnitID>(\d+)", copied["Doc_0/Document.xml"])[0])
    font = re.findall(rb'<ofd:Font ID="(\d+)"', copied["Doc_0/PearlCopyRes.xml"])
    assert set(re.findall(rb' Font="(\d+)"', copied["Doc_0/PearlCopyPage0.xml"])) == set(font)
    assert b"/Doc_0/PearlCopyRes.xml" in copied["Doc_0/Document.xml"]


def test_annotations_that_are_there_stay(world: SealedWorld, copier: Copier) -> None:
    entries = ofd.entries(CERTIFICATE.metadata, CERTIFICATE.lines)
    ns = ofd.NAMESPACE
    entries["Doc_0/Annots.xml"] = (
        f'<ofd:Annotations {ns}><ofd:Page PageID="1"><ofd:FileLoc>Own.xml</ofd:FileLoc></ofd:Page></ofd:Annotations>'
    ).encode()
    entries["Doc_0/Own.xml"] = f'<ofd:PageAnnot {ns}><ofd:Annot ID="90" Type="Stamp"/></ofd:PageAnnot>'.encode()
    entries["Doc_0/Document.xml"] = entries["Doc_0/Document.xml"].replace(
        b"</ofd:Pages>", b"</ofd:Pages><ofd:Annotations>Annots.xml</ofd:Annotations><ofd:Attachments/>"
    )
    copied = copied_ofd(world, copier, ofd.seal(entries, [world.files.owners[OWNER].sealer], NOW))
    assert "Doc_0/PearlCopyAnnotations.xml" not in copied
    assert re.findall(rb'Type="(\w+)"', copied["Doc_0/Own.xml"]) == [b"Stamp", b"Watermark"]


def test_an_ofd_that_is_not_built_as_it_must_be_is_not_copied(world: SealedWorld, copier: Copier) -> None:
    for old, new in ((b"<ofd:MaxUnitID>", b"<ofd:MaxUnitID>x"), (b"0 0 210 297", b"0 0 0 297"), (b"210", b"wide")):
        entries = ofd.entries(CERTIFICATE.metadata, CERTIFICATE.lines)
        entries["Doc_0/Document.xml"] = entries["Doc_0/Document.xml"].replace(old, new)
        data = ofd.zipped(ofd.seal(entries, [world.files.owners[OWNER].sealer], NOW))
        with pytest.raises(NotCopied):
            copier.annotated(data, world.verdict(data), USE)


# --- PDF -----------------------------------------------------------------------------------------------------------


def streams(data: bytes) -> bytes:
    """Return the clear content of every packed stream."""
    return b"".join(
        zlib.decompress(found) for found in re.findall(rb"stream\r?\n(x.*?)\r?\nendstream", data, re.DOTALL)
    )


def lines_of(data: bytes) -> Sequence[str]:
    """Read the lines that a copy adds, by the maps from bytes to characters that it brings along."""
    clear = streams(data)
    known = {
        number: bytes.fromhex(code.decode()).decode("utf-16-be")
        for number, code in re.findall(rb"<(\w\w)> <(\w{4,8})>", clear)
    }
    return ["".join(known[one] for one in re.findall(rb"<(\w\w)> Tj", block)) for block in clear.split(b"BT")[1:]]


def test_a_copied_pdf_has_lines_on_its_page_and_the_metadata_of_a_copy(world: SealedWorld, copier: Copier) -> None:
    data = original(world, Form.PDF)
    copy = copier.annotated(data, world.verdict(data), USE).data
    written = "\n".join(lines_of(copy))
    assert [word for word in SAID if word not in written] == []
    assert hashlib.sha256(data).hexdigest() in written
    info = PdfFileReader(BytesIO(copy)).trailer_view["/Info"]
    assert info["/ZZBS"] == CERTIFICATE.identifier
    assert info["/certificate_copy_creation_time"] == "2026-05-04T17:00:00+08:00"
    assert info["/certificate_copy_original_sha256"] == hashlib.sha256(data).hexdigest()


def test_a_copied_pdf_is_a_new_document_without_form_or_signature(world: SealedWorld, copier: Copier) -> None:
    """An update behind the seal would look like a sealed file to a reader that asks for no more than a signature."""
    data = original(world, Form.PDF)
    copy = copier.annotated(data, world.verdict(data), USE).data
    reader = PdfFileReader(BytesIO(copy))
    assert reader.xrefs.total_revisions == 1
    assert "/AcroForm" not in reader.root
    assert b"/ByteRange" not in copy
    assert data[:2000] not in copy
    page = reader.root["/Pages"]["/Kids"][0]
    assert [str(annotation.get_object()["/Subtype"]) for annotation in page["/Annots"]] == ["/Stamp"]


def test_a_copied_pdf_shows_what_the_original_shows(world: SealedWorld, copier: Copier) -> None:
    data = original(world, Form.PDF)
    page = PdfFileReader(BytesIO(copier.annotated(data, world.verdict(data), USE).data)).root["/Pages"]["/Kids"][0]
    before = PdfFileReader(BytesIO(data)).root["/Pages"]["/Kids"][0]["/Contents"].data
    assert [part.get_object().data for part in page["/Contents"]][1] == before


def test_the_outlines_are_simplified_chinese_and_are_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    glyphs = Glyphs()
    first = glyphs.of("骨a\U0010ffff")
    assert SIMPLIFIED == 2
    assert first["骨"].width == 1000
    assert first["a"].width < 600
    assert first["\U0010ffff"].outline  # the box for what the font does not have
    monkeypatch.setattr("gateway.certificates.files.glyphs._drawn", None)
    assert glyphs.of("a骨") == {"a": first["a"], "骨": first["骨"]}


# --- the words -----------------------------------------------------------------------------------------------------


def test_a_long_purpose_is_broken_and_stays_on_the_page() -> None:
    long = replace(USE, purpose="甲" * 200, case="X" * 64)
    assert all(ems(line) <= ACROSS for line in long.across())
    assert long.across()[-1].endswith("…")
    assert "甲" * 200 in "".join(long.below("0" * 64))
    for mark in marks(long, "0" * 64, 210, 297):
        assert mark.x >= 0
        assert mark.angle or mark.x + ems(mark.text) * mark.size <= 210
        assert mark.angle or mark.y <= 297


@pytest.mark.parametrize("form", Form)
def test_characters_that_cannot_be_seen_do_not_come_into_a_copy(world: SealedWorld, copier: Copier, form: Form) -> None:
    """They would break the XML, or turn the line round (U+202E)."""
    data = original(world, form)
    odd = replace(USE, purpose="登\x00记\u202e\n参保\ud800", maker="\x07")
    assert copier.annotated(data, world.verdict(data), odd).data
    assert odd.across()[-1] == "办理登 记 参保 使用"
