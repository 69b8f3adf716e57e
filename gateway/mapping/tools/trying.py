"""One document converted, and back again, with what the way there and back changed.

Owns: telling which way a document goes, and the trip. Leaves to the pack: converting; to the caller: printing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from gateway.errors import FieldProblem, InvalidRequest, MappingFailed
from gateway.mapping.converters import Wrong
from gateway.mapping.packs import Pack
from gateway.mapping.paths import OURS
from gateway.mapping.tools.documents import Difference, compare, compare_documents, places, without_numbers
from gateway.mapping.tools.folder import OURS_FILE
from gateway.mapping.vocabulary import OURS_TO_THEIRS, THEIRS_TO_OURS


@dataclass(frozen=True, slots=True)
class Trip:
    """What became of a document.

    `made` is the converted document as a file, empty when it was refused; `changes` is what is different after the way
    back, in places of the side that it began on; `problems` are those of the way there, `back` those of the way back.
    `reasons` say why the pack declares that something gets lost, by field of ours and by place of theirs.
    """

    direction: str
    made: bytes = b""
    changes: tuple[Difference, ...] = ()
    problems: tuple[FieldProblem, ...] = ()
    back: tuple[FieldProblem, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)

    def reason(self, change: Difference) -> str:
        """Return why this gets lost, or nothing when no loss is declared for its place."""
        return self.reasons.get(without_numbers(change.place), "")


def _reasons(pack: Pack) -> dict[str, str]:
    """Return the reasons of the pack's losses, also for the places of theirs where the fields stand."""
    declared = {loss.field: loss.reason for loss in pack.losses}
    there = {place: declared[rule.field.name] for rule in pack.rules.rules if rule.field.name in declared
             for place in rule.at.split(", ")}  # fmt: skip
    return {**there, **declared}


def direction_of(pack: Pack, name: str, raw: bytes) -> str:
    """Tell by the file's name, or by what is in it, whether a document is ours or theirs.

    Raises InvalidRequest when it can be either.
    """
    if name.endswith(OURS_FILE):
        return OURS_TO_THEIRS
    if ".region." in name:
        return THEIRS_TO_OURS
    document = _json(raw)
    if document is None:
        return THEIRS_TO_OURS
    ours, theirs = _known(document, set(pack.about.fields)), _known(document, set(pack.form.leaves))
    if pack.form.suffix != ".region.json" or ours > theirs:
        return OURS_TO_THEIRS
    if ours == theirs:
        raise InvalidRequest("It can be a document of ours or of theirs: say --to-region or --to-canonical")
    return THEIRS_TO_OURS


def try_document(pack: Pack, raw: bytes, direction: str) -> Trip:
    """Convert a document and convert it back."""
    try:
        return _say(pack, raw) if direction == OURS_TO_THEIRS else _hear(pack, raw)
    except MappingFailed as failure:
        return Trip(direction, problems=failure.problems)


def _say(pack: Pack, raw: bytes) -> Trip:
    canonical = _json(raw)
    if canonical is None:
        raise InvalidRequest("A document of ours is a JSON object, and this is none")
    said = pack.to_region(canonical)
    made = pack.form.file(said)
    try:
        back = pack.to_canonical(said)
    except MappingFailed as failure:
        return Trip(OURS_TO_THEIRS, made, back=failure.problems)
    return Trip(OURS_TO_THEIRS, made, tuple(compare(canonical, back)), reasons=_reasons(pack))


def _hear(pack: Pack, raw: bytes) -> Trip:
    try:
        document = pack.form.example(raw)
    except Wrong as wrong:
        raise InvalidRequest(f"A document of {pack.region} cannot be read from it: it {wrong.reason}") from None
    heard = pack.to_canonical(document)
    made = orjson.dumps(heard, option=orjson.OPT_INDENT_2) + b"\n"
    try:
        back = pack.to_region(heard)
    except MappingFailed as failure:
        return Trip(THEIRS_TO_OURS, made, back=failure.problems)
    changes = tuple(compare_documents(document, pack.form, back, pack.form))
    return Trip(THEIRS_TO_OURS, made, changes, reasons=_reasons(pack))


def _json(raw: bytes) -> dict[str, Any] | None:
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None


def _known(document: dict[str, Any], names: set[str]) -> int:
    """Count the values of a document that stand at a known place."""
    return sum(without_numbers(place) in names for place in places(document, OURS))
