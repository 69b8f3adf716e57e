"""Mapping packs: one message of one region, loaded, checked and ready.

Owns: reading a pack's folder, refusing it when anything about it is wrong, its version, and the two conversions that
the rest of the gateway calls. Leaves to the modules beside it: rules, tables, formats, closures and examples. A pack
is immutable, so that a case in flight keeps the one it began with.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

from gateway.errors import FieldProblem, MappingFailed
from gateway.mapping.compiler import Translator, compile_rules
from gateway.mapping.converters import Wrong
from gateway.mapping.examples import Trial, read_examples, try_examples
from gateway.mapping.formats import open_form
from gateway.mapping.forms import Form
from gateway.mapping.losses import Loss, check_losses, read_losses
from gateway.mapping.paths import OURS
from gateway.mapping.rules import RuleSet, Setting, read_rules
from gateway.mapping.source import Faults, Files, TomlFile, closest, read_files, read_toml
from gateway.mapping.tables import Tables, read_tables
from gateway.mapping.vocabulary import Message, Vocabulary, read_vocabulary
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


@dataclass(frozen=True, slots=True)
class Ground:
    """What all packs of a folder stand on: the vocabulary and the code tables."""

    files: Files
    vocabulary: Vocabulary
    tables: Tables


def read_ground(files: Files) -> Ground:
    """Read vocabulary and tables. Raises StartRefused with everything that is wrong in them."""
    faults = Faults(files.name)
    tables = read_tables(files, faults)
    vocabulary = read_vocabulary(files, tables, faults)
    faults.refuse()
    return Ground(files, vocabulary, tables)


def load_packs(root: Path, region: str) -> Mapping[str, Pack]:
    """Return the packs of a region by message, from the `mappings/` folder.

    Raises StartRefused with everything that is wrong in vocabulary, tables and packs, each with file and line.
    """
    return packs_of(read_ground(read_files(root)), region)


def packs_of(ground: Ground, region: str, folder: str = "") -> Mapping[str, Pack]:
    """Return the packs of a region by message. `folder` is where they are, when several regions share them.

    Raises StartRefused with everything that is wrong in them.
    """
    faults = Faults(ground.files.name)
    place = folder or region
    packs = [_pack(region, f"{place}/{message}", ground, faults) for message in ground.files.folders(place)]
    faults.refuse()
    return {pack.message: pack for pack in packs if pack}


def _pack(region: str, folder: str, ground: Ground, faults: Faults) -> Pack | None:
    name = PurePosixPath(folder).name
    message = ground.vocabulary.get(name)
    if message is None:
        faults.add(folder, f"is no message of vocabulary.toml{closest(name, ground.vocabulary)}")
        return None
    own = Faults(faults.folder)
    pack = _sound_pack(region, folder, message, ground, own)
    faults.problems += own.problems
    return pack


def _sound_pack(region: str, folder: str, message: Message, ground: Ground, faults: Faults) -> Pack | None:
    """Read, check and try one pack; None when it has faults. Examples run only when the rules are sound."""
    source = read_toml(ground.files, f"{folder}/rules.toml", faults)
    losses = read_losses(ground.files, f"{folder}/losses.toml", faults)
    form = open_form(ground.files, folder, source, faults) if source else None
    if form is None or source is None:
        return None
    setting = Setting(message, ground.tables, form, faults)
    rules = read_rules(source, setting)
    lost = check_losses(losses, rules, setting, f"{folder}/losses.toml")
    examples = read_examples(ground.files, f"{folder}/examples", form, faults)
    if faults.problems:
        return None
    version = _version(source, form, rules, ground.tables)
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
