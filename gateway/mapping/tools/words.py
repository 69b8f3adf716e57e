"""A rule in words, in Chinese and in English, for people who read no rule files.

Owns: the sentence for every word that a rule may hold. Leaves to `mappings/README.md`: the language itself; a word
that is not known here is shown as it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from gateway.mapping.vocabulary import OURS_TO_THEIRS, THEIRS_TO_OURS, Field

Written = Mapping[str, Any]
"""A rule as its file has it: `{"at": "csrq", "as": "date:yyyyMMdd"}`."""


class Words(NamedTuple):
    """One thing said in both languages."""

    zh: str
    en: str


ARROWS: Final = {"": "⇄", OURS_TO_THEIRS: "→", THEIRS_TO_OURS: "←"}
"""A rule's direction as a sign, seen with our side on the left."""

DIRECTION_WORDS: Final = {
    "": Words("双向", "both ways"),
    OURS_TO_THEIRS: Words("仅发出", "only when we send"),
    THEIRS_TO_OURS: Words("仅接收", "only when we read"),
}

TYPE_WORDS: Final = {
    "string": Words("文本", "text"),
    "integer": Words("整数", "whole number"),
    "decimal": Words("小数", "decimal number"),
    "money": Words("金额（分）", "money (cents)"),
    "boolean": Words("是否", "yes or no"),
    "date": Words("日期", "date"),
    "datetime": Words("时间", "time"),
    "code": Words("代码", "code"),
    "texts": Words("文本列表", "list of texts"),
    "list": Words("列表", "list"),
    "object": Words("对象", "object"),
    "entries": Words("名称与文本", "names and texts"),
}

SENSITIVITY_WORDS: Final = {
    "none": Words("不涉个人", "not personal"),
    "personal": Words("个人信息", "personal"),
    "sensitive": Words("敏感信息", "sensitive"),
}

PART_WORDS: Final = {
    "fraction": Words("秒的小数部分", "fractions of a second"),
    "time": Words("一天中的时刻", "the time of day"),
    "subregion": Words("区划代码第六位以后的数字", "digits of the region code after the sixth"),
    "stand-in": Words("以代填值表示的空缺", "that a stand-in was written for nothing"),
    "script": Words("原文字形", "the original script"),
}

AS_IT_IS: Final = Words("原样", "as it is")

_CHARACTER_FORMS: Final = {
    "hans": Words("简体中文", "simplified Chinese"),
    "hant": Words("繁体中文", "traditional Chinese"),
    "hant-hk": Words("繁体中文（香港字形）", "traditional Chinese (Hong Kong forms)"),
}
_EXACT: Final = {
    "date:epoch-ms": Words("日期，写作该日零点（北京）的毫秒数", "date as milliseconds since 1970 (midnight, Beijing)"),
    "datetime:epoch-ms": Words("时间，写作 1970 年以来的毫秒数", "time as milliseconds since 1970"),
    "datetime:epoch-s": Words("时间，写作 1970 年以来的秒数", "time as seconds since 1970"),
    "datetime:rfc3339+08:00": Words("时间，RFC 3339，北京时间 +08:00", "time of RFC 3339, in Beijing time (+08:00)"),
    "datetime:rfc3339Z": Words("时间，RFC 3339，世界时 Z", "time of RFC 3339, in UTC (Z)"),
    "integer:text": Words("整数，写作文本", "whole number in a text"),
    "decimal:text": Words("小数，写作文本", "decimal number in a text"),
    "decimal:number": Words("小数，写作数字", "decimal number as a number"),
    "money:cents": Words("金额，以分为单位的整数", "money in cents"),
    "money:yuan": Words("金额，以元为单位的数字", "money in yuan as a number"),
    "money:yuan-text": Words("金额，以元为单位的文本", "money in yuan in a text"),
    "entries:=": Words("逐项写作“名称=文本”的列表", "a list of “name=text”"),
    "entries:object": Words("写作一个对象，名称即其键", "an object whose keys are the names"),
    "entries:json": Words("写作一段 JSON 文本", "a text that holds a JSON object"),
}  # fmt: skip


def conversion(written: Written, field: Field) -> Words:
    """Say how the value is written on the other side."""
    if "constant" in written:
        return Words(f"我方固定为 {written['constant']}", f"always {written['constant']} on our side")
    parts = [*_value(written), *_layout(written)]
    if not parts:
        return _by_type(field)
    return Words("；".join(part.zh for part in parts), "; ".join(part.en for part in parts))


def notes(written: Written, field: Field) -> list[Words]:
    """Say everything else that the rule says: when it counts, what stands in, what is read instead."""
    found = [say(written[key]) for key, say in _NOTES.items() if key in written]
    if written.get("required") and not field.required:
        found.insert(0, Words("该地区要求必填", "required by this region"))
    return found


def _value(written: Written) -> Iterable[Words]:
    if "table" in written:
        yield _table(str(written["table"]), written.get("by"))
    if "as" in written:
        yield _as(str(written["as"]))


def _table(name: str, by: object) -> Words:
    told = Words(f"，多义时由 {by} 的形式区分", f", told apart by the shape of {by}") if by else Words("", "")
    table, _, column = name.partition(".")
    return Words(f"代码表 {table} 的 {column} 列{told.zh}", f"code table {table}, column {column}{told.en}")


def _as(name: str) -> Words:
    if name in _EXACT:
        return _EXACT[name]
    kind, _, detail = name.partition(":")
    say = _KINDS.get(kind)
    return say(detail) if say else Words(name, name)


def _datetime(pattern: str) -> Words:
    written, _, zone = pattern.partition("@")
    return Words(
        f"时间，写作 {written}（{f'UTC{zone}' if zone else '北京时间'}）",
        f"time written {written} ({f'UTC{zone}' if zone else 'Beijing time'})",
    )


def _boolean(spellings: str) -> Words:
    yes, _, no = spellings.partition("/")
    return Words(f"是写作 {_first(yes)}，否写作 {_first(no)}", f"{_first(yes)} for yes, {_first(no)} for no")


def _first(spellings: str) -> str:
    first, *others = spellings.split(",")
    return f"{first} ({', '.join(others)})" if others else first


def _entries(places: str) -> Words:
    name, _, value = places.partition(",")
    own = Words("元素文本", "the element's text") if value == "." else Words(value, value)
    return Words(f"逐项写作列表：名称在 {name}，文本在 {own.zh}", f"a list of items: name in {name}, text in {own.en}")


_KINDS: Final[Mapping[str, Callable[[str], Words]]] = {
    "date": lambda pattern: Words(f"日期，写作 {pattern}", f"date written {pattern}"),
    "datetime": _datetime,
    "boolean": _boolean,
    "region": lambda digits: Words(f"行政区划代码，补零至 {digits} 位", f"region code of {digits} digits"),
    "script": lambda form: _script(_CHARACTER_FORMS.get(form, Words(form, form))),
    "entries": _entries,
}


def _script(form: Words) -> Words:
    return Words(f"转写为{form.zh}", f"written in {form.en}")


def _layout(written: Written) -> Iterable[Words]:
    if "join" in written:
        mark = shown(written["join"])
        yield Words(f"列表各项以 {mark} 连接成一段文本", f"the items joined with {mark} into one text")
    if "split" in written and "part" in written:
        mark, part = shown(written["split"]), written["part"]
        yield Words(f"对方以 {mark} 分隔的文本的第 {part} 段", f"part {part} of their text, divided by {mark}")
    elif "split" in written:
        mark = shown(written["split"])
        yield Words(f"我方文本按 {mark} 拆分，依次写入各处", f"our text divided at {mark}, one part to each place")


def _by_type(field: Field) -> Words:
    if field.type == "code" and field.values:
        return Words(f"相同代码：{'、'.join(field.values)}", f"the same codes: {', '.join(field.values)}")
    if field.type == "code" and field.digits:
        return Words(f"相同代码，{field.digits} 位数字", f"the same code of {field.digits} digits")
    return AS_IT_IS


def shown(text: object) -> str:
    """Show a separator so that blanks can be seen."""
    return f"“{str(text).replace(' ', '␣')}”"


def _when(condition: Mapping[str, Any]) -> Words:
    terms = [(name, _codes(codes)) for name, codes in condition.items()]
    return Words(
        "仅当 " + "，且 ".join(f"{name} 为 {codes.zh}" for name, codes in terms),
        "only when " + " and ".join(f"{name} is {codes.en}" for name, codes in terms),
    )


def _codes(codes: Any) -> Words:
    if isinstance(codes, bool):
        return Words("是", "true") if codes else Words("否", "false")
    listed = [str(code) for code in (codes if isinstance(codes, list) else [codes])]
    return Words(" 或 ".join(listed), " or ".join(listed))


def _places(places: Any) -> str:
    return ", ".join(places) if isinstance(places, list) else str(places)


_NOTES: Final[Mapping[str, Callable[[Any], Words]]] = {
    "when": _when,
    "or": lambda at: Words(f"为空时改读 {_places(at)}", f"when it is empty, {_places(at)} is read"),
    "else": lambda field: Words(f"我方没有时代填 {field}", f"when we have none, {field} stands in"),
    "default": lambda value: Words(f"对方未填时视为 {value}", f"taken to be {value} when they leave it out"),
}
