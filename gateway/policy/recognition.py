"""The recognition matrix (互认): which region's sign-on counts, at which level, for which service and purpose.

Owns: recognition.toml, the one evaluator of it, and the words of a refusal. Leaves to its callers: what level a sign-on
reached, stepping it up, and recording the decision as evidence. Everything is refused that no line covers: a region
that no line names counts nowhere.

Two laws hold whatever the file says, and tests hold them: another line never takes a permission away, and a higher
level never loses what a lower one has.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import orjson
from pydantic import BeforeValidator, Field

from gateway.domain.identity import Assurance
from gateway.errors import NotPermitted
from gateway.policy.rulefile import AnyOrCodes, Codes, Entry, covers, read_entries

SIGN_ON = "sign-on"
"""The purpose under which the matrix knows a person's signing on to a service."""
_SHOWN = 5
"""How many names of a line an explanation lists before it counts the rest."""


class PersonKind(StrEnum):
    """Who signs on: a natural person, or one who acts for an organisation."""

    PERSON = "person"
    ORGANISATION = "organisation"


def _level(written: object) -> Assurance:
    if not isinstance(written, str) or written not in Assurance.__members__:
        raise ValueError(f"must be one of {', '.join(Assurance.__members__)}")
    return Assurance[written]


class Line(Entry):
    """One `[[recognition]]`. Regions are named one by one: an old line does not recognise one that joins later."""

    regions: Codes
    services: AnyOrCodes
    purposes: AnyOrCodes
    least: Annotated[Assurance, BeforeValidator(_level)]
    kinds: frozenset[PersonKind] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Ask:
    """One sign-on that wants to count. `service` is the client's `service`; None for a purpose that nobody named."""

    region: str
    assurance: Assurance
    service: str
    purpose: str | None
    kind: PersonKind
    on: date


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer.

    Allowed: `line` is the one that allows (its number in recognition.toml, from 1). Refused: `line` is the nearest one
    that refuses, None when no line names the region; `missing` says in words what it lacks and what would satisfy it;
    `step_up` is the level at which this very sign-on would count; `elsewhere` are the regions whose sign-on of the same
    level would.
    """

    allowed: bool
    line: int | None
    missing: str
    step_up: Assurance | None = None
    elsewhere: tuple[str, ...] = ()


def load_recognition(path: Path, regions: Collection[str], services: Collection[str]) -> Recognition:
    """Read recognition.toml. Raises StartRefused that lists every problem of the file."""
    known = {"regions": regions, "services": services}
    return Recognition(read_entries(path, "recognition", Line, known, lambda _line: iter(())))


class Recognition:
    """The matrix of a deployment. Complete when constructed; a decision reads no file and no clock.

    `version` is the SHA-256 over what the lines say, in their order: comments and spelling do not change it.
    """

    def __init__(self, lines: Mapping[int, Line]) -> None:
        self.lines = dict(lines)
        self.version = _version(self.lines)

    def decide(self, ask: Ask) -> Decision:
        """Decide about one sign-on."""
        lacking = {number: _lacks(line, ask) for number, line in self.lines.items() if ask.region in line.regions}
        for number, lacks in lacking.items():
            if not lacks:
                return Decision(allowed=True, line=number, missing="")
        step_up = min((self.lines[n].least for n, lacks in lacking.items() if _only_level(lacks)), default=None)
        elsewhere = self._elsewhere(ask)
        nearest = min(lacking, key=lambda number: _distance(self.lines[number], lacking[number], ask), default=None)
        lacks = [] if nearest is None else lacking[nearest]
        text = _explain(ask, nearest, lacks) + _remedy(step_up, elsewhere)
        return Decision(False, nearest, text, step_up, elsewhere)

    def require(self, ask: Ask) -> int:
        """Return the number of the line that recognises this. Raises NotPermitted (`policy.not_recognised`)."""
        decision = self.decide(ask)
        if not decision.allowed or decision.line is None:
            text = decision.missing[0].upper() + decision.missing[1:]
            raise NotPermitted(f"{text}.", code="policy.not_recognised", region=ask.region)
        return decision.line

    def least_for(
        self, region: str, service: str, on: date, *, purpose: str | None = None, kind: PersonKind | None = None
    ) -> Assurance | None:
        """Return the lowest level at which a sign-on of the region can count for the service; None when none can.

        For the chooser and for step-up. What is None is left open: it is known only once the person has signed on.
        """
        usable = (
            line.least
            for line in self.lines.values()
            if region in line.regions
            and covers(line.services, service)
            and (purpose is None or covers(line.purposes, purpose))
            and (kind is None or kind in line.kinds)
            and line.in_force(on)
        )
        return min(usable, default=None)

    def _elsewhere(self, ask: Ask) -> tuple[str, ...]:
        fitting = (line.regions for line in self.lines.values() if not _lacks(line, ask))
        return tuple(sorted(frozenset().union(*fitting)))


def _version(lines: Mapping[int, Line]) -> str:
    said = [
        {
            name: sorted(value) if isinstance(value, frozenset) else value
            for name, value in line.model_dump(mode="python").items()
        }
        for _number, line in sorted(lines.items())
    ]
    return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()


@dataclass(frozen=True, slots=True)
class _Lack:
    """What keeps a line from recognising: what is asked, what the line covers, and whether a higher level mends it."""

    asked: str
    covered: str
    level: bool = False


def _lacks(line: Line, ask: Ask) -> list[_Lack]:
    """Return what keeps this line from recognising, the region apart."""
    found = []
    if not covers(line.services, ask.service):
        found.append(_Lack(f"service {ask.service}", _shown(line.services)))
    if not covers(line.purposes, ask.purpose):
        found.append(
            _Lack(f"purpose {ask.purpose}" if ask.purpose else "a sign-on without purpose", _shown(line.purposes))
        )
    if ask.kind not in line.kinds:
        found.append(_Lack(f"kind {ask.kind}", _shown(line.kinds)))
    if not line.in_force(ask.on):
        found.append(_Lack(f"the day {ask.on}", line.term()))
    if ask.assurance < line.least:
        found.append(_Lack(f"level {ask.assurance.name}", f"level {line.least.name} and above", level=True))
    return found


def _only_level(lacks: Sequence[_Lack]) -> bool:
    return len(lacks) == 1 and lacks[0].level


def _distance(line: Line, lacks: Sequence[_Lack], ask: Ask) -> tuple[int, bool, int]:
    """Order lines by how little they lack; a level that can be reached is nearer than a name that cannot change."""
    return len(lacks), not _only_level(lacks), max(line.least - ask.assurance, 0)


def _shown(names: Collection[str]) -> str:
    first = sorted(names)[:_SHOWN]
    return ", ".join(first) + (f" and {len(names) - len(first)} more" if len(names) > len(first) else "")


def _explain(ask: Ask, nearest: int | None, lacks: Sequence[_Lack]) -> str:
    if nearest is None:
        return f"sign-on of region {ask.region} counts for nothing here: no line of recognition.toml names it"
    asked = " and ".join(lack.asked for lack in lacks)
    covered = " and ".join(lack.covered for lack in lacks)
    return (
        f"no line of recognition.toml for sign-on of region {ask.region} covers {asked}; "
        f"the nearest, line {nearest}, covers {covered}"
    )


def _remedy(step_up: Assurance | None, elsewhere: Sequence[str]) -> str:
    ways = []
    if step_up is not None:
        ways.append(f"sign on again at level {step_up.name} or above")
    if elsewhere:
        ways.append(f"sign on with {_shown(elsewhere)}")
    return f"; {' or '.join(ways)}" if ways else ""


def uncovered(recognition: Recognition, regions: Collection[str]) -> list[str]:
    """Return the regions that no line names: their sign-on counts nowhere, which may be meant or forgotten."""
    named = frozenset[str]().union(*(line.regions for line in recognition.lines.values()))
    return sorted(set(regions) - named)
