"""What the simulated Foshan accepts in each request element: names, order, formats, codes and check digits.

Owns: the rules, and reading a verified element into plain values with every problem named at once. Leaves signatures
to `sandbox_wire.py` and what a request brings about to `sandbox.py`. A problem names the place and what is wanted
there, never the value, because the value may be personal data. Written from `README.md` alone.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from lxml import etree

from adapters.foshan.sandbox_wire import NAMESPACE, FaultError
from gateway.sandbox.left_out import LONGEST_IDENTIFIER, LONGEST_PROMISE

LARGEST_PART = 512 * 1024
"""Bytes of a document that are handed out at once."""

Record = dict[str, Any]
"""An element as read: attributes as `@name`, children by name, the text of an element with attributes as `text`."""

MOST_PROBLEMS = 100
"""How many problems one fault names; more would only make the fault as large as the bad message."""


@dataclass(frozen=True, slots=True)
class Check:
    """A rule for one text, and what it wants, in words."""

    fits: Callable[[str], bool]
    wants: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule for one element: a text when `check` is given, otherwise a group of children in this order."""

    name: str
    check: Check | None = None
    children: tuple[Rule, ...] = ()
    attributes: Mapping[str, Check] = field(default_factory=dict)
    least: int = 1
    most: int | None = 1
    across: Callable[[Record, date], Iterable[str]] | None = None


def read(element: etree._Element, rule: Rule, today: date) -> Record:
    """Return the values of a request element. Raises FaultError `schema` that names every problem at once."""
    reading = _Reading(today)
    record: Record = reading.group(element, rule, rule.name)
    if reading.problems:
        shown = reading.problems[:MOST_PROBLEMS]
        hidden = len(reading.problems) - len(shown)
        raise FaultError("schema", "; ".join(shown) + (f"; and {hidden} more" if hidden else ""))
    return record


@dataclass(slots=True)
class _Reading:
    """One walk through one element."""

    today: date
    problems: list[str] = field(default_factory=list)

    def value(self, element: etree._Element, rule: Rule, path: str) -> Any:
        if rule.check is None:
            return self.group(element, rule, path)
        text = self._text(element, rule.check, path)
        return {**self._attributes(element, rule, path), "text": text} if rule.attributes else text

    def group(self, element: etree._Element, rule: Rule, path: str) -> Record:
        record = self._attributes(element, rule, path) | self._children(element, rule, path)
        if rule.across:
            self.problems += [f"{path}/{problem}" for problem in rule.across(record, self.today)]
        return record

    def _text(self, element: etree._Element, check: Check, path: str) -> str:
        text = element.text or ""
        if len(element):
            self.problems.append(f"{path}: text alone is wanted")
        elif not check.fits(text):
            self.problems.append(f"{path}: {check.wants}")
        return text

    def _attributes(self, element: etree._Element, rule: Rule, path: str) -> Record:
        unknown = len(element.attrib.keys() - rule.attributes.keys())
        if unknown:
            self.problems.append(f"{path}: {unknown} attribute(s) that are not known here")
        for name, check in rule.attributes.items():
            if not check.fits(element.get(name, "")):
                self.problems.append(f"{path}/@{name}: {check.wants}")
        return {f"@{name}": element.get(name, "") for name in rule.attributes}

    def _children(self, element: etree._Element, rule: Rule, path: str) -> Record:
        self._check_order(element, rule, path)
        record: Record = {}
        for child in rule.children:
            found = element.findall(f"{{{NAMESPACE}}}{child.name}")
            self._check_count(len(found), child, f"{path}/{child.name}")
            values = [self.value(one, child, f"{path}/{child.name}{_place(n, child)}") for n, one in enumerate(found)]
            if child.most is None:
                record[child.name] = values
            elif values:
                record[child.name] = values[0]
        return record

    def _check_order(self, element: etree._Element, rule: Rule, path: str) -> None:
        places = {f"{{{NAMESPACE}}}{child.name}": place for place, child in enumerate(rule.children)}
        found = [places.get(child.tag) if isinstance(child.tag, str) else None for child in element]
        known = [place for place in found if place is not None]
        if len(known) < len(found):
            self.problems.append(f"{path}: {len(found) - len(known)} element(s) that are not known here")
        if known != sorted(known):
            self.problems.append(f"{path}: the elements are out of order")
        if any(text.strip() for text in [element.text or "", *(child.tail or "" for child in element)]):
            self.problems.append(f"{path}: no text is wanted between the elements")

    def _check_count(self, count: int, rule: Rule, path: str) -> None:
        if count < rule.least:
            self.problems.append(f"{path}: missing")
        if rule.most is not None and count > rule.most:
            self.problems.append(f"{path}: given {count} times")


def _place(number: int, rule: Rule) -> str:
    return f"[{number + 1}]" if rule.most is None else ""


def _pattern(expression: str, wants: str) -> Check:
    compiled = re.compile(expression, re.ASCII)
    return Check(lambda text: compiled.fullmatch(text) is not None, wants)


def _one_of(*values: str) -> Check:
    return Check(lambda text: text in values, f"one of {', '.join(values)} is wanted")


def _text(longest: int) -> Check:
    return Check(lambda text: 0 < len(text) <= longest and bool(text.strip()), f"1 to {longest} characters are wanted")


def _maybe_text(longest: int) -> Check:
    return Check(lambda text: len(text) <= longest, f"at most {longest} characters are wanted")


def content_of(text: str) -> bytes:
    """Return the bytes of a base64 text, line breaks allowed. Raises ValueError."""
    return b64decode("".join(text.split()), validate=True)


def _is_base64(text: str) -> bool:
    try:
        return content_of(text) is not None
    except ValueError:
        return False


def _is_part(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 12 and 0 < int(text) <= LARGEST_PART


def _is_date(text: str) -> bool:
    try:
        return bool(re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII)) and bool(date.fromisoformat(text))
    except ValueError:
        return False


def _is_local_time(text: str) -> bool:
    try:
        moment = datetime.fromisoformat(text) if _LOCAL_TIME.fullmatch(text) else None
    except ValueError:
        return False
    return moment is not None and moment.utcoffset() == timedelta(hours=8)


_LOCAL_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?\+08:00", re.ASCII)

ID_TYPES = ("111", "001", "414", "516", "511", "553", "999")
"""The holder codes (持证主体代码类型代码, GB/T 36903) that Foshan takes."""

_PERSON_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_BODY_WEIGHTS = (1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28)
_BODY_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_SHAPES = {
    "414": r"[A-Z0-9]{5,20}",
    "516": r"[HM][A-Z0-9]\d{7}(\d{2})?",
    "511": r"\d{8}|\d{10}\([A-Z]\)",
    "999": r"\S(.{0,38}\S)?",
}


def fits_type(id_type: str, number: str, today: date) -> bool:
    """Say whether an identity number has the form, the date and the check digit of its type."""
    if id_type == "111":
        return is_person_number(number, today)
    if id_type == "001":
        return is_body_code(number)
    if id_type == "553":
        old_card = re.fullmatch(r"[A-Z]{3}\d{12}", number, re.ASCII) is not None
        return old_card or (number.startswith("9") and is_person_number(number, today))
    return re.fullmatch(_SHAPES[id_type], number, re.ASCII) is not None


def is_person_number(number: str, today: date) -> bool:
    """Say whether this is a citizen's number (公民身份号码, GB 11643): 18 characters, a real past date, MOD 11-2.

    The same layout serves residence cards of Hong Kong, Macau and Taiwan people. Address codes are not looked up:
    they are frozen at first registration and may have left GB/T 2260. A foreigner's card (外国人永久居留身份证, 2023)
    has its date in the same place.
    """
    if not re.fullmatch(r"\d{17}[\dX]", number, re.ASCII):
        return False
    total = sum(int(digit) * weight for digit, weight in zip(number, _PERSON_WEIGHTS, strict=False))
    born = f"{number[6:10]}-{number[10:12]}-{number[12:14]}"
    return number[17] == "10X98765432"[total % 11] and _is_date(born) and date.fromisoformat(born) <= today


def is_body_code(code: str) -> bool:
    """Say whether this is a unified social credit code (统一社会信用代码, GB 32100) with its check character."""
    if len(code) != 18 or not set(code) <= set(_BODY_ALPHABET):
        return False
    total = sum(_BODY_ALPHABET.index(sign) * weight for sign, weight in zip(code, _BODY_WEIGHTS, strict=False))
    return _BODY_ALPHABET[-total % 31] == code[17]


def _applicant_problems(applicant: Record, today: date) -> Iterable[str]:
    """Say what is wrong between fields; a field that is wrong in itself has been named already."""
    id_type, number, kind = applicant.get("IdType"), applicant.get("IdNumber"), applicant["@kind"]
    if id_type not in ID_TYPES:
        return
    if number and not fits_type(id_type, number, today):
        yield f"IdNumber: not a number of type {id_type} (form, date or check digit)"
    if kind in ("1", "2") and id_type != "999" and (id_type == "001") != (kind == "2"):
        yield "IdType: does not belong to an applicant of this kind"


_CASE_NO = Rule("CaseNo", _pattern(r"[A-Za-z0-9._-]{1,64}", "1 to 64 letters, digits, dots, dashes are wanted"))
_MESSAGE_NO = Rule("MessageNo", _pattern(r"[A-Za-z0-9._-]{1,64}", "1 to 64 letters, digits, dots, dashes are wanted"))
_MEDIA_TYPE = Rule("MediaType", _pattern(r"[\w.+-]{1,60}/[\w.+-]{1,60}", "a media type is wanted"))
_HEX = _pattern(r"[0-9A-Fa-f]{64}", "64 hexadecimal digits are wanted")
_REGION = _pattern(r"\d{12}", "12 digits are wanted")
_COUNT = _pattern(r"\d{1,12}", "a whole number is wanted")

_APPLICANT = Rule(
    "Applicant",
    attributes={"kind": _one_of("1", "2")},
    across=_applicant_problems,
    children=(
        Rule("Name", _text(200)),
        Rule("IdType", _one_of(*ID_TYPES)),
        Rule("IdNumber", _text(40)),
        Rule("Sex", _one_of("男", "女"), least=0),
        Rule("BirthDate", Check(_is_date, "yyyy-MM-dd is wanted"), least=0),
        Rule("Mobile", _pattern(r"\+?\d[\d -]{4,19}", "a telephone number is wanted"), least=0),
    ),
)
_LISTED_MATERIAL = Rule(
    "Material",
    attributes={"code": _text(64)},
    least=0,
    most=None,
    children=(
        Rule("Name", _text(200)),
        _MEDIA_TYPE,
        Rule("Size", _COUNT),
        Rule("Digest", _HEX, attributes={"alg": _one_of("SHA-256")}),
    ),
)
_CODE = {"code": _text(64)}
_DEFERRED = Rule("Material", attributes=_CODE, most=None, children=(Rule("Promise", _text(LONGEST_PROMISE)),))
_CERTIFIED = Rule("Material", attributes=_CODE, most=None, children=(Rule("CertificateId", _text(LONGEST_IDENTIFIER)),))
_FIELD = Rule("Field", _maybe_text(20_000), attributes={"name": _text(100)}, least=0, most=None)
_WINDOW = Rule("Window", attributes={"id": _text(64), "operator": _text(64)}, least=0)

CASE = Rule(
    "Case",
    children=(
        _CASE_NO,
        Rule("ItemCode", _text(64)),
        Rule("ItemName", _text(200)),
        Rule("SubmitTime", Check(_is_local_time, "RFC 3339 with +08:00 is wanted")),
        Rule("SubmitMode", _one_of("WINDOW", "ONLINE")),
        Rule("OriginRegion", _REGION),
        Rule("HandlingRegion", _REGION),
        _WINDOW,
        _APPLICANT,
        Rule("Form", children=(_FIELD,)),
        Rule("Materials", children=(_LISTED_MATERIAL,)),
        Rule("Deferred", children=(_DEFERRED,), least=0),
        Rule("Certified", children=(_CERTIFIED,), least=0),
    ),
)
MATERIAL = Rule(
    "Material",
    children=(
        _CASE_NO,
        Rule("Digest", _HEX),
        _MEDIA_TYPE,
        Rule("Content", Check(_is_base64, "base64 is wanted")),
    ),
)
CASE_QUERY = Rule("CaseQuery", children=(_CASE_NO,))
MESSAGE_QUERY = Rule("MessageQuery", children=(_MESSAGE_NO,))
_TIME = Check(_is_local_time, "RFC 3339 with +08:00 is wanted")
_YES_OR_NO = _one_of("true", "false")
_NUMBERS = (_MESSAGE_NO, _CASE_NO, Rule("AcceptNo", _text(64)))
SUPPLEMENT = Rule(
    "Supplement",
    children=(
        *_NUMBERS,
        Rule("SubmitTime", _TIME),
        _WINDOW,
        Rule("Form", children=(_FIELD,), least=0),
        Rule("Materials", children=(_LISTED_MATERIAL,)),
        Rule("Complete", _YES_OR_NO),
    ),
)
WITHDRAWAL = Rule(
    "Withdrawal",
    children=(*_NUMBERS, Rule("AskedAt", _TIME), Rule("Reason", _text(2000)), Rule("Operator", _text(64), least=0)),
)
RATING = Rule(
    "Rating",
    children=(
        *_NUMBERS,
        Rule("ItemCode", _text(64)),
        Rule("Role", _one_of("COLLECTING", "HANDLING")),
        Rule("Score", _one_of("1", "2", "3", "4", "5")),
        Rule("Indicators", children=(Rule("Indicator", _text(64), least=0, most=None),), least=0),
        Rule("Words", _text(500), least=0),
        Rule("Channel", _one_of("1", "2", "3", "4", "5", "6", "7")),
        Rule("RatedAt", _TIME),
        Rule("ByDefault", _YES_OR_NO),
    ),
)
COMPLAINT = Rule(
    "Complaint",
    children=(*_NUMBERS, Rule("Text", _text(2000)), Rule("MadeAt", _TIME), Rule("Contact", _text(200), least=0)),
)
EVENT_QUERY = Rule(
    "EventQuery",
    children=(
        Rule("After", _COUNT),
        Rule("Limit", _pattern(r"[1-9]\d?|1\d\d|200", "a whole number from 1 to 200 is wanted")),
    ),
)
RESULT_QUERY = Rule("ResultQuery", children=(Rule("AcceptNo", _text(64)),))
RESULT_REQUEST = Rule(
    "ResultRequest",
    children=(
        Rule("AcceptNo", _text(64)),
        Rule("Code", _text(64)),
        Rule("Offset", _COUNT),
        Rule("Length", Check(_is_part, f"a whole number from 1 to {LARGEST_PART} is wanted")),
    ),
)
CERTIFICATE_QUERY = Rule(
    "CertificateQuery",
    children=(
        *(Rule(name, _maybe_text(200)) for name in ("TypeCode", "TypeName", "HolderName")),
        Rule("HolderIdType", _one_of(*ID_TYPES, "")),
        *(Rule(name, _maybe_text(200)) for name in ("HolderIdNumber", "UseFor", "OrgName")),
        *(Rule(name, _maybe_text(200)) for name in ("UserName", "ItemName", "ItemCode", "BusinessCode")),
    ),
)
"""An empty text is let through here: the answer to it is status 12, not a fault (README, Operations)."""
_FRAME = tuple(
    Rule(name, _maybe_text(200)) for name in ("UseFor", "OrgName", "UserName", "ItemName", "ItemCode", "BusinessCode")
)
CERTIFICATE_REQUEST = Rule(
    "CertificateRequest",
    children=(Rule("Identifier", _text(128), least=0), Rule("Code", _text(256), least=0), *_FRAME),
)
CERTIFICATE_FILE_REQUEST = Rule(
    "CertificateFileRequest",
    children=(
        Rule("Code", _text(64)),
        Rule("Offset", _COUNT),
        Rule("Length", Check(_is_part, f"a whole number from 1 to {LARGEST_PART} is wanted")),
    ),
)
CERTIFICATE_DISPUTE = Rule(
    "CertificateDispute",
    children=(
        Rule("Ticket", _text(64)),
        Rule("Identifier", _text(128)),
        Rule("Field", _text(100), least=0),
        Rule("Statement", _text(2000)),
        *_FRAME,
    ),
)
DISPUTE_QUERY = Rule("DisputeQuery", children=(Rule("DisputeNo", _text(64)),))
