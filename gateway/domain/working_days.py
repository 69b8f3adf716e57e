"""Working days (工作日) of the three territories: adding them to a day and counting them, by a deployment's tables.

Owns: the arithmetic. Leaves to `gateway.calendars`: the file that the tables are read from, and saying when it ends.

The day on which something happens is not counted; counting begins with the next one (Civil Code art. 201). A limit of
a licence is in working days without holidays (行政许可法 82); the mainland moves working days to weekends (调休), so
that a Sunday may be one. Calendar days (自然日) count all. A year that the tables do not have is counted by weekdays
alone, and whoever asks can see it by `knows`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

from gateway.domain.region import Zone, place_of

_DAY = timedelta(days=1)
SATURDAY = 5


class Unit(StrEnum):
    """The unit of a limit, by the letter of the Guangdong record (`tbcxsxdw`)."""

    WORKING = "G"  # 工作日
    CALENDAR = "Z"  # 自然日


@dataclass(frozen=True, slots=True)
class WorkingDays:
    """The working days of one territory.

    `off` are days without work, `work` the weekend days that are worked on. `years` are the years that are known for
    sure; what stands in the sets for another year counts, but `knows` does not vouch for it.
    """

    off: frozenset[date]
    work: frozenset[date]
    years: frozenset[int]

    def is_working_day(self, day: date) -> bool:
        """Say whether offices work on that day."""
        return day in self.work or (day.weekday() < SATURDAY and day not in self.off)

    def add(self, day: date, days: int, unit: Unit = Unit.WORKING) -> date:
        """Return the last day of a limit of so many days that begins after `day`; `day` itself for none.

        Raises ValueError for less than none, OverflowError beyond the year 9999.
        """
        if days < 0:
            raise ValueError("a limit has no less than no days")
        if unit is Unit.CALENDAR:
            return day + timedelta(days=days)
        while days > 0:
            day += _DAY
            days -= self.is_working_day(day)
        return day

    def back(self, day: date, days: int) -> date:
        """Return the working day that is so many working days before `day`."""
        while days > 0:
            day -= _DAY
            days -= self.is_working_day(day)
        return day

    def count(self, after: date, until: date, unit: Unit = Unit.WORKING) -> int:
        """Return how many days there are after `after`, up to `until` and with it; none when that is earlier."""
        span = max(0, (until - after).days)
        if unit is Unit.CALENDAR:
            return span
        return sum(self.is_working_day(after + timedelta(days=n)) for n in range(1, span + 1))

    def on_or_after(self, day: date) -> date:
        """Return the first working day from `day` on."""
        while not self.is_working_day(day):
            day += _DAY
        return day

    def knows(self, first: date, last: date) -> bool:
        """Say whether the tables have every year between the two days."""
        return all(year in self.years for year in range(first.year, last.year + 1))

    def known_until(self, today: date) -> date | None:
        """Return the last day of the years that are known from this one on without a gap; None when this one is not."""
        year = today.year
        if year not in self.years:
            return None
        while year + 1 in self.years:
            year += 1
        return date(year, 12, 31)


@dataclass(frozen=True, slots=True)
class Calendars:
    """The working days of every territory. `version` is a digest of the tables: another one counts otherwise."""

    version: str
    by_zone: Mapping[Zone, WorkingDays]

    def of(self, code: str) -> WorkingDays:
        """Return those of the territory that a GB/T 2260 code lies in: limits count the handling region's days."""
        return self.by_zone[place_of(code).zone]

    def days_left(self, today: date) -> Iterator[tuple[Zone, int]]:
        """Yield for each territory how many days are left until what is known for sure ends; none when it has."""
        for zone, days in self.by_zone.items():
            until = days.known_until(today)
            yield zone, 0 if until is None else (until - today).days
