"""What the simulated Qingyuan accepts in each document: names, order, formats, codes and check digits.

Owns: the rules, and reading a verified document into plain values with every problem named at once. Leaves seals to
`sandbox_wire.py` and what a document brings about to `sandbox.py`. A problem names the place and what is wanted there,
never the value, because the value may be personal data. Written from `README.md` and the formats that it names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from lxml import etree

from gateway.sandbox.left_out import LeftOut

Record = dict[str, Any]
"""A document as read: attributes as `@name`, children by name, the text of an element with attributes as `text`."""

MOST_PROBLEMS = 50


class SchemaError(Exception):
    """A document that is not as agreed; the text names every problem."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule for one element: a text that `fits`, or a group of children in this order."""

    name: str
    fits: Callable[[str], bool] | None = None
    children: tuple[Rule, ...] = ()
    attributes: Mapping[str, Callable[[str], bool]] = field(default_factory=dict)
    optional: frozenset[str] = frozenset()
    """Attributes that may be missing."""
    least: int = 1
    many: bool = False
    across: Callable[[Record], Iterable[str]] | None = None


def read(element: etree._Element, rule: Rule) -> Record:
    """Return the values of a document. Raises SchemaError."""
    problems: list[str] = []
    if element.tag != rule.name:
        raise SchemaError(f"{rule.name} is wanted")
    record = _group(element, rule, rule.name, problems)
    if problems:
        raise SchemaError("; ".join(problems[:MOST_PROBLEMS]))
    return record


def _group(element: etree._Element, rule: Rule, path: str, problems: list[str]) -> Record:
    record: Record = _attributes(element, rule, path, problems)
    order = [child.name for child in rule.children]
    found = [str(child.tag) for child in element]
    if not set(found) <= set(order):
        problems.append(f"{path}: elements that are not known here")
    elif found != sorted(found, key=order.index):
        problems.append(f"{path}: the elements are out of order")
    for child in rule.children:
        record |= _child(element, child, f"{path}/{child.name}", problems)
    if rule.across:
        problems += [f"{path}: {problem}" for problem in rule.across(record)]
    return record


def _child(element: etree._Element, rule: Rule, path: str, problems: list[str]) -> Record:
    found = element.findall(rule.name)
    if len(found) < rule.least or (len(found) > 1 and not rule.many):
        problems.append(f"{path}: given {len(found)} times")
    values = [_value(one, rule, path, problems) for one in found]
    if rule.many:
        return {rule.name: values}
    return {rule.name: values[0]} if values else {}


def _value(element: etree._Element, rule: Rule, path: str, problems: list[str]) -> Any:
    if rule.fits is None:
        return _group(element, rule, path, problems)
    text = element.text or ""
    if len(element) or not rule.fits(text):
        problems.append(f"{path}: not as agreed")
    attributes = _attributes(element, rule, path, problems)
    return {**attributes, "text": text} if rule.attributes else text


def _attributes(element: etree._Element, rule: Rule, path: str, problems: list[str]) -> Record:
    if not set(element.attrib) <= set(rule.attributes):
        problems.append(f"{path}: attributes that are not known here")
    given = {name: element.get(name) for name in rule.attributes}
    for name, value in given.items():
        wrong = name not in rule.optional if value is None else not rule.attributes[name](value)
        if wrong:
            problems.append(f"{path}/@{name}: not as agreed")
    return {f"@{name}": value for name, value in given.items() if value is not None}


# --- texts ---------------------------------------------------------------------------------------------------------


def _pattern(expression: str) -> Callable[[str], bool]:
    compiled = re.compile(expression, re.ASCII)
    return lambda text: compiled.fullmatch(text) is not None


def _text(longest: int) -> Callable[[str], bool]:
    return lambda text: bool(text.strip()) and len(text) <= longest


def _maybe(longest: int) -> Callable[[str], bool]:
    return lambda text: len(text) <= longest


def _is_moment(text: str) -> bool:
    try:
        return bool(datetime.strptime(text, "%Y-%m-%d %H:%M:%S")) and len(text) == 19  # noqa: DTZ007 - a form, no time
    except ValueError:
        return False


def _is_day(text: str) -> bool:
    found = re.fullmatch(r"(\d{4})年(\d\d)月(\d\d)日", text, re.ASCII)
    try:
        return found is not None and bool(date(*map(int, found.groups())))
    except ValueError:
        return False


_NUMBER = _pattern(r"[A-Za-z0-9._-]{1,64}")
_REGION = _pattern(r"\d{9}")
_FLAG = _pattern(r"[01]")
_DIGEST = r"[0-9A-Fa-f]{64}"
_MEDIA = r"[\w.+-]{1,60}/[\w.+-]{1,60}"

_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_LETTERS = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_SHAPES = {"20": r"[A-Z0-9]{5,20}", "40": r"\S.{0,38}\S", "80": r"\d{8}"}


def fits_type(id_type: str, number: str) -> bool:
    """Say whether a number has the form and the check digit of its type (SQRZJLX)."""
    if id_type == "10":  # GB 11643
        total = (
            sum(int(digit) * weight for digit, weight in zip(number[:17], _WEIGHTS, strict=True))
            if re.fullmatch(r"\d{17}[\dX]", number, re.ASCII)
            else -1
        )
        return total >= 0 and "10X98765432"[total % 11] == number[17]
    if id_type == "49":  # GB 32100
        if len(number) != 18 or not set(number) <= set(_LETTERS):
            return False
        total = sum(_LETTERS.index(sign) * pow(3, place, 31) for place, sign in enumerate(number[:17]))
        return _LETTERS[-total % 31] == number[17]
    return re.fullmatch(_SHAPES[id_type], number, re.ASCII) is not None


def _of_applicant(applicant: Record) -> Iterable[str]:
    id_type, number = applicant.get("SQRZJLX", ""), applicant.get("SQRZJHM", "")
    if id_type in ("10", "49", *_SHAPES) and number and not fits_type(id_type, number):
        yield "SQRZJHM: not a number of its type"


LISTS = ("SBCLQD", "CLBMQD", "WJLXQD", "WJDXQD", "WJZYQD")


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A material as the lists of a document name it."""

    code: str
    size: int
    sha256: str


def listed(record: Record) -> list[ListedFile]:
    """Return the materials of a case or supplement."""
    if "WJZYQD" not in record:
        return []
    columns = [record[name] for name in ("CLBMQD", "WJDXQD")] + [record["WJZYQD"]["text"]]
    rows = zip(*(column.split(";;") for column in columns), strict=True)
    return [ListedFile(code, int(size), digest.lower()) for code, size, digest in rows]


def _of_lists(record: Record) -> Iterable[str]:
    given = {name: record[name] for name in LISTS if name in record}
    if given and len(given) < len(LISTS):
        yield "the lists of materials are not all there"
    texts = [value["text"] if isinstance(value, dict) else value for value in given.values()]
    if len({text.count(";;") for text in texts}) > 1:
        yield "the lists of materials have different lengths"


_MATERIALS = (
    Rule("SBCLQD", _text(20_000), least=0),
    Rule("CLBMQD", _text(20_000), least=0),
    Rule("WJLXQD", _pattern(rf"{_MEDIA}(;;{_MEDIA})*"), least=0),
    Rule("WJDXQD", _pattern(r"\d{1,12}(;;\d{1,12})*"), least=0),
    Rule("WJZYQD", _pattern(rf"{_DIGEST}(;;{_DIGEST})*"), attributes={"SF": lambda text: text == "SHA-256"}, least=0),
)
_LEFT_OUT = (
    Rule(
        "RQCLQD",
        least=0,
        children=(Rule("RQCL", many=True, children=(Rule("CLBM", _NUMBER), Rule("CNNR", _text(500)))),),
    ),
    Rule(
        "MZCLQD",
        least=0,
        children=(Rule("MZCL", many=True, children=(Rule("CLBM", _NUMBER), Rule("ZZBS", _text(128)))),),
    ),
)


def left_out(record: Record) -> LeftOut:
    """Return what a case does without: what follows later (容缺), and what a certificate stands for (免证办)."""
    promised = [(one["CLBM"], one["CNNR"]) for one in record.get("RQCLQD", {}).get("RQCL", ())]
    return LeftOut(promised, [(one["CLBM"], one["ZZBS"]) for one in record.get("MZCLQD", {}).get("MZCL", ())])


_WINDOW = Rule(
    "DSCK", attributes={"CKBH": _text(64), "BLRGH": _text(64)}, optional=frozenset({"CKBH", "BLRGH"}), least=0
)
_FORM = Rule("BDXX", children=(Rule("BD", _maybe(20_000), attributes={"BDXBM": _text(100)}, least=0, many=True),))
_VERSION = {"BBH": lambda text: text == "1.0"}
_WWBH, _XXBH = Rule("WWBH", _NUMBER), Rule("XXBH", _NUMBER)
_PAGE = (Rule("XH", _pattern(r"\d{1,12}")),)

APPLICATION = Rule(
    "SBXX",
    attributes=_VERSION,
    across=_of_lists,
    children=(
        _WWBH,
        Rule("SX", _text(200), attributes={"SXBM": _text(64), "SXQXBM": _maybe(64)}, optional=frozenset({"SXQXBM"})),
        Rule("TJFS", _FLAG),
        Rule("SBSJ", _is_moment),
        Rule("XZQHDM", _REGION),
        Rule("GXDXZQHDM", _REGION),
        _WINDOW,
        Rule(
            "SQR",
            attributes={"SQRLX": _FLAG},
            across=_of_applicant,
            children=(
                Rule("SQRMC", _text(200)),
                Rule("SQRZJLX", _pattern(r"10|20|40|49|80")),
                Rule("SQRZJHM", _text(40)),
                Rule("SQRXB", _pattern(r"[12]"), least=0),
                Rule("CSRQ", _is_day, least=0),
            ),
        ),
        Rule("LXRXM", _maybe(200), least=0),
        Rule("LXRSJ", _maybe(40), least=0),
        _FORM,
        *_MATERIALS,
        *_LEFT_OUT,
    ),
)
_MESSAGE = (_XXBH, _WWBH, Rule("SBLSH", _pattern(r"\d{20}")))
SUPPLEMENT = Rule(
    "BZXX",
    attributes=_VERSION,
    across=_of_lists,
    children=(
        *_MESSAGE,
        Rule("BZSJ", _is_moment),
        _WINDOW,
        Rule("BDXX", children=_FORM.children, least=0),
        *_MATERIALS,
        Rule("SFQB", _FLAG),
    ),
)
WITHDRAWAL = Rule(
    "CHSQ",
    attributes=_VERSION,
    children=(*_MESSAGE, Rule("CHSJ", _is_moment), Rule("CHYY", _text(2000)), Rule("BLRGH", _maybe(64), least=0)),
)
RATING = Rule(
    "HCP",
    attributes=_VERSION,
    children=(
        *_MESSAGE,
        Rule("SXBM", _text(64)),
        Rule("PJDX", _pattern(r"collecting|handling")),
        Rule("MYD", _pattern(r"[1-5]")),
        Rule("PJZB", _maybe(1000), least=0),
        Rule("WZPJ", _maybe(500), least=0),
        Rule("PJQD", _pattern(r"pc|mobile|qr|hall|sms|kiosk|hotline")),
        Rule("PJSJ", _is_moment),
        Rule("SFMR", _FLAG),
    ),
)
NOTICE = Rule(
    "SBTZ",
    across=lambda notice: _of_notice(notice),
    children=(
        _WWBH,
        Rule("EXPRESSTYPE", _pattern(r"[13]")),
        Rule("SXBM", _text(64), least=0),
        Rule("XZQHDM", _REGION, least=0),
        Rule("XXBH", _NUMBER, least=0),
        Rule("CLSL", _pattern(r"\d{1,4}")),
    ),
)


def _of_notice(notice: Record) -> Iterable[str]:
    wanted = {"XXBH"} if notice.get("EXPRESSTYPE") == "1" else {"SXBM", "XZQHDM"}
    if {"XXBH", "SXBM", "XZQHDM"} & notice.keys() != wanted:
        yield f"{' and '.join(sorted(wanted))} are wanted with this EXPRESSTYPE, and no others"


CASE_QUERY = Rule("SBCX", children=(_WWBH,))
MESSAGE_QUERY = Rule("XXCX", children=(_WWBH, _XXBH))
REPORT_QUERY = Rule("TZCX", children=(*_PAGE, Rule("TS", _pattern(r"[1-9]\d?|1\d\d|200"))))
FILE_QUERY = Rule("SXCX", children=(*_PAGE, Rule("TS", _pattern(r"[1-9]|1\d|20"))))
RESULT_QUERY = Rule("CXJG", children=(Rule("CXBH", _NUMBER),))
RESULTS_QUERY = Rule("JGCX", children=(Rule("SBLSH", _pattern(r"\d{20}")),))
RESULT_FILE_QUERY = Rule("JGTQ", children=(*RESULTS_QUERY.children, Rule("WJBM", _NUMBER)))
CERTIFICATE_QUERY = Rule(
    "ZZCX",
    attributes=_VERSION,
    children=(
        Rule("ZZLX", _maybe(200), attributes={"ZZLXDM": _maybe(64)}),
        *(Rule(name, _maybe(200)) for name in ("CZZT", "CZZTDM", "CZZTDMLXDM", "YZSY", "YZDW", "YZRY")),
        Rule("SX", _maybe(200), attributes={"SXBM": _maybe(64)}),
        Rule("BJBH", _maybe(64)),
    ),
)
"""An empty text is let through here: the answer to it is status 12, not a refusal (README, ZT)."""
_NEED = (
    *(Rule(name, _maybe(200)) for name in ("YZSY", "YZDW", "YZRY")),
    Rule("SX", _maybe(200), attributes={"SXBM": _maybe(64)}),
    Rule("BJBH", _maybe(64)),
)
CERTIFICATE_REQUEST = Rule("ZZQQ", attributes=_VERSION, children=(Rule("ZZBS", _maybe(128)), *_NEED))
OBJECTION = Rule(
    "ZZYY",
    attributes=_VERSION,
    children=(
        Rule("YYBH", _NUMBER),
        Rule("ZZBS", _text(128)),
        Rule("YYX", _text(128), least=0),
        Rule("YYSM", _text(2000)),
        *_NEED,
    ),
)
OBJECTION_QUERY = Rule("YYCX", children=(Rule("SLBH", _NUMBER),))
