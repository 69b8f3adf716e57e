"""What the engine asks of a region's data format.

Owns: the `Form` seam between rules, which know trees of objects, lists and values, and the formats that carry such
trees. Leaves to `json_form`, `xml_form` and `text_forms`: the formats themselves; to `formats`: which one it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from gateway.errors import FieldProblem
from gateway.mapping.paths import Notation, Place, Tree
from gateway.ports import RegionDocument


class Leaf(NamedTuple):
    """One place of a format that holds a value.

    `kind` is string, integer, number, boolean, object or "" (anything, or several of them). `codes` is the schema's
    enumeration, if it has one. `required`: the schema demands it whenever the object around it is there. `words` are
    the schema's title, description or annotation, for people.
    """

    kind: str = ""
    codes: tuple[str, ...] = ()
    required: bool = False
    words: str = ""


class Form(Protocol):
    """One message of a region in its format and under its schema.

    `leaves` are all places that hold a value (`clxx[].clmc`, `Materials/Material[]/@code`; a list of plain values ends
    in `[]`); `textual` says that all values are text; `schema_name` is for messages; `raw` is the content of the schema
    and of what it imports, which is part of the version; `suffix` is how the names of its example files end; `charset`
    is the region's character set, whose characters alone may be said.
    """

    notation: Notation
    leaves: Mapping[str, Leaf]
    textual: bool
    schema_name: str
    raw: bytes
    suffix: str
    charset: str

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

    def file(self, document: RegionDocument) -> bytes:
        """Return a document as the bytes of an example file, laid out for people."""
        ...

    def same(self, one: RegionDocument, other: RegionDocument) -> bool:
        """Return whether two documents say the same (layout and prefixes aside)."""
        ...
