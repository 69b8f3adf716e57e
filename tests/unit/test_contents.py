"""What may be in a file: each rule is broken once, in whole and in pieces, and honest files pass."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable

import pytest

from gateway.submissions.contents.archive import ENTRIES
from gateway.submissions.contents.inspector import Inspector
from gateway.submissions.contents.kinds import KINDS, RULES, ContentRefused
from tests.support.uploads import DOCX, OFD, PDF, archive

WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"x" * 100


def inspect(content: bytes, media_type: str, size: int) -> None:
    """Go through a file as the gateway does, in pieces of a size."""
    inspector = Inspector(media_type)
    parts = [content[begin : begin + size] for begin in range(0, len(content), size)]
    for part in parts:
        inspector.feed(part)
    walk = inspector.close().walk
    if walk is not None:
        for part in parts:
            walk.feed(part)
        walk.close()


def rule_of(content: bytes, media_type: str, size: int = 1 << 20) -> str:
    """Return the rule that a file breaks."""
    with pytest.raises(ContentRefused) as refused:
        inspect(content, media_type, size)
    [problem] = refused.value.problems
    return problem.code


# --- PDF -----------------------------------------------------------------------------------------------------------


def object_stream(content: bytes, dictionary: bytes = b"/Type /ObjStm /N 1 /First 4 /Filter /FlateDecode") -> bytes:
    return b"7 0 obj\n<< " + dictionary + b" >>\nstream\n" + content + b"\nendstream\nendobj\n"


def stored_unpacked(content: bytes) -> bytes:
    """Return content in the form of zlib with each byte as it is, so that an object may begin anywhere in it."""
    packing = zlib.compressobj(0)
    return packing.compress(content) + packing.flush()


HONEST = b"12 0 << /Type /Catalog /Pages 2 0 R /Padding (" + bytes(range(48, 91)) + b") >>"
HIDDEN = b"12 0 << /S /JavaScript /JS (app.alert(1)) >>"
PDFS: dict[str, tuple[str, bytes]] = {
    "a script": ("pdf_javascript", b"<< /S /JavaScript /JS (app.alert(1)) >>"),
    "a script with its name escaped": ("pdf_javascript", b"<< /S /J#61va#53cript /JS 5 0 R >>"),
    "a script with all of its name escaped": (
        "pdf_javascript",
        b"/" + b"".join(b"#%02x" % c for c in b"JavaScript") + b" ",
    ),
    "a script in the tree of names": ("pdf_javascript", b"<</Names<</JavaScript 5 0 R>>>>"),
    "a script in an object stream": ("pdf_javascript", object_stream(zlib.compress(HIDDEN))),
    "a script in an object stream of no type": (
        "pdf_javascript",
        object_stream(zlib.compress(HIDDEN), b"/N 1 /First 4 /Filter /Fl"),
    ),
    "a script in the second object stream": (
        "pdf_javascript",
        object_stream(zlib.compress(b"1 0 null ")) + object_stream(zlib.compress(HIDDEN)),
    ),
    "a script behind a lie about where the object ends": (
        "pdf_unreadable",
        object_stream(zlib.compress(HIDDEN), b"/First 4 (endobj) /Filter /FlateDecode"),
    ),
    "a rendition": ("pdf_javascript", b"<< /S/Rendition /JS (x) >>"),
    "an XFA form": ("pdf_javascript", b"<< /AcroForm << /XFA [(a) 5 0 R] >> >>"),
    "a program to launch": ("pdf_launch", b"<< /S /Launch /F (calc.exe) >>"),
    "a file within": ("pdf_embedded_file", b"<< /Type /EmbeddedFile >>"),
    "a list of files within": ("pdf_embedded_file", b"<< /Names << /EmbeddedFiles 4 0 R >> >>"),
    "encryption": ("pdf_encrypted", b"trailer << /Encrypt %x\n 9 0 R >>"),
    "an object stream that is packed otherwise": (
        "pdf_unreadable",
        object_stream(b"\x80\x0b\x60\x50\x22", b"/Type /ObjStm /First 4 /Filter /LZWDecode"),
    ),
    "an object stream in hexadecimal digits": (
        "pdf_unreadable",
        object_stream(b"31 32 20 30 ", b"/Filter /ASCIIHexDecode /Type /ObjStm /First 4"),
    ),
    "an object stream with a predictor": (
        "pdf_unreadable",
        object_stream(
            zlib.compress(HONEST), b"/DecodeParms << /Predictor 2 /Colors 4 >> /First 4 /Filter /FlateDecode"
        ),
    ),
    "what an object stream never has at its beginning": (
        "pdf_unreadable",
        object_stream(zlib.compress(b"%x\n" + HONEST)),
    ),
    "an object stream that is cut short": ("pdf_unreadable", object_stream(zlib.compress(HONEST))[:-40]),
    "an object stream that is packed twice": (
        "pdf_unreadable",
        object_stream(zlib.compress(b"31 32 20 30 "), b"/Filter [/Fl /AHx] /Type /ObjStm /First 4"),
    ),
    "an object stream that says elsewhere how it is packed": (
        "pdf_unreadable",
        object_stream(zlib.compress(b"31 32 20 30 "), b"/Type /ObjStm /First 4 /Filter 9 0 R"),
    ),
    "an object stream packed in an unusual way behind a lie": (
        "pdf_unreadable",
        object_stream(b"31 32 20 30 ", b"/First 4 (endobj) /Filter /ASCIIHexDecode"),
    ),
    "an object stream with a comment": (
        "pdf_unreadable",
        object_stream(zlib.compress(HONEST), b"/First 4 %" + b"x" * 6000 + b"\n/Filter /FlateDecode"),
    ),
    "an object stream with a dictionary that goes on and on": (
        "pdf_unreadable",
        object_stream(zlib.compress(HONEST), b"/Type /ObjStm /First 4 " + b" " * 20_000 + b"/Filter /FlateDecode"),
    ),
    "an object stream that seems to begin in a comment": (
        "pdf_unreadable",
        object_stream(zlib.compress(HONEST), b"/DecodeParms 8 0 R % 1 0 obj <<\n/First 4 /Filter /FlateDecode"),
    ),
    "data that begin far behind their dictionary": (
        "pdf_unreadable",
        b"7 0 obj << /First 4 /Filter /FlateDecode >>" + b" " * 20_000 + b"stream\n" + zlib.compress(HONEST),
    ),
    "a script whose data follow a bare carriage return": (
        "pdf_javascript",
        object_stream(zlib.compress(HIDDEN)).replace(b"stream\n", b"stream \r", 1),
    ),
    "dictionaries without end": ("pdf_unreadable", (b"/First 1 " * 1800 + b">> ") * 2),
    "a file within that does not say so": ("pdf_embedded_file", b"<< /F (x.exe) /#45F %\n<< /F 6 0 R >> >>"),
    "a file within, far behind its name": (
        "pdf_embedded_file",
        b"<< /F (x.exe) /EF" + b" " * 2000 + b"<< /F 6 0 R >> >>",
    ),
    "a file within, behind a comment": ("pdf_embedded_file", b"<< /EF 6%" + b"x" * 2000 + b"\n0 R >>"),
    "a file within, elsewhere": ("pdf_embedded_file", b"<< /F (x.exe) /EF 6 0 R >>"),
    "a file on a page": ("pdf_embedded_file", b"<< /Subtype /FileAttachment /FS 6 0 R >>"),
    "a script of a three-dimensional figure": ("pdf_javascript", b"<< /Type /3D /OnInstantiate 5 0 R >>"),
    "an object stream that never ends unpacking": (
        "pdf_unreadable",
        object_stream(zlib.compress(b"12 0 " + bytes(65 << 20))),
    ),
}


@pytest.mark.parametrize("size", [1, 17, 1 << 20])
@pytest.mark.parametrize("name", PDFS)
def test_a_pdf_is_refused_for(name: str, size: int) -> None:
    """Whatever is refused as unreadable hides a script from a scan that is less strict, and not from pypdf or qpdf."""
    rule, content = PDFS[name]
    if size == 1 and len(content) > 10_000:
        size = 1000
    assert rule_of(PDF + content + b"\n%%EOF\n", "application/pdf", size) == rule


@pytest.mark.parametrize("size", [1, 17, 1 << 20])
def test_a_script_in_an_object_that_lies_within_the_data_of_another_is_found(size: int) -> None:
    """A table of contents may lead a reader into the middle of what looks like something else."""
    inner = object_stream(zlib.compress(HIDDEN))
    content = PDF + object_stream(stored_unpacked(b"9 0 null " + inner + bytes(1000))) + b"%%EOF\n"
    assert rule_of(content, "application/pdf", size) in {"pdf_javascript", "pdf_unreadable"}


@pytest.mark.parametrize("size", [1, 4097, 1 << 20])
def test_an_honest_pdf_passes(size: int) -> None:
    """Object streams, outlines, links within, forms without scripts, pictures that happen to hold short names."""
    content = (
        PDF
        + object_stream(zlib.compress(b"12 0 << /Type /Catalog /AcroForm 5 0 R /OpenAction [3 0 R /Fit] >>"))
        + object_stream(b"12 0 << /Type /Pages >>", b"/Type /ObjStm /N 1 /First 5")
        + object_stream(zlib.compress(HONEST), b"/Type/ObjStm/N 1/First 4/Extends 7 0 R/Filter[/FlateDecode]/Length 60")
        + b"<< /Title (a (b) \\) c) /First 8 0 R /Note (>> stream (%) of \\( the\n) /ID <ab> /A << /S /URI >> >>\n"
        + b"<< /First 8 0 R /Last 9 0 R /Count 2 >> endobj\n9 0 obj << /Filter /DCTDecode >> stream\n\xff\xd8\xff"
        + b"/JS /JavaScripts /Launched /EncryptMetadata false endstream endobj <</ObjStm 1>> xref"
    )
    inspect(content, "application/pdf", size)


# --- archives ------------------------------------------------------------------------------------------------------


def entry(name: str, content: bytes = b"x", **fields: int) -> tuple[zipfile.ZipInfo, bytes]:
    made = zipfile.ZipInfo(name)
    for field, value in fields.items():
        setattr(made, field, value)
    return made, content


def with_entry(name: str, content: bytes = b"x", **fields: int) -> bytes:
    """Return an OFD with one more entry."""
    file = io.BytesIO(archive())
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as made:
        made.writestr(*entry(name, content, **fields))
    return file.getvalue()


def patched(content: bytes, find: bytes, offset: int, value: bytes, *, last: bool = True) -> bytes:
    """Change bytes behind the last (or first) place where something stands."""
    place = (content.rfind(find) if last else content.find(find)) + offset
    return content[:place] + value + content[place + len(value) :]


DIRECTORY, LOCAL = b"PK\x01\x02", b"PK\x03\x04"
BOMB = archive({**OFD, "a": bytes(17 << 20)})
LIAR = archive({**OFD, "a": bytes(1 << 20)})

ARCHIVES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "that it unpacks to a thousand times its size": ("archive_bomb", lambda: BOMB),
    "an entry that unpacks to more than it says": (
        "archive_bomb",
        lambda: patched(patched(LIAR, DIRECTORY, 24, struct.pack("<I", 9)), LOCAL, 22, struct.pack("<I", 9)),
    ),
    "entries that overlap": (
        "archive_bomb",
        lambda: patched(archive(), DIRECTORY, 42, struct.pack("<I", 0)),
    ),
    "too many entries": ("archive_entries", lambda: archive({f"{n}.xml": b"" for n in range(ENTRIES + 1)})),
    "an encrypted entry": ("archive_encrypted", lambda: patched(archive(), DIRECTORY, 8, b"\x01")),
    "an entry that only its own head calls encrypted": (
        "archive_unreadable",
        lambda: patched(archive(), LOCAL, 6, b"\x01"),
    ),
    "another name in the head of an entry": (
        "archive_unreadable",
        lambda: patched(archive(), b"OFD.xml", 0, b"XFD.xml", last=False),
    ),
    "a way of packing that is seldom": (
        "archive_unreadable",
        lambda: archive(OFD, zipfile.ZIP_BZIP2),
    ),
    "a wrong sum": ("archive_unreadable", lambda: patched(archive(), DIRECTORY, 16, b"\x00\x00\x00\x00")),
    "something in front": ("content", lambda: b"MZ" + archive()),
    "an archive in front of the archive": ("archive_unreadable", lambda: archive({"a": b"b"}) + archive()),
    "a cut end": ("archive_unreadable", lambda: archive()[:-5]),
    "no directory": ("archive_unreadable", lambda: LOCAL + bytes(100)),
    "a way out": ("archive_path", lambda: with_entry("../../etc/passwd")),
    "an absolute path": ("archive_path", lambda: with_entry("/etc/passwd")),
    "a path of Windows": ("archive_path", lambda: with_entry("..\\x")),
    "a drive": ("archive_path", lambda: with_entry("C:x")),
    "a name with a control character": ("archive_path", lambda: with_entry("a\x1b[2J")),
    "two entries of one name": ("archive_path", lambda: with_entry("ofd.XML")),
    "a link": ("archive_path", lambda: with_entry("link", b"/etc/passwd", external_attr=0o120777 << 16)),
    "an archive within, by its name": ("archive_nested", lambda: with_entry("a.zip")),
    "an archive within, by its content": ("archive_nested", lambda: with_entry("picture.png", archive())),
    "a RAR within": ("archive_nested", lambda: with_entry("x", b"Rar!\x1a\x07\x00")),
    "a program": ("macro", lambda: with_entry("x.png", b"MZ\x90\x00")),
    "an OLE object": ("macro", lambda: with_entry("Doc_0/x.bin", OLE)),
    "another kind of archive": ("content", lambda: archive(DOCX)),
    "that it is empty": ("content", lambda: archive({})),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_ofd_is_refused_for(name: str) -> None:
    rule, made = ARCHIVES[name]
    content = made()
    for size in (997, 1 << 20):
        assert rule_of(content, "application/ofd", size) == rule


@pytest.mark.parametrize(
    "more",
    [
        {"word/vbaProject.bin": b"x"},
        {"word/renamed.bin": OLE},
        {"[Content_Types].xml": b'<Override ContentType="application/vnd.ms-word.document.macroEnabled.main+xml"/>'},
        {"[Content_Types].xml": b'<Override ContentType="application/vnd.ms-office.activeX+xml"/>'},
        {"[Content_Types].xml": b" " * 300_000 + b'"application/vnd.ms-office.vbaProject"'},
    ],
)
def test_a_document_with_macros_is_refused(more: dict[str, bytes]) -> None:
    """Under the type of a document without: Office opens it all the same when it is renamed."""
    assert rule_of(archive({**DOCX, **more}), WORD) == "macro"


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("size", [1, 997, 1 << 20])
def test_honest_archives_pass(size: int, method: int) -> None:
    sheet = {"[Content_Types].xml": b"<Types/>", "xl/workbook.xml": b"<a/>", "xl/printerSettings1.bin": b"x" * 5000}
    excel = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
    for media_type, entries in {"application/ofd": OFD, WORD: DOCX, excel: sheet}.items():
        inspect(archive({**entries, "文件/一.xml": b"<a/>" * 100}, method), media_type, size)


def test_an_archive_that_was_written_to_a_pipe_passes() -> None:
    """Its sizes stand behind each entry."""

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.content = b""

        def writable(self) -> bool:
            return True

        def write(self, data: bytes) -> int:  # type: ignore[override] # a test's own
            self.content += bytes(data)
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in OFD.items():
            made.writestr(name, content)
    inspect(pipe.content, "application/ofd", 100)


def test_every_rule_is_broken_here_at_least_once() -> None:
    assert {rule for rule, _ in PDFS.values()} | {rule for rule, _ in ARCHIVES.values()} == set(RULES)


def test_old_formats_of_office_are_in_no_kind() -> None:
    assert not any(kind.begins == OLE[: len(kind.begins)] for kind in KINDS.values())


def test_a_bomb_is_refused_by_its_directory_and_never_unpacked() -> None:
    """Four gigabytes, said in a few hundred bytes: the first pass refuses, which unpacks nothing."""
    inspector = Inspector("application/ofd")
    inspector.feed(patched(archive(), DIRECTORY, 24, struct.pack("<I", 0xFFFFFFF0)))
    with pytest.raises(ContentRefused) as refused:
        inspector.close()
    assert [problem.code for problem in refused.value.problems] == ["archive_bomb"]
