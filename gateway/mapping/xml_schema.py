"""What an XML Schema says: the elements of a message, and the validator that judges documents.

Owns: opening a schema with the files of its folder that it imports, refusing what cannot be used, and `Node`, the tree
of what may stand where. Leaves to `xml_form`: documents. xmlschema judges the schema and tells its places; lxml, some
twenty times faster, judges documents. Both get every file from memory, checked before.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from urllib.request import BaseHandler, OpenerDirector, Request

import xmlschema
from lxml import etree
from xmlschema.exceptions import XMLSchemaWarning

from gateway.mapping.converters import Wrong
from gateway.mapping.forms import Leaf
from gateway.mapping.limits import MAX_DEPTH, MAX_OCCURS, MAX_PLACES
from gateway.mapping.source import closest
from gateway.mapping.xml_parse import parse, parser

SCHEMA: Final = "schema.xsd"

_XS: Final = "{http://www.w3.org/2001/XMLSchema}"
_VERSION: Final = "{http://www.w3.org/2007/XMLSchema-versioning}minVersion"
_NEWER: Final = ("assert", "assertion", "alternative", "override", "openContent", "defaultOpenContent")
_UNUSABLE: Final = {
    **dict.fromkeys(_NEWER, "is XML Schema 1.1: documents are judged by 1.0"),
    "redefine": "changes the types of another file: write those that are meant",
}
_PLAIN: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.xsd")
_HERE: Final = "file:///schemas/"
"""Where the files seem to be. Nothing is opened there: both libraries are handed the content."""


class Attribute(NamedTuple):
    """An attribute that an element may have: its key in a tree, which is `@` and its name, and what it holds."""

    key: str
    leaf: Leaf


@dataclass(frozen=True, slots=True)
class Node:
    """What the schema says of one element.

    `name` is without its namespace, as in a place; `tag` and the keys of `attributes` and `children` are with it.
    `many`: it repeats. `text` is what its text holds, None where it holds elements. `by_name` and `tags` lead from the
    keys of a tree to children and to the full names of attributes; `lists` are the keys of the children that repeat.
    """

    name: str
    tag: str
    many: bool
    text: Leaf | None
    attributes: Mapping[str, Attribute]
    children: Mapping[str, Node]
    by_name: Mapping[str, Node]
    tags: Mapping[str, str]
    lists: tuple[str, ...]
    plain: bool
    """Whether it holds a text and can have no attributes: in a tree, it is its text."""


class Opened(NamedTuple):
    """A schema, ready: the message's element, the validator, and the content of every file that was read."""

    root: Node
    validator: etree.XMLSchema
    raw: bytes


def open_schema(raw: bytes, siblings: Mapping[str, bytes]) -> Opened:
    """Open the schema of a message. `siblings` are the other `.xsd` files of its folder. Raises Wrong."""
    documents = _documents({**siblings, SCHEMA: raw})
    checked = {name: etree.tostring(document, encoding="UTF-8") for name, document in documents.items()}
    root = _Places().node(_message(documents[SCHEMA], checked), many=False, required=True, left=MAX_DEPTH)
    imported = (siblings[name] for name in sorted(documents.keys() - {SCHEMA}))
    return Opened(root, _validator(checked), b"".join([raw, *imported]))


# --- the files ---------------------------------------------------------------------------------------------------


def _documents(files: Mapping[str, bytes]) -> dict[str, etree._Element]:
    """The schema and every file that it imports, or that these import, parsed and looked over."""
    found: dict[str, etree._Element] = {}
    wanted = [SCHEMA]
    while wanted:
        name = wanted.pop()
        if name not in found:
            try:
                found[name] = parse(files[name])
                _check(found[name])
                wanted += _locations(found[name], files)
            except Wrong as wrong:
                raise wrong if name == SCHEMA else Wrong(f"{name}: {wrong.reason}") from None
    return found


def _check(document: etree._Element) -> None:
    """Refuse what only XML Schema 1.1 has, and counts that a validator would have to unroll for many seconds."""
    if document.get(_VERSION, "1.0") != "1.0":
        raise Wrong(f"{_UNUSABLE['assert']}")
    for element in document.iter(f"{_XS}*"):
        name = etree.QName(element).localname
        if name in _UNUSABLE:
            raise Wrong(f"has xs:{name}, which {_UNUSABLE[name]} (line {element.sourceline})")
        if element.get("substitutionGroup"):
            raise Wrong(
                f"has a substitutionGroup: what may stand in its place is not known (line {element.sourceline})"
            )
        for bound in ("minOccurs", "maxOccurs"):
            count = element.get(bound, "").strip()
            if count.isdigit() and (len(count) > len(str(MAX_OCCURS)) or int(count) > MAX_OCCURS):
                raise Wrong(f'{bound} above {MAX_OCCURS}: use "unbounded"')


def _locations(document: etree._Element, files: Mapping[str, bytes]) -> Iterator[str]:
    for element in document.iter(f"{_XS}import", f"{_XS}include"):
        kind, location = etree.QName(element).localname, element.get("schemaLocation")
        if location is None or not _PLAIN.fullmatch(location):
            raise Wrong(f"has an xs:{kind} that names no file of the same folder (line {element.sourceline})")
        if location not in files:
            raise Wrong(f"has an xs:{kind} of {location}, which is missing{closest(location, files)}")
        yield location


class _FromMemory(BaseHandler):
    """The only thing that xmlschema can open."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def file_open(self, request: Request) -> io.BytesIO:
        return io.BytesIO(self._files[request.full_url.removeprefix(_HERE)])


class _Resolver(etree.Resolver):
    """The only thing that libxml2 can load."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def resolve(self, system_url: str | None, _public_id: str | None, context: object) -> Any:
        content = self._files[str(system_url).removeprefix(_HERE)]
        return self.resolve_string(content, context, base_url=system_url)


def _message(document: etree._Element, files: Mapping[str, bytes]) -> Any:
    """The one element that the schema itself, and no file that it imports, declares for the whole document."""
    opener = OpenerDirector()
    opener.add_handler(_FromMemory(files))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", XMLSchemaWarning)  # what it only warns of, it has not checked
            schema = xmlschema.XMLSchema10(
                f"{_HERE}{SCHEMA}", base_url=_HERE, allow="sandbox", defuse="always", opener=opener, use_fallback=False
            )
    except (xmlschema.XMLSchemaException, XMLSchemaWarning) as error:
        raise Wrong(f"is no XML Schema 1.0{_said(getattr(error, 'message', error))}") from None
    names = [element.get("name", "") for element in document.iterchildren(f"{_XS}element")]
    if len(names) != 1:
        raise Wrong("needs exactly one global element, the message")
    return schema.elements[names[0]]


def _validator(files: Mapping[str, bytes]) -> etree.XMLSchema:
    reader = parser()
    reader.resolvers.add(_Resolver(files))
    try:
        return etree.XMLSchema(etree.fromstring(files[SCHEMA], reader, base_url=f"{_HERE}{SCHEMA}"))
    except etree.XMLSchemaParseError as error:
        raise Wrong(f"is no XML Schema 1.0 that lxml can use{_said(str(error))}") from None


def _said(words: object) -> str:
    """What a library says of a schema, which holds nobody's data: one line of it, and not endlessly long."""
    line = " ".join(str(words or "").split())[:200]
    return f": {line}" if line else ""


# --- the places --------------------------------------------------------------------------------------------------


class _Occurs(NamedTuple):
    """How often an element may stand in another."""

    element: Any
    least: float
    most: float


class _Places:
    """Builds the nodes of one schema. A class because all steps count for one limit."""

    def __init__(self) -> None:
        self._steps = 0

    def node(self, element: Any, *, many: bool, required: bool, left: int) -> Node:
        self._step(left)
        kind = element.type
        text = kind.is_simple() or kind.has_simple_content()
        held = {} if text else self._counted(kind.content, left)
        children = {
            name: self.node(child.element, many=child.most > 1, required=child.least > 0, left=left - 1)
            for name, child in held.items()
            if child.most > 0
        }
        attributes = {name: _attribute(found) for name, found in element.attributes.items() if _counts(name, found)}
        _check_names(element, [child.name for child in children.values()])
        _check_names(element, [attribute.key for attribute in attributes.values()])
        return Node(
            name=element.local_name,
            tag=element.name,
            many=many,
            text=_leaf(element, kind if kind.is_simple() else kind.content, required=required) if text else None,
            attributes=attributes,
            children=children,
            by_name={child.name: child for child in children.values()},
            tags={attribute.key: name for name, attribute in attributes.items()},
            lists=tuple(child.name for child in children.values() if child.many),
            plain=text and not attributes,
        )

    def _counted(self, group: Any, left: int) -> dict[str, _Occurs]:
        """How often each element may stand in a group: branches of a choice are alternatives, all else adds up."""
        self._step(left)
        parts = [self._part(part, left) for part in group]
        names = dict.fromkeys(name for part in parts for name in part)
        most = math.inf if group.max_occurs is None else group.max_occurs
        found: dict[str, _Occurs] = {}
        for name in names:
            counts = [part[name] for part in parts if name in part]
            if group.model == "choice":
                least = min(count.least for count in counts) if len(counts) == len(parts) else 0
                reach = max(count.most for count in counts)
            else:
                least, reach = sum(count.least for count in counts), sum(count.most for count in counts)
            found[name] = _Occurs(counts[0].element, least * group.min_occurs, reach and most and reach * most)
        return found

    def _part(self, part: Any, left: int) -> dict[str, _Occurs]:
        if isinstance(part, xmlschema.XsdElement):
            most = math.inf if part.max_occurs is None else part.max_occurs
            return {part.name: _Occurs(part, part.min_occurs, most)}
        return self._counted(part, left) if hasattr(part, "model") else {}

    def _step(self, left: int) -> None:
        self._steps += 1
        if self._steps > MAX_PLACES:
            raise Wrong(f"has more than {MAX_PLACES} places")
        if left == 0:
            raise Wrong(f"is deeper than {MAX_DEPTH} levels or holds itself")


def places(node: Node, at: str = "") -> Iterator[tuple[str, Leaf]]:
    """Every place that holds a value, written `A/B`, `A/B[]/C`, `A/B[]` and `A/@b`."""
    prefix = f"{at}/" if at else ""
    if node.text and at:
        yield at, node.text
    for attribute in node.attributes.values():
        yield f"{prefix}{attribute.key}", attribute.leaf
    for child in node.children.values():
        yield from places(child, f"{prefix}{child.name}{'[]' if child.many else ''}")


def namespaces(node: Node) -> Iterator[str]:
    """Every namespace of a message's elements and attributes, "" for none, in order, repeated."""
    yield etree.QName(node.tag).namespace or ""
    yield from (etree.QName(name).namespace or "" for name in node.attributes if name.startswith("{"))
    for child in node.children.values():
        yield from namespaces(child)


def _counts(name: str | None, attribute: Any) -> bool:
    """Whether an entry of xmlschema's is an attribute that may be there: wildcards have no name."""
    return name is not None and attribute.use != "prohibited"


def _attribute(found: Any) -> Attribute:
    return Attribute(f"@{found.local_name}", _leaf(found, found.type, required=found.use == "required"))


def _check_names(element: Any, names: Iterable[str]) -> None:
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice:
        raise Wrong(f"{element.local_name} holds two {twice} of different namespaces: a place could mean either")


def _leaf(component: Any, kind: Any, *, required: bool) -> Leaf:
    """What an element or attribute says of itself, else its type."""
    facet = kind.get_facet(f"{_XS}enumeration")
    codes = [component.fixed] if component.fixed is not None else [item.get("value") for item in facet or ()]
    return Leaf("string", tuple(codes), required, _words(component) or _words(component.type))


def _words(component: Any) -> str:
    annotation = component.annotation
    texts = ("".join(item.itertext()) for item in annotation.documentation) if annotation is not None else ()
    return " ".join(" ".join(texts).split())
