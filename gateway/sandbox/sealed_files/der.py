"""DER (ITU-T X.690) written by hand: what simulated authorities need for seals, certificates and signatures.

Owns: the writing. Nothing is read here, and nothing of it is shared with whoever reads.
"""

from __future__ import annotations

from datetime import UTC, datetime


def tlv(tag: int, *parts: bytes) -> bytes:
    """Return one element."""
    body = b"".join(parts)
    if len(body) < 128:
        return bytes((tag, len(body))) + body
    size = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes((tag, 128 + len(size))) + size + body


def sequence(*parts: bytes) -> bytes:
    """Return a SEQUENCE."""
    return tlv(0x30, *parts)


def set_of(*parts: bytes) -> bytes:
    """Return a SET OF, in the order that DER wants."""
    return tlv(0x31, *sorted(parts))


def integer(number: int) -> bytes:
    """Return an INTEGER, also a negative one."""
    return tlv(0x02, number.to_bytes((number + (number < 0)).bit_length() // 8 + 1, "big", signed=True))


def boolean(value: bool) -> bytes:
    """Return a BOOLEAN."""
    return tlv(0x01, b"\xff" if value else b"\x00")


def oid(dotted: str) -> bytes:
    """Return an OBJECT IDENTIFIER."""
    first, second, *others = map(int, dotted.split("."))
    return tlv(0x06, *(_base128(arc) for arc in (40 * first + second, *others)))


def _base128(arc: int) -> bytes:
    digits = [arc & 127]
    while arc := arc >> 7:
        digits.append(arc & 127 | 128)
    return bytes(reversed(digits))


def octets(data: bytes) -> bytes:
    """Return an OCTET STRING."""
    return tlv(0x04, data)


def bits(data: bytes, unused: int = 0) -> bytes:
    """Return a BIT STRING."""
    return tlv(0x03, bytes((unused,)), data)


def utf8(text: str) -> bytes:
    """Return a UTF8String."""
    return tlv(0x0C, text.encode())


def printable(text: str) -> bytes:
    """Return a PrintableString."""
    return tlv(0x13, text.encode("ascii"))


def ia5(text: str) -> bytes:
    """Return an IA5String."""
    return tlv(0x16, text.encode("ascii"))


def generalized_time(moment: datetime) -> bytes:
    """Return a GeneralizedTime, to the second."""
    return tlv(0x18, f"{moment.astimezone(UTC):%Y%m%d%H%M%SZ}".encode())


def utc_time(moment: datetime) -> bytes:
    """Return a UTCTime."""
    return tlv(0x17, f"{moment.astimezone(UTC):%y%m%d%H%M%SZ}".encode())


def tagged(number: int, *parts: bytes) -> bytes:
    """Return a context tag around elements (EXPLICIT), or in the place of a constructed one's own (IMPLICIT)."""
    return tlv(0xA0 + number, *parts)
