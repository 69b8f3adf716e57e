"""The first example of a pack that is begun: a document that the region's schema takes, and what the rules make of it.

Owns: typical values of invented people, and completing what no rule carries. Leaves to `specimens`: asking the schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.mapping.compiler import compile_rules
from gateway.mapping.converters import Wrong
from gateway.mapping.forms import Form
from gateway.mapping.packs import Ground
from gateway.mapping.paths import Tree
from gateway.mapping.rules import Rule, RuleSet
from gateway.mapping.tools.specimens import Specimens, grown, grown_of_ours
from gateway.mapping.vocabulary import Field, Message

_TYPICAL: Final[Mapping[str, Any]] = {
    "date": "2024-02-29", "datetime": "2026-03-10T01:30:00Z", "integer": 1, "decimal": "0.25", "money": 1250,
    "boolean": True, "entries": {}, "texts": ["测试"],
}  # fmt: skip
_TYPICAL_TEXTS: Final[Mapping[str, str]] = {
    "number": "440303198506159013", "mobile": "13800000000", "email": "test@example.org",
    "media_type": "application/pdf", "id": "KY440100440600202603100000038",
    "sha256": "2e7d2c03a9507ae265ecf5b5356885a53393a2029d241394997265a1a25aefc6",
}  # fmt: skip
"""By the last word of a field's name. The numbers are synthetic, with correct check digits."""


def first_example(
    rules: RuleSet, form: Form, message: Message, ground: Ground, specimens: Specimens
) -> tuple[bytes | None, Tree]:
    """Return a document of theirs as a file, None when the schema takes nothing that is tried; and ours for it."""
    for rule in rules.rules:
        if rule.entries is None and rule.constant is None and rule.at in form.leaves:
            _fill(rule, ground, specimens)
    heard, _ = compile_rules(rules, message, form, _unnoticed).hear(grown(specimens.values, form))
    document = specimens.document
    return None if document is None else form.file(document), _completed(heard, message, ground)


def _unnoticed(_field: str) -> None:
    """Tell nobody of unknown codes: the document is made up."""


def _fill(rule: Rule, ground: Ground, specimens: Specimens) -> None:
    """Let a typical value stand at the rule's place; where the schema takes it not, what it takes stays."""
    try:
        specimens.put(rule.at, rule.converter.say(typical(rule.field, ground, rule)))
    except Wrong:
        return


def _completed(heard: Tree, message: Message, ground: Ground) -> Tree:
    """Add what is required of the message and no rule carries yet."""
    fields = [field for field in message.fields.values() if field.required and field.holds_value]
    demanded = {field.name: typical(field, ground) for field in fields if not message.optional_object(field.name)}
    completed: Tree = _merged(grown_of_ours(demanded), heard)
    return completed


def _merged(base: Any, over: Any) -> Any:
    if isinstance(base, dict) and isinstance(over, dict):
        return {**base, **{key: _merged(base.get(key), value) for key, value in over.items()}}
    if isinstance(base, list) and isinstance(over, list) and base and isinstance(base[0], dict):
        return [_merged(base[0], item) for item in over]
    return over


def typical(field: Field, ground: Ground, rule: Rule | None = None) -> Any:
    """Return a value that a field may have in an example."""
    if field.type != "code":
        last = field.name.rpartition(".")[2].removesuffix("[]")
        return _TYPICAL.get(field.type, _TYPICAL_TEXTS.get(last, "测试"))
    if rule and rule.column:
        return next(iter(rule.column.writes), "")
    listed = field.values or (ground.tables[field.table].codes if field.table in ground.tables else ())
    return next(iter(listed), "440600".ljust(field.digits, "0")[: field.digits])
