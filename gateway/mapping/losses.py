"""What gets lost between us and a region, declared pack by pack.

Owns: reading `losses.toml`, finding what the rules really lose, and holding the two against each other: what is lost
must be declared, and what is declared must be lost. Leaves to the pack: acting on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from gateway.mapping.rules import Rule, RuleSet, Setting
from gateway.mapping.source import Faults, Files, TomlFile, are_texts, closest, read_toml
from gateway.mapping.vocabulary import DIRECTIONS, OURS_TO_THEIRS, THEIRS_TO_OURS

_KEYS: Final = ("field", "direction", "reason", "values", "part")
PARTS: Final = ("fraction", "time", "subregion", "stand-in")
"""Parts of a value that can be lost: fractions of a second, the time of day, the digits of a region code after the
sixth, and which of two fields of ours it was.
"""


@dataclass(frozen=True, slots=True)
class Loss:
    """One thing that is lost in one direction.

    `field` is a name of ours, or, from their side, one of theirs; `values` narrows the loss to some codes of it, `part`
    to a part of the value.
    """

    field: str
    direction: str
    reason: str
    values: tuple[str, ...] = ()
    part: str = ""
    line: int | None = None


class Lost(NamedTuple):
    """Fields of ours that no rule says, and those that no rule hears."""

    unsaid: frozenset[str]
    unheard: frozenset[str]


class _Actual(NamedTuple):
    """Something that the rules lose: a field, one code of it, or a part. `must`: it has to be declared."""

    field: str
    direction: str
    value: str = ""
    part: str = ""
    must: bool = True


def read_losses(files: Files, path: str, faults: Faults) -> tuple[Loss, ...]:
    """Return the entries of a losses file; what is wrong with them goes into `faults`."""
    source = read_toml(files, path, faults)
    if source is None:
        return ()
    for key in sorted(source.data.keys() - {"loss"}):
        faults.add(path, f"{key} is not known: a loss is a [[loss]]", source.line_of(key))
    entries = source.data.get("loss", [])
    found = [
        _loss(entry, count, source, faults) for count, entry in enumerate(entries if isinstance(entries, list) else [])
    ]
    return tuple(loss for loss in found if loss)


def _loss(entry: Any, count: int, source: TomlFile, faults: Faults) -> Loss | None:
    line = source.line_of_table("loss", count)
    reasons = list(_reasons(entry))
    for reason in reasons:
        faults.add(source.path, reason, line)
    if reasons:
        return None
    values, part = tuple(entry.get("values", ())), entry.get("part", "")
    return Loss(entry["field"], entry["direction"], entry["reason"], values, part, line)


def _reasons(entry: Any) -> Iterator[str]:
    if not isinstance(entry, dict):
        yield "a loss is a [[loss]] with field, direction and reason"
        return
    yield from (f"{key} is not known{closest(key, _KEYS)}" for key in sorted(entry.keys() - set(_KEYS)))
    yield from (f"{key} is missing" for key in ("field", "reason") if not _is_filled(entry.get(key)))
    if not are_texts(entry.get("values", [])):
        yield "values is a list of codes"
    if entry.get("part", PARTS[0]) not in PARTS:
        yield f"part is one of {', '.join(PARTS)}"
    if entry.get("direction") not in DIRECTIONS:
        yield f"direction is one of {', '.join(DIRECTIONS)}"


def _is_filled(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


# --- declared against real -----------------------------------------------------------------------------------------


def check_losses(losses: Sequence[Loss], rules: RuleSet, setting: Setting, path: str) -> Lost:
    """Hold losses and rules against each other; return the fields of ours that do not get across."""
    for loss in losses:
        _check_name(loss, setting, path)
    if setting.faults.problems:  # what a rule with a fault would carry, nobody knows yet
        return Lost(frozenset(), frozenset())
    actual = list(actual_losses(rules, setting))
    for one in actual:
        if one.must and not any(_declares(loss, one) for loss in losses):
            setting.faults.add(path, _undeclared(one))
    for loss in losses:
        for needless in _needless(loss, actual):
            setting.faults.add(path, f"{needless}, but nothing of it is lost", loss.line)
    return _lost(rules, setting, path)


def _lost(rules: RuleSet, setting: Setting, path: str) -> Lost:
    fields = {name for name, field in setting.message.fields.items() if field.holds_value}
    unsaid, unheard = (
        frozenset(fields - {rule.field.name for rule in rules.rules if rule.runs(direction)})
        for direction in DIRECTIONS
    )
    for name in sorted(unheard):
        if name not in rules.named and _is_needed(name, rules, setting):
            setting.faults.add(path, f"{name} is required of every {setting.message.name}: it needs a rule")
    return Lost(unsaid, unheard)


def _is_needed(name: str, rules: RuleSet, setting: Setting) -> bool:
    """Whether a message that comes in would lack what every reader of it counts on."""
    message = setting.message
    if message.flow != THEIRS_TO_OURS or not message.fields[name].required or message.optional_object(name):
        return False
    head, listed, _ = name.rpartition("[].")
    comes = message.list_is_required(head) or any(other.startswith(f"{head}[].") for other in rules.named)
    return comes or not listed


def _check_name(loss: Loss, setting: Setting, path: str) -> None:
    known = set(setting.message.fields)
    if loss.direction == THEIRS_TO_OURS:
        known |= setting.form.leaves.keys()
    if loss.field not in known:
        setting.faults.add(path, f"{loss.field} is no field{closest(loss.field, known)}", loss.line)


def _declares(loss: Loss, one: _Actual) -> bool:
    if loss.field != one.field or loss.part != one.part:
        return False
    if one.value:
        return loss.direction == one.direction and one.value in loss.values
    return not loss.values and (loss.direction == one.direction or not one.direction)


def _undeclared(one: _Actual) -> str:
    if one.part:
        return (
            f'{one.field}: the {one.part} is lost ({one.direction}), and no [[loss]] with part = "{one.part}" says so'
        )
    if one.value:
        return f"{one.field}: {one.value} has no counterpart ({one.direction}), and no [[loss]] with values says so"
    if one.direction:
        return f"{one.field} of theirs is read by no rule, and no [[loss]] declares it"
    return f"{one.field} has no rule, and no [[loss]] without values declares it"


def _needless(loss: Loss, actual: Sequence[_Actual]) -> Iterator[str]:
    """What an entry declares without its being lost."""
    if not loss.values:
        if not any(_declares(loss, one) for one in actual if not one.value):
            yield f"{loss.field}: {f'its {loss.part}' if loss.part else 'it'} is declared lost"
        return
    for value in loss.values:
        mine = [one for one in actual if one.value == value]
        if not any(_declares(loss, one) for one in mine):
            yield f"{loss.field}: {value} is declared lost"


# --- what is really lost -------------------------------------------------------------------------------------------


def actual_losses(rules: RuleSet, setting: Setting) -> Iterator[_Actual]:
    """Everything that the rules lose."""
    for name, field in setting.message.fields.items():
        if field.holds_value and name not in rules.named:
            yield _Actual(name, "")
    read = set(_read_places(rules, setting))
    one_way = {place for rule in rules.rules if rule.direction == OURS_TO_THEIRS for place in rule.at.split(", ")}
    for leaf in setting.form.leaves:
        if leaf not in read:
            yield _Actual(leaf, THEIRS_TO_OURS, must=leaf not in one_way)
    for rule in rules.rules:
        yield from _lost_codes(rule, setting)
    yield from _lost_parts(rules.rules)


def _read_places(rules: RuleSet, setting: Setting) -> Iterator[str]:
    """The places of theirs that some rule looks at when it reads."""
    for rule in rules.rules:
        if rule.runs(THEIRS_TO_OURS) and rule.at:
            yield from _places_of(rule, setting)
    yield from rules.fixed_at


def _places_of(rule: Rule, setting: Setting) -> Iterator[str]:
    others = rule.written.get("or", [])
    for at in [*rule.at.split(", "), *([others] if isinstance(others, str) else others)]:
        around, pairs, _ = at.rpartition("[=]")
        yield f"{around}[]" if pairs else at
        if rule.entries is not None:
            yield from (leaf for leaf in setting.form.leaves if leaf.startswith((f"{at}.", f"{at}/")))


def _lost_codes(rule: Rule, setting: Setting) -> Iterator[_Actual]:
    name, column = rule.field.name, rule.column
    if rule.constant is not None:
        others = setting.tables[rule.field.table].codes if rule.field.table else rule.field.values
        yield from (_Actual(name, OURS_TO_THEIRS, code) for code in others if code != rule.constant)
    if column is None:
        return
    if rule.runs(OURS_TO_THEIRS):
        codes = rule.field.values or setting.tables[rule.field.table].codes
        yield from (_Actual(name, OURS_TO_THEIRS, code) for code in codes if code not in column.writes)
    if rule.runs(THEIRS_TO_OURS):
        written = set(column.writes.values())
        for code, ours in column.reads.items():
            merged = len(ours) > 1 or sum(ours == other for other in column.reads.values()) > 1
            if merged:
                yield _Actual(name, THEIRS_TO_OURS, code, must=code not in written)
        leaf = setting.form.leaves.get(rule.at)
        for code in leaf.codes if leaf else ():
            if code not in column.reads:
                yield _Actual(name, THEIRS_TO_OURS, code)


def _lost_parts(rules: Sequence[Rule]) -> Iterator[_Actual]:
    """A part of a field is lost when every rule that carries the field in a direction loses it."""
    for direction in DIRECTIONS:
        carried: dict[str, list[set[str]]] = {}
        for rule in rules:
            if rule.runs(direction) and rule.constant is None:
                carried.setdefault(rule.field.name, []).append(set(_parts_of(rule, direction)))
        for name, parts in carried.items():
            yield from (_Actual(name, direction, part=part) for part in sorted(set.intersection(*parts)))


def _parts_of(rule: Rule, direction: str) -> Iterable[str]:
    yield from (part for way, part in rule.converter.loses if way == direction and part in PARTS)
    if rule.instead and direction == OURS_TO_THEIRS:
        yield "stand-in"
