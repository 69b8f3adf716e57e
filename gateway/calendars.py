"""The data file of working days: three tables, year by year, which an operator updates when a government publishes.

Owns: the file's shape, and reading it again while the gateway runs. Leaves to `gateway.domain.working_days`: counting.
A year that is missing is no mistake of the file: nobody has published it yet. It is a figure, a line in the log and a
word of `pearl check`, months before a limit would reach beyond it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated

import orjson
import structlog
from pydantic import Field

from gateway.config import Problems, Settings, parse, read_toml
from gateway.domain.region import Zone
from gateway.domain.working_days import SATURDAY, Calendars, WorkingDays
from gateway.errors import StartRefused

log = structlog.get_logger("calendars")

EARLY = timedelta(days=92)
"""How long before the tables end somebody is told. The mainland publishes the next year in November."""
Day = Annotated[date, Field(strict=True)]  # a TOML date, not a text and not a moment


class YearEntry(Settings):
    """`[[mainland]]`, `[[hongkong]]`, `[[macau]]`: one year. Weekends need not be listed; listing them does no harm."""

    year: int = Field(ge=2000, le=2100)
    source: str = Field(min_length=1)
    off: list[Day]
    work: list[Day] = Field(default_factory=list)
    provisional: bool = False


class CalendarFile(Settings):
    """The file as a whole."""

    mainland: list[YearEntry] = Field(min_length=1)
    hongkong: list[YearEntry] = Field(min_length=1)
    macau: list[YearEntry] = Field(min_length=1)


def load_calendars(path: Path) -> Calendars:
    """Return the working days of every territory. Raises StartRefused with every problem of the file."""
    file = parse(CalendarFile, read_toml(path), path.name)
    tables = {zone: list(getattr(file, zone)) for zone in Zone}
    problems = Problems()
    for zone, entries in tables.items():
        for where, reason in _wrong(entries):
            problems.add(f"{path.name}: {zone}.{where}", reason)
    problems.refuse()
    return Calendars(_version(file), {zone: _working_days(entries) for zone, entries in tables.items()})


def _wrong(entries: list[YearEntry]) -> Iterator[tuple[str, str]]:
    years = [entry.year for entry in entries]
    yield from ((str(year), "stands more than once") for year in sorted({y for y in years if years.count(y) > 1}))
    for entry in entries:
        for day in (*entry.off, *entry.work):
            if day.year != entry.year:
                yield str(entry.year), f"{day} lies in another year"
        for day in sorted({*entry.off} & {*entry.work}):
            yield str(entry.year), f"{day} cannot be both off and work"
        for day in entry.work:
            if day.weekday() < SATURDAY:
                yield str(entry.year), f"{day} is no weekend; work lists only weekend days that are worked on"


def _working_days(entries: list[YearEntry]) -> WorkingDays:
    return WorkingDays(
        off=frozenset(day for entry in entries for day in entry.off),
        work=frozenset(day for entry in entries for day in entry.work),
        years=frozenset(entry.year for entry in entries if not entry.provisional),
    )


def _version(file: CalendarFile) -> str:
    """Return a digest of what the tables say, so that a change of a comment changes no case."""
    said = {
        str(zone): sorted((e.year, e.provisional, sorted(e.off), sorted(e.work)) for e in getattr(file, zone))
        for zone in Zone
    }
    return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()[:12]


def ending(calendars: Calendars, today: date) -> list[str]:
    """Return a sentence for each territory whose working days are not known for long any more."""
    return [
        f"The working days of {zone} are known for {left} more days only: add the next year to the file."
        for zone, left in calendars.days_left(today)
        if left < EARLY.days
    ]


class CalendarsInUse:
    """The working days as they are now: those of the file when it was last read without a mistake."""

    def __init__(self, path: Path, calendars: Calendars) -> None:
        self._path = path
        self._calendars = calendars

    def now(self) -> Calendars:
        """Return the working days."""
        return self._calendars

    async def reload(self) -> None:
        """Take the file as it is now; when anything about it is wrong, keep what is in use."""
        try:
            self._calendars = await asyncio.to_thread(load_calendars, self._path)
        except StartRefused as refused:
            problems = [f"{problem.field}: {problem.reason}" for problem in refused.problems]
            log.warning("working days not taken; the former stay in use", problems=problems)
        else:
            log.info("working days taken", version=self._calendars.version)
