"""What the engine asks of a region's data format.

Owns: the `Form` seam between rules, which know trees of objects, lists and values, and the formats that carry such
trees. Leaves to `gateway.mapping.json_form` and `gateway.mapping.xml_form`: the formats themselves.
"""

from __future__ import annotations

from typing import Protocol

from gateway.errors import FieldProblem
from gateway.mapping.paths import Notation, Place, Tree
from gateway.ports import RegionDocument


class Form(Protocol):
    """One message of a region in its format and under its schema.

    `leaves` are all places that hold a value (`clxx[].clmc`, `Materials/Material[]/@code`); `textual` says that all
    values are text; `schema_name` is for messages; `raw` is the schema's content, which is part of the version.
    """

    notation: Notation
    leaves: frozenset[str]
    textual: bool
    schema_name: str
    raw: bytes

    def end_at_value(self, place: Place) -> Place:
        """Complete a path so that it ends where the value sits in a tree."""
        ...

    def read(self, document: RegionDocument) -> tuple[Tree, list[FieldProblem]]:
        """Return the tree of a document, and what the schema finds wrong. Raises Wrong if there is no tree."""
        ...

    def write(self, tree: Tree) -> tuple[RegionDocument, list[FieldProblem]]:
        """Return the document of a tree, and what the schema finds wrong with it."""
        ...

    def example(self, raw: bytes) -> RegionDocument:
        """Return the document that an example file holds. Raises Wrong if it holds none."""
        ...

    def same(self, one: RegionDocument, other: RegionDocument) -> bool:
        """Return whether two documents say the same (layout and prefixes aside)."""
        ...
