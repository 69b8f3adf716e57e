"""PDF files with a seal by PAdES (ETSI EN 319 142-1, B-B), written by hand: objects, CMS and all.

Owns: the bytes. The text is Chinese, in a font of the reader (Adobe-GB1). Leaves keys to `identities`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from gateway.sandbox.sealed_files import der
from gateway.sandbox.sealed_files.identities import EcIdentity

ROOM = 8192
"""Hex digits that are kept free for the signature."""
_SHA256, _ECDSA_SHA256 = "2.16.840.1.101.3.4.2.1", "1.2.840.10045.4.3.2"
_DATA, _SIGNED_DATA = "1.2.840.113549.1.7.1", "1.2.840.113549.1.7.2"
_CONTENT_TYPE, _MESSAGE_DIGEST = "1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4"
_SIGNING_CERTIFICATE = "1.2.840.113549.1.9.16.2.47"


def sealed(
    metadata: Mapping[str, str], lines: Sequence[str], signer: EcIdentity, at: datetime, *, extra: str = ""
) -> bytes:
    """Return a PDF of one page with its metadata, sealed to the last byte; `extra` are entries of the catalogue."""
    raw = _document(metadata, lines, at, extra)
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


def _document(metadata: Mapping[str, str], lines: Sequence[str], at: datetime, extra: str) -> bytes:
    page = page_text(lines)
    info = "".join(f"/{name} {_text(value)}" for name, value in metadata.items())
    return objects(
        [
            f"<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[6 0 R]/SigFlags 3>>{extra}>>",
            "<</Type/Pages/Kids[3 0 R]/Count 1>>",
            "<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 R/Annots[6 0 R]"
            "/Resources<</Font<</F1 5 0 R>>>>>>",
            f"<</Length {len(page)}>>\nstream\n{page}\nendstream",
            "<</Type/Font/Subtype/Type0/BaseFont/STSong-Light/Encoding/UniGB-UTF16-H/DescendantFonts[8 0 R]>>",
            "<</Type/Annot/Subtype/Widget/FT/Sig/T(Seal1)/V 7 0 R/Rect[400 100 500 200]/P 3 0 R/F 132"
            "/AP<</N 11 0 R>>>>",
            f"<</Type/Sig/Filter/Adobe.PPKLite/SubFilter/ETSI.CAdES.detached/M(D:{at.astimezone(UTC):%Y%m%d%H%M%SZ})"
            f"/ByteRange [{' ' * 40}]/Contents <{'0' * ROOM}>>>",
            "<</Type/Font/Subtype/CIDFontType0/BaseFont/STSong-Light/CIDSystemInfo<</Registry(Adobe)/Ordering(GB1)"
            "/Supplement 5>>/FontDescriptor 9 0 R/DW 1000>>",
            "<</Type/FontDescriptor/FontName/STSong-Light/Flags 6/FontBBox[-25 -254 1000 880]/ItalicAngle 0/Ascent 880"
            "/Descent -120/CapHeight 880/StemV 93>>",
            f"<<{info}>>",
            "<</Type/XObject/Subtype/Form/BBox[0 0 100 100]/Length 45>>\nstream\n"
            "1 0 0 RG 3 w 5 5 90 90 re S 20 50 m 80 50 l S\nendstream",
        ]
    )


def page_text(lines: Sequence[str]) -> str:
    """Return what draws lines of text."""
    shown = " ".join(f"<{line.encode('utf-16-be').hex()}> Tj 0 -24 Td" for line in lines)
    return f"BT /F1 14 Tf 72 760 Td {shown} ET"


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
    place = len(raw)
    added = f"{number} 0 obj\n{body}\nendobj\n".encode("latin-1")
    table = f"xref\n{number} 1\n{place:010d} 00000 n \ntrailer\n<</Size 12/Root 1 0 R/Info 10 0 R/Prev {previous}>>\n"
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
