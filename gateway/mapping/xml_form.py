"""XML messages under an XML Schema.

Owns: reading and writing XML safely, the schema, compiled once, and saying what it finds wrong without repeating
values. Leaves to adapters: envelopes, signatures and the attributes that belong to the wire.

A tree keeps attributes under `@name`, the text of an element under `#text`, and repeated elements in lists. What the
schema does not know at a place is dropped before validation: an unknown extra is ignored, in XML as in JSON. (Also
`xsi:type` and `xsi:nil`, with which a document could choose the rules that it is judged by.)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import xmlschema
from lxml import etree

from gateway.errors import FieldProblem
from gateway.mapping.converters import Wrong
from gateway.mapping.forms import Leaf
from gateway.mapping.limits import MAX_DEPTH, MAX_DOCUMENT_BYTES, MAX_OCCURS
from gateway.mapping.paths import OWN_TEXT, Notation, Place, Step, Tree
from gateway.ports import RegionDocument

XML_NOTATION: Final = Notation("/", 1)
"""As in XPath: `Materials/Material[1]/Name`."""

_XS: Final = "{http://www.w3.org/2001/XMLSchema}"
_ELSEWHERE: Final = ("import", "include", "redefine", "override")
_ATTRIBUTE: Final = re.compile(r"^Element '[^']*', attribute '([^']*)'")
_EXPECTED: Final = re.compile(r"Expected is \( (?:\{[^}]*\})?([^ ,{}]+) \)\.$")


@dataclass(frozen=True, slots=True)
class Node:
    """What the schema says of one element: its names, whether it repeats, and what it may hold."""

    name: str
    tag: str
    many: bool
    text: bool
    attributes: frozenset[str]
    children: Mapping[str, Node]


class XmlForm:
    """One XML message. Raises Wrong from the constructor when the schema cannot be used.

    The schema has one global element, which is the message. xmlschema judges the schema and tells its places; lxml,
    some twenty times faster, judges documents.
    """

    notation = XML_NOTATION
    textual = True
    schema_name = "schema.xsd"
    suffix = ".region.xml"
    charset = "utf-8"

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        document = _parse(raw)
        for kind in _ELSEWHERE:
            if document.find(f"{_XS}{kind}") is not None:
                raise Wrong(f"has xs:{kind}: a schema stands alone")
        _check_counts(document)
        self._root = _root(raw)
        try:
            self._schema = etree.XMLSchema(document)
        except etree.XMLSchemaParseError:
            raise Wrong("is no XML Schema 1.0 that lxml can use") from None
        self.leaves: Mapping[str, Leaf] = dict(_leaves(self._root, "", required=False))

    def end_at_value(self, place: Place) -> Place:
        """An element's value is its text; an attribute is its own value."""
        return place if place[-1].key.startswith("@") else (*place, Step(OWN_TEXT, many=False))

    def read(self, document: RegionDocument) -> tuple[Tree, list[FieldProblem]]:
        """Parse, drop what the schema does not know, validate. Raises Wrong when this is not the message at all."""
        if not isinstance(document, bytes):
            raise Wrong("is no XML", "type")
        root = _parse(document)
        if root.tag != self._root.tag:
            raise Wrong(f"is not the element {self._root.name} of the schema's namespace")
        _prune(root, self._root)
        return _tree(root, self._root), self._faults(root)

    def write(self, tree: Tree) -> tuple[RegionDocument, list[FieldProblem]]:
        """Build the message in UTF-8 without declaration; the order of elements is that of the tree."""
        namespace = etree.QName(self._root.tag).namespace
        root = etree.Element(self._root.tag, nsmap={None: namespace} if namespace else None)
        _fill(root, tree, self._root)
        return etree.tostring(root, encoding="UTF-8"), self._faults(root)

    def example(self, raw: bytes) -> RegionDocument:
        """Return the file's bytes, if they are XML."""
        _parse(raw)
        return raw

    def file(self, document: RegionDocument) -> bytes:
        """Write it indented."""
        root = etree.fromstring(document if isinstance(document, bytes) else b"", _parser(blank=True))
        etree.indent(root)
        return etree.tostring(root, encoding="UTF-8") + b"\n"

    def same(self, one: RegionDocument, other: RegionDocument) -> bool:
        """Documents are the same when their canonical forms (C14N 2.0) are, indentation and prefixes aside."""
        return _canonical(one) == _canonical(other)

    def _faults(self, root: etree._Element) -> list[FieldProblem]:
        if self._schema.validate(root):
            return []
        found = [self._problem(root, error) for error in self._schema.error_log]
        # The log belongs to the schema object: were it emptied by another thread, the answer would still be no.
        return found or [FieldProblem("document", "does not fit the schema", "schema")]

    def _problem(self, root: etree._Element, error: Any) -> FieldProblem:
        """Name place and kind of a fault; libxml2's own text repeats the value."""
        found = root.getroottree().xpath(error.path) if error.path else []
        element = found[0] if isinstance(found, list) and found and isinstance(found[0], etree._Element) else root
        place = _place(element, root, self._root)
        attribute = _ATTRIBUTE.match(error.message)
        if attribute:
            return _named(f"{place}/@{attribute[1]}", error)
        expected = _EXPECTED.search(error.message)
        if error.type_name == "SCHEMAV_ELEMENT_CONTENT" and expected:
            inside = place if "Missing child" in error.message else place.rpartition("/")[0]
            return FieldProblem(f"{inside}/{expected[1]}".lstrip("/"), "is missing", "required")
        return _named(place, error)


def _named(place: str, error: Any) -> FieldProblem:
    name = place.lstrip("/") or "document"
    if error.type_name == "SCHEMAV_CVC_COMPLEX_TYPE_4":
        return FieldProblem(name, "is missing", "required")
    if error.type_name == "SCHEMAV_ELEMENT_CONTENT":
        return FieldProblem(name, "is out of place, or something is missing before its end", "required")
    return FieldProblem(name, "does not fit the schema", "schema")


# --- reading and writing -----------------------------------------------------------------------------------------


def _parse(raw: bytes) -> etree._Element:
    """Parse without entities, network, comments or document types; raise Wrong for anything else.

    A parser is made for each document: it is cheap, and a shared one would serialise the threads.
    """
    if len(raw) > MAX_DOCUMENT_BYTES:
        raise Wrong(f"is larger than {MAX_DOCUMENT_BYTES} bytes", "too_long")
    if b"<!DOCTYPE" in raw:
        raise Wrong("has a DOCTYPE", "doctype")
    try:
        root = etree.fromstring(raw, _parser())
    except (etree.XMLSyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        raise Wrong(f"is not well-formed XML (line {line})" if line else "is not well-formed XML", "syntax") from None
    if root.getroottree().docinfo.doctype:  # one in an encoding that hides it from the look above
        raise Wrong("has a DOCTYPE", "doctype")
    return root


def _parser(*, blank: bool = False) -> etree.XMLParser:
    return etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
        remove_blank_text=blank,
    )


def _canonical(document: RegionDocument) -> str:
    if not isinstance(document, bytes):
        return ""
    root = etree.fromstring(document, _parser(blank=True))
    return etree.canonicalize(etree.tostring(root, encoding="unicode"), rewrite_prefixes=True)


def _prune(element: etree._Element, node: Node) -> None:
    for name in set(element.attrib) - node.attributes:
        del element.attrib[name]
    if node.text:
        return  # taking an element out of a text would change the text: the schema refuses it instead
    for child in list(element):
        known = node.children.get(str(child.tag))
        if known is None:
            element.remove(child)
        else:
            _prune(child, known)


def _tree(element: etree._Element, node: Node) -> Tree:
    tree: Tree = {f"@{name}": value for name, value in element.attrib.items()}
    if node.text:
        tree[OWN_TEXT] = element.text or ""
    for known in node.children.values():
        if known.many:
            tree[known.name] = []
    for child in element:
        inner = node.children.get(str(child.tag))
        if inner is None:
            continue  # inside a text, where nothing is pruned: the schema says so
        if inner.many:
            tree[inner.name].append(_tree(child, inner))
        else:
            tree[inner.name] = _tree(child, inner)
    return tree


def _fill(element: etree._Element, tree: Tree, node: Node) -> None:
    by_name = {child.name: child for child in node.children.values()}
    for key, value in tree.items():
        if key == OWN_TEXT:
            element.text = value
        elif key.startswith("@"):
            element.set(key[1:], value)
        else:
            known = by_name[key]
            for item in value if known.many else [value]:
                _fill(etree.SubElement(element, known.tag), item, known)


def _place(element: etree._Element, root: etree._Element, node: Node) -> str:
    """Write where an element stands: `/Materials/Material[2]/Size`."""
    line = [element, *element.iterancestors()]
    place = ""
    for step in reversed(line[: line.index(root)]):
        known = node.children.get(str(step.tag))
        if known is None:
            return place
        node = known
        number = f"[{1 + sum(1 for _ in step.itersiblings(str(step.tag), preceding=True))}]" if node.many else ""
        place = f"{place}/{node.name}{number}"
    return place


# --- what the schema knows ---------------------------------------------------------------------------------------


def _check_counts(schema: etree._Element) -> None:
    """Refuse counts that a validator would have to unroll: a small schema can cost it many seconds."""
    for element in schema.iter():
        for name in ("minOccurs", "maxOccurs"):
            count = element.get(name, "")
            if count.isdigit() and (len(count) > len(str(MAX_OCCURS)) or int(count) > MAX_OCCURS):
                raise Wrong(f'{name} above {MAX_OCCURS}: use "unbounded"')


def _root(raw: bytes) -> Node:
    try:
        schema = xmlschema.XMLSchema10(raw.decode(), allow="none", defuse="always")
    except (xmlschema.XMLSchemaException, UnicodeDecodeError):
        raise Wrong("is no XML Schema 1.0") from None
    if len(schema.elements) != 1:
        raise Wrong("needs exactly one global element, the message")
    return _node(next(iter(schema.elements.values())), many=False, left=MAX_DEPTH)


def _node(element: Any, *, many: bool, left: int) -> Node:
    if left == 0:
        raise Wrong(f"is deeper than {MAX_DEPTH} levels or holds itself")
    kind = element.type
    inner = [] if kind.is_simple() or kind.has_simple_content() else list(kind.content.iter_elements())
    children = [_node(child, many=child.max_occurs != 1, left=left - 1) for child in inner if child.name is not None]
    return Node(
        name=element.local_name,
        tag=element.name,
        many=many,
        text=kind.is_simple() or kind.has_simple_content(),
        attributes=frozenset(name for name in element.attributes if name is not None),
        children={child.tag: child for child in children},
    )


def _leaves(node: Node, at: str, *, required: bool) -> Iterator[tuple[str, Leaf]]:
    """Every place that holds a value, written `A/B`, `A/B[]/C` and `A/@b`."""
    prefix = f"{at}/" if at else ""
    if node.text and at:
        yield at, Leaf("string", required=required)
    for name in node.attributes:
        yield f"{prefix}@{name}", Leaf("string")
    for child in node.children.values():
        yield from _leaves(child, f"{prefix}{child.name}{'[]' if child.many else ''}", required=False)
