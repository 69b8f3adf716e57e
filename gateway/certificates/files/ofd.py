"""An OFD file (GB/T 33190) with its seals: from the package to a verdict.

Owns: the way OFD.xml → Document.xml → Signatures.xml → Signature.xml → SignedValue.dat, the metadata, and the fifth
step: what a seal covers. Leaves to `package`: unpacking. To `ses`: the seal. To `registry`: what it may be put on.

Every entry of the package must be covered by every seal, but for what makes the seals themselves: the list of them, and
for each its Signature.xml (covered by the seal's own digest), its signed value, and its seal file, which must be the
seal within the signed value. So nothing that a reader shows can be changed or added. A seal that is taken away, entry
and line, is not missed: who needs two seals counts them.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from lxml import etree

from gateway.certificates.files import ses
from gateway.certificates.files.package import Package, children, only, text, unpack
from gateway.certificates.files.registry import Registry
from gateway.certificates.files.verdict import Check, Failed, SealVerdict, Stated, walked
from gateway.domain.sensitive import Sensitive

MAX_SEALS = 16
_SM3 = frozenset({"1.2.156.10197.1.401", "SM3"})


@dataclass(frozen=True, slots=True)
class SealPlace:
    """Where a seal lies: the entries Signature.xml, signed value and, when it has one, seal file."""

    description: str
    value: str
    seal: str | None
    plain: bool

    def entries(self) -> Iterator[str]:
        """Yield the entries that make up the seal."""
        yield from (self.description, self.value)
        if self.seal is not None:
            yield self.seal


@dataclass(frozen=True, slots=True)
class OfdFile:
    """What was found in a file before any seal is verified."""

    package: Package
    stated: Stated
    list: str
    places: tuple[SealPlace, ...]


def read(data: bytes) -> OfdFile:
    """Find the metadata and the seals of a file. Raises Failed."""
    package = unpack(data)
    if "OFD.xml" not in package.entries:
        raise Failed("package_refused")
    body = only(package.xml("OFD.xml"), "DocBody")
    package.xml(package.resolve("OFD.xml", text(only(body, "DocRoot"))))
    stated = _stated(only(body, "DocInfo"))
    signatures = children(body, "Signatures")
    if not signatures:
        raise Failed("file_unsealed")
    name = package.resolve("OFD.xml", text(only(body, "Signatures")))
    lines = children(package.xml(name), "Signature")
    if not lines or len(lines) > MAX_SEALS:
        raise Failed("file_seals" if lines else "file_unsealed")
    return OfdFile(package, stated, name, tuple(_place(package, name, line) for line in lines))


def _place(package: Package, name: str, line: etree._Element) -> SealPlace:
    description = package.resolve(name, line.get("BaseLoc", ""))
    root = package.xml(description)
    seals = [where for seal in children(only(root, "SignedInfo"), "Seal") for where in children(seal, "BaseLoc")]
    return SealPlace(
        description=description,
        value=package.resolve(description, text(only(root, "SignedValue"))),
        seal=package.resolve(description, text(seals[0])) if seals else None,
        plain=line.get("Type", "Seal") != "Seal",
    )


def metadata(info: etree._Element) -> Mapping[str, str]:
    """Return the CustomData of a document by name. Raises Failed for a name with two values."""
    found: dict[str, str] = {}
    for datas in children(info, "CustomDatas"):
        for data in children(datas, "CustomData"):
            name = data.get("Name") or data.get("name") or ""
            if found.setdefault(name, text(data)) != text(data):
                raise Failed("metadata_ambiguous")
    return found


def _stated(info: etree._Element) -> Stated:
    return stated(metadata(info))


def stated(found: Mapping[str, str]) -> Stated:
    """Return what metadata (pinyin names of GB/T 36903) say; an empty text says nothing."""
    holder = found.get("CZZT")
    return Stated(
        identifier=found.get("ZZBS") or None,
        type_name=found.get("ZZLXMC") or found.get("ZZMC") or None,
        type_code=found.get("ZZLXDM") or None,
        holder=Sensitive(holder) if holder else None,
    )


# --- one seal ------------------------------------------------------------------------------------------------------


def verify(file: OfdFile, registry: Registry, now: datetime) -> tuple[SealVerdict, ...]:
    """Take the six steps for every seal. Never raises for what is in the file."""
    return tuple(_Verification(file, place, registry, now).verdict() for place in file.places)


class _Verification:
    """The steps over one seal. What a step finds, the next ones use."""

    def __init__(self, file: OfdFile, place: SealPlace, registry: Registry, now: datetime) -> None:
        self._file = file
        self._place = place
        self._registry = registry
        self._now = now
        self._seal: ses.Seal | None = None
        self._anchor = b""

    def verdict(self) -> SealVerdict:
        """Take all steps."""
        *steps, scope = walked(
            [
                (Check.SIGNATURE, self._signature),
                (Check.SIGNER_LISTED, lambda: ses.check_listed(self._read)),
                (Check.SEAL, self._made),
                (Check.SIGNER_CERTIFICATE, lambda: ses.check_signer(self._read, self._now)),
                (Check.DOCUMENT, self._document),
                (Check.SCOPE, self._scope),
            ]
        )
        seal = self._seal
        if seal is None:
            return SealVerdict("", None, None, None, None, tuple(steps), scope)
        known = self._registry.seal(seal.id)
        owner, region = (known.owner, known.region) if known else (None, None)
        return SealVerdict(seal.standard, seal.id, seal.name, owner, seal.signed_at, tuple(steps), scope, region)

    @property
    def _read(self) -> ses.Seal:
        if self._seal is None:
            raise Failed("seal_malformed")
        return self._seal

    def _signature(self) -> None:
        if self._place.plain:
            raise Failed("not_a_seal")
        self._seal = ses.parse(self._file.package.entries[self._place.value])
        ses.check_signature(self._seal)

    def _made(self) -> None:
        beside = self._place.seal
        if beside is not None and self._file.package.entries[beside] != self._read.der:
            raise Failed("seal_differs")
        anchor = ses.check_seal(self._read, self._registry.makers, self._registry.maker_intermediates)
        self._anchor = anchor.der

    def _document(self) -> None:
        """Step 5. The path in propertyInfo is not looked at: the digest binds, and producers write several paths."""
        package = self._file.package
        if not hmac.compare_digest(self._read.digest, ses.sm3(package.entries[self._place.description])):
            raise Failed("digest_wrong")
        digests = _digests(package, self._place.description)
        for name, digest in digests.items():
            if not hmac.compare_digest(digest, ses.sm3(package.entries[name])):
                raise Failed("entry_changed")
        makings = {entry for place in self._file.places for entry in place.entries()}
        if package.entries.keys() - digests.keys() - makings - {self._file.list}:
            raise Failed("entry_uncovered")

    def _scope(self) -> None:
        seal = self._read
        known = self._registry.seal(seal.id)
        self._registry.check_scope(known, self._anchor, self._file.stated.type, seal.signed_at, seal.made.certificate)


def _digests(package: Package, name: str) -> Mapping[str, bytes]:
    """Return the digests that Signature.xml lists, by entry. Raises Failed."""
    info = only(package.xml(name), "SignedInfo", refuse="list_malformed")
    listed = only(info, "References", refuse="list_malformed")
    if listed.get("CheckMethod", "").upper() not in _SM3:
        raise Failed("algorithm")
    found: dict[str, bytes] = {}
    for reference in children(listed, "Reference"):
        entry = _referred(package, name, reference.get("FileRef", ""))
        if entry in found:
            raise Failed("list_malformed")
        found[entry] = _digest(text(only(reference, "CheckValue", refuse="list_malformed")))
    if not found:
        raise Failed("list_malformed")
    return found


def _referred(package: Package, name: str, path: str) -> str:
    try:
        return package.resolve(name, path)
    except Failed:
        raise Failed("entry_missing") from None


def _digest(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise Failed("list_malformed") from None
