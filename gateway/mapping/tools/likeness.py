"""How alike two names are: English words, Chinese words, initials of pinyin.

Owns: taking names apart, and scores between 0 and 1. Leaves to `proposals`: what is compared with what.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import pairwise
from typing import Final

from gateway.mapping.scripts import of_script
from gateway.mapping.values import Converter

_LETTERS: Final = "abcdefghjklmnopqrstwxyz"
_FIRST: Final = [hanzi.encode("gb2312") for hanzi in "啊芭擦搭蛾发噶哈击喀垃妈拿哦啪期然撒塌挖昔压匝"]
"""GB 2312 orders its first level, the 3755 commonest characters, by pinyin: the first character of each letter."""

_PAST: Final = b"\xd7\xfa"
"""The code behind the last character of that level."""

_CHINESE: Final = re.compile("[\u3400-\u9fff]+")
_PIECES: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_GENERIC: Final = frozenset({"name", "code", "type", "number", "value", "id", "text", "kind", "date", "time", "item"})

_MEANS: Final[Mapping[str, str]] = {
    "no": "number", "num": "number", "nr": "number", "numero": "number", "nbr": "number",
    "doc": "document", "documento": "document", "cert": "document", "card": "document", "idcard": "document",
    "tel": "mobile", "phone": "mobile", "telephone": "mobile", "telefone": "mobile", "cellphone": "mobile",
    "gender": "sex", "sexo": "sex", "birthday": "birth", "birthdate": "birth", "dob": "birth", "nascimento": "birth",
    "nome": "name", "apelido": "surname", "kind": "type", "tipo": "type", "mail": "email", "data": "date",
    "org": "organisation", "organization": "organisation", "dept": "department", "addr": "address", "morada": "address",
    "mime": "media", "status": "state", "service": "item", "matter": "item", "task": "item",
    "attachment": "materials", "attachments": "materials", "material": "materials", "file": "materials",
    "length": "size", "bytes": "size", "hash": "sha256", "digest": "sha256", "sha": "sha256",
    "channel": "mode", "counter": "window", "officer": "operator", "submit": "submitted", "apply": "applicant",
}  # fmt: skip
"""Words of other formats, English and Portuguese, and the words of our vocabulary that they stand for."""

_PAPER: Final = "document"
_OF_A_PAPER: Final = frozenset({"number", "type", "document"})
"""What stands after `id` when it is no number of a case but an identity document: IdType, idNo, idCard."""


def tokens(name: str) -> list[str]:
    """Return the words of a name: `applicant.docNo` gives applicant, document, number."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    words = [_MEANS.get(piece.lower(), piece.lower()) for piece in _PIECES.findall(plain)]
    return [_PAPER if word == "id" and after in _OF_A_PAPER else word for word, after in pairwise([*words, ""])]


def initials(chinese: str) -> str:
    """Return the initials of the pinyin of a text: 申请人名称 gives sqrmc. Characters that are rare are left out."""
    return "".join(_initial(hanzi) for hanzi in chinese)


def _initial(hanzi: str) -> str:
    try:
        code = hanzi.encode("gb2312")
    except UnicodeEncodeError:
        return ""
    if len(code) == 1:
        return hanzi.lower() if hanzi.isalnum() else ""
    return _LETTERS[bisect_right(_FIRST, code) - 1] if _FIRST[0] <= code < _PAST else ""


def same_words(theirs: str, field: Iterable[str], whole: Iterable[str]) -> float:
    """Say how well the words of a place of theirs fit a field of ours.

    The last step counts most on both sides. `whole` are all words that the field is known by.
    """
    *around, last = re.split(r"[./]", theirs.replace("[]", ""))
    wanted = _weighed(tokens(last), tokens(" ".join(around)))
    own = _weighed([word for word in list(field)[-1:] for word in tokens(word)], tokens(" ".join(list(field)[:-1])))
    known = set(tokens(" ".join(whole))) | own.keys()
    found = sum(weight for word, weight in wanted.items() if word in known)
    given = sum(weight for word, weight in own.items() if word in wanted)
    if not found or not given:
        return 0.0
    precision, recall = found / sum(wanted.values()), given / sum(own.values())
    return 2 * precision * recall / (precision + recall)


def _weighed(last: Iterable[str], around: Iterable[str]) -> dict[str, float]:
    return {**dict.fromkeys(around, 0.5), **dict.fromkeys(last, 1.0)}


def same_chinese(words: str, name: str) -> float:
    """Say how alike a text of their schema and a Chinese name of ours are; both may be traditional."""
    said, ours = ("".join(_CHINESE.findall(_simplified(text))) for text in (words, name))
    if not said or not ours:
        return 0.0
    if said == ours:
        return 1.0
    short, long = sorted((said, ours), key=len)
    if len(short) > 1 and short in long:
        return 0.8 if 2 * len(short) >= len(long) else 0.5
    pairs, others = _pairs(said), _pairs(ours)
    return 0.8 * 2 * len(pairs & others) / (len(pairs) + len(others)) if pairs and others else 0.0


def same_initials(place: str, name: str) -> float:
    """Say whether the last step of a place is the pinyin initials of a Chinese name."""
    letters = re.sub(r"[^a-z0-9]", "", re.split(r"[./]", place)[-1].lower())
    ours = initials(_simplified(name))
    if len(letters) < 2 or len(ours) < 2:
        return 0.0
    if letters == ours:
        return 1.0
    return 0.5 if min(len(letters), len(ours)) > 2 and (ours.endswith(letters) or letters.endswith(ours)) else 0.0


def is_generic(name: str) -> bool:
    """Return whether a name says too little alone: `name`, `code`."""
    words = tokens(name)
    return len(words) < 2 and (not words or words[0] in _GENERIC)


def _pairs(text: str) -> set[str]:
    return {text[at : at + 2] for at in range(len(text) - 1)}


def _simplified(text: str) -> str:
    return str(_script().say(text)) if _CHINESE.search(text) else text


@cache  # OpenCC's dictionaries are constant, and loading them takes longer than a scaffold
def _script() -> Converter:
    return of_script("hans")
