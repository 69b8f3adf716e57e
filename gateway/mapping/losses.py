"""What a region's format cannot say, declared pack by pack.

Owns: reading `losses.toml` and holding it against the rules: a field or a code of ours that no rule carries must be
declared, and a field that is declared lost must really have no rule. Leaves to the pack: acting on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.mapping.rules import Rule, RuleSet, Setting
from gateway.mapping.source import Faults, Files, TomlFile, are_texts, closest, read_toml
from gateway.mapping.vocabulary import DIRECTIONS, OURS_TO_THEIRS, THEIRS_TO_OURS

_KEYS: Final = ("field", "direction", "reason", "values")


@dataclass(frozen=True, slots=True)
class Loss:
    """One thing that is lost in one direction.

    `field` is a name of ours, or, from their side, one of theirs; `values` narrows the loss to some codes of it.
    """

    field: str
    direction: str
    reason: str
    values: tuple[str, ...] = ()
    line: int | None = None


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


def check_losses(losses: Sequence[Loss], rules: RuleSet, setting: Setting, path: str) -> frozenset[str]:
    """Hold losses and rules against each other; return the fields of ours that no rule carries."""
    fields = setting.message.fields
    lost = frozenset(name for name, field in fields.items() if field.holds_value and name not in rules.named)
    declared = {loss.field for loss in losses if not loss.values}
    for name in sorted(lost):
        if name not in declared:
            setting.faults.add(path, f"{name} has no rule, and no [[loss]] without values declares it")
        elif _is_needed(name, setting):
            setting.faults.add(path, f"{name} is required of every {setting.message.name}: it needs a rule")
    for loss in losses:
        _check_name(loss, setting, path)
    for rule in rules.rules:
        _check_codes(rule, losses, setting, path)
    return lost


def _is_needed(name: str, setting: Setting) -> bool:
    """Whether a message that comes in would lack what every reader of it counts on."""
    message = setting.message
    return message.flow == THEIRS_TO_OURS and message.fields[name].required and not message.optional_object(name)


def _loss(entry: Any, count: int, source: TomlFile, faults: Faults) -> Loss | None:
    line = source.line_of_table("loss", count)
    reasons = list(_reasons(entry))
    for reason in reasons:
        faults.add(source.path, reason, line)
    if reasons:
        return None
    return Loss(entry["field"], entry["direction"], entry["reason"], tuple(entry.get("values", ())), line)


def _reasons(entry: Any) -> Iterator[str]:
    if not isinstance(entry, dict):
        yield "a loss is a [[loss]] with field, direction and reason"
        return
    yield from (f"{key} is not known{closest(key, _KEYS)}" for key in sorted(entry.keys() - set(_KEYS)))
    yield from (f"{key} is missing" for key in ("field", "reason") if not isinstance(entry.get(key), str))
    if not are_texts(entry.get("values", [])):
        yield "values is a list of codes"
    if entry.get("direction") not in DIRECTIONS:
        yield f"direction is one of {', '.join(DIRECTIONS)}"


def _check_name(loss: Loss, setting: Setting, path: str) -> None:
    known = set(setting.message.fields)
    if loss.direction == THEIRS_TO_OURS:
        known |= setting.form.leaves.keys()
    if loss.field not in known:
        setting.faults.add(path, f"{loss.field} is no field{closest(loss.field, known)}", loss.line)


def _check_codes(rule: Rule, losses: Sequence[Loss], setting: Setting, path: str) -> None:
    """Every code of ours that the rule's column leaves out must be declared."""
    field = rule.field
    if rule.column is None or rule.direction == THEIRS_TO_OURS:
        return
    declared = {
        v for loss in losses if loss.field == field.name and loss.direction == OURS_TO_THEIRS for v in loss.values
    }
    for code in setting.tables[field.table].codes:
        if (code in rule.column.writes) == (code in declared):
            reason = (
                "is declared lost but has a code"
                if code in declared
                else "has no code, and no [[loss]] with values says so"
            )
            setting.faults.add(path, f"{field.name}: {code} {reason} in {rule.column.name}")
