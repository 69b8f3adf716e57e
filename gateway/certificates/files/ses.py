"""Electronic seals and what they sign (电子印章, 电子签章): the structures, and the first four steps of verification.

Owns: both generations in strict DER, told apart by structure: GB/T 38540-2020 (version 4) and GM/T 0031-2014; and the
steps up to the signer's certificate. Leaves to `ofd`: the document. To `sm2_certificates`: certificates and chains.

A time stamp within (timeStamp, or a token for timeInfo) is not believed, because no time-stamping authority is pinned:
the time of signing is what the signer says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.x509 import ObjectIdentifier

from gateway.certificates.files.sm2_certificates import SM2_WITH_SM3, Certificate, anchor_of, read
from gateway.certificates.files.verdict import CLOCKS_APART, Failed
from gateway.crypto.sm2 import signature_parts

GB_T_38540 = "GB/T 38540-2020"
GM_T_0031 = "GM/T 0031-2014"

_SM3_NAMES = frozenset({"SM3", "1.2.156.10197.1.401"})
"""How a list of digests names its algorithm."""
_BY_CERTIFICATE, _BY_DIGEST = 1, 2

T = TypeVar("T")


# --- GB/T 38540-2020 -----------------------------------------------------------------------------------------------


@asn1.sequence
class _Header:
    """SES_Header."""

    id: asn1.IA5String
    version: int
    vendor: asn1.IA5String


@asn1.sequence
class _Picture:
    """SES_ESPictrueInfo; sizes in millimetres."""

    type: asn1.IA5String
    data: bytes
    width: int
    height: int


@asn1.sequence
class _Extension:
    """ExtData."""

    kind: ObjectIdentifier
    critical: Annotated[bool, asn1.Default(False)]
    value: bytes


@asn1.sequence
class _Digest:
    """CertDigestObj."""

    type: asn1.PrintableString
    value: bytes


@asn1.sequence
class _ByCertificates:
    """SES_ESPropertyInfo with a list of certificates."""

    type: int
    name: str
    kind: int
    signers: list[bytes]
    created: asn1.GeneralizedTime
    begins: asn1.GeneralizedTime
    ends: asn1.GeneralizedTime


@asn1.sequence
class _ByDigests:
    """SES_ESPropertyInfo with a list of digests."""

    type: int
    name: str
    kind: int
    signers: list[_Digest]
    created: asn1.GeneralizedTime
    begins: asn1.GeneralizedTime
    ends: asn1.GeneralizedTime


@asn1.sequence
class _SealInfo:
    """SES_SealInfo; producers write the extensions with and without a tag."""

    header: _Header
    id: asn1.IA5String
    property: asn1.TLV
    picture: _Picture
    extensions: list[_Extension] | None
    tagged: Annotated[list[_Extension] | None, asn1.Explicit(0)]


@asn1.sequence
class _Seal:
    """SESeal."""

    info: _SealInfo
    maker: bytes
    algorithm: ObjectIdentifier
    signature: asn1.BitString


@asn1.sequence
class _ToSign:
    """TBS_Sign."""

    version: int
    seal: _Seal
    time: asn1.GeneralizedTime
    digest: asn1.BitString
    property: asn1.IA5String
    extensions: Annotated[list[_Extension] | None, asn1.Explicit(0)]


@asn1.sequence
class _Signature:
    """SES_Signature."""

    to_sign: _ToSign
    signer: bytes
    algorithm: ObjectIdentifier
    signature: asn1.BitString
    time_stamp: Annotated[asn1.BitString | None, asn1.Explicit(0)]


# --- GM/T 0031-2014 ------------------------------------------------------------------------------------------------


@asn1.sequence
class _OldProperty:
    """SES_ESPropertyInfo."""

    type: int
    name: str
    signers: list[bytes]
    created: asn1.UTCTime
    begins: asn1.UTCTime
    ends: asn1.UTCTime


@asn1.sequence
class _OldMaker:
    """SES_SignInfo."""

    maker: bytes
    algorithm: ObjectIdentifier
    signature: asn1.BitString


@asn1.sequence
class _OldSeal:
    """SESeal."""

    info: _SealInfo
    made: _OldMaker


@asn1.sequence
class _OldMade:
    """What the maker signs: the seal's information, the maker's certificate and the algorithm."""

    info: _SealInfo
    maker: bytes
    algorithm: ObjectIdentifier


@asn1.sequence
class _OldToSign:
    """TBS_Sign."""

    version: int
    seal: _OldSeal
    time: asn1.BitString
    digest: asn1.BitString
    property: asn1.IA5String
    signer: bytes
    algorithm: ObjectIdentifier


@asn1.sequence
class _OldSignature:
    """SES_Signature."""

    to_sign: _OldToSign
    signature: asn1.BitString


@asn1.sequence
class _OldTime:
    """A UTCTime within a sequence, so that it can be read."""

    time: asn1.UTCTime


# --- read into one form --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Signed:
    """Something signed: the bytes, by which certificate (DER), and the signature (DER of r and s)."""

    text: bytes
    certificate: bytes
    algorithm: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class Seal:
    """An electronic signature by seal (电子签章数据), whichever generation it is of.

    `made` is what the maker signed, `used` what the holder signed with it. `signers` are certificates, or their SM3
    digests where `by_digest`. `der` is the seal by itself (SESeal), as it may lie beside in the package.
    """

    standard: str
    id: str
    name: str
    signers: frozenset[bytes]
    by_digest: bool
    created: datetime
    begins: datetime
    ends: datetime
    made: Signed
    used: Signed
    signed_at: datetime
    digest: bytes
    der: bytes


def parse(der: bytes) -> Seal:
    """Read SES_Signature (SignedValue.dat). Raises Failed."""
    new = _decoded(_Signature, der)
    if new is not None:
        return _of_new(new)
    old = _decoded(_OldSignature, der)
    if old is not None:
        return _of_old(old)
    raise Failed("seal_malformed")


def _decoded(kind: type[T], der: bytes) -> T | None:
    """Decode DER that is this and nothing else; written again it must be the same bytes, since those were signed."""
    try:
        found = asn1.decode_der(kind, der)
        return found if asn1.encode_der(found) == der else None
    except (ValueError, OverflowError):
        return None


def _of_new(read_: _Signature) -> Seal:
    to_sign, seal = read_.to_sign, read_.to_sign.seal
    if to_sign.version != 4 or seal.info.header.version != 4:
        raise Failed("seal_version")
    _refuse_critical([*(seal.info.extensions or ()), *(seal.info.tagged or ()), *(to_sign.extensions or ())])
    property_, signers = _property(seal.info.property)
    return Seal(
        standard=GB_T_38540,
        id=seal.info.id.as_str(),
        name=property_.name,
        signers=signers,
        by_digest=isinstance(property_, _ByDigests),
        created=_moment(property_.created),
        begins=_moment(property_.begins),
        ends=_moment(property_.ends),
        made=Signed(asn1.encode_der(seal.info), seal.maker, seal.algorithm.dotted_string, _whole(seal.signature)),
        used=Signed(
            asn1.encode_der(to_sign), read_.signer, read_.algorithm.dotted_string, _whole(read_.signature)
        ),
        signed_at=_moment(to_sign.time),
        digest=_whole(to_sign.digest),
        der=asn1.encode_der(seal),
    )  # fmt: skip


def _property(raw: asn1.TLV) -> tuple[_ByCertificates | _ByDigests, frozenset[bytes]]:
    """Read the properties, whichever list of signers they have; the list must be of the kind that they name."""
    by_certificates = _parsed(_ByCertificates, raw)
    if by_certificates is not None and by_certificates.kind == _BY_CERTIFICATE:
        return by_certificates, frozenset(by_certificates.signers)
    by_digests = _parsed(_ByDigests, raw)
    if by_digests is None or by_digests.kind != _BY_DIGEST:
        raise Failed("seal_malformed")
    if any(digest.type.as_str().upper() not in _SM3_NAMES for digest in by_digests.signers):
        raise Failed("algorithm")
    return by_digests, frozenset(digest.value for digest in by_digests.signers)


def _of_old(read_: _OldSignature) -> Seal:
    to_sign, info, made = read_.to_sign, read_.to_sign.seal.info, read_.to_sign.seal.made
    if not 1 <= to_sign.version <= 3 or not 1 <= info.header.version <= 3:
        raise Failed("seal_version")
    _refuse_critical([*(info.extensions or ()), *(info.tagged or ())])
    property_ = _parsed(_OldProperty, info.property)
    if property_ is None:
        raise Failed("seal_malformed")
    signed = _OldMade(info=info, maker=made.maker, algorithm=made.algorithm)
    return Seal(
        standard=GM_T_0031,
        id=info.id.as_str(),
        name=property_.name,
        signers=frozenset(property_.signers),
        by_digest=False,
        created=_moment(property_.created),
        begins=_moment(property_.begins),
        ends=_moment(property_.ends),
        made=Signed(asn1.encode_der(signed), made.maker, made.algorithm.dotted_string, _whole(made.signature)),
        used=Signed(
            asn1.encode_der(to_sign),
            to_sign.signer,
            to_sign.algorithm.dotted_string,
            _whole(read_.signature),
        ),
        signed_at=_old_time(_whole(to_sign.time)),
        digest=_whole(to_sign.digest),
        der=asn1.encode_der(to_sign.seal),
    )


def _old_time(raw: bytes) -> datetime:
    """Read timeInfo: the DER of a UTCTime in a bit string. A time-stamp token in its place cannot be believed here."""
    if len(raw) > 127:
        raise Failed("time_unreadable")
    found = _decoded(_OldTime, bytes((0x30, len(raw))) + raw)
    if found is None:
        raise Failed("time_unreadable")
    return _moment(found.time)


def _parsed(kind: type[T], raw: asn1.TLV) -> T | None:
    try:
        found: T = raw.parse(kind)
    except (ValueError, OverflowError):
        return None
    return found


def _moment(time: asn1.GeneralizedTime | asn1.UTCTime) -> datetime:
    found: datetime = time.as_datetime()
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _whole(bits: asn1.BitString) -> bytes:
    """Return the bytes of a bit string that has no odd bits."""
    if bits.padding_bits():
        raise Failed("seal_malformed")
    return bits.as_bytes()


def _refuse_critical(extensions: Sequence[Any]) -> None:
    if any(extension.critical for extension in extensions):
        raise Failed("seal_extension")


# --- the steps -----------------------------------------------------------------------------------------------------


def check_signature(seal: Seal) -> None:
    """Step 1: the holder of the named certificate signed TBS_Sign. Raises Failed."""
    _check_signed(seal.used, "signature_range", "signature_wrong")


def check_listed(seal: Seal) -> None:
    """Step 2: that certificate is one that the seal lists, itself or its SM3 digest. Raises Failed."""
    signer = seal.used.certificate
    if (sm3(signer) if seal.by_digest else signer) not in seal.signers:
        raise Failed("signer_not_listed")


def check_seal(seal: Seal, anchors: Sequence[Certificate], intermediates: Sequence[Certificate]) -> Certificate:
    """Step 3: a maker under a pinned anchor made the seal, and it was in its term. Raises Failed.

    The maker's certificate and chain are judged as of the day the seal was made, the seal as of the day it was used.
    Returns the anchor.
    """
    _check_signed(seal.made, "seal_signature_range", "seal_signature_wrong")
    maker = read(seal.made.certificate)
    if not maker.may_sign or not maker.valid_at(seal.created):
        raise Failed("maker_certificate")
    anchor = anchor_of(maker, anchors, intermediates, seal.created)
    if anchor is None:
        raise Failed("chain_broken")
    if not max(seal.begins, seal.created) <= seal.signed_at <= seal.ends:
        raise Failed("seal_term")
    return anchor


def check_signer(seal: Seal, now: datetime) -> None:
    """Step 4: the signer's certificate was valid, and one for signatures, when it signed. Raises Failed."""
    signer = read(seal.used.certificate)
    if seal.signed_at > now + CLOCKS_APART:
        raise Failed("signed_in_future")
    if not signer.valid_at(seal.signed_at):
        raise Failed("certificate_term")
    if not signer.may_sign:
        raise Failed("key_usage")


def _check_signed(signed: Signed, out_of_range: str, wrong: str) -> None:
    if signed.algorithm != SM2_WITH_SM3:
        raise Failed("algorithm")
    key = read(signed.certificate).key
    try:
        signature_parts(signed.signature, "der")
    except ValueError:
        raise Failed(out_of_range) from None
    if not key.verify(signed.text, signed.signature, "der"):
        raise Failed(wrong)


def sm3(data: bytes) -> bytes:
    """Return the SM3 digest (GB/T 32905)."""
    digest = hashes.Hash(hashes.SM3())
    digest.update(data)
    return digest.finalize()
