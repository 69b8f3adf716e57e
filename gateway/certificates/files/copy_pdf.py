"""A marked copy of a PDF: every object of it in a new file, with lines over every page.

Owns: the lines, the metadata, and what is taken off: form, signatures, permissions, what was kept for checking them.
What a seal looked like stays, as a picture. The lines are text (they can be searched and copied) in a Type 3 font (ISO
32000-2 §9.6.4) that draws the outlines of `glyphs`: a reader without a Chinese font would otherwise show no marks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.generic import pdf_name
from pyhanko.pdf_utils.writer import PdfFileWriter, copy_into_new_writer

from gateway.certificates.files.glyphs import Glyph, Glyphs
from gateway.certificates.files.pdf_reader import BoundedReader
from gateway.certificates.files.verdict import Failed
from gateway.certificates.files.watermark import Mark, Use, marks

MAX_PAGES = 200
MAX_DEPTH = 32
LETTERS = 255
"""Characters of one font."""
_TAKEN_OFF = ("/AcroForm", "/Perms", "/DSS", "/OpenAction", "/AA", "/Metadata")
_OF_FIELDS = ("/FT", "/T", "/V", "/DV", "/Kids", "/Parent", "/Lock", "/SV", "/Ff", "/DA", "/AA", "/A", "/MK")


@dataclass(frozen=True, slots=True)
class Lettering:
    """What the lines need on a page, and for each character its font, its byte in it, and its width in ems."""

    resources: Any
    places: Mapping[str, tuple[int, int, float]]


def write(data: bytes, use: Use, original: str, glyphs: Glyphs) -> bytes:
    """Return the copy. Raises Failed for a file that cannot be written anew."""
    try:
        return _written(data, use, original, glyphs)
    except Failed:
        raise
    except Exception:  # noqa: BLE001 - pyHanko lets through whatever odd objects raise
        raise Failed("file_unreadable") from None


def _written(data: bytes, use: Use, original: str, glyphs: Glyphs) -> bytes:
    reader = BoundedReader(BytesIO(data))
    pages = list(_pages(reader.root["/Pages"], 0))
    if not 0 < len(pages) <= MAX_PAGES:
        raise Failed("file_unreadable")
    _take_off(reader, pages)
    writer = copy_into_new_writer(reader)
    lettering = _lettering(writer, glyphs.of("".join([*use.across(), *use.below(original)])))
    for number in range(len(pages)):
        _mark_page(writer, number, lettering, use, original)
    _describe(writer, use.metadata(original))
    target = BytesIO()
    writer.write(target)
    return target.getvalue()


def _pages(node: Any, depth: int) -> Iterator[Any]:
    """Yield the pages below a node of the page tree."""
    if depth > MAX_DEPTH:
        raise Failed("file_unreadable")
    if "/Kids" not in node:
        yield node
        return
    for kid in node["/Kids"]:
        yield from _pages(kid.get_object(), depth + 1)


def _take_off(reader: BoundedReader, pages: Sequence[Any]) -> None:
    """Take off in memory what must not be copied; what then leads nowhere is not copied either.

    Of a field stays what it looks like: a stamp, which belongs to no form and is signed by nobody.
    """
    for name in _TAKEN_OFF:
        reader.root.pop(pdf_name(name), None)
    for page in pages:
        for annotation in (reference.get_object() for reference in page.get("/Annots", ())):
            if annotation.get("/Subtype") == "/Widget":
                for name in _OF_FIELDS:
                    annotation.pop(pdf_name(name), None)
                annotation[pdf_name("/Subtype")] = pdf_name("/Stamp")


def _mark_page(writer: PdfFileWriter, number: int, lettering: Lettering, use: Use, original: str) -> None:
    reference, _ = writer.find_page_for_modification(number)
    page = reference.get_object()
    left, bottom, right, top = _box(page)
    lines = marks(use, original, right - left, top - bottom)
    drawn = b"".join(_drawn(mark, left, top, lettering.places) for mark in lines)
    writer.add_stream_to_page(number, _stream(writer, b"q\n"), prepend=True)
    writer.add_stream_to_page(number, _stream(writer, b"\nQ\n" + drawn), lettering.resources)


def _stream(writer: PdfFileWriter, data: bytes) -> generic.IndirectObject:
    stream: Any = generic.StreamObject(stream_data=data)
    stream.compress()
    return writer.add_object(stream)


def _box(page: Any) -> tuple[float, float, float, float]:
    """Return what is shown of a page; a box may stand with one of the page's ancestors."""
    for name in ("/CropBox", "/MediaBox"):
        node = page
        for _ in range(32):
            if name in node:
                x1, y1, x2, y2 = (float(one) for one in node[name])
                return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)
            if "/Parent" not in node:
                break
            node = node["/Parent"]
    raise Failed("file_unreadable")


def _drawn(mark: Mark, left: float, top: float, places: Mapping[str, tuple[int, int, float]]) -> bytes:
    """Return the operators for one line, character by character."""
    turn = math.radians(mark.angle)
    cos, sin = math.cos(turn), math.sin(turn)
    shown = ["/PearlCopyState gs 0.45 g" if mark.angle else "0 g", "BT"]
    along = 0.0
    for character in mark.text:
        font, place, width = places[character]
        x, y = left + mark.x + along * cos, top - mark.y + along * sin
        along += width * mark.size
        shown.append(
            f"/PearlCopy{font} {mark.size:.2f} Tf {cos:.4f} {sin:.4f} {-sin:.4f} {cos:.4f} {x:.2f} {y:.2f} Tm "
            f"<{place:02x}> Tj"
        )
    return "\n".join(["q", *shown, "ET", "Q", ""]).encode("ascii")


# --- the font ------------------------------------------------------------------------------------------------------


def _lettering(writer: PdfFileWriter, glyphs: Mapping[str, Glyph]) -> Lettering:
    """Add the fonts that the lines are in, and ink that one can look through."""
    characters = sorted(glyphs)
    groups = [characters[begin : begin + LETTERS] for begin in range(0, len(characters), LETTERS)]
    fonts = "".join(f"/PearlCopy{number} {_font(writer, group, glyphs)}" for number, group in enumerate(groups))
    state = _added(writer, "<</Type/ExtGState/ca 0.35>>")
    resources = _parsed(writer, f"<</Font<<{fonts}>>/ExtGState<</PearlCopyState {state}>>>>")
    places = {
        one: (number, place, glyphs[one].width / 1000)
        for number, group in enumerate(groups)
        for place, one in enumerate(group, 1)
    }
    return Lettering(resources, places)


def _font(writer: PdfFileWriter, group: Sequence[str], glyphs: Mapping[str, Glyph]) -> str:
    drawn = [_stream(writer, _procedure(glyphs[one])) for one in group]
    procedures = "".join(f"/c{place} {stream.idnum} 0 R" for place, stream in enumerate(drawn, 1))
    names = "".join(f"/c{place}" for place in range(1, len(group) + 1))
    widths = " ".join(str(glyphs[one].width) for one in group)
    unicode = _stream(writer, _to_unicode(group))
    return _added(
        writer,
        f"<</Type/Font/Subtype/Type3/FontBBox[0 0 0 0]/FontMatrix[.001 0 0 .001 0 0]/CharProcs<<{procedures}>>"
        f"/Encoding<</Type/Encoding/Differences[1{names}]>>/FirstChar 1/LastChar {len(group)}/Widths[{widths}]"
        f"/Resources<<>>/ToUnicode {unicode.idnum} 0 R>>",
    )


def _procedure(glyph: Glyph) -> bytes:
    """Return what draws a glyph in the ink of the text; the box only has to be large enough."""
    return f"{glyph.width} 0 -500 -500 2000 1500 d1 {glyph.outline} f".encode("ascii")


def _to_unicode(group: Sequence[str]) -> bytes:
    """Return the map from bytes to characters (ISO 32000-2 §9.10.3); at most a hundred lines stand in a block."""
    lines = [f"<{place:02x}> <{one.encode('utf-16-be').hex()}>" for place, one in enumerate(group, 1)]
    blocks = [lines[begin : begin + 100] for begin in range(0, len(lines), 100)]
    body = "\n".join("\n".join([f"{len(block)} beginbfchar", *block, "endbfchar"]) for block in blocks)
    return (
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapType 2 def /CMapName /PearlCopy def\n"
        f"1 begincodespacerange <00> <ff> endcodespacerange\n{body}\n"
        "endcmap CMapName currentdict /CMap defineresource pop end end"
    ).encode("ascii")


def _parsed(writer: PdfFileWriter, written: str) -> Any:
    return generic.read_object(BytesIO(written.encode("ascii")), generic.TrailerReference(writer))


def _added(writer: PdfFileWriter, written: str) -> str:
    """Add an object that is written out, and return how another one refers to it."""
    return f"{writer.add_object(_parsed(writer, written)).idnum} 0 R"


def _describe(writer: PdfFileWriter, metadata: dict[str, str]) -> None:
    """Add to the document information what makes the file a copy."""
    info: Any = writer.trailer_view.get("/Info", None)
    if info is None:
        info = writer.set_info(_parsed(writer, "<<>>"))
    for name, value in metadata.items():
        info.get_object()[pdf_name(f"/{name}")] = generic.TextStringObject(value)
