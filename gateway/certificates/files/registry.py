"""The seals that this gateway knows (印章登记), and the anchors it believes, from seals.toml.

Owns: which seal of which organisation may be put on which types of certificate, in which region and term; and the
pinned anchors, with the intermediates that lie beside them. Leaves to `ses` and `pdf`: what follows from it. A seal
that does not stand here is no seal.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated, Final, Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import Field

from gateway.certificates.files import sm2_certificates
from gateway.certificates.files.verdict import Failed
from gateway.config import Problems, Settings, parse, read_toml
from gateway.domain.identifiers import uscc_problem

CHINA: Final = timezone(timedelta(hours=8))
"""Days of the register are days of China Standard Time."""
EVERY_REGION = "*"
"""The region of an anchor whose seal maker serves all regions."""

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\s*", re.DOTALL)
_TYPES = r"^([0-9A-Z]{18}\d{3}|[0-9A-Z]{1,20}\*)$"


class SealEntry(Settings):
    """`[[seal]]` of seals.toml."""

    id: str | None = Field(default=None, min_length=1, max_length=128)
    certificate_digest: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    maker: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    owner: str
    types: list[Annotated[str, Field(pattern=_TYPES)]] = Field(min_length=1)
    region: str
    valid_from: Annotated[date, Field(strict=True)]
    valid_until: Annotated[date, Field(strict=True)]


class AnchorEntry(Settings):
    """`[[anchor]]` of seals.toml."""

    file: Path
    region: str
    kind: Literal["ses-maker", "pades"]


class SealsFile(Settings):
    """The file as a whole."""

    seal: list[SealEntry] = Field(default_factory=list)
    anchor: list[AnchorEntry] = Field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RegisteredSeal:
    """One seal: `id` is its esID, or the SHA-256 of the certificate that signs with it (PDF).

    `maker` is the SHA-256 of the certificate of who made it, empty for PDF: an esID is public, and whatever else leads
    to the same anchor could otherwise make a seal under it.
    """

    id: str
    owner: str
    types: tuple[str, ...]
    region: str
    valid_from: date
    valid_until: date
    maker: str = ""

    def check(self, type_code: str | None, signed_at: datetime) -> None:
        """Refuse a certificate's type, or a time, that the seal is not for. Raises Failed."""
        if not self.valid_from <= signed_at.astimezone(CHINA).date() <= self.valid_until:
            raise Failed("seal_not_in_force")
        if type_code is None:
            raise Failed("type_unknown")
        if not any(_covers(scope, type_code) for scope in self.types):
            raise Failed("type_outside_scope")


def _covers(scope: str, type_code: str) -> bool:
    return type_code.startswith(scope[:-1]) if scope.endswith("*") else scope == type_code


@dataclass(frozen=True)
class Registry:
    """All seals and anchors. `regions` says of which regions an anchor (DER) may have seals."""

    seals: Mapping[str, RegisteredSeal]
    makers: Sequence[sm2_certificates.Certificate] = ()
    maker_intermediates: Sequence[sm2_certificates.Certificate] = ()
    pades: Sequence[x509.Certificate] = ()
    pades_intermediates: Sequence[x509.Certificate] = ()
    regions: Mapping[bytes, frozenset[str]] = field(default_factory=dict)

    def seal(self, seal_id: str) -> RegisteredSeal | None:
        """Return the seal of this id, None when it is not registered."""
        return self.seals.get(seal_id)

    def check_scope(
        self, seal: RegisteredSeal | None, anchor: bytes, type_code: str | None, signed_at: datetime, maker: bytes = b""
    ) -> None:
        """Step 6: a registered seal, made by whom and where it is registered, on a type that it is for. Raises Failed.

        `maker` is the certificate (DER) of who made it, empty for PDF.
        """
        if seal is None:
            raise Failed("seal_unregistered")
        if not {seal.region, EVERY_REGION} & self.regions.get(anchor, frozenset()):
            raise Failed("seal_other_anchor")
        if seal.maker != (hashlib.sha256(maker).hexdigest() if maker else ""):
            raise Failed("seal_other_maker")
        seal.check(type_code, signed_at)


# --- reading the file ----------------------------------------------------------------------------------------------


def load_seals(path: Path, *, regions: Collection[str], types: Collection[str]) -> Registry:
    """Read seals.toml against the known regions and types. Raises StartRefused that lists every problem."""
    file = parse(SealsFile, read_toml(path), path.name)
    problems = Problems()
    for place, reason in (*_wrong_seals(file.seal, regions, types), *_wrong_anchors(file.anchor, regions)):
        problems.add(f"{path.name}: {place}", reason)
    read = _Anchors()
    for number, entry in enumerate(file.anchor):
        for reason in read.take(entry, path.parent):
            problems.add(f"{path.name}: anchor.{number}.file", reason)
    problems.refuse()
    return read.registry({seal.id: seal for seal in map(_registered, file.seal)})


def _wrong_seals(
    entries: Sequence[SealEntry], regions: Collection[str], types: Collection[str]
) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for number, entry in enumerate(entries):
        place = f"seal.{number}"
        named = entry.id or entry.certificate_digest or ""
        if (entry.id is None) == (entry.certificate_digest is None):
            yield place, "needs either id (the esID of a seal) or certificate_digest (of who signs a PDF)"
        elif (entry.id is None) != (entry.maker is None):
            yield f"{place}.maker", "is required beside id (SHA-256 of the seal maker's certificate), and only there"
        if named and named in seen:
            yield place, f"{named} is registered twice"
        seen.add(named)
        if reason := uscc_problem(entry.owner):
            yield f"{place}.owner", reason
        if entry.region not in regions:
            yield f"{place}.region", f"{entry.region!r} is no enabled region; enabled: {', '.join(sorted(regions))}"
        if entry.valid_until < entry.valid_from:
            yield f"{place}.valid_until", "lies before valid_from"
        for scope in entry.types:
            if scope not in types and not any(_covers(scope, known) for known in types):
                yield f"{place}.types", f"{scope} is no type of certificates.toml"


def _wrong_anchors(entries: Sequence[AnchorEntry], regions: Collection[str]) -> Iterator[tuple[str, str]]:
    for number, entry in enumerate(entries):
        if entry.region not in regions and entry.region != EVERY_REGION:
            reason = f"{entry.region!r} is no enabled region, and not {EVERY_REGION!r}"
            yield f"anchor.{number}.region", f"{reason}; enabled: {', '.join(sorted(regions))}"


def _registered(entry: SealEntry) -> RegisteredSeal:
    named = entry.id or entry.certificate_digest or ""
    return RegisteredSeal(
        named, entry.owner, tuple(entry.types), entry.region, entry.valid_from, entry.valid_until, entry.maker or ""
    )  # fmt: skip


class _Anchors:
    """The certificates of all anchor files, while they are read."""

    def __init__(self) -> None:
        self._makers: list[sm2_certificates.Certificate] = []
        self._maker_intermediates: list[sm2_certificates.Certificate] = []
        self._pades: list[x509.Certificate] = []
        self._pades_intermediates: list[x509.Certificate] = []
        self._regions: dict[bytes, frozenset[str]] = {}

    def take(self, entry: AnchorEntry, folder: Path) -> Iterator[str]:
        """Read the certificates of one file; yield what is wrong with them."""
        try:
            pems = _PEM.findall((folder / entry.file).read_bytes())
            found = [x509.load_pem_x509_certificate(pem) for pem in pems]
        except OSError as error:
            yield f"{entry.file} cannot be read: {error.strerror}"
            return
        except ValueError:
            yield f"{entry.file} holds a certificate that cannot be read"
            return
        if not found:
            yield f"{entry.file} holds no certificate in PEM"
        yield from (self._take_makers if entry.kind == "ses-maker" else self._take_pades)(entry, found)

    def _take_makers(self, entry: AnchorEntry, found: Sequence[x509.Certificate]) -> Iterator[str]:
        try:
            read = [sm2_certificates.read(one.public_bytes(Encoding.DER)) for one in found]
        except Failed:
            yield f"{entry.file} holds a certificate that is none of SM2, or not understood"
            return
        anchors = [one for one in read if one.self_issued]
        between = [one for one in read if not one.self_issued]
        if not all(anchor.issued(anchor) for anchor in anchors):
            yield f"{entry.file} holds an anchor that is no authority, or that it did not sign itself"
        if not all(any(anchor.issued(one) for anchor in anchors) and one.may_issue for one in between):
            yield f"{entry.file} holds an intermediate that is no authority, or whose anchor is not beside it"
        self._makers += anchors
        self._maker_intermediates += between
        self._add(entry, [anchor.der for anchor in anchors])

    def _take_pades(self, entry: AnchorEntry, found: Sequence[x509.Certificate]) -> Iterator[str]:
        anchors = [one for one in found if one.issuer == one.subject]
        between = [one for one in found if one.issuer != one.subject]
        if not all(_issued(anchor, anchor) for anchor in anchors):
            yield f"{entry.file} holds an anchor that is no authority, or that it did not sign itself"
        if not all(any(_issued(anchor, one) for anchor in anchors) and _may_issue(one) for one in between):
            yield f"{entry.file} holds an intermediate that is no authority, or whose anchor is not beside it"
        self._pades += anchors
        self._pades_intermediates += between
        self._add(entry, [anchor.public_bytes(Encoding.DER) for anchor in anchors])

    def _add(self, entry: AnchorEntry, ders: Sequence[bytes]) -> None:
        for der in ders:
            self._regions[der] = self._regions.get(der, frozenset()) | {entry.region}

    def registry(self, seals: Mapping[str, RegisteredSeal]) -> Registry:
        """Return all that was read."""
        return Registry(
            seals, self._makers, self._maker_intermediates, self._pades, self._pades_intermediates, self._regions
        )


def _issued(issuer: x509.Certificate, other: x509.Certificate) -> bool:
    """Say whether an authority issued a certificate, with a key that `cryptography` knows."""
    try:
        other.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return _may_issue(issuer)


def _may_issue(one: x509.Certificate) -> bool:
    try:
        return one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError, x509.DuplicateExtension):
        return False
