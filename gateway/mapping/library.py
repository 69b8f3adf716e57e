"""The packs in use, region by region, and those that were in use before.

Owns: `PackSet`, all packs of one region under one version; `Library`, which holds what is in use behind one reference,
so that whoever looks sees all of it before a change or all of it after; reading a mappings folder into sets. Leaves to
`gateway.versions`: when it changes, and what is kept beyond the life of this process.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from gateway.errors import FieldProblem, NotOffered, StartRefused
from gateway.mapping.packs import Notice, Pack, packs_of, read_ground, unnoticed
from gateway.mapping.source import Files, read_files

OTHERS: Final = 32
"""Sets that are not in use and stay compiled: cases in flight ask for them again and again."""


class Packs(Mapping[str, Pack]):
    """The packs of one region by message."""

    __slots__ = ()

    @abstractmethod
    def now(self) -> PackSet:
        """Return the packs of this moment: whoever needs several takes them once, or a reload may come between."""


@dataclass(frozen=True, slots=True, eq=False)
class PackSet(Packs):
    """All packs of one region under one version, which is what a case is pinned to."""

    region: str
    version: str
    packs: Mapping[str, Pack] = field(repr=False)

    @classmethod
    def of(cls, region: str, packs: Mapping[str, Pack]) -> PackSet:
        """Return the set of these packs; its version is the hex SHA-256 of theirs."""
        digest = hashlib.sha256()
        for message in sorted(packs):
            digest.update(f"{message} {packs[message].version}\n".encode())
        return cls(region, digest.hexdigest(), packs)

    def now(self) -> PackSet:
        """Return itself: a set never changes."""
        return self

    def need(self, message: str) -> Pack:
        """Return the pack of a message. Raises NotOffered."""
        if message not in self.packs:
            raise NotOffered(f"Region {self.region} exchanges no {message} documents.", region=self.region)
        return self.packs[message]

    def __getitem__(self, message: str) -> Pack:
        return self.packs[message]

    def __iter__(self) -> Iterator[str]:
        return iter(self.packs)

    def __len__(self) -> int:
        return len(self.packs)


@dataclass(frozen=True, slots=True)
class InUse:
    """A set, and since when it has been the one in use."""

    packs: PackSet
    since: datetime


Edition = Mapping[str, InUse]
"""Region → the set in use: what a reload replaces as a whole."""


@dataclass(frozen=True, slots=True)
class Change:
    """One message of one region, and its pack's version before and after; None where there was, or is, no pack."""

    region: str
    message: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class _Held:
    current: Edition
    previous: Edition | None


class Library:
    """What is in use, what was before it, and some sets that cases in flight began with.

    Belongs to the event loop; a thread may read what is in use.
    """

    def __init__(self, sets: Mapping[str, PackSet], now: datetime) -> None:
        self._held = _Held({region: InUse(packs, now) for region, packs in sets.items()}, None)
        self._others: OrderedDict[tuple[str, str], PackSet] = OrderedDict()

    @property
    def current(self) -> Edition:
        """What is in use."""
        return self._held.current

    @property
    def previous(self) -> Edition | None:
        """What was in use before; None when nothing was since the process began."""
        return self._held.previous

    def live(self, region: str) -> Packs:
        """Return the region's packs as they are whenever somebody looks."""
        return _Live(self, region)

    def take(self, sets: Mapping[str, PackSet], now: datetime) -> None:
        """Put these sets in use. What they replace becomes the previous edition, if any version is another one."""
        held = self._held
        current = {region: _in_use(held.current.get(region), packs, now) for region, packs in sets.items()}
        if not changes(held.current, sets):
            self._held = _Held(current, held.previous)
            return
        self._held = _Held(current, held.current)
        for dropped in (held.previous or {}).values():
            self.remember(dropped.packs)

    def find(self, region: str, version: str) -> PackSet | None:
        """Return the set under this version when it is at hand: in use, in use before, or remembered."""
        for edition in (self._held.current, self._held.previous or {}):
            if region in edition and edition[region].packs.version == version:
                return edition[region].packs
        if (region, version) in self._others:
            self._others.move_to_end((region, version))
        return self._others.get((region, version))

    def remember(self, packs: PackSet) -> None:
        """Keep a set at hand that is not in use; those that nobody asked for longest make room."""
        self._others[packs.region, packs.version] = packs
        self._others.move_to_end((packs.region, packs.version))
        while len(self._others) > OTHERS:
            self._others.popitem(last=False)


class _Live(Packs):
    """A region's packs, looked up anew each time."""

    __slots__ = ("_library", "_region")

    def __init__(self, library: Library, region: str) -> None:
        self._library, self._region = library, region

    def now(self) -> PackSet:
        return self._library.current[self._region].packs

    def __getitem__(self, message: str) -> Pack:
        return self.now()[message]

    def __iter__(self) -> Iterator[str]:
        return iter(self.now())

    def __len__(self) -> int:
        return len(self.now())


def _in_use(before: InUse | None, packs: PackSet, now: datetime) -> InUse:
    same = before is not None and before.packs.version == packs.version
    return InUse(packs, before.since if before and same else now)


def changes(before: Edition, after: Mapping[str, PackSet]) -> list[Change]:
    """Return every pack whose version is another one, or that came, or went."""
    found: list[Change] = []
    for region in sorted(after):
        old: Mapping[str, Pack] = before[region].packs if region in before else {}
        new = after[region]
        for message in sorted({*old, *new}):
            versions = [packs[message].version if message in packs else None for packs in (old, new)]
            if versions[0] != versions[1]:
                found.append(Change(region, message, *versions))
    return found


# --- making sets -------------------------------------------------------------------------------------------------


def read_sets(
    root: Path, folders: Mapping[str, str], *, notice: Notice = unnoticed, earlier: Edition | None = None
) -> tuple[dict[str, PackSet], list[FieldProblem]]:
    """Read a mappings folder and return the set of every region whose packs are sound, and everything that is not.

    `folders` says in which folder each region's packs are; several regions may share one, which is read and tried for
    the first of them. Packs of `earlier` whose files are the same are taken over instead of being compiled again.
    """
    try:
        ground = read_ground(read_files(root))
    except StartRefused as refused:
        return {}, list(refused.problems)
    sets: dict[str, PackSet] = {}
    tried: dict[str, Mapping[str, Pack]] = {}
    problems: list[FieldProblem] = []
    for region, folder in folders.items():
        known = _by_fingerprint((earlier or {}).get(region))
        twins = tried.get(folder, {})
        try:
            packs = packs_of(ground, region, folder, notice=notice, earlier=known, twins=twins)
        except StartRefused as refused:
            problems += refused.problems
        else:
            sets[region], tried[folder] = PackSet.of(region, packs), packs
    return sets, list(dict.fromkeys(problems))  # what is wrong in a shared folder is said once


def restored(region: str, version: str, kept: Mapping[str, Files | Pack], *, notice: Notice = unnoticed) -> PackSet:
    """Return a set from the files of its packs, by message; a pack that is at hand stands for itself.

    Raises StartRefused when they do not make the packs that they are kept as.
    """
    packs = {
        message: pack if isinstance(pack, Pack) else _compiled(region, message, pack, notice)
        for message, pack in kept.items()
    }
    return PackSet(region, version, packs)


def _compiled(region: str, message: str, files: Files, notice: Notice) -> Pack:
    for folder in files.regions():
        made = packs_of(read_ground(files), region, folder, notice=notice)
        if message in made:
            return made[message]
    reason = f"there is no pack for {message} in these files"
    raise StartRefused("The mapping packs have faults", problems=[FieldProblem(f"{files.name}/{region}", reason)])


def _by_fingerprint(before: InUse | None) -> dict[str, Pack]:
    packs: Iterable[Pack] = before.packs.values() if before else ()
    return {pack.fingerprint: pack for pack in packs}
