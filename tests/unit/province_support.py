"""Keys, settings and a client of the case exchange, for the tests of both of its sides."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from gateway.protocols.province import ProvinceExchange, open_exchange
from gateway.protocols.wire import Wire
from tests.unit.protocol_support import NOW, kit

CASES: Mapping[str, Any] = {
    "service": "/x/exchange",
    "materials": "/x/files",
    "suite": "ES256",
    "our_key_id": "gateway-cases",
    "dept_code": "11440100MBT40100XX",
    "asks": True,
    "results": True,
    "messages": ["supplement", "withdrawal", "rating", "complaint"],
    "issued": ["data", "code", "file", "dispute"],
    "notices": True,
}


@cache
def key(name: str) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@cache
def certificate(name: str) -> x509.Certificate:
    """A certificate of that key; the one of `retired` ended yesterday."""
    days = -1 if name == "retired" else 365
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key(name).public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=3650))
        .not_valid_after(NOW + timedelta(days=days))
        .sign(key(name), hashes.SHA256())
    )


def pem(name: str) -> bytes:
    return key(name).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def certificates(*pinned: x509.Certificate) -> bytes:
    return b"".join(each.public_bytes(Encoding.PEM) for each in pinned)


def given() -> dict[str, bytes]:
    """What the gateway is given as secrets."""
    peers = certificates(certificate("province"), certificate("retired"))
    return {"grant_code": b"grant", "case_key": pem("gateway"), "case_peer_keys": peers}


def authority_given() -> dict[str, bytes]:
    """What the authority is given."""
    return {
        "grant_code": b"grant",
        "case_key": pem("province"),
        "case_certificate": certificates(certificate("province")),
        "gateway_cases": certificates(certificate("gateway")),
    }


@asynccontextmanager
async def exchange(url: str, **changed: Any) -> AsyncIterator[ProvinceExchange]:
    """Open our side of it; `changed` are settings."""
    async with kit(url, settings={"cases": {**CASES, **changed}}, secrets=given()) as lent:
        yield open_exchange(lent, Wire(lent))
