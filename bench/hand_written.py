"""What a programmer would write by hand for one message: guangdong/organisation, both ways.

The measure of the mapping engine. It does the same mapping on parsed data: the same names, codes, dates, amounts and
lists, and it refuses what is no text, no code, no date or no amount. It shares nothing with the engine, reads no rule
file, and knows no schema.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

Document = dict[str, Any]

BEIJING = timezone(timedelta(hours=8))
KINDS = {
    "AGENCY": "11", "INSTITUTION": "12", "MASS": "13", "ASSOCIATION": "51", "NON_ENTERPRISE": "52", "FOUNDATION": "53",
    "ENTERPRISE": "91", "SOLE_TRADER": "92", "COOPERATIVE": "93", "OTHER": "99",
}  # fmt: skip
STATES = {
    "ACTIVE": "1", "REVOKED": "2", "CANCELLED": "3", "MOVED": "4", "SUSPENDED": "5", "LIQUIDATING": "6", "OTHER": "9",
}  # fmt: skip
CURRENCIES = {"CNY": "156", "HKD": "344", "MOP": "446", "USD": "840", "EUR": "978", "GBP": "826"}
OWN_DOCUMENTS = {"USCC": "49", "ORG_CODE": "50", "LICENCE": "51", "TAX": "60", "HK_BRN": "80", "MO_CR": "80"}
DOCUMENTS = {
    "CN_RIC": "10", "PASSPORT": "20", "HM_PERMIT": "40", "HM_RESID": "40", "TW_PERMIT": "40", "TW_RESID": "40",
    "FPR": "40", "USCC": "49", "HK_BRN": "80",
}  # fmt: skip
SIDES = {"person": "1", "organisation": "2"}


def turned(codes: dict[str, str]) -> dict[str, str]:
    return {theirs: ours for ours, theirs in codes.items()}


OUR_KINDS, OUR_STATES, OUR_CURRENCIES, OUR_SIDES = map(turned, (KINDS, STATES, CURRENCIES, SIDES))
ONLY_DOCUMENTS = {"10": "CN_RIC", "20": "PASSPORT", "49": "USCC", "80": "HK_BRN"}
ONLY_OWN = {"49": "USCC", "50": "ORG_CODE", "51": "LICENCE", "60": "TAX"}


def text(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable() or len(value) > 65536:
        raise ValueError("no text")
    return value


def to_digits(value: Any) -> str:
    return date.fromisoformat(text(value)).strftime("%Y%m%d")


def from_digits(value: Any) -> str:
    if len(text(value)) != 8:
        raise ValueError("no day")
    return date.fromisoformat(value).isoformat()


def to_yuan(cents: Any) -> str:
    if not isinstance(cents, int):
        raise TypeError("no amount")
    whole, rest = divmod(abs(cents), 100)
    return f"{'-' if cents < 0 else ''}{whole}.{rest:02d}"


def from_yuan(value: Any) -> int:
    cents = Decimal(text(value)) * 100
    if cents != int(cents):
        raise ValueError("no amount")
    return int(cents)


def decimal(value: Any) -> str:
    return format(Decimal(text(value)).normalize(), "f")


def to_beijing(value: Any) -> str:
    return datetime.fromisoformat(text(value)).astimezone(BEIJING).strftime("%Y%m%d%H%M%S")


def from_beijing(value: Any) -> str:
    moment = datetime.strptime(text(value), "%Y%m%d%H%M%S").replace(tzinfo=BEIJING)
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def number(value: Any) -> int:
    if not text(value).isdigit():
        raise ValueError("no number")
    return int(value)


def document(kind: str, value: str, only: dict[str, str]) -> str:
    found = only.get(kind)
    if found is not None and kind != "80":
        return found
    return by_shape(text(kind), text(value))


def by_shape(kind: str, value: str) -> str:
    if kind == "80":
        return "HK_BRN" if value.isdigit() and len(value) == 8 else "MO_CR"
    if value[:1] in "HM" and len(value) in {9, 11}:
        return "HM_PERMIT"
    if value.startswith(("810000", "820000")):
        return "HM_RESID"
    if value.startswith("830000"):
        return "TW_RESID"
    if len(value) == 8 and value.isdigit():
        return "TW_PERMIT"
    if len(value) in {15, 18}:
        return "FPR"
    raise ValueError("no known document")


# --- ours to theirs --------------------------------------------------------------------------------------------------


def to_region(ours: Document) -> Document:
    theirs: Document = {"usertype": "2", "useridcode": text(ours["subject"]), "cn": text(ours["name"])}
    for key, name in (("parent", "parent_uidcode"), ("address", "address"), ("email", "mail")):
        if ours.get(key):
            theirs[name] = text(ours[key])
    if "version" in ours:
        theirs["uversion"] = str(ours["version"])
    own = ours["document"]
    theirs["idcardtype"] = OWN_DOCUMENTS[own["type"]]
    theirs["idcardnumber"] = text(own["number"])
    if "verified" in ours:
        theirs["isreal"] = "true" if ours["verified"] else "false"
    handler = ours.get("handler")
    if handler is not None:
        say_person(handler, theirs, ("link_person_name", "link_person_type", "link_person_code"))
        if handler.get("mobile"):
            theirs["telephonenumber"] = text(handler["mobile"])
    legal = ours.get("legal_representative")
    if legal is not None:
        say_person(legal, theirs, ("legal_person", "legal_id_type", "legal_code"))
    attributes = say_attributes(ours)
    if attributes:
        theirs["attributes"] = attributes
    if "shareholders" in ours:
        theirs["gdxx"] = [say_shareholder(one) for one in ours["shareholders"]]
    return theirs


def say_person(person: Document, theirs: Document, names: tuple[str, str, str]) -> None:
    theirs[names[0]] = text(person["name"])
    if "document" in person:
        theirs[names[1]] = DOCUMENTS[person["document"]["type"]]
        theirs[names[2]] = text(person["document"]["number"])


def joined(separator: str) -> Callable[[Any], str]:
    def join(items: Any) -> str:
        if any(separator in text(item) for item in items):
            raise ValueError("an item holds the separator")
        return separator.join(items)

    return join


def flag(value: Any) -> str:
    return "1" if value else "0"


ATTRIBUTES: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("name_en", "ywmc", text), ("former_names", "cym", joined(";")), ("kind", "zzlx", KINDS.__getitem__),
    ("legal_form", "zzxs", text), ("status", "djzt", STATES.__getitem__), ("active", "sfzy", flag),
    ("branch", "sffzjg", flag), ("small", "sfxw", flag), ("paid_in_capital", "sjzb", to_yuan),
    ("established_on", "clrq", to_digits), ("approved_on", "hzrq", to_digits), ("valid_from", "yyqxq", to_digits),
    ("valid_until", "yyqxz", to_digits), ("region", "xzqhdm", text), ("postal_code", "yzbm", text),
    ("industry", "hydm", text), ("business_scope", "jyfw", text), ("employees", "cyrs", str),
    ("phones", "lxdh", joined(",")), ("updated_at", "gxsj", to_beijing),
)  # fmt: skip


def say_attributes(ours: Document) -> list[str]:
    made = []
    for key, name, say in ATTRIBUTES:
        value = ours.get(key)
        if value is not None and value != "" and value != []:
            made.append(f"{name}={say(value)}")
    capital = ours.get("registered_capital")
    if capital is not None:
        made.append(f"zczb={to_yuan(capital['amount'])}")
        made.append(f"zczbbz={CURRENCIES[capital['currency']]}")
    registry = ours.get("registry")
    if registry is not None:
        made.append(f"djjg={text(registry['name'])}")
        if registry.get("code"):
            made.append(f"djjgdm={text(registry['code'])}")
    return made


def say_shareholder(ours: Document) -> Document:
    theirs = {"gdmc": text(ours["name"])}
    if "kind" in ours:
        theirs["gdlx"] = SIDES[ours["kind"]]
    if "document" in ours:
        theirs["gdzjlx"] = DOCUMENTS[ours["document"]["type"]]
        theirs["gdzjhm"] = text(ours["document"]["number"])
    if "ratio" in ours:
        theirs["cgbl"] = decimal(ours["ratio"])
    if "amount" in ours:
        theirs["rjcze"] = to_yuan(ours["amount"])
    if "contributed_on" in ours:
        theirs["czrq"] = to_digits(ours["contributed_on"])
    return theirs


# --- theirs to ours --------------------------------------------------------------------------------------------------


def given(value: Any) -> bool:
    return value is not None and value not in ("", "-1")


def to_canonical(theirs: Document) -> Document:
    if theirs.get("usertype") != "2":
        raise ValueError("no organisation")
    ours: Document = {"subject": text(theirs["useridcode"]), "name": text(theirs["cn"])}
    for name, key in (("parent_uidcode", "parent"), ("address", "address"), ("mail", "email")):
        if given(theirs.get(name)):
            ours[key] = text(theirs[name])
    if given(theirs.get("uversion")):
        ours["version"] = number(theirs["uversion"])
    own = document(theirs["idcardtype"], theirs["idcardnumber"], ONLY_OWN)
    ours["document"] = {"type": own, "number": text(theirs["idcardnumber"])}
    if given(theirs.get("isreal")):
        ours["verified"] = {"true": True, "false": False}[theirs["isreal"]]
    handler = hear_person(theirs, ("link_person_name", "link_person_type", "link_person_code"))
    if given(theirs.get("telephonenumber")):
        handler["mobile"] = text(theirs["telephonenumber"])
    if handler:
        ours["handler"] = handler
    legal = hear_person(theirs, ("legal_person", "legal_id_type", "legal_code"))
    if legal:
        ours["legal_representative"] = legal
    hear_attributes(theirs.get("attributes", []), ours)
    if "gdxx" in theirs:
        ours["shareholders"] = [hear_shareholder(one) for one in theirs["gdxx"]]
    return ours


def hear_person(theirs: Document, names: tuple[str, str, str]) -> Document:
    person: Document = {}
    if given(theirs.get(names[0])):
        person["name"] = text(theirs[names[0]])
    if given(theirs.get(names[1])):
        value = theirs[names[2]]
        person["document"] = {"type": document(theirs[names[1]], value, ONLY_DOCUMENTS), "number": text(value)}
    return person


def apart(separator: str) -> Callable[[Any], list[str]]:
    return lambda value: text(value).split(separator)


HEARD: dict[str, tuple[str, str, Callable[[Any], Any]]] = {
    "ywmc": ("", "name_en", text), "cym": ("", "former_names", apart(";")), "zzlx": ("", "kind", OUR_KINDS.__getitem__),
    "zzxs": ("", "legal_form", text), "djzt": ("", "status", OUR_STATES.__getitem__),
    "sfzy": ("", "active", {"1": True, "0": False}.__getitem__),
    "sffzjg": ("", "branch", {"1": True, "0": False}.__getitem__),
    "sfxw": ("", "small", {"1": True, "0": False}.__getitem__), "sjzb": ("", "paid_in_capital", from_yuan),
    "clrq": ("", "established_on", from_digits), "hzrq": ("", "approved_on", from_digits),
    "yyqxq": ("", "valid_from", from_digits), "yyqxz": ("", "valid_until", from_digits),
    "xzqhdm": ("", "region", text), "yzbm": ("", "postal_code", text), "hydm": ("", "industry", text),
    "jyfw": ("", "business_scope", text), "cyrs": ("", "employees", number), "lxdh": ("", "phones", apart(",")),
    "gxsj": ("", "updated_at", from_beijing), "zczb": ("registered_capital", "amount", from_yuan),
    "zczbbz": ("registered_capital", "currency", OUR_CURRENCIES.__getitem__), "djjg": ("registry", "name", text),
    "djjgdm": ("registry", "code", text),
}  # fmt: skip


def hear_attributes(attributes: list[str], ours: Document) -> None:
    for pair in attributes:
        name, _, value = text(pair).partition("=")
        known = HEARD.get(name)
        if known is None or not given(value):
            continue
        around, key, hear = known
        into = ours.setdefault(around, {}) if around else ours
        into[key] = hear(value)


def hear_shareholder(theirs: Document) -> Document:
    ours: Document = {"name": text(theirs["gdmc"])}
    if given(theirs.get("gdlx")):
        ours["kind"] = OUR_SIDES[theirs["gdlx"]]
    if given(theirs.get("gdzjlx")):
        value = theirs["gdzjhm"]
        ours["document"] = {"type": document(theirs["gdzjlx"], value, ONLY_DOCUMENTS), "number": text(value)}
    if given(theirs.get("cgbl")):
        ours["ratio"] = decimal(theirs["cgbl"])
    if given(theirs.get("rjcze")):
        ours["amount"] = from_yuan(theirs["rjcze"])
    if given(theirs.get("czrq")):
        ours["contributed_on"] = from_digits(theirs["czrq"])
    return ours
