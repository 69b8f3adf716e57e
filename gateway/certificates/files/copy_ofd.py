"""A marked copy of an OFD file: the same pages in a new package, with watermark annotations (GB/T 33190 §15) on each.

Owns: the annotations, the font they need, the metadata, and what is taken off: the list of seals and all that makes
them. What a seal looked like goes with it, since its picture lies within the signature. Entries that nothing has to be
added to stay byte for byte.
"""

from __future__ import annotations

import math
import posixpath
import zipfile
from collections.abc import Sequence
from io import BytesIO

from lxml import etree

from gateway.certificates.files import ofd
from gateway.certificates.files.package import Package, children, local, only, text
from gateway.certificates.files.verdict import Failed
from gateway.certificates.files.watermark import Mark, Use, em, marks

MAX_PAGES = 200
CREATOR = "pearl-gateway"
_BEHIND_ANNOTATIONS = frozenset({"CustomTags", "Attachments", "Extensions"})
"""What stands behind the annotations in Document.xml, whose order is fixed."""


def write(data: bytes, use: Use, original: str) -> bytes:
    """Return the copy. Raises Failed for a file that is not built as the standard has it."""
    file = ofd.read(data)
    makings = {file.list, *(entry for place in file.places for entry in place.entries())}
    entries = {name: entry for name, entry in file.package.entries.items() if name not in makings}
    _Marking(file.package, entries, use, original).run()
    return _zipped(entries, use)


class _Marking:
    """Writes into the entries of a copy what makes it one."""

    def __init__(self, package: Package, entries: dict[str, bytes], use: Use, original: str) -> None:
        self._package = package
        self._entries = entries
        self._use = use
        self._original = original
        self._next_id = 0

    def run(self) -> None:
        """Describe the copy, and mark every page."""
        body = self._described()
        name = self._package.resolve("OFD.xml", text(only(body, "DocRoot")))
        document = self._package.xml(name)
        common = only(document, "CommonData")
        highest = only(common, "MaxUnitID")
        self._next_id = _number(text(highest))
        font = self._id()
        resources = self._beside(name, "PearlCopyRes.xml")
        self._put(resources, _font(_namespace(document), font))
        _child(common, "PublicRes", "/" + resources, behind="PublicRes")
        listing, where = self._annotations(document, name)
        pages = children(only(document, "Pages"), "Page")
        if not 0 < len(pages) <= MAX_PAGES:
            raise Failed("file_unreadable")
        for page in pages:
            self._mark(page, name, common, listing, where, font)
        highest.text = str(self._next_id)
        self._put(where, listing)
        self._put(name, document)

    def _described(self) -> etree._Element:
        """Write OFD.xml anew: without seals, and with what makes the file a copy."""
        root = self._package.xml("OFD.xml")
        body = only(root, "DocBody")
        for signatures in children(body, "Signatures"):
            body.remove(signatures)
        info = only(body, "DocInfo")
        customs = children(info, "CustomDatas")
        custom = customs[0] if customs else _child(info, "CustomDatas", None)
        for name, value in self._use.metadata(self._original).items():
            _child(custom, "CustomData", value, Name=name)
        self._put("OFD.xml", root)
        return body

    def _annotations(self, document: etree._Element, name: str) -> tuple[etree._Element, str]:
        """Return the list of annotations of all pages, and its entry; a document without one gets one."""
        found = children(document, "Annotations")
        if found:
            where = self._package.resolve(name, text(found[0]))
            return self._package.xml(where), where
        where = self._beside(name, "PearlCopyAnnotations.xml")
        line = etree.Element(etree.QName(_namespace(document), "Annotations"))
        line.text = "/" + where
        places = [number for number, child in enumerate(document) if local(child) in _BEHIND_ANNOTATIONS]
        document.insert(places[0] if places else len(document), line)
        return _root(_namespace(document), "Annotations"), where

    def _mark(
        self,
        page: etree._Element,
        document: str,
        common: etree._Element,
        listing: etree._Element,
        where: str,
        font: int,
    ) -> None:
        width, height = self._size(page, document, common)
        lines = marks(self._use, self._original, width, height)
        root, entry = self._of_page(page, listing, where)
        annotation = _child(
            root, "Annot", None, ID=str(self._id()), Type="Watermark", Subtype="Copy", Creator=CREATOR,
            LastModDate=f"{self._use.made_at:%Y-%m-%d}", Visible="true", Print="true", ReadOnly="true",
        )  # fmt: skip
        appearance = _child(annotation, "Appearance", None, Boundary=f"0 0 {width:g} {height:g}")
        for mark in lines:
            self._line(appearance, mark, font)
        self._put(entry, root)

    def _of_page(
        self, page: etree._Element, listing: etree._Element, where: str
    ) -> tuple[etree._Element, str]:  # fmt: skip
        """Return the annotations of a page, and their entry; a page without any gets some."""
        number = page.get("ID", "")
        for line in children(listing, "Page"):
            if line.get("PageID") == number:
                entry = self._package.resolve(where, text(only(line, "FileLoc")))
                return self._package.xml(entry), entry
        entry = self._beside(where, f"PearlCopyPage{len(listing)}.xml")
        line = _child(listing, "Page", None, PageID=number)
        _child(line, "FileLoc", "/" + entry)
        return _root(_namespace(listing), "PageAnnot"), entry

    def _line(self, appearance: etree._Element, mark: Mark, font: int) -> None:
        """Add one line of text; its own box is large enough for it, and the turn is about its beginning."""
        turn = math.radians(-mark.angle)
        cos, sin = math.cos(turn), math.sin(turn)
        widths = [em(character) * mark.size for character in mark.text]
        across = mark.angle != 0
        long = sum(widths) + mark.size
        drawn = _child(
            appearance, "TextObject", None, ID=str(self._id()), Font=str(font), Size=f"{mark.size:.3f}", Fill="true",
            Boundary=f"{mark.x:.3f} {mark.y - long:.3f} {long:.3f} {2 * long:.3f}", Alpha="90" if across else "255",
            CTM=f"{cos:.4f} {sin:.4f} {-sin:.4f} {cos:.4f} 0 {long:.3f}",
        )  # fmt: skip
        _child(drawn, "FillColor", None, Value="120 120 120" if across else "0 0 0")
        code = _child(drawn, "TextCode", mark.text, X="0", Y="0")
        if len(widths) > 1:
            code.set("DeltaX", " ".join(f"{width:.3f}" for width in widths[:-1]))

    def _size(self, page: etree._Element, document: str, common: etree._Element) -> tuple[float, float]:
        """Return width and height of a page in millimetres: its own, or the document's."""
        content = self._package.xml(self._package.resolve(document, page.get("BaseLoc", "")))
        areas = children(content, "Area") or [only(common, "PageArea")]
        parts = text(only(areas[0], "PhysicalBox")).split()
        try:
            _, _, width, height = map(float, parts)
        except ValueError:
            raise Failed("file_unreadable") from None
        if not (1 <= width <= 10_000 and 1 <= height <= 10_000):
            raise Failed("file_unreadable")
        return width, height

    def _id(self) -> int:
        self._next_id += 1
        return self._next_id

    def _beside(self, name: str, own: str) -> str:
        """Return the name of a new entry in the folder of another."""
        entry = posixpath.join(posixpath.dirname(name), own)
        if entry.casefold() in {known.casefold() for known in self._entries}:
            raise Failed("file_unreadable")
        return entry

    def _put(self, name: str, root: etree._Element) -> None:
        self._entries[name] = etree.tostring(root, encoding="UTF-8", xml_declaration=True)


def _namespace(element: etree._Element) -> str | None:
    return etree.QName(element).namespace


def _root(namespace: str | None, name: str) -> etree._Element:
    return etree.Element(etree.QName(namespace, name), nsmap={"ofd": namespace} if namespace else None)


def _child(
    parent: etree._Element, name: str, content: str | None, *, behind: str | None = None, **attributes: str
) -> etree._Element:
    """Add an element as the last one, or behind the last (else the first) of a name, and return it."""
    made = etree.Element(etree.QName(_namespace(parent), name), attributes)
    made.text = content
    same = children(parent, behind) if behind else []
    if behind:
        parent.insert(parent.index(same[-1]) + 1 if same else _behind_area(parent), made)
    else:
        parent.append(made)
    return made


def _behind_area(common: etree._Element) -> int:
    """Return where the first PublicRes stands in CommonData: behind MaxUnitID and PageArea."""
    places = [number for number, child in enumerate(common) if local(child) in ("MaxUnitID", "PageArea")]
    return max(places, default=-1) + 1


def _font(namespace: str | None, font: int) -> etree._Element:
    root = _root(namespace, "Res")
    root.set("BaseLoc", ".")
    _child(
        _child(root, "Fonts", None), "Font", None, ID=str(font), FontName="宋体", FamilyName="宋体", Charset="unicode"
    )
    return root


def _number(value: str) -> int:
    if not value.isascii() or not value.isdigit() or len(value) > 9:
        raise Failed("file_unreadable")
    return int(value)


def _zipped(entries: dict[str, bytes], use: Use) -> bytes:
    target = BytesIO()
    moment: Sequence[int] = use.made_at.timetuple()[:6]
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            entry = zipfile.ZipInfo(name, (moment[0], moment[1], moment[2], moment[3], moment[4], moment[5]))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return target.getvalue()
