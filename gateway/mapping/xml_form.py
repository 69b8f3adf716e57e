"""XML messages under an XML Schema.

Owns: trees of XML documents, there and back, and saying what the schema finds wrong without repeating values. Leaves
to `xml_schema`: what may stand where; to `xml_parse`: bytes; to adapters: envelopes, signatures and the attributes that
belong to the wire.

A tree keeps attributes under `@name`, repeated elements in lists, and the text of an element under `#text`; an element
that can have neither attributes nor elements is its text. What the schema does not know at a place is dropped before
validation: an unknown extra is ignored, in XML as in JSON. (Also `xsi:type` and `xsi:nil`, with which a document could
choose the rules that it is judged by.)
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Final

from lxml import etree

from gateway.errors import FieldProblem
from gateway.mapping.charsets import UTF8, charset_named
from gateway.mapping.converters import Wrong
from gateway.mapping.forms import Leaf
from gateway.mapping.limits import MAX_ITEMS, MAX_PROBLEMS
from gateway.mapping.paths import OWN_TEXT, Notation, Place, Step, Tree
from gateway.mapping.xml_parse import canonical, parse, written
from gateway.mapping.xml_schema import SCHEMA, Node, namespaces, open_schema, places
from gateway.ports import RegionDocument

XML_NOTATION: Final = Notation("/", 1)
"""As in XPath: `Materials/Material[1]/Name`."""

_ATTRIBUTE: Final = re.compile(r"^Element '[^']*'(?:, attribute|: The attribute) '([^']*)'")
_EXPECTED: Final = re.compile(r"Expected is \( (?:\{[^}]*\})?([^ ,{}]+) \)\.$")
_XML: Final = "http://www.w3.org/XML/1998/namespace"


class XmlForm:
    """One XML message. Raises Wrong from the constructor when the schema cannot be used.

    `siblings` are the other `.xsd` files of the pack, for a schema that imports them.
    """

    notation = XML_NOTATION
    textual = True
    schema_name = SCHEMA
    suffix = ".region.xml"

    def __init__(self, raw: bytes, siblings: Mapping[str, bytes] | None = None, charset: str = UTF8) -> None:
        self.charset = charset
        self._charset = charset_named(charset)
        self._root, self._schema, self.raw = open_schema(raw, siblings or {})
        self._prefixes = _prefixes(self._root)
        self.leaves: Mapping[str, Leaf] = dict(places(self._root))

    def end_at_value(self, place: Place) -> Place:
        """An element's value is its text; an attribute is its own value, and so is an element that has none."""
        node: Node | None = self._root
        for step in place:
            node = node.by_name.get(step.key) if node else None
        own = place[-1].key.startswith("@") or (node is not None and node.plain)
        return place if own else (*place, Step(OWN_TEXT))

    def read(self, document: RegionDocument) -> tuple[Tree, list[FieldProblem]]:
        """Parse, drop what the schema does not know, validate. Raises Wrong when this is not the message at all."""
        if not isinstance(document, bytes):
            raise Wrong("is no XML", "type")
        root = parse(document, self._charset)
        if root.tag != self._root.tag:
            raise Wrong(f"is not the element {self._root.name} of the schema's namespace")
        return _taken(root, self._root), self._faults(root)

    def write(self, tree: Tree) -> tuple[RegionDocument, list[FieldProblem]]:
        """Build the message, with a declaration when it is not UTF-8; the order of elements is that of the tree."""
        root = etree.Element(self._root.tag, nsmap=self._prefixes)
        try:
            _fill(root, tree, self._root)
            return written(root, self._charset), self._faults(root)
        except Wrong as wrong:
            return b"", [FieldProblem("document", wrong.reason, wrong.code)]
        except ValueError:  # lxml, for what XML cannot carry; its text repeats nothing, and says nothing more
            return b"", [FieldProblem("document", "holds a character that XML cannot carry")]

    def example(self, raw: bytes) -> RegionDocument:
        """Return the file's bytes, if they are XML."""
        parse(raw, self._charset)
        return raw

    def file(self, document: RegionDocument) -> bytes:
        """Write it indented."""
        root = self._without_blanks(document)
        etree.indent(root)
        return written(root, self._charset) + b"\n"

    def same(self, one: RegionDocument, other: RegionDocument) -> bool:
        """Documents are the same when their canonical forms are, indentation and prefixes aside."""
        return canonical(self._without_blanks(one)) == canonical(self._without_blanks(other))

    def _without_blanks(self, document: RegionDocument) -> etree._Element:
        return parse(document if isinstance(document, bytes) else b"", self._charset, blank=True)

    def _faults(self, root: etree._Element) -> list[FieldProblem]:
        try:
            if self._schema.validate(root):
                return []
        except etree.XMLSchemaValidateError:  # libxml2 gives up on patterns that cost too much
            return [FieldProblem("document", "cannot be judged by the schema", "schema")]
        found = [self._problem(root, error) for error in islice(self._schema.error_log, MAX_PROBLEMS)]
        # The log belongs to the schema object: were it emptied by another thread, the answer would still be no.
        return found or [FieldProblem("document", "does not fit the schema", "schema")]

    def _problem(self, root: etree._Element, error: Any) -> FieldProblem:
        """Name place and kind of a fault; libxml2's own text repeats the value."""
        place, node = _place(_at(root, error.path or ""), root, self._root)
        attribute = _ATTRIBUTE.match(error.message)
        known = node.attributes.get(attribute[1]) if attribute else None
        if known:
            return _named(f"{place}/{known.key}", error)
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


def _prefixes(root: Node) -> dict[str | None, str]:
    """The message's own namespace has no prefix, unless some element has no namespace: it would seem to have this."""
    own, *others = dict.fromkeys(namespaces(root))
    prefixes: dict[str | None, str] = {f"n{number}": name for number, name in enumerate(others, start=1)}
    prefixes["n" if "" in others else None] = own
    return {prefix: name for prefix, name in prefixes.items() if name not in {"", _XML}}


def _taken(element: etree._Element, node: Node) -> Any:
    """Return the tree of an element, or its text, and take out of the document what the schema does not know."""
    names = element.keys()
    tree: Tree = _attributes(element, node, names) if names else {}
    if node.text:  # an element inside a text is for the schema to refuse: taking it out would change the text
        own = element.text or ""
        if node.plain:
            return own
        tree[OWN_TEXT] = own
        return tree
    for name in node.lists:
        tree[name] = []
    foreign = []
    for child in element:
        known = node.children.get(child.tag)  # type: ignore[arg-type]  # no other tag than a text is among them
        if known is None:
            foreign.append(child)
            continue
        value = (child.text or "") if known.plain and not child.keys() else _taken(child, known)
        if known.many:
            tree[known.name].append(value)
        else:
            tree[known.name] = value
    for child in foreign:
        element.remove(child)
    if len(element) > MAX_ITEMS:
        _check_crowd(element, node)
    return tree


def _attributes(element: etree._Element, node: Node, names: Iterable[Any]) -> Tree:
    found: Tree = {}
    # In order, and the value only of those that count: lxml looks for each from the first one on, and there may be a
    # million.
    for name in names:
        known = node.attributes.get(name)
        if known is None:
            del element.attrib[name]
        else:
            found[known.key] = str(element.get(name))
    return found


def _check_crowd(element: etree._Element, node: Node) -> None:
    """Refuse a list beyond the limit before it is validated: libxml2 counts from the first item to name each fault."""
    tag, count = Counter(str(child.tag) for child in element).most_common(1)[0]
    if count > MAX_ITEMS:
        raise Wrong(f"has more than {MAX_ITEMS} {node.children[tag].name} in one {node.name}", "too_long")


def _fill(element: etree._Element, tree: Tree, node: Node) -> None:
    for key, value in tree.items():
        if key == OWN_TEXT:
            element.text = value
        elif key.startswith("@"):
            element.set(node.tags[key], value)
        else:
            known = node.by_name[key]
            for item in value if known.many else [value]:
                inner = etree.SubElement(element, known.tag)
                if known.plain:
                    inner.text = item
                else:
                    _fill(inner, item, known)


def _at(root: etree._Element, path: str) -> etree._Element:
    """The element at a path of libxml2's, `/*/n1:Form/*[3]`. As an XPath it would need the document's own prefixes."""
    element = root
    for step in path.split("/")[2:]:
        name, _, number = step.partition("[")
        named = (child for child in element if name in {"*", _prefixed(child)})
        found = next(islice(named, int(number.rstrip("]") or 1) - 1, None), None)
        if found is None:
            return element
        element = found
    return element


def _prefixed(element: etree._Element) -> str:
    name = etree.QName(element).localname
    return f"{element.prefix}:{name}" if element.prefix else name


def _place(element: etree._Element, root: etree._Element, node: Node) -> tuple[str, Node]:
    """Where an element stands, `/Materials/Material[2]/Size`, and what the schema says of it, or of what is around."""
    line = [element, *element.iterancestors()]
    place = ""
    for step in reversed(line[: line.index(root)]):
        known = node.children.get(str(step.tag))
        if known is None:
            return place, node
        node = known
        number = f"[{1 + sum(1 for _ in step.itersiblings(str(step.tag), preceding=True))}]" if node.many else ""
        place = f"{place}/{node.name}{number}"
    return place, node
