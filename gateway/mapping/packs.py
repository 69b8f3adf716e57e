"""Mapping packs: one message of one region, loaded, checked and ready.

Owns: reading a pack's folder, refusing it when anything about it is wrong, its version, and the two conversions that
the rest of the gateway calls. Leaves to the modules beside it: rules, tables, formats, closures and examples. A pack
is immutable, so that a case in flight keeps the one it began with.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gateway.errors import FieldProblem, MappingFailed
from gateway.mapping.compiler import Translator, compile_rules
from gateway.mapping.converters import Wrong
from gateway.mapping.examples import Trial, read_examples, try_examples
from gateway.mapping.forms import Form
from gateway.mapping.json_form import JsonForm
from gateway.mapping.losses import Loss, check_losses, read_losses
from gateway.mapping.paths import OURS
from gateway.mapping.rules import RuleSet, Setting, read_rules
from gateway.mapping.source import Faults, TomlFile, closest, read_bytes, read_toml
from gateway.mapping.tables import Tables, read_tables
from gateway.mapping.vocabulary import Message, Vocabulary, read_vocabulary
from gateway.mapping.xml_form import XmlForm
from gateway.ports import RegionDocument

_INDEX: Final = re.compile(r"\[(\d+)\]")


_WHOLE: Final = "document"
"""The field name of a problem that concerns the whole document."""


@dataclass(frozen=True, slots=True)
class Pack:
    """One message of one region, in both directions.

    `version` is the hex SHA-256 of rules, schema and the tables used: what a case is pinned to. `losses` is what the
    region's format cannot say; `lost` are the fields of ours that it has no place for at all.
    """

    region: str
    message: str
    version: str
    losses: tuple[Loss, ...]
    lost: frozenset[str]
    _form: Form = field(repr=False)
    _translator: Translator = field(repr=False)
    _ours_for: Mapping[str, str] = field(repr=False)

    def to_region(self, canonical: Mapping[str, Any]) -> RegionDocument:
        """Say a canonical document in the region's format.

        Raises MappingFailed with every wrong field at once, named by its canonical path, never by its value.
        """
        tree, problems = self._translator.say(dict(canonical))
        document, faults = self._form.write(tree)
        if problems:  # what could not be said is missing now: only faults of values are news
            faults = [fault for fault in faults if fault.code != "required"]
        self._refuse(
            problems + [self._in_our_words(fault) for fault in faults], "cannot be said in the region's format"
        )
        return document

    def to_canonical(self, document: RegionDocument) -> dict[str, Any]:
        """Hear a region's document: first its schema, then the rules. What no rule lists is left behind.

        Raises MappingFailed with every wrong field at once, named by its place in the region's format.
        """
        try:
            tree, faults = self._form.read(document)
        except Wrong as wrong:
            self._refuse([FieldProblem(_WHOLE, wrong.reason, wrong.code)], "cannot be read")
            raise
        canonical, problems = self._translator.hear(tree)
        self._refuse(faults + problems, "cannot be read")
        return canonical

    def _refuse(self, problems: Sequence[FieldProblem], what: str) -> None:
        if not problems:
            return
        first = {problem.field: problem for problem in reversed(problems)}
        public = f"The {self.message} {what} ({self.region}): {', '.join(reversed(first))}"
        raise MappingFailed(public, problems=list(reversed(first.values())), region=self.region)

    def _in_our_words(self, fault: FieldProblem) -> FieldProblem:
        """Name a fault that their schema found by our field; a place that no rule fills keeps its own name."""
        ours = self._ours_for.get(_INDEX.sub("[]", fault.field))
        if ours is None:
            return fault
        for number in _INDEX.findall(fault.field):
            ours = ours.replace("[]", f"[{int(number) - self._form.notation.first + OURS.first}]", 1)
        return FieldProblem(ours, fault.reason, fault.code)


def load_packs(root: Path, region: str) -> Mapping[str, Pack]:
    """Return the packs of a region by message, from the `mappings/` folder.

    Raises StartRefused with everything that is wrong in vocabulary, tables and packs, each with file and line.
    """
    faults = Faults(root)
    tables = read_tables(root / "tables", faults)
    vocabulary = read_vocabulary(root / "vocabulary.toml", tables, faults)
    faults.refuse()
    folders = sorted(path for path in (root / region).glob("*") if path.is_dir())
    packs = [_pack(region, folder, vocabulary, tables, faults) for folder in folders]
    faults.refuse()
    return {pack.message: pack for pack in packs if pack}


def _pack(region: str, folder: Path, vocabulary: Vocabulary, tables: Tables, faults: Faults) -> Pack | None:
    message = vocabulary.get(folder.name)
    if message is None:
        faults.add(folder, f"is no message of vocabulary.toml{closest(folder.name, vocabulary)}")
        return None
    own = Faults(faults.root)
    pack = _sound_pack(region, folder, message, tables, own)
    faults.problems += own.problems
    return pack


def _sound_pack(region: str, folder: Path, message: Message, tables: Tables, faults: Faults) -> Pack | None:
    """Read, check and try one pack; None when it has faults. Examples run only when the rules are sound."""
    form = _form(folder, faults)
    source = read_toml(folder / "rules.toml", faults)
    losses = read_losses(folder / "losses.toml", faults)
    if form is None or source is None:
        return None
    setting = Setting(message, tables, form, faults)
    rules = read_rules(source, setting)
    lost = check_losses(losses, rules, setting, folder / "losses.toml")
    examples = read_examples(folder / "examples", form, faults)
    if faults.problems:
        return None
    version = _version(source, form, rules, tables)
    translator = compile_rules(rules, message, form.notation)
    pack = Pack(region, message.name, version, losses, lost, form, translator, _ours_for(rules))
    try_examples(examples, Trial(pack.to_region, pack.to_canonical, form, lost), faults)
    return None if faults.problems else pack


def _version(source: TomlFile, form: Form, rules: RuleSet, tables: Tables) -> str:
    digest = hashlib.sha256()
    for part in (source.raw, form.raw, *(tables[name].raw for name in rules.tables)):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def _ours_for(rules: RuleSet) -> dict[str, str]:
    """Their places, as messages write them, and the field of ours that goes there."""
    return {rule.at: rule.field.name for rule in rules.rules if rule.at}


def _form(folder: Path, faults: Faults) -> Form | None:
    """The schema file that stands there says which format the pack speaks."""
    kinds: Sequence[Callable[[bytes], Form]] = (JsonForm, XmlForm)
    found = [
        (folder / name, kind)
        for name, kind in zip(("schema.json", "schema.xsd"), kinds, strict=True)
        if (folder / name).exists()
    ]
    if len(found) != 1:
        faults.add(folder, "needs either schema.json or schema.xsd")
        return None
    path, kind = found[0]
    raw = read_bytes(path, faults)
    try:
        return kind(raw) if raw is not None else None
    except Wrong as wrong:
        faults.add(path, wrong.reason)
        return None
