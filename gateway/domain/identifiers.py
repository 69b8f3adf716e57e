"""Identifiers with check digits: people, organisations, certificates, items, regions and our own case numbers.

Owns: form and check digit of each. Leaves to `policy` and to callers what to do about a wrong one: an error when a
user typed it, a warning when the authority that issued it sent it (its own records are what they are).

Every `..._problem` function returns None when the identifier is well formed, or one sentence that says what is wrong.
No sentence repeats the identifier.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date

from stdnum.cn import uscc as stdnum_uscc
from stdnum.exceptions import ValidationError

_ALPHANUMERIC = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_RIC_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
ZZBS_ROOT = "1.2.156.3005.2"
_RIC = re.compile(r"\d{17}[\dX]", re.ASCII)
_ZZBS_PART = re.compile(r"[0-9A-Z]+")
_CASE_NUMBER = re.compile(r"KY\d{26}[0-9A-Z]", re.ASCII)
_ITEM_CODE = re.compile(r"[0-9A-Z]{18}[1-6]\d{12}(\d{2})?")


# --- check characters ---------------------------------------------------------------------------------------------


def mod11_2(body: str) -> str:
    """Return the check character of 17 digits (ISO/IEC 7064 MOD 11-2, as GB 11643 uses it)."""
    total = sum(int(digit) * weight for digit, weight in zip(body, _RIC_WEIGHTS, strict=True))
    return "10X98765432"[total % 11]


def mod37_36(body: str) -> str:
    """Return the check character of `[0-9A-Z]+` (ISO/IEC 7064 MOD 37,36 hybrid; GB/T 36904). I and O are legal."""
    product = 36
    for character in body:
        product = (product + _ALPHANUMERIC.index(character)) % 36 or 36
        product = product * 2 % 37
    return _ALPHANUMERIC[(37 - product) % 36]


def hkid_check(prefix_and_digits: str) -> str:
    """Return the check character of an HKID without its check (one or two letters and six digits)."""
    padded = prefix_and_digits.rjust(8)
    values = [36 if c == " " else _ALPHANUMERIC.index(c) for c in padded]
    remainder = (11 - sum(v * w for v, w in zip(values, range(9, 1, -1), strict=True)) % 11) % 11
    return "A" if remainder == 10 else str(remainder)


# --- people and organisations -------------------------------------------------------------------------------------


def ric_problem(number: str, *, today: date) -> str | None:
    """Check a citizen's identity number (公民身份号码, GB 11643), also the forms for residents from HK, Macau, Taiwan.

    Address codes are frozen at registration, so one that is missing from today's GB/T 2260 is no error.
    """
    if not _RIC.fullmatch(number):
        return "must be 17 digits and a check character (a digit or X)"
    try:
        born = date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return "holds a birth date that does not exist"
    if born > today:
        return "holds a birth date in the future"
    return None if number[17] == mod11_2(number[:17]) else "has a wrong check digit"


def uscc_problem(number: str) -> str | None:
    """Check a unified social credit code (统一社会信用代码, GB 32100)."""
    if not re.fullmatch(r"[0-9A-HJ-NPQRTUWXY]{18}", number, re.ASCII):
        return "must be 18 characters of 0-9 and A-Z without I, O, S, V, Z"
    try:
        stdnum_uscc.validate(number)
    except ValidationError:
        return "has a wrong check character"
    return None


def hkid_problem(number: str) -> str | None:
    """Check an HKID in canonical form (`A1234563`)."""
    if not re.fullmatch(r"[A-Z]{1,2}\d{6}[\dA]", number, re.ASCII):
        return "must be one or two letters, six digits and a check character, without brackets"
    return None if number[-1] == hkid_check(number[:-1]) else "has a wrong check character"


def _pattern(pattern: str, words: str) -> Callable[[str], str | None]:
    compiled = re.compile(pattern, re.ASCII)
    return lambda number: None if compiled.fullmatch(number) else words


def _foreign_permanent_resident(number: str, _today: date) -> str | None:
    if re.fullmatch(r"[A-Z]{3}\d{12}", number, re.ASCII):
        return None  # the 2017 card, valid side by side
    if not number.startswith("9"):
        return "must begin with 9 (2023 card), or be three letters and twelve digits (2017 card)"
    if not _RIC.fullmatch(number):
        return "must be 17 digits and a check character"
    return None if number[17] == mod11_2(number[:17]) else "has a wrong check digit"


def _resident(prefixes: tuple[str, ...]) -> Callable[[str, date], str | None]:
    def check(number: str, today: date) -> str | None:
        problem = ric_problem(number, today=today)
        return problem or (None if number.startswith(prefixes) else f"must begin with {' or '.join(prefixes)}")

    return check


DOCUMENT_TYPES: Mapping[str, Callable[[str, date], str | None]] = {
    "CN_RIC": lambda number, today: ric_problem(number, today=today),
    "HM_PERMIT": lambda n, _: _pattern(r"[HM]\d{8}(\d{2})?", "must be H or M and 8 digits (10 on older cards)")(n),
    "HM_RESID": _resident(("810000", "820000")),
    "TW_PERMIT": lambda n, _: _pattern(r"\d{8}", "must be 8 digits")(n),
    "TW_RESID": _resident(("830000",)),
    "FPR": _foreign_permanent_resident,
    "PASSPORT": lambda n, _: _pattern(r"[A-Z0-9]{5,20}", "must be 5 to 20 capital letters and digits")(n),
    "HKID": lambda number, _: hkid_problem(number),
    "MO_BIR": lambda n, _: _pattern(r"[157]\d{7}", "must be 8 digits that begin with 1, 5 or 7")(n),
    "USCC": lambda number, _: uscc_problem(number),
    "HK_BRN": lambda n, _: _pattern(r"\d{8}", "must be 8 digits")(n),
}
"""Our document types (证件类型) and their checks; the codes that regions use for them are in mappings/tables."""


def document_problem(kind: str, number: str, *, today: date) -> str | None:
    """Check a document number against its type. `today` is the date at the window, to refuse future births."""
    check = DOCUMENT_TYPES.get(kind)
    if check is None:
        return f"has an unknown document type; known: {', '.join(DOCUMENT_TYPES)}"
    return check(number, today)


# --- certificates, items, regions ---------------------------------------------------------------------------------


def zzbs_problem(identifier: str) -> str | None:
    """Check an electronic certificate's identifier (电子证照标识, GB/T 36904): root, five parts, check character."""
    if not identifier.startswith(ZZBS_ROOT + "."):
        return f"must begin with {ZZBS_ROOT}."
    parts = identifier[len(ZZBS_ROOT) + 1 :].split(".")
    if len(parts) != 5 or not all(_ZZBS_PART.fullmatch(part) for part in parts):
        return "must have type, issuer, serial, version and check character, in capitals and digits, between dots"
    kind, issuer, _serial, version, check = parts
    if len(kind) != 21 or not 6 <= len(issuer) <= 18 or len(version) != 3 or len(check) != 1:
        return "has a part of the wrong length (type 21, issuer 6 to 18, version 3, check 1)"
    return None if check == mod37_36("".join(parts[:4])) else "has a wrong check character"


def item_code_problem(code: str) -> str | None:
    """Check an item's implementing code (实施编码, 31) or handling code (业务办理项编码, 33; GB/T 39554.1)."""
    if not _ITEM_CODE.fullmatch(code):
        return "must be a USCC (18), a level 1-6 and 12 or 14 digits: 31 or 33 characters"
    return None


def region_code_problem(code: str) -> str | None:
    """Check an administrative division code (行政区划代码, GB/T 2260) of 6 to 12 digits."""
    return None if re.fullmatch(r"\d{6,12}", code, re.ASCII) else "must be 6 to 12 digits"


def case_number(*, origin: str, handling: str, day: date, sequence: int) -> str:
    """Build our own case number: `KY`, both region codes (6 each), the day, a daily sequence (6), MOD 37,36 check."""
    body = f"KY{origin[:6]}{handling[:6]}{day:%Y%m%d}{sequence:06d}"
    return body + mod37_36(body)


def case_number_problem(number: str) -> str | None:
    """Check one of our case numbers (29 characters)."""
    if not _CASE_NUMBER.fullmatch(number):
        return "must be KY, 26 digits and a check character"
    return None if number[-1] == mod37_36(number[:-1]) else "has a wrong check character"
