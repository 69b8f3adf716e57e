"""How the rules of one file stand to each other, and to the schema's lists of codes.

Owns: refusing two rules that write one place, a field that two rules read, a rule that is never reached, lists that do
not go together, and codes that only one side knows. Leaves to `gateway.mapping.rules`: each rule by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from gateway.mapping.paths import ITSELF, PAIRS, Place, Step, list_heads
from gateway.mapping.vocabulary import OURS_TO_THEIRS, THEIRS_TO_OURS

if TYPE_CHECKING:  # these are read from the rules, which are checked here: no import at run time
    from gateway.mapping.rules import Rule, Setting, When
    from gateway.mapping.source import TomlFile


def check_rules(rules: Sequence[Rule], source: TomlFile, setting: Setting) -> None:
    """Note everything that is wrong between the rules of a file."""
    for found in (_targets, _sources, _lists, _parts, _conditions, _alternatives, _scripts):
        for rule, reason in found(rules):
            setting.faults.add(source.path, f"{rule.field.name}: {reason}", rule.line)
    for rule in rules:
        for reason in _codes(rule, setting):
            setting.faults.add(source.path, f"{rule.field.name}: {reason}", rule.line)


Found = Iterator[tuple["Rule", str]]


def _targets(rules: Sequence[Rule]) -> Found:
    """Two rules that say something at one place of theirs."""
    saying = [rule for rule in rules if rule.at and rule.runs(OURS_TO_THEIRS)]
    for first, second in combinations(saying, 2):
        shared = [
            _shown(one) for one in _written_places(first) for other in _written_places(second) if _meet(one, other)
        ]
        if shared and not _exclude_each_other(first.when, second.when):
            yield second, f"{shared[0]} already carries {first.field.name} (line {first.line})"


def _written_places(rule: Rule) -> Iterator[tuple[str, str]]:
    """What a rule fills: a place, and which part or key of it when not the whole."""
    for place in rule.at.split(", "):
        around, pairs, key = place.partition(f"{PAIRS}.")
        yield (f"{around}[]", key) if pairs else (place, f"part {rule.part}" if rule.part else "")


def _meet(one: tuple[str, str], other: tuple[str, str]) -> bool:
    return one[0] == other[0] and (one[1] == other[1] or not one[1] or not other[1])


def _shown(written: tuple[str, str]) -> str:
    return " ".join(filter(None, written))


def _sources(rules: Sequence[Rule]) -> Found:
    """Two rules that read one field of ours: which of them is right, nobody could say."""
    hearing = [rule for rule in rules if rule.runs(THEIRS_TO_OURS)]
    for first, second in combinations(hearing, 2):
        if first.field.name != second.field.name or _exclude_each_other(first.when, second.when):
            continue
        if first.when is None:
            reason = f"is never reached when reading: line {first.line} reads the same field"
            yield second, f"{reason}; give one of them a direction or a when, or name the other place with or"
        else:
            yield second, f"is ambiguous when reading: line {first.line} reads the same field in the same case"


def _exclude_each_other(one: When | None, other: When | None) -> bool:
    if one is None or other is None or one.name != other.name:
        return False
    return not set(one.values) & set(other.values)


def _lists(rules: Sequence[Rule]) -> Found:
    """Rules that would fill one list from two, or two from one."""
    pairs: dict[tuple[str, Any], Any] = {}
    for rule in rules:
        if rule.join and rule.direction == OURS_TO_THEIRS:
            continue
        listed = [rule.ours] if rule.entries is not None and rule.entries.how in {"list", "pairs"} else []
        heads: list[Place] = [*list_heads(rule.ours), *listed]
        joined: list[Place] = [(Step(ITSELF),)] if rule.join else []
        for ours, theirs in zip(heads, [*list_heads(rule.theirs), *joined], strict=True):
            forth, back = pairs.setdefault(("ours", ours), theirs), pairs.setdefault(("theirs", theirs), ours)
            if forth != theirs or (back != ours and not rule.join):
                yield rule, "one list of ours goes with one list of theirs"


def _parts(rules: Sequence[Rule]) -> Found:
    """A text of several parts, some of which no rule reads."""
    numbers: dict[str, set[int]] = {}
    for rule in rules:
        if rule.part:
            numbers.setdefault(rule.at, set()).add(rule.part)
    for rule in rules:
        missing = sorted(set(range(1, rule.part)) - numbers.get(rule.at, set()))
        if missing:
            yield rule, f"part {missing[0]} of {rule.at} has no rule"


def _conditions(rules: Sequence[Rule]) -> Found:
    """Conditions that can never be met, because nothing gives the field that they ask for."""
    for rule in rules:
        if rule.when is None:
            continue
        askers = [other for other in rules if other.field.name == rule.when.name]
        if not askers or any(other.when for other in askers):
            yield rule, f"when: {rule.when.name} needs a rule of its own, without when"
        elif rule.runs(THEIRS_TO_OURS) and not any(other.runs(THEIRS_TO_OURS) for other in askers):
            yield rule, f"is never reached when reading: no rule reads {rule.when.name}"
        elif askers[0].constant is not None and askers[0].constant not in rule.when.values:
            yield rule, f"is never reached: {rule.when.name} is always {askers[0].constant}"


def _alternatives(rules: Sequence[Rule]) -> Found:
    """Alternatives that are never reached, because the same place was looked at before."""
    for rule in rules:
        places = [rule.theirs, *rule.also_at]
        if len(set(places)) < len(places):
            yield rule, "or names a place that is read already"


def _scripts(rules: Sequence[Rule]) -> Found:
    """Texts that are said or read in another script only, so that the original is lost."""
    faithful = [rule for rule in rules if rule.at and not _is_script(rule)]
    for rule in filter(_is_script, rules):
        others = [other for other in faithful if other.runs(rule.direction)]
        if rule.direction == OURS_TO_THEIRS:
            kept = any(other.field.name == rule.field.name for other in others)
        else:
            kept = any(rule.theirs in {other.theirs, *other.pieces, *other.also_at} for other in others)
        if not kept:
            yield rule, "script: changes the text, and no other rule carries the original"


def _is_script(rule: Rule) -> bool:
    return str(rule.written.get("as", "")).startswith("script:")


def _codes(rule: Rule, setting: Setting) -> Iterator[str]:
    """Codes that the schema lists and the table does not have, and the other way round."""
    leaf = setting.form.leaves.get(rule.at)
    if rule.column is None or leaf is None or not leaf.codes:
        return
    if rule.runs(OURS_TO_THEIRS):
        for ours, theirs in rule.column.writes.items():
            if theirs not in leaf.codes:
                yield f"{rule.column.name} writes {theirs} for {ours}, which {setting.form.schema_name} does not allow"
