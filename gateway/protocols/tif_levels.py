"""How sure a sign-on at a provincial unified identity is: the level of the session's method, never the account's best.

Owns: reading the attributes of an account in the forms in which they come, the levels of its methods (the way-string
and the list), the time of the proof, and saying where an answer contradicts itself. Leaves to `tif_sign_on` the flow.
Pure: no I/O and no clock. Source: adapters/guangdong/README.md, "Attributes" and "Levels".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from gateway.errors import SignOnFailed
from gateway.protocols.demands import Fault

BEIJING = timezone(timedelta(hours=8))
ABSENT = ("", "-1")
"""How an attribute that was not given may be written; left out altogether is the third way."""

SKEW = timedelta(seconds=180)
"""How far ahead of our clock the time of a proof may lie."""

WAYS: Mapping[str, Mapping[str, str]] = {
    "1": {"1": "PLV", "2": "CA", "3": "YSS", "4": "GW"},
    "2": {"1": "IC", "2": "CA", "3": "YSS", "4": "GW"},
}
"""By kind of user (`usertype`): sign-on method (`accout_type`) → its name among the levels. Behind the password of a
natural person stands the check of the police (PLV), behind that of a legal person the business registry (IC)."""

MAX_WAYS = 50
"""How many methods of one account are looked at."""

_LEVEL = re.compile(r"L[0-3]")
_TIME = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)[ T]?(\d\d):?(\d\d):?(\d\d)", re.ASCII)

Fail = Callable[[str, str], SignOnFailed]


class Account:
    """The attributes of one account, wherever the answer has them.

    They stand at the top, or as `"key=value"` in the list `attributes`; one that stands in both must say the same.
    `userobj` and `pareobj` beside each other are a natural account under that of a legal person.
    """

    def __init__(self, answer: Mapping[str, Any], fail: Fail) -> None:
        self._given = answer
        self._fail = fail
        self._further = self._listed(answer.get("attributes"))

    @property
    def parent(self) -> Account | None:
        """The account of the legal person to which this one belongs, where the answer has both."""
        both = [self._given.get(name) for name in ("userobj", "pareobj")]
        if both == [None, None]:
            return None
        if not all(isinstance(each, dict) for each in both):
            raise self._fail("the region's answer cannot be read", "userobj and pareobj")
        return Account(dict(both[1] or {}), self._fail)

    def signed_on(self) -> Account:
        """Return the account whose holder is at the browser."""
        return self if self.parent is None else Account(self._given["userobj"], self._fail)

    def text(self, name: str) -> str:
        """Return an attribute, "" when it was not given. Raises SignOnFailed for one that is no text, or ambiguous."""
        top, further = self._plain(name, self._given.get(name)), self._further.get(name, "")
        if top and further and top != further:
            raise self._fail("the region's answer contradicts itself", f"{name} is given twice")
        return top or further

    def some(self, names: Sequence[str]) -> dict[str, str]:
        """Return those of these attributes that were given."""
        return {name: value for name in names if (value := self.text(name))}

    def document(self) -> dict[str, Any]:
        """Return everything, for a mapping pack; the list of levels in the form of the way-string."""
        ways = "||".join(f"{way.level}@{way.name}@{way.code}" for way in self.ways())
        listed = isinstance(self._given.get("creditable_level_of_account_way"), list)
        return {**self._given, **({"creditable_level_of_account_way": ways} if listed else {})}

    def ways(self) -> list[Way]:
        """Return the methods of the account with their levels; an entry that cannot be read is none."""
        return list(read_ways(self._given.get("creditable_level_of_account_way")))

    def _plain(self, name: str, value: object) -> str:
        if isinstance(value, bool):
            value = "true" if value else "false"
        if value is None or isinstance(value, str | int):
            text = "" if value is None else str(value).strip()
            return "" if text in ABSENT else text
        raise self._fail("the region's answer cannot be read", f"{name} is no text")

    def _listed(self, further: object) -> dict[str, str]:
        if further is None:
            return {}
        if not isinstance(further, list) or not all(isinstance(each, str) for each in further):
            raise self._fail("the region's answer cannot be read", "attributes")
        found: dict[str, str] = {}
        for name, is_pair, value in (each.partition("=") for each in further):
            if is_pair and found.setdefault(name, value) != value:
                raise self._fail("the region's answer contradicts itself", "attributes name one thing twice")
        return {name: value for name, value in found.items() if value not in ABSENT}


# --- levels ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Way:
    """One method of an account: the level that it reached, its name, its code, and when it was proved (list form)."""

    level: str
    name: str
    code: str = ""
    proved_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class SessionLevel:
    """What is known of this session: the method in the region's word, its level, and when it was proved."""

    method: str
    level: str
    proved_at: datetime | None = None


def read_ways(given: object) -> Iterator[Way]:
    """Yield the methods of either form: `level@method@code||…`, or a list of objects. What has no level is left out."""
    entries = given.split("||") if isinstance(given, str) else given
    for entry in entries[:MAX_WAYS] if isinstance(entries, list) else ():
        way = _of_text(entry) if isinstance(entry, str) else _of_object(entry) if isinstance(entry, dict) else None
        if way is not None and _LEVEL.fullmatch(way.level):
            yield way


def _of_text(entry: str) -> Way | None:
    level, separator, rest = entry.partition("@")
    name, _, code = rest.partition("@")
    return Way(level, name, code) if separator else None


def _of_object(entry: Mapping[str, Any]) -> Way:
    level, name, code = (str(entry.get(key) or "") for key in ("identity_level", "way_code", "uniqueid"))
    return Way(level, name, code, beijing_time(str(entry.get("auth_time") or "")))


def beijing_time(text: str) -> datetime | None:
    """Read `yyyyMMddHHmmss` or `yyyy-MM-dd HH:mm:ss`, Beijing time; None when it is no such time."""
    parts = _TIME.fullmatch(text)
    try:
        digits = "".join(parts.groups()) if parts else ""
        return datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=BEIJING).astimezone(UTC)
    except (ValueError, OverflowError):  # the latter: the first hours of the year 1
        return None


def session_level(method: str, ways: object, usertype: str = "1") -> str:
    """Return the level that the ways give to this session's method, else L0.

    The best level that the account ever reached says nothing of this session and is not looked at. A method that is
    listed twice counts with the lower level: nothing tells which of the two this session was.
    """
    return _lowest(method, list(read_ways(ways)), usertype).level


def session_of(account: Account) -> SessionLevel:
    """Return what the account's attributes say of this session."""
    # `accout_type` is spelt so on the wire.
    method = account.text("accout_type")
    return _lowest(method, account.ways(), account.text("usertype"))


def _lowest(method: str, ways: Sequence[Way], usertype: str) -> SessionLevel:
    name = WAYS.get(usertype, {}).get(method)
    mine = [way for way in ways if way.name == name]
    if not mine:
        return SessionLevel(method, "L0")
    times = [way.proved_at for way in mine]
    known = [time for time in times if time is not None]
    earliest = min(known) if len(known) == len(times) else None  # one without a time could be this session's
    return SessionLevel(method, min(way.level for way in mine), earliest)


# --- rules -------------------------------------------------------------------------------------------------------


def contradiction(account: Account, session: SessionLevel, now: datetime) -> Fault | None:
    """Say where the answer contradicts itself; None where it does not. What it does not say contradicts nothing."""
    best = account.text("creditable_level_of_account")
    real = {account.text(name) for name in ("isreal", "is_real")} - {""}
    surest = max((way.level for way in account.ways()), default=session.level)
    checks = {
        "isreal and is_real differ": len(real) > 1,
        "isreal is neither true nor false": bool(real - {"true", "false"}),
        "isreal is false and there is a level above L0": real == {"false"} and max(surest, best) > "L0",
        "isreal is true and the best level is L0": real == {"true"} and best == "L0",
        "a method has more than the best level": bool(_LEVEL.fullmatch(best)) and surest > best,
        "the proof lies in the future": session.proved_at is not None and session.proved_at > now + SKEW,
    }
    found = [name for name, wrong in checks.items() if wrong]
    return ("the region's answer contradicts itself", "; ".join(found)) if found else None
