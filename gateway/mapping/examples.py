"""Examples that travel with a pack, and trying them.

Owns: finding `examples/<name>.canonical.json` with `<name>.region.json` or `.xml`, and comparing what the pack makes
of each with the other. Leaves to `gateway.mapping.packs`: refusing a pack whose examples fail. A name that ends in
`.ours-to-theirs` or `.theirs-to-ours` is tried in that direction only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

import orjson

from gateway.errors import MappingFailed
from gateway.mapping.converters import Wrong
from gateway.mapping.forms import Form
from gateway.mapping.source import Faults, Files, read_bytes
from gateway.mapping.vocabulary import OURS_TO_THEIRS, THEIRS_TO_OURS
from gateway.ports import RegionDocument

_OURS: Final = ".canonical.json"


@dataclass(frozen=True, slots=True)
class Example:
    """One pair of documents that say the same. `paths` are its two files, ours first."""

    name: str
    canonical: dict[str, Any]
    region: RegionDocument
    paths: tuple[str, str]

    def runs(self, direction: str) -> bool:
        """Return whether the example is to be tried in a direction."""
        other = THEIRS_TO_OURS if direction == OURS_TO_THEIRS else OURS_TO_THEIRS
        return not self.name.endswith(f".{other}")


@dataclass(frozen=True, slots=True)
class Trial:
    """What an example is tried with: both directions, and the fields of ours that no rule reads."""

    to_region: Callable[[Mapping[str, Any]], RegionDocument]
    to_canonical: Callable[[RegionDocument], dict[str, Any]]
    form: Form
    unheard: frozenset[str]


def read_examples(files: Files, folder: str, form: Form, faults: Faults) -> list[Example]:
    """Return the examples of a pack; a missing half or a broken file is a fault, and so is having none."""
    examples = list(_read(files, folder, form, faults))
    if not examples and not faults.problems:
        faults.add(folder, "has no examples: a pack proves itself with at least one")
    return examples


def try_examples(examples: Sequence[Example], trial: Trial, faults: Faults) -> None:
    """Run every example both ways and note each that does not come out exactly."""
    for example in examples:
        if example.runs(OURS_TO_THEIRS):
            _try_saying(example, trial, faults)
        if example.runs(THEIRS_TO_OURS):
            _try_hearing(example, trial, faults)


def without(document: dict[str, Any], lost: frozenset[str], at: str = "") -> dict[str, Any]:
    """Return a canonical document without the fields that a format cannot say."""
    kept: dict[str, Any] = {}
    for key, value in document.items():
        name = at + key
        if name in lost:
            continue
        if isinstance(value, dict):
            inner = without(value, lost, f"{name}.")
            if inner or not value:
                kept[key] = inner
        elif isinstance(value, list):
            kept[key] = [without(item, lost, f"{name}[].") if isinstance(item, dict) else item for item in value]
        else:
            kept[key] = value
    return kept


def _read(files: Files, folder: str, form: Form, faults: Faults) -> Iterator[Example]:
    suffix = form.suffix
    names = [PurePosixPath(path).name for path in files.below(folder)]
    stems = {name.removesuffix(end) for end in (_OURS, suffix) for name in names if name.endswith(end)}
    for stem in sorted(stems):
        ours, theirs = f"{folder}/{stem}{_OURS}", f"{folder}/{stem}{suffix}"
        raw_ours, raw_theirs = read_bytes(files, ours, faults), read_bytes(files, theirs, faults)
        if raw_ours is None or raw_theirs is None:
            continue
        try:
            yield Example(stem, orjson.loads(raw_ours), form.example(raw_theirs), (ours, theirs))
        except orjson.JSONDecodeError as error:
            faults.add(ours, "is not JSON", error.lineno)
        except Wrong as wrong:
            faults.add(theirs, wrong.reason)


def _try_saying(example: Example, trial: Trial, faults: Faults) -> None:
    try:
        said = trial.to_region(example.canonical)
    except MappingFailed as failure:
        _note(failure, example.paths[0], faults)
        return
    if not trial.form.same(said, example.region):
        _note_difference(example.paths, said, example.region, faults)


def _try_hearing(example: Example, trial: Trial, faults: Faults) -> None:
    try:
        heard = trial.to_canonical(example.region)
    except MappingFailed as failure:
        _note(failure, example.paths[1], faults)
        return
    expected = without(example.canonical, trial.unheard)
    if heard != expected:
        _note_difference(example.paths[::-1], heard, expected, faults)


def _note_difference(paths: tuple[str, ...], made: Any, expected: Any, faults: Faults) -> None:
    """Note that the second file is not what the rules make of the first."""
    told, wrong = paths
    faults.add(wrong, f"is not what the rules make of {PurePosixPath(told).name}{_differs(made, expected)}")


def _note(failure: MappingFailed, path: str, faults: Faults) -> None:
    for problem in failure.problems:
        faults.add(path, f"{problem.field} {problem.reason}")


def _differs(made: Any, expected: Any) -> str:
    """Name the first place where two JSON documents part; XML documents are compared as a whole."""
    if isinstance(made, dict) and isinstance(expected, dict):
        for key in [*expected, *(key for key in made if key not in expected)]:
            if made.get(key) != expected.get(key):
                inner = _differs(made.get(key), expected.get(key)).removeprefix(": ")
                return f": {key}.{inner}" if inner else f": {key}"
    return ""
