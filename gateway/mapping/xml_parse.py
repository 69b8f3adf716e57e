"""XML as bytes: parsed without trusting it, and written, in a region's character set.

Owns: refusing what is too large or hostile, the encoding that a document declares, and canonical form. Leaves to
`xml_schema` and `xml_form`: what the elements mean.
"""

from __future__ import annotations

import re
from typing import Final

from lxml import etree

from gateway.mapping.charsets import UTF8, Charset
from gateway.mapping.converters import Wrong
from gateway.mapping.limits import MAX_DOCUMENT_BYTES

_DECLARATION: Final = re.compile(r"<\?xml[ \t\r\n][^<>]*\?>")
_ENCODING: Final = re.compile(r"""[ \t\r\n]encoding[ \t\r\n]*=[ \t\r\n]*["']([A-Za-z][A-Za-z0-9._-]*)["']""")

_LABELS: Final = {
    "gb18030": ("GB18030",),
    "gb18030-2005": ("GB18030", "GB18030-2005"),
    "gb18030-2022": ("GB18030", "GB18030-2022"),
    "big5": ("Big5",),
    "big5-hkscs": ("Big5-HKSCS",),
}
"""How documents name their character set (IANA); the first one is written."""


def parse(raw: bytes, charset: Charset | None = None, *, blank: bool = False) -> etree._Element:
    """Parse without entities, network, comments or document types; raise Wrong for anything else.

    Without a character set, or with UTF-8, the parser goes by what the document declares. `blank` leaves out the blanks
    between elements. A parser is made for each document: it is cheap, and a shared one would serialise the threads.
    """
    if len(raw) > MAX_DOCUMENT_BYTES:
        raise Wrong(f"is larger than {MAX_DOCUMENT_BYTES} bytes", "too_long")
    if charset is not None and charset.name != UTF8:
        raw = _in_utf8(raw, charset)
    if b"<!DOCTYPE" in raw:
        raise Wrong("has a DOCTYPE", "doctype")
    try:
        root = etree.fromstring(raw, parser(blank=blank))
    except (etree.XMLSyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        raise Wrong(f"is not well-formed XML (line {line})" if line else "is not well-formed XML", "syntax") from None
    if root.getroottree().docinfo.doctype:  # one in an encoding that hides it from the look above
        raise Wrong("has a DOCTYPE", "doctype")
    return root


def parser(*, blank: bool = False) -> etree.XMLParser:
    """Return a parser that resolves nothing and reads nothing from anywhere."""
    return etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
        remove_blank_text=blank,
    )


def written(root: etree._Element, charset: Charset) -> bytes:
    """Return a document as bytes, with a declaration when they are not UTF-8. Raises Wrong for a foreign character.

    lxml would write such a character as a number, which a reader with that character set has no use for, and GB 18030
    in whichever edition the machine has.
    """
    if charset.name == UTF8:
        return etree.tostring(root, encoding="UTF-8")
    head = f'<?xml version="1.0" encoding="{_LABELS[charset.name][0]}"?>\n'
    return charset.encode(head + etree.tostring(root, encoding="unicode"))


def canonical(root: etree._Element) -> str:
    """Return the canonical form (C14N 2.0), with prefixes of its own choosing."""
    return etree.canonicalize(etree.tostring(root, encoding="unicode"), rewrite_prefixes=True)


def _in_utf8(raw: bytes, charset: Charset) -> bytes:
    """Recode a document, and have its declaration say so."""
    text = charset.decode(raw)
    head = _DECLARATION.match(text)
    said = _ENCODING.search(text, 0, head.end()) if head else None
    if said is None:
        return text.encode()
    if said[1].lower() not in {label.lower() for label in _LABELS[charset.name]}:
        raise Wrong(f"declares another character set than {charset.name}", "charset")
    return f"{text[: said.start(1)]}UTF-8{text[said.end(1) :]}".encode()
