"""Rules proposed for a schema: which field of ours a place of theirs may be, why, and how sure that is.

Owns: weighing names, words, codes and what other regions do, and choosing so that no place is used twice. Leaves to
`likeness` and `evidence`: single scores; to `writings`: how a value is written; to `scaffold`: the files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Final, NamedTuple

from gateway.mapping.forms import Form, Leaf
from gateway.mapping.paths import OURS
from gateway.mapping.tables import Tables
from gateway.mapping.tools.evidence import Evidence
from gateway.mapping.tools.likeness import same_chinese, same_initials, same_words, tokens
from gateway.mapping.tools.specimens import Specimens, parts
from gateway.mapping.tools.writings import TELLING, Writer, Writing, best_column
from gateway.mapping.vocabulary import Field, Message

SURE: Final = 0.9
LIKELY: Final = 0.75
"""A proposal below this stands as a comment."""
PERHAPS: Final = 0.45
"""A proposal below this is none."""
NEARLY: Final = 0.1
"""How much less a place may fit and still be a rival."""

FLAT: Final = 0.6
"""How much texts side by side speak for a list, compared with a list."""

_NAMES: Final = frozenset({"name", "key", "id", "code", "field", "item", "mc", "bm", "label"})
_VALUES: Final = frozenset({"value", "text", "content", "val", "nr", "z", "bdxz"})


@dataclass(frozen=True, slots=True)
class Proposal:
    """A field of ours and a place of theirs. `reasons` say why; `writing` is what the rule says besides the place."""

    field: Field
    place: str
    score: float
    reasons: tuple[str, ...]
    writing: Writing

    @property
    def is_sure(self) -> bool:
        """Return whether it may stand as a rule; otherwise a person must decide."""
        return self.score >= LIKELY and not self.writing.doubt

    @property
    def how_sure(self) -> str:
        """Return how sure it is, in words."""
        word = "nearly certain" if self.score >= SURE else "likely" if self.score >= LIKELY else "perhaps"
        return f"{word} ({self.score:.2f})"


class Ask(NamedTuple):
    """What proposals are made for, and from."""

    region: str
    message: Message
    form: Form
    tables: Tables
    evidence: Evidence


class _Guess(NamedTuple):
    score: float
    field: Field
    place: str
    reasons: tuple[str, ...]


def proposals(ask: Ask, specimens: Specimens) -> list[Proposal]:
    """Return at most one proposal for each field and for each place, in the order of the vocabulary."""
    entries = list(_entries(ask))
    taken = {place for proposal in entries for place in (proposal.place, *_inside(ask.form, proposal.place))}
    guesses = _within_lists([guess for guess in _guesses(ask) if guess.place not in taken], ask.form)
    chosen = list(_apart(guesses))
    found = [_proposal(guess, _rivals(guess, guesses, chosen), ask, specimens) for guess in chosen] + entries
    order = list(ask.message.fields)
    return sorted(found, key=lambda proposal: order.index(proposal.field.name))


def _proposal(guess: _Guess, rivals: Sequence[str], ask: Ask, specimens: Specimens) -> Proposal:
    writing = Writer(ask.region, ask.message, ask.form, ask.tables, specimens).of(guess.field, guess.place)
    if rivals and not writing.doubt:
        writing = replace(writing, doubt=f"or is it {' or '.join(rivals)}?")
    return Proposal(guess.field, guess.place, guess.score, guess.reasons, writing)


def _rivals(guess: _Guess, guesses: Sequence[_Guess], chosen: Sequence[_Guess]) -> list[str]:
    """Return the places that no field has got and that this one would fit nearly as well."""
    given = {one.place for one in chosen}
    return [
        one.place
        for one in guesses
        if one.field is guess.field and one.place not in given and one.score > guess.score - NEARLY
    ]


# --- scores ------------------------------------------------------------------------------------------------------


def _guesses(ask: Ask) -> Iterator[_Guess]:
    for field in ask.message.fields.values():
        if not field.holds_value or field.type == "entries":
            continue
        for place, leaf in ask.form.leaves.items():
            guess = _guess(ask, field, place, leaf)
            if guess.score >= PERHAPS:
                yield guess


def _guess(ask: Ask, field: Field, place: str, leaf: Leaf) -> _Guess:
    reasons = [(score, why) for score, why in _reasons(ask, field, place, leaf) if score > 0]
    together = 1 - prod(1 - score for score, _ in reasons)
    told = tuple(why for score, why in sorted(reasons, reverse=True) if score >= 0.3)
    return _Guess(together * _fit(field, place, leaf, ask), field, place, told)


def _reasons(ask: Ask, field: Field, place: str, leaf: Leaf) -> Iterator[tuple[float, str]]:
    yield ask.evidence.of(ask.message.name, field, place)
    names = _chinese_names(ask.message, field)
    words = max(same_chinese(leaf.words or place, name) for name in names)
    yield 0.9 * words, f"their words are {leaf.words}" if words == 1 else f"their words are like {field.zh}"
    yield 0.85 * max(same_initials(place, name) for name in names), f"initials of {field.zh}"
    name = same_words(place, field.name.replace("[]", "").split("."), (field.name, field.en))
    yield 0.75 * name**2, f"the name is like {field.name}"
    yield _by_codes(ask, field, leaf)


def _by_codes(ask: Ask, field: Field, leaf: Leaf) -> tuple[float, str]:
    """Say what the codes of a place tell: few are in many lists, and a column of the region's own was made for it."""
    column, share = best_column(field, leaf, ask.tables, ask.region)
    own = column == f"{field.table}.{ask.region}"
    return share * (0.85 if own or len(leaf.codes) >= TELLING else 0.6), f"the codes are those of {column}"


def _chinese_names(message: Message, field: Field) -> list[str]:
    """Return what a field may be called: its name, and that with or without what its neighbours' names begin with."""
    around = field.name.rpartition(".")[0]
    begin = _common_begin(
        [other.zh for name, other in message.fields.items() if around and name.startswith(f"{around}.")]
    )
    return [field.zh, f"{begin}{field.zh}", field.zh.removeprefix(begin) or field.zh]


def _common_begin(names: Sequence[str]) -> str:
    """Return what most of some names begin with: 申请人名称, 申请人证件号码, 性别 give 申请人."""
    begins = Counter(name[:end] for name in names for end in range(2, len(name)))
    often = [begin for begin, count in begins.items() if count > len(names) / 3 and count > 1]
    return max(often, key=len, default="")


def _fit(field: Field, place: str, leaf: Leaf, ask: Ask) -> float:
    """Weaken what the kinds of the two speak against; 0 where they cannot go together."""
    listed, deep = field.name.count("[]"), place.count("[]")
    if field.type == "texts":
        return 1.0 if deep >= listed else 0.0
    if (listed != deep and (listed, deep) != (1, 0)) or place.endswith("[]"):
        return 0.0
    if leaf.kind == "object" or (leaf.kind == "boolean") != (field.type == "boolean" and leaf.kind != "string"):
        return 0.0 if leaf.kind in {"object", "boolean"} else 0.9
    if leaf.codes and (field.type != "code" or best_column(field, leaf, ask.tables, ask.region)[1] == 0):
        return 0.6
    return 1.0


# --- choosing ----------------------------------------------------------------------------------------------------


_Lists = tuple[str, ...]
"""The lists that a place lies in, the outermost first."""


def _within_lists(guesses: Sequence[_Guess], form: Form) -> list[_Guess]:
    """Keep the guesses whose lists go together: each list of ours with what of theirs most speaks for.

    That is a list, or no list at all: then its fields are joined texts, side by side.
    """
    best: dict[tuple[_Lists, _Lists], dict[str, float]] = {}
    for guess in guesses:
        of_pair = best.setdefault(_lists(guess, form), {})
        of_pair[guess.field.name] = max(guess.score, of_pair.get(guess.field.name, 0.0))
    votes = {pair: sum(scores.values()) * (1.0 if pair[1] else FLAT) for pair, scores in best.items()}
    pairs: dict[_Lists, _Lists] = {(): ()}
    for ours, theirs in sorted(votes, key=lambda pair: -votes[pair]):
        if ours not in pairs and (not theirs or theirs not in pairs.values()):
            pairs[ours] = theirs
    return [guess for guess in guesses if guess.field.type == "texts" or _goes(_lists(guess, form), pairs)]


def _goes(lists: tuple[_Lists, _Lists], pairs: Mapping[_Lists, _Lists]) -> bool:
    return pairs.get(lists[0]) == lists[1]


def _lists(guess: _Guess, form: Form) -> tuple[_Lists, _Lists]:
    return tuple(parts(guess.field.name, OURS)), tuple(parts(guess.place, form.notation))


def _apart(guesses: Sequence[_Guess]) -> Iterator[_Guess]:
    """Yield the best guesses such that no field and no place comes twice."""
    fields: set[str] = set()
    places: set[str] = set()
    for guess in sorted(guesses, key=lambda guess: -guess.score):
        if guess.field.name not in fields and guess.place not in places:
            fields.add(guess.field.name)
            places.add(guess.place)
            yield guess


def candidates(ask: Ask, place: str) -> list[str]:
    """Return the fields that a place may be, the likeliest first, for a person to choose from."""
    leaf = ask.form.leaves[place]
    guesses = [_guess(ask, field, place, leaf) for field in ask.message.fields.values() if field.holds_value]
    return [guess.field.name for guess in sorted(guesses, key=lambda guess: -guess.score) if guess.score >= 0.2][:3]


# --- names and texts ---------------------------------------------------------------------------------------------


def _entries(ask: Ask) -> Iterator[Proposal]:
    """Propose a list of {name, value}, or an object, for our field of names and texts."""
    for field in ask.message.fields.values():
        if field.type == "entries":
            found = max(_entry_places(ask, field), key=lambda proposal: proposal.score, default=None)
            if found:
                yield found


def _entry_places(ask: Ask, field: Field) -> Iterator[Proposal]:
    for place, leaf in ask.form.leaves.items():
        if leaf.kind == "object":
            yield _entry(ask, field, place, "entries:object", 0.7)
    for head in dict.fromkeys(head for place in ask.form.leaves for head in parts(place, ask.form.notation)):
        inside = _inside(ask.form, head)
        names, values = (_one_of(ask.form, head, inside, words) for words in (_NAMES, _VALUES))
        if len(inside) == 2 and names and head.count("[]") == 1:
            value = values or next(one for one in (_relative(ask.form, head, p) for p in inside) if one != names)
            yield _entry(ask, field, head, f"entries:{names},{value}", 0.8 if values or value == "." else 0.6)


def _entry(ask: Ask, field: Field, place: str, how: str, score: float) -> Proposal:
    known, why = ask.evidence.of(ask.message.name, field, place)
    reasons = ("a list of names and texts" if "," in how else "an open object", *([why] if known else []))
    return Proposal(field, place, 1 - (1 - score) * (1 - known), reasons, Writing({"as": how}))


def _inside(form: Form, head: str) -> list[str]:
    """Return the places in the items of a list; in XML the item's own text is the list's place itself."""
    return [place for place in form.leaves if place == head or place.startswith(f"{head}{form.notation.separator}")]


def _one_of(form: Form, head: str, inside: Sequence[str], words: frozenset[str]) -> str:
    relative = [_relative(form, head, place) for place in inside]
    return next((name for name in relative if (name == "." and words is _VALUES) or words & set(_own(name))), "")


def _relative(form: Form, head: str, place: str) -> str:
    return "." if place == head else place.removeprefix(f"{head}{form.notation.separator}")


def _own(name: str) -> list[str]:
    return [*tokens(name), name.lower()]
