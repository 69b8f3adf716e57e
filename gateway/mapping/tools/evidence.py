"""What the packs of other regions teach about names: which field of ours they mean by a place of theirs.

Owns: collecting these names. Leaves to `proposals`: weighing them. Packs with faults teach as well as others: only
their rule files are read.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from gateway.mapping.source import Files
from gateway.mapping.tools.likeness import is_generic
from gateway.mapping.vocabulary import Field, Vocabulary

ALONE: Final = 0.72
"""The most that one region alone can teach."""


class Lesson(NamedTuple):
    """One rule of another region: a field of a message stands at a place."""

    region: str
    message: str
    field: str
    place: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """The lessons of all regions but one, by the last word of the place; the vocabulary tells which fields agree."""

    lessons: Mapping[str, Sequence[Lesson]]
    vocabulary: Vocabulary

    def of(self, message: str, field: Field, place: str) -> tuple[float, str]:
        """Say how strongly others suggest that a field stands at a place, and who.

        One region alone is not enough: names mean different things in different places.
        """
        found = [self._weight(lesson, message, field, place) for lesson in self.lessons.get(_last(place), ())]
        best = max((weight for weight, _ in found), default=0.0)
        who = list(dict.fromkeys(region for weight, region in found if weight == best and region))
        if not who:
            return 0.0, ""
        return (best if len(who) > 1 else min(best, ALONE)), f"so written by {', '.join(who)}"

    def _weight(self, lesson: Lesson, message: str, field: Field, place: str) -> tuple[float, str]:
        same_place = lesson.place.lower() == place.lower()
        sure = 0.95 if same_place else 0.45 if is_generic(_last(place)) else 0.8
        if lesson.message == message:
            return (sure, lesson.region) if lesson.field == field.name else (0.0, "")
        other = self.vocabulary[lesson.message].fields.get(lesson.field) if lesson.message in self.vocabulary else None
        alike = other is not None and (other.name == field.name or other.zh == field.zh)
        return (sure - 0.1, lesson.region) if alike else (0.0, "")


def evidence(files: Files, vocabulary: Vocabulary, region: str) -> Evidence:
    """Collect what the packs of every region but this one teach."""
    found: dict[str, list[Lesson]] = {}
    for other in files.regions():
        for lesson in _lessons(files, other) if other != region else ():
            found.setdefault(_last(lesson.place), []).append(lesson)
    return Evidence(found, vocabulary)


def _lessons(files: Files, region: str) -> Iterator[Lesson]:
    for message in files.folders(region):
        try:
            rules = tomllib.loads(files.contents[f"{region}/{message}/rules.toml"].decode()).get("rules", {})
        except (KeyError, UnicodeDecodeError, tomllib.TOMLDecodeError):
            continue  # `check` says what is wrong with it
        for field, written in rules.items() if isinstance(rules, Mapping) else ():
            yield from (Lesson(region, message, field, place) for place in _places(written))


def _places(written: Any) -> Iterator[str]:
    if isinstance(written, str):
        yield written
    elif isinstance(written, list):
        for one in written:
            yield from _places(one)
    elif isinstance(written, Mapping):
        yield from _places(written.get("at", []))


def _last(place: str) -> str:
    return re.split(r"[./]", place)[-1].replace("[]", "").lower()
