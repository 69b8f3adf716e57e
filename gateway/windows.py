"""The windows (跨域通办窗口) and their clerks, from windows.toml.

Owns: which window stands where, what it may take and for whom, with which seal, and which signed-on person is which
clerk. Leaves to `gateway.web.window`: the pages. To `gateway.policy`: whether a grant covers what the window sends.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from gateway.config import Problems, Settings, parse, read_toml
from gateway.domain.caller import Caller
from gateway.domain.identifiers import region_code_problem, uscc_problem
from gateway.domain.item import Names
from gateway.errors import FieldProblem, NotPermitted

WINDOW_SCOPES = frozenset({"submissions"})
"""What a clerk's session may do: take applications and follow them."""


SEAL_NAME = r"^.{2,80}跨域通办收件专用章([(（]\d{1,3}[)）])?$"
"""How such a seal is called: it says 收件 (collection), never 受理 (acceptance), which is the handling side's."""


class DocumentType(StrEnum):
    """What the seal of a collecting window may be put on; nothing else exists."""

    COLLECTION_RECEIPT = "collection_receipt"  # 收件回执
    HANDOVER_LIST = "handover_list"  # 交接单


class _Name(Settings):
    zh: str = Field(alias="zh-CN", min_length=1)
    en: str = Field(min_length=1)


class _Clerk(Settings):
    id: str = Field(min_length=1, max_length=64)
    region: str
    subject: str = Field(min_length=1)


class _Seal(Settings):
    id: str = Field(min_length=1, max_length=64)
    name: str = Field(pattern=SEAL_NAME, max_length=100)
    documents: list[DocumentType] = Field(default_factory=lambda: list(DocumentType), min_length=1)
    valid_from: Annotated[date, Field(strict=True)]
    valid_until: Annotated[date, Field(strict=True)]


class _Window(Settings):
    id: str = Field(min_length=1, max_length=64)
    name: _Name
    centre: str = Field(min_length=1)
    organisation: str = Field(min_length=1)
    organisation_code: str
    code: str
    client_id: str = "pearl-window"
    regions: list[str] = Field(min_length=1)
    items: Literal["*"] | list[str]
    clerk: list[_Clerk] = Field(min_length=1)
    seal: _Seal | None = None


class _File(Settings):
    window: list[_Window] = Field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Clerk:
    """A clerk by staff id; the person behind it is known by region and the region's subject, never by name."""

    id: str
    region: str
    subject: str


@dataclass(frozen=True, slots=True)
class Seal:
    """The seal of a collecting window (收件专用章): for two kinds of documents, inside a term, and for nothing else."""

    id: str
    name: str
    documents: frozenset[DocumentType]
    valid_from: date
    valid_until: date

    def lacks(self, document: DocumentType, on: date) -> str | None:
        """Say why a document cannot be sealed with it on a day, None when it can."""
        if document not in self.documents:
            return f"its scope does not hold {document}"
        if not self.valid_from <= on <= self.valid_until:
            return "it is not valid on this day"
        return None


@dataclass(frozen=True, slots=True)
class Window:
    """One registered window. `code` is the GB/T 2260 code of the place; `items` is None when it may take any item.

    Without a `seal` it takes applications, and issues no sealed document.
    """

    id: str
    name: Names
    centre: str
    organisation: str
    organisation_code: str
    code: str
    client_id: str
    regions: frozenset[str]
    items: frozenset[str] | None
    clerks: Sequence[Clerk]
    seal: Seal | None = None

    def refuse_outside(self, item_code: str, region: str | None) -> None:
        """Raise NotPermitted, all problems at once, for an item or a region that this window may not take.

        None: no region is chosen yet.
        """
        problems = []
        if not self.takes(item_code):
            problems.append(FieldProblem("item", "is not one that this window may take", "outside_items"))
        if region is not None and not self.takes_for(region):
            problems.append(FieldProblem("place", "is not one that this window may take for", "outside_regions"))
        if problems:
            text = f"The register lets window {self.id} take no such application."
            raise NotPermitted(text, problems=problems, code="window.outside_register")

    def sealed(self, document: DocumentType, on: date) -> Seal:
        """Return the seal that this window puts on a document. Raises NotPermitted when it has none for it."""
        reason = "it has none" if self.seal is None else self.seal.lacks(document, on)
        if self.seal is None or reason:
            text = f"Window {self.id} has no seal for this document: {reason}."
            raise NotPermitted(text, code="window.no_seal")
        return self.seal

    def takes(self, item_code: str) -> bool:
        """Say whether this window may take that item."""
        return self.items is None or item_code in self.items

    def takes_for(self, region: str) -> bool:
        """Say whether this window may take applications for that region."""
        return region in self.regions

    def caller(self, clerk: Clerk) -> Caller:
        """Return the party on whose behalf a clerk's requests run."""
        return Caller(
            client_id=self.client_id,
            organisation=self.organisation,
            organisation_code=self.organisation_code,
            origin_code=self.code,
            scopes=WINDOW_SCOPES,
            operator=clerk.id,
            window_id=self.id,
        )


class WindowRegistry:
    """All windows, found by the person who sits there."""

    def __init__(self, windows: Sequence[Window]) -> None:
        self._windows = tuple(windows)
        pairs = [(window, clerk) for window in windows for clerk in window.clerks]
        self._by_person = {(clerk.region, clerk.subject): (window, clerk) for window, clerk in pairs}

    def seals(self) -> list[dict[str, Any]]:
        """Return every seal with its scope, its term and its window, as it is published."""
        return [
            {
                "id": seal.id,
                "name": seal.name,
                "documents": sorted(str(document) for document in seal.documents),
                "valid_from": seal.valid_from,
                "valid_until": seal.valid_until,
                "window": window.id,
                "centre": window.centre,
            }
            for window in self._windows
            if (seal := window.seal) is not None
        ]

    def of_person(self, region: str, subject: str) -> tuple[Window, Clerk] | None:
        """Return window and clerk for a signed-on person, None when the person is no registered clerk."""
        return self._by_person.get((region, subject))


def load_windows(path: Path, *, regions: Collection[str], items: Collection[str]) -> WindowRegistry:
    """Read windows.toml against the known regions and items. Raises StartRefused that lists every problem."""
    file = parse(_File, read_toml(path), str(path))
    problems = Problems()
    for index, window in enumerate(file.window):
        for field, reason in _problems(window, regions, items):
            problems.add(f"{path}: window.{index}.{field}", reason)
    for field, reason in _doubles(file.window):
        problems.add(f"{path}: {field}", reason)
    problems.refuse()
    return WindowRegistry([_window(window) for window in file.window])


def _problems(window: _Window, regions: Collection[str], items: Collection[str]) -> Iterator[tuple[str, str]]:
    if reason := uscc_problem(window.organisation_code):
        yield "organisation_code", reason
    if reason := region_code_problem(window.code):
        yield "code", reason
    for region in [r for r in window.regions if r not in regions]:
        yield "regions", f"{region} is not an enabled region; enabled: {', '.join(sorted(regions))}"
    for item in [i for i in window.items if window.items != "*" and i not in items]:
        yield "items", f"{item} is not in the catalogue; `pearl items list` lists what is"
    if window.seal is not None and window.seal.valid_until < window.seal.valid_from:
        yield "seal.valid_until", "lies before valid_from"
    for clerk in [c for c in window.clerk if c.region not in regions]:
        yield f"clerk {clerk.id}", f"signs on at {clerk.region}, which is not an enabled region"


def _doubles(windows: Sequence[_Window]) -> Iterator[tuple[str, str]]:
    yield from _repeated([window.id for window in windows], "window", "is the id of two windows")
    yield from _repeated([window.seal.id for window in windows if window.seal], "seal", "is the id of two seals")
    for window in windows:
        yield from _repeated([clerk.id for clerk in window.clerk], f"window {window.id}: clerk", "is the id of two")
    people = [f"{clerk.region}/{clerk.subject}" for window in windows for clerk in window.clerk]
    yield from _repeated(people, "clerk", "is registered twice; one person is one clerk at one window")


def _repeated(values: Sequence[str], field: str, reason: str) -> Iterator[tuple[str, str]]:
    for value in sorted({value for value in values if values.count(value) > 1}):
        yield f"{field} {value}", reason


def _window(read: _Window) -> Window:
    return Window(
        id=read.id,
        name={"zh-CN": read.name.zh, "en": read.name.en},
        centre=read.centre,
        organisation=read.organisation,
        organisation_code=read.organisation_code,
        code=read.code,
        client_id=read.client_id,
        regions=frozenset(read.regions),
        items=None if read.items == "*" else frozenset(read.items),
        clerks=[Clerk(clerk.id, clerk.region, clerk.subject) for clerk in read.clerk],
        seal=None if read.seal is None else _seal(read.seal),
    )


def _seal(read: _Seal) -> Seal:
    return Seal(read.id, read.name, frozenset(read.documents), read.valid_from, read.valid_until)
