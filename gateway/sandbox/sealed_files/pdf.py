"""PDF files with a seal by PAdES (ETSI EN 319 142-1, B-B), written by hand: objects, CMS and all.

Owns: the bytes. Leaves keys to `identities`, and what the Chinese text is drawn with to `letters`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from gateway.sandbox.sealed_files import der
from gateway.sandbox.sealed_files.identities import EcIdentity
from gateway.sandbox.sealed_files.letters import Letter, Letters

ROOM = 8192
"""Hex digits that are kept free for the signature."""
_SHA256, _ECDSA_SHA256 = "2.16.840.1.101.3.4.2.1", "1.2.840.10045.4.3.2"
_DATA, _SIGNED_DATA = "1.2.840.113549.1.7.1", "1.2.840.113549.1.7.2"
_CONTENT_TYPE, _MESSAGE_DIGEST = "1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4"
_SIGNING_CERTIFICATE = "1.2.840.113549.1.9.16.2.47"


def sealed(
    metadata: Mapping[str, str],
    lines: Sequence[str],
    signer: EcIdentity,
    at: datetime,
    letters: Letters,
    *,
    extra: str = "",
) -> bytes:
    """Return a PDF of one page with its metadata, sealed to the last byte; `extra` are entries of the catalogue."""
    raw = _document(metadata, lines, at, letters.of(lines), extra)
    begin = raw.index(b"/Contents <") + len(b"/Contents ")
    end = begin + ROOM + 2
    ranges = f"/ByteRange [0 {begin} {end} {len(raw) - end}]".encode()
    raw = raw.replace(b"/ByteRange [" + b" " * 40 + b"]", ranges.ljust(53))
    return resealed(raw, signer)


def resealed(raw: bytes, signer: EcIdentity) -> bytes:
    """Return a prepared PDF with the signature over both its ranges in its place."""
    begin = raw.index(b"/Contents <") + len(b"/Contents ")
    end = begin + ROOM + 2
    signature = cms(hashlib.sha256(raw[:begin] + raw[end:]).digest(), signer)
    return raw[:begin] + b"<" + signature.hex().encode().ljust(ROOM, b"0") + b">" + raw[end:]


def _document(
    metadata: Mapping[str, str], lines: Sequence[str], at: datetime, letters: Sequence[Letter], extra: str
) -> bytes:
    info = "".join(f"/{name} {_text(value)}" for name, value in metadata.items())
    first = 12
    names = "".join(f"/c{place}" for place in range(1, len(letters) + 1))
    procedures = "".join(f"/c{place} {first + place - 1} 0 R" for place in range(1, len(letters) + 1))
    widths = " ".join(str(letter.width) for letter in letters)
    return objects(
        [
            f"<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[6 0 R]/SigFlags 3>>{extra}>>",
            "<</Type/Pages/Kids[3 0 R]/Count 1>>",
            "<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 R/Annots[6 0 R]"
            "/Resources<</Font<</F1 5 0 R>>>>>>",
            stream(page_text(lines, letters)),
            "<</Type/Font/Subtype/Type3/FontBBox[0 0 0 0]/FontMatrix[.001 0 0 .001 0 0]/Resources<<>>"
            f"/Encoding<</Type/Encoding/Differences[1{names}]>>/CharProcs<<{procedures}>>"
            f"/FirstChar 1/LastChar {len(letters)}/Widths[{widths}]/ToUnicode 8 0 R>>",
            "<</Type/Annot/Subtype/Widget/FT/Sig/T(Seal1)/V 7 0 R/Rect[400 100 500 200]/P 3 0 R/F 132"
            "/AP<</N 11 0 R>>>>",
            f"<</Type/Sig/Filter/Adobe.PPKLite/SubFilter/ETSI.CAdES.detached/M(D:{at.astimezone(UTC):%Y%m%d%H%M%SZ})"
            f"/ByteRange [{' ' * 40}]/Contents <{'0' * ROOM}>>>",
            stream(_to_unicode(letters)),
            "<</Producer(pearl-sandbox)>>",
            f"<<{info}>>",
            stream("1 0 0 RG 3 w 5 5 90 90 re S 20 50 m 80 50 l S", "/Type/XObject/Subtype/Form/BBox[0 0 100 100]"),
            *(stream(letter.procedure) for letter in letters),
        ]
    )


def stream(content: str, entries: str = "") -> str:
    """Return a stream with its content in the open."""
    return f"<<{entries}/Length {len(content)}>>\nstream\n{content}\nendstream"


def page_text(lines: Sequence[str], letters: Sequence[Letter]) -> str:
    """Return what draws lines of text in these letters."""
    places = {letter.character: f"{place:02x}" for place, letter in enumerate(letters, 1)}
    shown = " ".join(f"<{''.join(places[one] for one in line)}> Tj 0 -24 Td" for line in lines)
    return f"BT /F1 11 Tf 40 760 Td {shown} ET"


def _to_unicode(letters: Sequence[Letter]) -> str:
    """Return which character each byte is (ISO 32000-2 §9.10.3), at most a hundred in a block."""
    lines = [f"<{place:02x}> <{letter.character.encode('utf-16-be').hex()}>" for place, letter in enumerate(letters, 1)]
    blocks = [lines[begin : begin + 100] for begin in range(0, len(lines), 100)]
    listed = "\n".join(f"{len(block)} beginbfchar {' '.join(block)} endbfchar" for block in blocks)
    return (
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapType 2 def /CMapName /Sandbox def\n"
        f"1 begincodespacerange <00> <ff> endcodespacerange {listed} endcmap end end"
    )


def objects(bodies: Sequence[str]) -> bytes:
    """Return a PDF of these objects; the first is the catalogue, the tenth the document information."""
    raw = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
    places = []
    for number, body in enumerate(bodies, 1):
        places.append(len(raw))
        raw += f"{number} 0 obj\n{body}\nendobj\n".encode("latin-1")
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    start = len(raw)
    info = "/Info 10 0 R" if len(bodies) >= 10 else ""
    raw += f"xref\n0 {len(bodies) + 1}\n0000000000 65535 f \n{table}".encode()
    raw += f"trailer\n<</Size {len(bodies) + 1}/Root 1 0 R{info}>>\nstartxref\n{start}\n%%EOF\n".encode()
    return bytes(raw)


def updated(raw: bytes, number: int, body: str) -> bytes:
    """Return a PDF with an update behind it that replaces one object (ISO 32000-2 §7.5.6)."""
    before = raw.rindex(b"startxref\n") + len(b"startxref\n")
    previous = int(raw[before : raw.index(b"\n", before)])
    size = re.findall(rb"/Size (\d+)", raw)[-1].decode()
    place = len(raw)
    added = f"{number} 0 obj\n{body}\nendobj\n".encode("latin-1")
    table = (
        f"xref\n{number} 1\n{place:010d} 00000 n \ntrailer\n<</Size {size}/Root 1 0 R/Info 10 0 R/Prev {previous}>>\n"
    )
    return raw + added + f"{table}startxref\n{place + len(added)}\n%%EOF\n".encode()


def _text(value: str) -> str:
    return f"<feff{value.encode('utf-16-be').hex()}>"


def cms(digest: bytes, signer: EcIdentity) -> bytes:
    """Return SignedData (RFC 5652) over a digest, with the attributes of CAdES: type, digest and certificate."""
    algorithm = der.sequence(der.oid(_SHA256))
    own = der.sequence(der.sequence(der.sequence(der.octets(hashlib.sha256(signer.certificate).digest()))))
    attributes = sorted(
        der.sequence(der.oid(name), der.set_of(value))
        for name, value in (
            (_CONTENT_TYPE, der.oid(_DATA)),
            (_MESSAGE_DIGEST, der.octets(digest)),
            (_SIGNING_CERTIFICATE, own),
        )
    )
    signature = signer.sign(der.set_of(*attributes))
    info = der.sequence(
        der.integer(1),
        der.sequence(signer.parsed.issuer.public_bytes(), der.integer(signer.parsed.serial_number)),
        algorithm,
        der.tagged(0, *attributes),
        der.sequence(der.oid(_ECDSA_SHA256)),
        der.octets(signature),
    )
    content = der.sequence(
        der.integer(1),
        der.set_of(algorithm),
        der.sequence(der.oid(_DATA)),
        der.tagged(0, signer.certificate),
        der.set_of(info),
    )
    return der.sequence(der.oid(_SIGNED_DATA), der.tagged(0, content))
