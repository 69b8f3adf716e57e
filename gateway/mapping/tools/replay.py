"""Recorded traffic through two mappings folders: what would come out otherwise, and what would newly be refused.

Owns: contrasting what two packs make of one document, recorded documents in a folder, and adding contrasts up without
the values, which are people's data. Leaves to `gateway.cli`: submissions from the gateway's store.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from gateway.errors import FieldProblem, InvalidRequest, MappingFailed
from gateway.mapping.converters import Wrong
from gateway.mapping.limits import MAX_DOCUMENT_BYTES
from gateway.mapping.packs import Pack
from gateway.mapping.tools.documents import WHOLE, Difference, compare, compare_documents, without_numbers
from gateway.mapping.tools.folder import OURS_FILE
from gateway.mapping.vocabulary import OURS_TO_THEIRS, THEIRS_TO_OURS
from gateway.ports import RegionDocument

Packs = Mapping[str, Mapping[str, Pack]]
"""Packs by region and message."""


class Recorded(NamedTuple):
    """One document as it travelled: bytes as they were recorded, or a canonical document from the store."""

    name: str
    region: str
    message: str
    direction: str
    document: bytes | Mapping[str, Any]


class Verdict(StrEnum):
    """What the new pack does with a document, compared with the old one."""

    SAME = "same"
    DIFFERENT = "different"
    REFUSED = "newly refused"
    ACCEPTED = "newly accepted"
    STILL_REFUSED = "refused by both"


class Contrast(NamedTuple):
    """A document, the verdict, and what supports it: differences of the two results, or why one side refuses."""

    recorded: Recorded
    verdict: Verdict
    differences: tuple[Difference, ...] = ()
    problems: tuple[FieldProblem, ...] = ()


class _Made(NamedTuple):
    """What a pack made of a document: a result, or the reasons why there is none."""

    pack: Pack | None
    result: Any = None
    problems: tuple[FieldProblem, ...] = ()


def contrast(before: Packs, after: Packs, recorded: Recorded) -> Contrast:
    """Run one document through both folders."""
    old, new = (_made(packs.get(recorded.region, {}).get(recorded.message), recorded) for packs in (before, after))
    if old.problems or new.problems:
        return _refusals(recorded, old, new)
    differences = tuple(_differences(recorded, old, new))
    return Contrast(recorded, Verdict.DIFFERENT if differences else Verdict.SAME, differences)


def _refusals(recorded: Recorded, old: _Made, new: _Made) -> Contrast:
    if old.problems and new.problems:
        return Contrast(recorded, Verdict.STILL_REFUSED, problems=new.problems)
    if new.problems:
        return Contrast(recorded, Verdict.REFUSED, problems=new.problems)
    return Contrast(recorded, Verdict.ACCEPTED, problems=old.problems)


def _made(pack: Pack | None, recorded: Recorded) -> _Made:
    if pack is None:
        return _Made(None, problems=(FieldProblem(WHOLE, "there is no pack for it"),))
    try:
        if recorded.direction == OURS_TO_THEIRS:
            return _Made(pack, pack.to_region(_canonical(recorded.document)))
        return _Made(pack, pack.to_canonical(_region_document(pack, recorded.document)))
    except MappingFailed as failure:
        return _Made(pack, problems=failure.problems)
    except Wrong as wrong:
        return _Made(pack, problems=(FieldProblem(WHOLE, wrong.reason, wrong.code),))


def _canonical(document: bytes | Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(document, bytes):
        return document
    try:
        found = orjson.loads(document)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise Wrong("is no JSON object", "type")
    return found


def _region_document(pack: Pack, document: bytes | Mapping[str, Any]) -> RegionDocument:
    return pack.form.example(document) if isinstance(document, bytes) else dict(document)


def _differences(recorded: Recorded, old: _Made, new: _Made) -> list[Difference]:
    if recorded.direction == THEIRS_TO_OURS or old.pack is None or new.pack is None:
        return compare(old.result, new.result)
    return compare_documents(old.result, old.pack.form, new.result, new.pack.form)


# --- recorded documents ------------------------------------------------------------------------------------------


def recorded_in(folder: Path) -> Iterator[Recorded]:
    """Yield the documents of `<region>/<message>/*.canonical.json` and `*.region.*`, one at a time.

    Raises InvalidRequest when the folder holds none.
    """
    found = False
    for path in sorted(folder.glob("*/*/*")):
        direction = _direction(path.name)
        if direction and path.is_file():
            found = True
            region, message = path.relative_to(folder).parts[:2]
            name = path.relative_to(folder).as_posix()
            yield Recorded(name, region, message, direction, _head(path))
    if not found:
        wanted = "<region>/<message>/<name>.canonical.json or .region.*"
        raise InvalidRequest(f"{folder} holds no recorded documents; they are named {wanted}")


def _direction(name: str) -> str:
    if name.endswith(OURS_FILE):
        return OURS_TO_THEIRS
    return THEIRS_TO_OURS if ".region." in name else ""


def _head(path: Path) -> bytes:
    """Read no more than a form may hold and one byte, so that the form refuses the rest."""
    with path.open("rb") as file:
        return file.read(MAX_DOCUMENT_BYTES + 1)


# --- adding up ---------------------------------------------------------------------------------------------------


class Finding(NamedTuple):
    """One kind of difference at one place, as rules write it, or one reason for a refusal."""

    region: str
    message: str
    direction: str
    place: str
    kind: str


@dataclass
class Summary:
    """What many contrasts come to. Holds no values and no list numbers: only places, kinds and counts."""

    documents: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    verdicts: Counter[tuple[str, str, str, Verdict]] = field(default_factory=Counter)
    findings: Counter[Finding] = field(default_factory=Counter)

    def add(self, found: Contrast, before: Packs, after: Packs) -> None:
        """Count one contrast."""
        where = (found.recorded.region, found.recorded.message, found.recorded.direction)
        self.documents[where] += 1
        self.verdicts[(*where, found.verdict)] += 1
        known = _known_places(found.recorded, before) | _known_places(found.recorded, after)
        for place, kind in {(masked(one.place, known), one.kind) for one in found.differences}:
            self.findings[Finding(*where, place, kind)] += 1
        if found.verdict in {Verdict.REFUSED, Verdict.ACCEPTED}:
            for place, reason in {(masked(one.field, known), one.reason) for one in found.problems}:
                self.findings[Finding(*where, place, f"{found.verdict}: {reason}")] += 1

    @property
    def total(self) -> int:
        """Return how many documents were run."""
        return sum(self.documents.values())

    def count(self, *verdicts: Verdict) -> int:
        """Return how many documents got one of these verdicts."""
        return sum(number for key, number in self.verdicts.items() if key[3] in verdicts)

    @property
    def is_quiet(self) -> bool:
        """Return whether nothing comes out otherwise and nothing is newly refused."""
        return self.count(Verdict.DIFFERENT, Verdict.REFUSED) == 0


def _known_places(recorded: Recorded, packs: Packs) -> frozenset[str]:
    pack = packs.get(recorded.region, {}).get(recorded.message)
    return frozenset() if pack is None else frozenset(pack.about.fields) | frozenset(pack.form.leaves) | {WHOLE}


def masked(place: str, known: Collection[str]) -> str:
    """Return a place without list numbers, and without names that came with the document: `form.…`."""
    written = without_numbers(place)
    if written in known or _holds(written, known):
        return written
    around = [name for name in known if written.startswith((f"{name}.", f"{name}[", f"{name}/"))]
    return f"{max(around, key=len)}.…" if around else "…"


def _holds(written: str, known: Collection[str]) -> bool:
    """Return whether this is an object or a list with known places in it."""
    return any(name.startswith((f"{written}.", f"{written}/", f"{written}[]")) for name in known)
