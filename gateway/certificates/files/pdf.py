"""A PDF with seals by PAdES (ETSI EN 319 142-1): from the bytes to a verdict, through pyHanko.

Owns: what is asked of pyHanko, and how its answers become our steps. There is no seal apart from a certificate here, so
`signer_listed` means that the register knows the signer's certificate, and `seal` that it leads to a pinned anchor.
Leaves to `gateway.submissions.contents.pdf`: scripts, programs, files within, encryption. To pyHanko: objects,
signatures, paths. Nothing is fetched: no OCSP, no CRL, and no time stamp is believed, because nobody who answers for
one is pinned; the time of signing is what the signer says.

The last seal must cover the file to its last byte. After an earlier one nothing may have come but further seals and
what pyHanko knows to belong to them. So also an update that only adds revocation data (PAdES B-LT) after the last seal
is refused: it is a byte that nobody known has sealed.

What bounds the cost: the size of the file, `MAX_OBJECTS`, `MAX_SEALS`, `MAX_REVISIONS`, `MAX_BETWEEN`, how often
objects are asked for (`pdf_reader`), and what streams may unpack to (pyHanko's limits for files from outside, and those
of the scan). Memory is a constant times the size.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from io import BytesIO
from typing import Any

from asn1crypto.x509 import Certificate as Asn1Certificate
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from pyhanko.pdf_utils import generic
from pyhanko.sign.diff_analysis import ModificationLevel
from pyhanko.sign.validation import async_validate_pdf_signature
from pyhanko.sign.validation.pdf_embedded import EmbeddedPdfSignature
from pyhanko.sign.validation.settings import KeyUsageConstraints
from pyhanko.sign.validation.status import PdfSignatureStatus, SignatureCoverageLevel
from pyhanko_certvalidator import CertificateValidator, ValidationContext

from gateway.certificates.files.ofd import stated
from gateway.certificates.files.pdf_reader import BoundedReader
from gateway.certificates.files.registry import Registry
from gateway.certificates.files.sm2_certificates import MALFORMED
from gateway.certificates.files.verdict import CLOCKS_APART, Check, Failed, SealVerdict, Stated, walked
from gateway.errors import InvalidRequest
from gateway.submissions.contents.pdf import PdfScan

STANDARD = "PAdES"
MAX_OBJECTS = 50_000
MAX_SEALS = 8
MAX_REVISIONS = 16
MAX_BETWEEN = 4
"""Certificates within a signature that may help to lead to an anchor."""
LONGEST_PATH = 2
"""Certificates below the anchor: the signer's, and one between."""
_HARMLESS = frozenset({ModificationLevel.NONE, ModificationLevel.LTA_UPDATES, ModificationLevel.FORM_FILLING})
"""What pyHanko may find behind a seal that is not the last: adding a further one is among the last of these."""
_ANY_USAGE = KeyUsageConstraints(key_usage=set())
"""pyHanko is not asked about usages: what is wrong with the signer's certificate is a step of its own."""


@dataclass(frozen=True, slots=True)
class PdfFile:
    """What was found in a file before any seal is verified."""

    reader: BoundedReader
    size: int
    stated: Stated
    signatures: Sequence[EmbeddedPdfSignature]


def read(data: bytes) -> PdfFile:
    """Find the metadata and the seals of a file. Raises Failed."""
    _refuse_hostile(data)
    try:
        reader = BoundedReader(BytesIO(data))
        said = stated(_info(reader))
        signatures = list(reader.embedded_signatures)
        revisions = reader.xrefs.total_revisions
    except Failed:
        raise
    except Exception:  # noqa: BLE001 - pyHanko lets through whatever damaged objects raise, RecursionError included
        raise Failed("file_unreadable") from None
    if not signatures:
        raise Failed("file_unsealed")
    if len(signatures) > MAX_SEALS or revisions > MAX_REVISIONS:
        raise Failed("file_seals")
    return PdfFile(reader, len(data), said, signatures)


def _refuse_hostile(data: bytes) -> None:
    scan = PdfScan()
    try:
        scan.feed(data)
        scan.close()
    except InvalidRequest as refused:
        unreadable = refused.problems[0].code == "pdf_unreadable"
        raise Failed("file_unreadable" if unreadable else "pdf_refused") from None
    if data.count(b" obj") > MAX_OBJECTS:
        raise Failed("file_unreadable")


def _info(reader: BoundedReader) -> Mapping[str, str]:
    """Return the document information (ISO 32000-2 §14.3.3), where certificates carry their metadata."""
    try:
        info = reader.trailer_view["/Info"]
    except KeyError:
        return {}
    found = ((name[1:], info[name]) for name in info)
    return {name: str(value) for name, value in found if isinstance(value, generic.TextStringObject)}


def verify(file: PdfFile, registry: Registry, now: datetime) -> tuple[SealVerdict, ...]:
    """Take the six steps for every seal. Never raises for what is in the file. Runs an event loop: not for one."""
    last = len(file.signatures) - 1
    return tuple(
        _Verification(file, signature, registry, now, last=number == last).verdict()
        for number, signature in enumerate(file.signatures)
    )


class _Verification:
    """The steps over one seal."""

    def __init__(
        self, file: PdfFile, signature: EmbeddedPdfSignature, registry: Registry, now: datetime, *, last: bool
    ) -> None:
        self._file = file
        self._signature = signature
        self._registry = registry
        self._now = now
        self._last = last

    def verdict(self) -> SealVerdict:
        """Take all steps."""
        *steps, scope = walked(
            [
                (Check.SIGNATURE, self._signed),
                (Check.SIGNER_LISTED, self._listed),
                (Check.SEAL, self._chain),
                (Check.SIGNER_CERTIFICATE, self._signer),
                (Check.DOCUMENT, self._document),
                (Check.SCOPE, self._scope),
            ]
        )
        seal_id, name, signed_at = _quietly(lambda: self._seal_id), _quietly(self._name), _quietly(lambda: self._time)
        known = self._registry.seal(seal_id) if seal_id else None
        owner, region = (known.owner, known.region) if known else (None, None)
        return SealVerdict(STANDARD, seal_id, name, owner, signed_at, tuple(steps), scope, region)

    def _signed(self) -> None:
        if self._signature.sig_object_type != "/Sig":
            raise Failed("not_a_seal")
        if not self._status.valid:
            raise Failed("signature_wrong")

    def _listed(self) -> None:
        if self._registry.seal(self._seal_id) is None:
            raise Failed("signer_not_listed")

    def _chain(self) -> None:
        if not self._anchor:
            raise Failed("chain_broken")

    def _signer(self) -> None:
        signer, signed_at = self._certificate, self._time
        if signed_at > self._now + CLOCKS_APART:
            raise Failed("signed_in_future")
        if not signer.not_valid_before_utc <= signed_at <= signer.not_valid_after_utc:
            raise Failed("certificate_term")
        try:
            usage = signer.extensions.get_extension_for_class(x509.KeyUsage).value
        except x509.ExtensionNotFound:
            raise Failed("key_usage") from None
        except MALFORMED:
            raise Failed("certificate_malformed") from None
        if not usage.digital_signature and not usage.content_commitment:
            raise Failed("key_usage")

    def _document(self) -> None:
        status = self._status
        if not status.intact:
            raise Failed("content_changed")
        if self._last:
            if status.coverage is not SignatureCoverageLevel.ENTIRE_FILE or not self._to_the_end():
                raise Failed("content_appended")
        elif not self._only_sealed_after(status):
            raise Failed("content_appended")

    def _to_the_end(self) -> bool:
        """Say whether the two ranges leave out the signature's own bytes and nothing else (pyHanko adds lengths)."""
        begin, first, second, length = self._signature.byte_range
        gap = len(self._signature.pkcs7_content) * 2 + 2
        return bool(begin == 0 and second == first + gap and second + length == self._file.size)

    def _only_sealed_after(self, status: PdfSignatureStatus) -> bool:
        level = status.modification_level
        return (
            status.coverage is SignatureCoverageLevel.ENTIRE_REVISION
            and level is not None
            and level in _HARMLESS
            and bool(status.docmdp_ok)
        )

    def _scope(self) -> None:
        known = self._registry.seal(self._seal_id)
        self._registry.check_scope(known, self._anchor, self._file.stated.type, self._time)

    # --- what pyHanko says -------------------------------------------------------------------------------------------

    @cached_property
    def _certificate(self) -> x509.Certificate:
        try:
            return x509.load_der_x509_certificate(self._signature.signer_cert.dump())
        except Exception:  # noqa: BLE001 - asn1crypto and pyHanko raise whatever a malformed CMS leads to
            raise Failed("certificate_malformed") from None

    @cached_property
    def _seal_id(self) -> str:
        return self._certificate.fingerprint(hashes.SHA256()).hex()

    def _name(self) -> str:
        return self._certificate.subject.rfc4514_string()

    @cached_property
    def _time(self) -> datetime:
        try:
            found = self._signature.self_reported_timestamp
        except Exception:  # noqa: BLE001 - a time may be anything at all
            raise Failed("time_unreadable") from None
        if found is None:
            raise Failed("time_unreadable")
        return found if found.tzinfo else found.replace(tzinfo=UTC)

    @cached_property
    def _status(self) -> PdfSignatureStatus:
        """Ask pyHanko about signature and coverage, once. Its word on the chain is not asked for, nor on usages."""
        try:
            return asyncio.run(
                async_validate_pdf_signature(
                    self._signature,
                    signer_validation_context=_context(self._registry, self._now),
                    key_usage_settings=_ANY_USAGE,
                    skip_diff=self._last,
                )
            )
        except Exception:  # noqa: BLE001 - as above
            raise Failed("signature_wrong") from None

    @cached_property
    def _anchor(self) -> bytes:
        """Return the pinned anchor that the signer leads to, at a moment at which its own certificate is valid."""
        signer = self._certificate
        latest = signer.not_valid_after_utc - timedelta(seconds=2)
        moment = min(max(self._time, signer.not_valid_before_utc), latest)
        context = _context(self._registry, moment)
        try:
            between = list(self._signature.other_embedded_certs)[:MAX_BETWEEN]
            validator = CertificateValidator(self._signature.signer_cert, between, context)
            path = asyncio.run(validator.async_validate_path())
            der: bytes = path.first.dump()
        except Exception:  # noqa: BLE001 - as above, and certvalidator's three families of errors
            raise Failed("chain_broken") from None
        if path.pkix_len > LONGEST_PATH:
            raise Failed("chain_broken")
        return der


def _context(registry: Registry, moment: datetime) -> ValidationContext:
    return ValidationContext(
        trust_roots=[_asn1(one) for one in registry.pades],
        other_certs=[_asn1(one) for one in registry.pades_intermediates],
        moment=moment,
        allow_fetching=False,
        revocation_mode="soft-fail",
    )


def _asn1(certificate: x509.Certificate) -> Asn1Certificate:
    return Asn1Certificate.load(certificate.public_bytes(Encoding.DER))


def _quietly(find: Any) -> Any:
    """Return what is found, None where finding it fails."""
    try:
        return find()
    except (Failed, *MALFORMED):
        return None
