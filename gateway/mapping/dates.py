"""Days and moments (GB/T 7408): ours in RFC 3339, theirs in a pattern, in RFC 3339 or counted since 1970.

Owns: the patterns of `yyyy MM dd HH mm ss SSS`, compiled once into places of fixed width. Leaves to
`gateway.mapping.converters`: which field may be written so.

Our moments are in UTC and have microseconds. Whatever has no room for them is written rounded down, before 1970 too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from itertools import groupby
from operator import itemgetter
from typing import Any, Final
from zoneinfo import ZoneInfo

from gateway.mapping.amounts import integer
from gateway.mapping.source import closest
from gateway.mapping.values import Converter, Losses, Wrong, are_digits, text, unknown_name
from gateway.mapping.vocabulary import OURS_TO_THEIRS, THEIRS_TO_OURS

BEIJING: Final = timezone(timedelta(hours=8))
"""Beijing time (北京时间) of moments. Fixed: the summer time of 1986-1991 lies before every case that we carry."""

NAMES: Final = (
    "date:yyyy-MM-dd",
    "date:yyyyMMdd",
    "date:yyyy/MM/dd",
    "date:yyyy年MM月dd日",
    "date:epoch-ms",
    "datetime:yyyyMMddHHmmss",
    "datetime:yyyyMMddHHmmssSSS",
    "datetime:yyyy-MM-dd HH:mm:ss",
    "datetime:yyyy-MM-dd HH:mm:ss@+00:00",
    "datetime:yyyy-MM-ddTHH:mm:ss",
    "datetime:epoch-ms",
    "datetime:epoch-s",
    "datetime:rfc3339Z",
    "datetime:rfc3339+08:00",
)
"""The names worth proposing to somebody who misspelt one; other patterns can be named too."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_SECOND: Final = timedelta(seconds=1)

_FRACTION: Final[Losses] = frozenset({(OURS_TO_THEIRS, "fraction")})
_TIME: Final[Losses] = frozenset({(THEIRS_TO_OURS, "time")})


def of_day(name: str) -> Converter:
    """Return the converter that stands after `date:`."""
    if name == "yyyy-MM-dd":
        return DAY
    if name == "epoch-ms":
        return _midnights(ZoneInfo("Asia/Shanghai"))
    return _days_in(_compiled("date", name))


def of_moment(name: str) -> Converter:
    """Return the converter that stands after `datetime:`."""
    match name:
        case "rfc3339Z":
            return Converter(_in_utc, _in_utc)
        case "rfc3339+08:00":
            return Converter(lambda value: _rfc3339(_at(moment(value), BEIJING)), _in_utc)
        case "epoch-ms":
            return _counted_in(_MILLISECOND, "milliseconds")
        case "epoch-s":
            return _counted_in(_SECOND, "seconds")
    pattern, marked, offset = name.partition("@")
    return _moments_in(_compiled("datetime", pattern, marked + offset), _zone(offset) if marked else BEIJING)


# --- days --------------------------------------------------------------------------------------------------------


def day(value: Any) -> str:
    """Return a date `yyyy-MM-dd` as it is, if that day exists."""
    written = text(value)
    if len(written) != 10 or written[4] != "-" or written[7] != "-":
        raise Wrong("is not a date yyyy-MM-dd")
    try:
        date.fromisoformat(written)
    except ValueError:
        raise Wrong("is not a day of the calendar") from None
    return written


DAY: Final = Converter(day, day)


def _days_in(pattern: _Pattern) -> Converter:
    return Converter(lambda value: pattern.write(day(value)), lambda value: day(pattern.read(value)))


def _midnights(legal: tzinfo) -> Converter:
    """Days as the milliseconds of their midnight at +08:00.

    Read in legal time: systems that know the summer time of 1986-1991 write the midnights of its days, many a birthday,
    an hour earlier. Legal time was never behind +08:00, so that what a system without summer time writes, as we do,
    falls on the same day.
    """

    def say(value: Any) -> int:
        midnight = datetime.fromisoformat(f"{day(value)}T00:00:00+08:00")
        return _count(_at(midnight, UTC), _MILLISECOND)

    def hear(value: Any) -> str:
        return _at(_since_1970(value, _MILLISECOND, "milliseconds"), legal).date().isoformat()

    return Converter(say, hear, "integer", _TIME)


# --- moments -----------------------------------------------------------------------------------------------------


def moment(value: Any) -> datetime:
    """Return the instant that an RFC 3339 text with an offset names, in UTC.

    Digits after the sixth of a fraction are dropped: clocks write them, nobody means them.
    """
    written = text(value)
    # Python reads more of ISO 8601 than RFC 3339 allows: weeks, times without seconds, a space for the T.
    if written[4:5] + written[7:8] + written[10:11].upper() + written[13:14] + written[16:17] != "--T::":
        return _no_moment()
    try:
        read = datetime.fromisoformat(written)
        return read.astimezone(UTC) if read.tzinfo else _no_moment()
    except (ValueError, OverflowError):
        return _no_moment()


def utc(value: datetime) -> str:
    """Write an instant as we do: RFC 3339 in UTC with `Z`, fractions only when there are any."""
    return _rfc3339(_at(value, UTC)).replace("+00:00", "Z")


def _no_moment() -> datetime:
    raise Wrong("is not a time of RFC 3339 with an offset")


def _in_utc(value: Any) -> str:
    return utc(moment(value))


def _rfc3339(value: datetime) -> str:
    if not value.microsecond:
        return value.isoformat(timespec="seconds")
    return value.isoformat(timespec="microseconds" if value.microsecond % 1000 else "milliseconds")


def _at(value: datetime, zone: tzinfo) -> datetime:
    try:
        return value.astimezone(zone)
    except (ValueError, OverflowError):
        raise Wrong("is not a time of the calendar") from None


def _moments_in(pattern: _Pattern, zone: tzinfo) -> Converter:
    def say(value: Any) -> str:
        return pattern.write(_at(moment(value), zone).isoformat(timespec="milliseconds"))

    def hear(value: Any) -> str:
        try:
            return utc(datetime.fromisoformat(pattern.read(value)).replace(tzinfo=zone))
        except ValueError:
            raise Wrong("is not a time of the calendar") from None

    return Converter(say, hear, loses=_FRACTION)


def _counted_in(unit: timedelta, units: str) -> Converter:
    return Converter(
        lambda value: _count(moment(value), unit),
        lambda value: utc(_since_1970(value, unit, units)),
        "integer",
        _FRACTION,
    )


def _count(value: datetime, unit: timedelta) -> int:
    return (value - _EPOCH) // unit


def _since_1970(value: Any, unit: timedelta, units: str) -> datetime:
    try:
        return _EPOCH + integer(value) * unit
    except OverflowError:
        raise Wrong(f"is not a time in {units} since 1970") from None


def _zone(offset: str) -> tzinfo:
    hours, minutes = offset[1:3], offset[4:]
    written = offset[:1] in {"+", "-"} and offset[3:4] == ":" and len(offset) == 6 and are_digits(hours + minutes)
    if not (written and int(hours) < 15 and int(minutes) < 60):
        raise Wrong(f"@{offset} is no time zone: write @+08:00, @-03:30 or @+00:00")
    ahead = timedelta(hours=int(hours), minutes=int(minutes))
    return timezone(-ahead if offset[0] == "-" else ahead)


# --- patterns ----------------------------------------------------------------------------------------------------

_TOKENS: Final = {
    "yyyy": slice(0, 4),
    "MM": slice(5, 7),
    "dd": slice(8, 10),
    "HH": slice(11, 13),
    "mm": slice(14, 16),
    "ss": slice(17, 19),
    "SSS": slice(20, 23),
}
"""What a pattern is made of, and where each stands in our way of writing: 2026-03-10T09:30:02.125."""

_DATE: Final = ("yyyy", "MM", "dd")
_NEEDED: Final = {"date": _DATE, "datetime": (*_DATE, "HH", "mm", "ss")}
_ALLOWED: Final = {"date": _DATE, "datetime": tuple(_TOKENS)}
_OURS: Final = {3: "%s-%s-%s", 6: "%s-%s-%sT%s:%s:%s", 7: "%s-%s-%sT%s:%s:%s.%s"}
"""Our way of writing, by the number of tokens that it is made of."""

_LIKE_A_PATTERN: Final = ("yy", "YY", "MM", "dd")


@dataclass(frozen=True, slots=True)
class _Pattern:
    """A pattern, compiled: which parts of our text go into theirs, and which of theirs into ours.

    `written` is the pattern itself, as wide as every text that it writes.
    """

    written: str
    ours: str
    theirs: str
    from_ours: Callable[[str], tuple[str, ...]]
    from_theirs: Callable[[str], tuple[str, ...]]
    marks: tuple[tuple[slice, str], ...]

    def write(self, value: str) -> str:
        """Return their text for a day or a local time of ours."""
        return self.theirs % self.from_ours(value)

    def read(self, value: Any) -> str:
        """Return our text for one of theirs. Raises Wrong unless it has exactly this shape."""
        written = text(value)
        found = self.from_theirs(written)
        fits = len(written) == len(self.written) and are_digits("".join(found))
        if not fits or any(written[place] != mark for place, mark in self.marks):
            raise Wrong(f"is not written {self.written}")
        return self.ours % found


def _compiled(kind: str, written: str, offset: str = "") -> _Pattern:
    if not any(sign in written for sign in _LIKE_A_PATTERN):
        raise unknown_name()
    runs = list(_runs(written))
    for reason in _faults(kind, [run for run, _ in runs], offset):
        name = f"{kind}:{written}{offset}"
        raise Wrong(f'"{name}" {reason}{closest(name, NAMES)}')
    places = {run: place for run, place in runs if run in _TOKENS}
    return _Pattern(
        written=written,
        ours=_OURS[len(places)],
        theirs="".join("%s" if run in _TOKENS else run.replace("%", "%%") for run, _ in runs),
        from_ours=itemgetter(*(_TOKENS[run] for run in places)),
        from_theirs=itemgetter(*(places[token] for token in _TOKENS if token in places)),
        marks=tuple((place, run) for run, place in runs if run not in _TOKENS),
    )


def _runs(written: str) -> Iterator[tuple[str, slice]]:
    """Cut a pattern where the character changes: each token is one run, each mark another."""
    start = 0
    for _, same in groupby(written):
        run = "".join(same)
        yield run, slice(start, start := start + len(run))


def _faults(kind: str, runs: Sequence[str], offset: str) -> Iterator[str]:
    letters = {"T", "Z"} if offset == "@+00:00" else {"T"}
    counts = Counter(runs)
    for run in runs:
        if run in _TOKENS and run not in _ALLOWED[kind]:
            yield f"holds {run}, which a {kind} does not have"
        elif run not in _TOKENS and run not in letters and not _is_mark(run):
            yield f"holds {run}, and a pattern is made of {' '.join(_TOKENS)}, T and marks that are no letters"
        elif run in _TOKENS and counts[run] > 1:
            yield f"holds {run} twice"
    yield from (f"lacks {token}" for token in _NEEDED[kind] if token not in runs)


def _is_mark(run: str) -> bool:
    letter = run[0].isascii() and run[0].isalpha()
    return run.isprintable() and not letter and run[0] not in "@'"
