"""SM2 keys as files: PEM, hex, and lists of pinned keys with their terms.

Owns: the encodings (RFC 5958, RFC 5915, RFC 5480 with the SM2 curve of GB/T 33560), and which pinned key may speak
when. Leaves to `gateway.crypto.sm2`: what is done with a key. `cryptography` knows neither curve nor key, so the DER is
read here by its declarative ASN.1.

A pin file is TOML, one table a key:

    [[key]]
    id = "2026-1"
    not_before = 2026-01-01T00:00:00Z
    not_after = 2028-01-01T00:00:00Z
    public_key = "04…"   # hex, or PEM in '''…'''

An SM2 certificate says key and term by itself: then `id` and `certificate` (PEM) are all. It is pinned, not verified:
no issuer is trusted for anything, and nothing but its key and term is read.
"""

from __future__ import annotations

import base64
import binascii
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from cryptography.hazmat import asn1
from cryptography.x509 import ObjectIdentifier, load_pem_x509_certificate

from gateway.crypto.sm2 import Sm2PrivateKey, Sm2PublicKey

EC_KEY = ObjectIdentifier("1.2.840.10045.2.1")
SM2_CURVE = ObjectIdentifier("1.2.156.10197.1.301")

_PEM = re.compile(r"-----BEGIN ([A-Z ]+)-----([A-Za-z0-9+/=\s]+)-----END \1-----")
_KEY_ID = re.compile(r"[\w.@-]{1,64}", re.ASCII)


@asn1.sequence
class _Algorithm:
    """AlgorithmIdentifier of an EC key."""

    kind: ObjectIdentifier
    curve: ObjectIdentifier


@asn1.sequence
class _PublicInfo:
    """SubjectPublicKeyInfo (RFC 5280 §4.1)."""

    algorithm: _Algorithm
    key: asn1.BitString


@asn1.sequence
class _EcPrivate:
    """ECPrivateKey (RFC 5915 §3)."""

    version: int
    secret: bytes
    curve: Annotated[ObjectIdentifier | None, asn1.Explicit(0)]
    public: Annotated[asn1.BitString | None, asn1.Explicit(1)]


@asn1.sequence
class _PrivateInfo:
    """PrivateKeyInfo (RFC 5208 §5), without attributes."""

    version: int
    algorithm: _Algorithm
    key: bytes


@asn1.sequence
class _Tbs:
    """TBSCertificate of version 3 (RFC 5280 §4.1), without unique identifiers."""

    version: Annotated[int, asn1.Explicit(0)]
    serial: int
    signature: asn1.TLV
    issuer: asn1.TLV
    validity: asn1.TLV
    subject: asn1.TLV
    key: _PublicInfo
    extensions: Annotated[asn1.TLV, asn1.Explicit(3)]


# --- one key -----------------------------------------------------------------------------------------------------


def read_private(material: bytes) -> Sm2PrivateKey:
    """Read a private key: PEM (`PRIVATE KEY`, `EC PRIVATE KEY`), or 64 hex digits. Raises ValueError."""
    text = _text(material)
    match _pem(text):
        case None:
            return Sm2PrivateKey(_hex(text))
        case "PRIVATE KEY", der:
            info = asn1.decode_der(_PrivateInfo, der)
            _on_curve(info.algorithm)
            return _read_sec1(info.key)
        case "EC PRIVATE KEY", der:
            return _read_sec1(der, curve_needed=True)
        case label, _:
            raise ValueError(f"{label!r} is no SM2 private key")


def read_public(material: bytes) -> Sm2PublicKey:
    """Read a public key: PEM (`PUBLIC KEY`), or 128 hex digits with or without `04` before them. Raises ValueError."""
    text = _text(material)
    match _pem(text):
        case None:
            return _point(_hex(text))
        case "PUBLIC KEY", der:
            return _public(asn1.decode_der(_PublicInfo, der))
        case label, _:
            raise ValueError(f"{label!r} is no SM2 public key")


def read_certificate(material: bytes) -> tuple[Sm2PublicKey, datetime, datetime]:
    """Return key, begin and end of an SM2 certificate (PEM); its signature is not looked at. Raises ValueError.

    `cryptography` reads such a certificate but for its key.
    """
    certificate = load_pem_x509_certificate(material)
    key = _public(asn1.decode_der(_Tbs, certificate.tbs_certificate_bytes).key)
    return key, certificate.not_valid_before_utc, certificate.not_valid_after_utc


def private_pem(key: Sm2PrivateKey) -> bytes:
    """Write a private key as PKCS#8."""
    public = asn1.BitString(b"\x04" + key.public.point, 0)
    inner = asn1.encode_der(_EcPrivate(version=1, secret=key.secret, curve=None, public=public))
    info = _PrivateInfo(version=0, algorithm=_Algorithm(kind=EC_KEY, curve=SM2_CURVE), key=inner)
    return _written("PRIVATE KEY", asn1.encode_der(info))


def public_pem(key: Sm2PublicKey) -> bytes:
    """Write a public key as SubjectPublicKeyInfo."""
    point = asn1.BitString(b"\x04" + key.point, 0)
    info = _PublicInfo(algorithm=_Algorithm(kind=EC_KEY, curve=SM2_CURVE), key=point)
    return _written("PUBLIC KEY", asn1.encode_der(info))


def _read_sec1(der: bytes, *, curve_needed: bool = False) -> Sm2PrivateKey:
    info = asn1.decode_der(_EcPrivate, der)
    if info.curve not in ((SM2_CURVE,) if curve_needed else (SM2_CURVE, None)):
        raise ValueError("a key on another curve than SM2")
    key = Sm2PrivateKey(info.secret)
    if info.public is not None and _point(info.public.as_bytes()) != key.public:
        raise ValueError("private and public part do not belong together")
    return key


def _public(info: _PublicInfo) -> Sm2PublicKey:
    _on_curve(info.algorithm)
    return _point(info.key.as_bytes())


def _on_curve(algorithm: _Algorithm) -> None:
    if (algorithm.kind, algorithm.curve) != (EC_KEY, SM2_CURVE):
        raise ValueError("a key on another curve than SM2")


def _point(encoded: bytes) -> Sm2PublicKey:
    return Sm2PublicKey(encoded[1:] if len(encoded) == 65 and encoded[0] == 4 else encoded)


def _text(material: bytes) -> str:
    try:
        return material.decode("ascii").strip()
    except UnicodeDecodeError:
        raise ValueError("a key is PEM or hex") from None


def _pem(text: str) -> tuple[str, bytes] | None:
    found = _PEM.search(text)
    if found is None:
        return None
    try:
        return found[1], base64.b64decode("".join(found[2].split()), validate=True)
    except binascii.Error:
        raise ValueError("the PEM is damaged") from None


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ValueError("a key is PEM or hex") from None


def _written(label: str, der: bytes) -> bytes:
    body = base64.b64encode(der).decode()
    lines = [body[at : at + 64] for at in range(0, len(body), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]).encode()


# --- pinned keys -------------------------------------------------------------------------------------------------


class UntrustedKeyError(ValueError):
    """No pinned key may speak under this id now; the text says why and holds nothing that came from outside."""


@dataclass(frozen=True, slots=True)
class PinnedKey:
    """A public key that may speak in [`not_before`, `not_after`)."""

    key: Sm2PublicKey
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class PinnedKeys:
    """The keys of one peer by their ids. Several may be in force at once, so that a peer can roll over."""

    keys: Mapping[str, PinnedKey]

    def key(self, key_id: str, now: datetime) -> Sm2PublicKey:
        """Return the key of this id. Raises UntrustedKeyError for one that is not pinned or not in its term."""
        pinned = self.keys.get(key_id)
        if pinned is None:
            raise UntrustedKeyError("its key is not pinned")
        if now < pinned.not_before:
            raise UntrustedKeyError("its key is not valid yet")
        if now >= pinned.not_after:
            raise UntrustedKeyError("its key has expired")
        return pinned.key


def read_pins(material: bytes) -> PinnedKeys:
    """Read a pin file. Raises ValueError: also for an empty one, an id used twice, and a key without term."""
    try:
        entries = tomllib.loads(material.decode()).get("key")
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as wrong:
        raise ValueError(f"not a list of pinned keys: {type(wrong).__name__}") from None
    if not isinstance(entries, list) or not entries:
        raise ValueError("a list of pinned keys has at least one [[key]]")
    keys: dict[str, PinnedKey] = {}
    for entry in entries:
        key_id, pinned = _pinned(entry)
        if key_id in keys:
            raise ValueError(f"two keys have the id {key_id}")
        keys[key_id] = pinned
    return PinnedKeys(keys)


def _pinned(entry: Any) -> tuple[str, PinnedKey]:
    forms = ({"id", "public_key", "not_before", "not_after"}, {"id", "certificate"})
    if not isinstance(entry, dict) or entry.keys() not in forms:
        raise ValueError(f"a pinned key has {', '.join(sorted(forms[0]))}, or certificate and id, and nothing else")
    key_id, material = entry["id"], entry.get("public_key", entry.get("certificate"))
    if not isinstance(key_id, str) or not _KEY_ID.fullmatch(key_id) or not isinstance(material, str):
        raise ValueError("what a pinned key has are texts; an id has 1 to 64 letters, digits, dots, hyphens and @")
    if "certificate" in entry:
        return key_id, PinnedKey(*read_certificate(material.encode()))
    term = (entry["not_before"], entry["not_after"])
    if not all(isinstance(end, datetime) and end.tzinfo for end in term) or not term[0] < term[1]:
        raise ValueError(f"key {key_id}: not_before and not_after are times with zone, one before the other")
    return key_id, PinnedKey(read_public(material.encode()), *term)
