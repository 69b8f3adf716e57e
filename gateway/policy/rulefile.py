"""What the policy files (grants, transfers, recognition) have in common: numbered entries and the term of each.

Owns: reading such a file so that every entry is checked and all problems arrive together. Leaves to `grants`,
`transfer` and `recognition`: what an entry means.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field

from gateway.config import Problems, Settings, parse, read_toml

ANY = "*"
"""Stands alone in a list and covers every value, also those that come later."""


def _alone(values: frozenset[str]) -> frozenset[str]:
    if ANY in values and len(values) > 1:
        raise ValueError(f'"{ANY}" covers everything, so it stands alone')
    return values


def _by_name(values: frozenset[str]) -> frozenset[str]:
    if ANY in values:
        raise ValueError(f'must be named one by one: "{ANY}" would cover what joins later')
    return values


AnyOrCodes = Annotated[frozenset[str], Field(min_length=1), AfterValidator(_alone)]
"""Codes, or `["*"]`. An empty list is a mistake, since it would permit nothing."""
Codes = Annotated[frozenset[str], Field(min_length=1), AfterValidator(_by_name)]
"""Codes, each by name."""


class Entry(Settings):
    """Base of an entry with a term: in force from the first to the last day, both included; open where not given."""

    first_day: date | None = Field(None, alias="from")
    last_day: date | None = Field(None, alias="until")

    def in_force(self, on: date) -> bool:
        """Say whether the entry counts on that day."""
        return (self.first_day is None or self.first_day <= on) and (self.last_day is None or on <= self.last_day)

    def term(self) -> str:
        """Return the term in words, for explanations."""
        begin, end = self.first_day or "the beginning", self.last_day or "further notice"
        return f"the days from {begin} until {end}"


E = TypeVar("E", bound=Entry)


def covers(listed: Collection[str], value: str | None) -> bool:
    """Say whether a list covers a value. What is not named is covered by `*` alone: silence is no permission."""
    return ANY in listed or (value is not None and value in listed)


def read_entries(
    path: Path,
    table: str,
    model: type[E],
    known: Mapping[str, Collection[str]],
    further: Callable[[E], Iterator[tuple[str, str]]],
) -> Mapping[int, E]:
    """Read `[[table]]` of a file: number in the file (from 1) → entry.

    `known` gives the values that each key may hold; `further` yields (key, reason) for what a shape cannot say.
    Raises StartRefused that lists every problem of every entry.
    """
    problems = Problems()
    entries: dict[int, E] = {}
    for number, raw in enumerate(_tables(path, table, problems), start=1):
        where = f"{path}: {table} {number}"
        for key, reason in _unknown(raw, known):
            problems.add(f"{where}: {key}", reason)
        with problems.collect():
            entries[number] = entry = parse(model, raw, where)
            for key, reason in (*_term_problems(entry), *further(entry)):
                problems.add(f"{where}: {key}", reason)
    problems.refuse()
    return entries


def _tables(path: Path, table: str, problems: Problems) -> list[Any]:
    data = read_toml(path)
    for key in data.keys() - {table}:
        problems.add(f"{path}: {key}", f"is not known here; every entry begins with [[{table}]]")
    found = data.get(table, [])
    if isinstance(found, list):
        return found
    problems.add(f"{path}: {table}", f"must be written as [[{table}]], once for each entry")
    return []


def _unknown(raw: Any, known: Mapping[str, Collection[str]]) -> Iterator[tuple[str, str]]:
    """Look at the raw entry, so that an entry of the wrong shape still hears about its unknown names."""
    for key, values in known.items():
        given = raw.get(key, []) if isinstance(raw, Mapping) else []
        for value in [given] if isinstance(given, str) else given if isinstance(given, list) else []:
            if isinstance(value, str) and value not in values and value != ANY:
                yield key, f"{value} is not known; known: {', '.join(sorted(values)) or 'none'}"


def _term_problems(entry: Entry) -> Iterator[tuple[str, str]]:
    if entry.first_day and entry.last_day and entry.last_day < entry.first_day:
        yield "until", "is before `from`"
