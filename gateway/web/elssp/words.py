"""Our words for those of GB/T 36903 and back: certificates by a mapping pack, kinds of documents by a code table.

Owns: the folder `gbt36906` of the mappings, and which kind of document a holder's number is of. Leaves to
`gateway.mapping`: how a pack works. It is read as the gateway starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.domain.identifiers import document_problem
from gateway.errors import FieldProblem, StartRefused
from gateway.mapping.packs import Pack, packs_of, read_ground
from gateway.mapping.source import read_files
from gateway.mapping.tables import Table, fits
from gateway.web.elssp.shapes import Part

FOLDER: Final = "gbt36906"
MESSAGE: Final = "certificate-shared"
_TELLING: Final = ("CN_RIC", "HM_RESID", "TW_RESID", "FPR", "USCC")
"""Kinds of documents whose numbers say by a check character what they are."""


@dataclass(frozen=True, slots=True)
class Words:
    """The pack of certificates that are handed out, and the table of kinds of documents.

    `elements` are what a certificate consists of, in the order of the pack's schema; `names` our fields → elements.
    """

    pack: Pack
    documents: Table
    elements: tuple[Part, ...]
    names: Mapping[str, str]

    @classmethod
    def of(cls, pack: Pack, documents: Table) -> Words:
        """Read names and elements off the pack, once."""
        schema = orjson.loads(pack.files.contents[f"{FOLDER}/{MESSAGE}/schema.json"])
        elements = tuple(_part(name, said) for name, said in schema["properties"].items())
        return cls(pack, documents, elements, {rule.field.name: rule.at for rule in pack.rules.rules if rule.at})

    def certificate(self, ours: Mapping[str, Any]) -> Mapping[str, Any]:
        """Say a certificate, or what may be told of it. Raises MappingFailed."""
        holder = ours.get("holder", {})
        if set(holder.get("document", {})) == {"type", "number"} or "holder" not in ours:
            said = self.pack.to_region(ours)
        else:  # a number alone says nothing here, and neither does its kind
            said = self.pack.to_region({**ours, "holder": {k: v for k, v in holder.items() if k != "document"}})
        if not isinstance(said, bytes):
            return said
        raise AssertionError("the pack has a JSON schema")

    def claims(self, theirs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Hear what somebody claims that a certificate says, in its elements. Raises MappingFailed."""
        return self.pack.to_canonical(dict(theirs))

    def element_of(self, ours: str) -> str:
        """Return the element of one of our fields; a field of the type keeps its own name."""
        return self.names.get(ours, ours.removeprefix("surface."))

    def document_type(self, code: str | None, number: str, today: date) -> str | None:
        """Return the kind of document that a holder's number is of; None where it cannot be told.

        A code that several kinds share (111 for identity cards and residence permits) is told apart by the number, and
        so is a number that comes without a code, if it has a check character.
        """
        if code is None:
            sound = [kind for kind in _TELLING if document_problem(kind, number, today=today) is None]
            fitting = [kind for kind in sound if self._has_shape(kind, number)]
            return fitting[0] if len(fitting) == 1 else None
        candidates = self.documents.columns[FOLDER].reads.get(code, ())
        if len(candidates) < 2:
            return candidates[0] if candidates else None
        return self.documents.told_apart(candidates, number)

    def _has_shape(self, kind: str, number: str) -> bool:
        """Say whether a number looks like one of this kind, as far as the table describes them."""
        shapes = self.documents.shapes.get(kind, ())
        return not shapes or any(fits(shape, number) for shape in shapes)


def _part(name: str, said: Mapping[str, Any]) -> Part:
    if said["type"] != "array":
        return Part(name)
    inside = said["items"]
    return Part(name, tuple(Part(one, required=one in inside["required"]) for one in inside["properties"]), many=True)


def load_words(root: Path) -> Words | None:
    """Read the pack and the table; None where the mappings have no such folder: then nothing is served in this form.

    Raises StartRefused with everything that is wrong in them.
    """
    files = read_files(root)
    if FOLDER not in files.regions():
        return None
    ground = read_ground(files)
    packs = packs_of(ground, FOLDER)
    documents = ground.tables.get("document_type")
    if MESSAGE not in packs or documents is None or FOLDER not in documents.columns:
        reason = f"needs the pack {MESSAGE} and a column {FOLDER} of the table document_type"
        raise StartRefused("The mapping packs have faults", problems=[FieldProblem(f"mappings/{FOLDER}", reason)])
    return Words.of(packs[MESSAGE], documents)
