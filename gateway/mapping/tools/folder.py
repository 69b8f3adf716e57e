"""A mappings folder opened as a whole: every pack of every region, or everything that is wrong with any of them.

Owns: `Opened`, and hearing the faults of all regions in one go. Leaves to `gateway.mapping.packs`: what a fault is.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.errors import FieldProblem, InvalidRequest, StartRefused
from gateway.mapping.packs import Ground, Pack, packs_of, read_ground
from gateway.mapping.source import Files, TomlFile, closest, read_files
from gateway.mapping.vocabulary import DIRECTIONS

RULES: Final = "rules.toml"
OURS_FILE: Final = ".canonical.json"
"""How the name of our half of an example ends."""

UNCONFIRMED: Final = "To be confirmed with the region."
"""The reason of a loss that was proposed and that nobody has confirmed."""


@dataclass(frozen=True, slots=True, repr=False)
class Opened:
    """A mappings folder without faults. `packs` are by region and message."""

    files: Files
    ground: Ground
    packs: Mapping[str, Mapping[str, Pack]]

    def all(self) -> Iterator[Pack]:
        """Yield every pack, region by region."""
        for packs in self.packs.values():
            yield from packs.values()

    def source(self, pack: Pack) -> TomlFile:
        """Return the rule file of a pack."""
        path = f"{pack.region}/{pack.message}/{RULES}"
        raw = self.files.contents[path]
        return TomlFile(path, raw, tomllib.loads(raw.decode()))

    def examples(self, pack: Pack) -> list[tuple[str, str, str]]:
        """Return name and both paths of every example of a pack."""
        folder = f"{pack.region}/{pack.message}/examples"
        ours = [path for path in self.files.below(folder) if path.endswith(OURS_FILE)]
        stems = [path.removesuffix(OURS_FILE) for path in ours]
        return [(stem.rpartition("/")[2], f"{stem}{OURS_FILE}", f"{stem}{pack.form.suffix}") for stem in stems]

    def unconfirmed(self) -> Iterator[FieldProblem]:
        """Yield the losses whose reason is still the one that a scaffold proposed."""
        for pack in self.all():
            for loss in pack.losses:
                if loss.reason == UNCONFIRMED:
                    place = f"{self.files.name}/{pack.region}/{pack.message}/losses.toml:{loss.line}"
                    yield FieldProblem(place, f"{loss.field}: its reason is not confirmed by the region yet")

    def trials(self, pack: Pack) -> int:
        """Return how many conversions the examples of a pack are tried with: two each, unless the name says one."""
        names = [name for name, _, _ in self.examples(pack)]
        return sum(1 if name.endswith(DIRECTIONS) else 2 for name in names)


def inspect(root: Path, regions: Sequence[str] = ()) -> tuple[Opened | None, list[FieldProblem]]:
    """Open a folder; return it, or None with everything that is wrong. `regions` narrows it to some.

    Raises InvalidRequest when there is no such folder or region.
    """
    files = read_folder(root)
    wanted = list(regions) or files.regions()
    for region in wanted:
        if region not in files.regions():
            hint = closest(region, files.regions()) or f"; there are {', '.join(files.regions())}"
            raise InvalidRequest(f"{root.name}/ has no region {region}{hint}")
    try:
        ground = read_ground(files)
    except StartRefused as refused:
        return None, list(refused.problems)
    return _packs(files, ground, wanted)


def open_folder(root: Path, regions: Sequence[str] = ()) -> Opened:
    """Open a folder. Raises StartRefused with everything that is wrong in any of its regions."""
    opened, problems = inspect(root, regions)
    if opened is None:
        raise StartRefused("The mapping packs have faults", problems=problems)
    return opened


def pack_of(opened: Opened, region: str, message: str) -> Pack:
    """Return one pack. Raises InvalidRequest with the nearest name when the region has no such message."""
    packs = opened.packs[region]
    if message not in packs:
        hint = closest(message, packs) or f"; it has {', '.join(packs)}"
        raise InvalidRequest(f"{region} has no message {message}{hint}")
    return packs[message]


def read_folder(root: Path) -> Files:
    """Read a mappings folder. Raises InvalidRequest when there is none."""
    if not root.is_dir():
        raise InvalidRequest(f"{root} is no folder; --mappings names the folder that holds vocabulary.toml")
    return read_files(root)


def _packs(files: Files, ground: Ground, regions: Sequence[str]) -> tuple[Opened | None, list[FieldProblem]]:
    problems: list[FieldProblem] = []
    found: dict[str, Mapping[str, Pack]] = {}
    for region in regions:
        try:
            found[region] = packs_of(ground, region)
        except StartRefused as refused:
            problems += refused.problems
    return (None, problems) if problems else (Opened(files, ground, found), [])
