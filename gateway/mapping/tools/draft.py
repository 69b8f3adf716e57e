"""The texts of a pack that is begun: rules with the reason for each, and the losses that they would have.

Owns: how these texts look. Leaves to `proposals`: what is proposed; to the engine: what is lost.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from gateway.mapping.losses import actual_losses
from gateway.mapping.rules import RuleSet, Setting
from gateway.mapping.tools.folder import UNCONFIRMED
from gateway.mapping.tools.proposals import Ask, Proposal, candidates

_LONGEST: Final = 200
"""Characters of their words that a comment repeats."""

_HEAD: Final = """\
# {region}: {zh} ({en}). Say here which part of the wire this document is.
# Begun from the schema, in its order. Lines that are no comments are likely, and each says why.
# `pearl mappings check {region}` names what is to be decided.
"""
_LOSSES: Final = """\
# What the rules as they stand would lose.
# Give a field its rule, or take its entry out of the comment and write the reason that the region confirms.
"""


def rules_text(ask: Ask, proposals: Sequence[Proposal], head: Mapping[str, str]) -> str:
    """Return the rule file."""
    begin = _HEAD.format(region=_plain(ask.region), zh=ask.message.zh, en=ask.message.en)
    settings = [f"{key} = {quoted(value)}" for key, value in head.items()]
    lines = [*settings, "", "[rules]", *_in_order(ask, proposals), *_unsaid(ask, proposals)]
    return begin + "".join(f"{line}\n" for line in lines)


def _in_order(ask: Ask, proposals: Sequence[Proposal]) -> Iterator[str]:
    """Yield a line for every place, in the order of the schema."""
    by_place = {proposal.place: proposal for proposal in proposals}
    lists = [proposal for proposal in proposals if proposal.field.type == "entries"]
    covered = {place for one in lists for place in ask.form.leaves if place.startswith(one.place)}
    yield from (_line(one) for one in lists if one.place not in ask.form.leaves)
    for place in ask.form.leaves:
        if place in by_place:
            yield _line(by_place[place])
        elif place not in covered:
            yield _unread(ask, place)


def _line(proposal: Proposal) -> str:
    keys = {"at": proposal.place, **proposal.writing.keys}
    listed = ", ".join(f"{key} = {quoted(value)}" for key, value in keys.items())
    rule = f"{{ {listed} }}" if len(keys) > 1 else quoted(proposal.place)
    why = "; ".join(dict.fromkeys(filter(None, (*proposal.reasons, proposal.writing.why))))
    # First, because a long comment is cut off at its end.
    doubt = f"To be decided: {proposal.writing.doubt} " if proposal.writing.doubt else ""
    because = _plain(f"{doubt}{proposal.field.zh}: {proposal.how_sure}, {why}")
    return f"{'' if proposal.is_sure else '# '}{quoted(proposal.field.name)} = {rule}  # {because}"


def _unread(ask: Ask, place: str) -> str:
    leaf, maybe = ask.form.leaves[place], candidates(ask, place)
    codes = f"one of {', '.join(leaf.codes)}" if leaf.codes else ""
    told = filter(None, (leaf.kind or "any value", "required" if leaf.required else "", leaf.words, codes))
    guess = f"; perhaps {', '.join(maybe)}" if maybe else ""
    return f'# "" = {quoted(place)}  # {_plain(", ".join(told))}{guess}'


def _unsaid(ask: Ask, proposals: Sequence[Proposal]) -> Iterator[str]:
    named = {proposal.field.name for proposal in proposals}
    missing = [field for field in ask.message.fields.values() if field.holds_value and field.name not in named]
    if missing:
        yield from ("", "# Fields of ours for which nothing was found. Each needs a rule or a [[loss]].")
    for field in missing:
        must = ", required" if field.required else ""
        yield f'# {quoted(field.name)} = ""  # {field.zh} ({field.en}), {field.type}{must}'


def losses_text(setting: Setting, rules: RuleSet) -> str:
    """Return the losses file: an entry for everything that these rules lose, each as a comment."""
    lost: dict[tuple[str, str, str], list[str]] = {}
    for one in actual_losses(rules, setting):
        if one.must:
            key = (one.field, one.direction or setting.message.flow, one.part)
            lost.setdefault(key, []).extend([one.value] if one.value else [])
    entries = [_entry(setting, key, values) for key, values in lost.items()]
    return _LOSSES + "".join(f"# {line}\n" if line else "\n" for entry in entries for line in entry)


def _entry(setting: Setting, key: tuple[str, str, str], values: Sequence[str]) -> Iterator[str]:
    name, direction, part = key
    field, leaf = setting.message.fields.get(name), setting.form.leaves.get(name)
    words = f"{field.zh} ({field.en})" if field else leaf.words if leaf else ""
    yield from ("", f"[[loss]]{f'  # {_plain(words)}' if words else ''}", f"field = {quoted(name)}")
    yield f"direction = {quoted(direction)}"
    if values:
        yield f"values = [{', '.join(map(quoted, values))}]"
    if part:
        yield f"part = {quoted(part)}"
    yield f"reason = {quoted(UNCONFIRMED)}"


def quoted(text: str) -> str:
    """Return a text as TOML writes it: JSON's way is one of TOML's."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _plain(text: str) -> str:
    """Return a text that may stand in a comment: one line, nothing that cannot be seen, not endlessly long."""
    return "".join(c if c.isprintable() else " " for c in text)[:_LONGEST]
