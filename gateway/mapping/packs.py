"""Mapping packs: one message of one region, loaded, checked and ready.

Owns: reading a pack's folder, refusing it when anything about it is wrong, its version, and the two conversions that
the rest of the gateway calls. Leaves to the modules beside it: rules, tables, formats, closures and examples. A pack
is immutable, so that a case in flight keeps the one it began with.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Final

from gateway.errors import FieldProblem, MappingFailed
from gateway.mapping.compiler import compile_rules
from gateway.mapping.converters import Wrong
from gateway.mapping.examples import Trial, read_examples, try_examples
from gateway.mapping.formats import open_form
from gateway.mapping.forms import Form
from gateway.mapping.losses import Loss, check_losses, read_losses
from gateway.mapping.moves import Translator
from gateway.mapping.paths import OURS
from gateway.mapping.rules import RuleSet, Setting, read_rules
from gateway.mapping.source import Faults, Files, TomlFile, closest, read_files, read_toml
from gateway.mapping.tables import Tables, read_tables
from gateway.mapping.vocabulary import FILE as VOCABULARY
from gateway.mapping.vocabulary import Message, Vocabulary, read_vocabulary
from gateway.ports import RegionDocument

_INDEX: Final = re.compile(r"\[(\d+)\]")


LANGUAGE: Final = "1"
"""The version of the rule language: a change of what a rule means makes every pack another one."""

_NONE: Final[Mapping[str, Any]] = MappingProxyType({})

_WHOLE: Final = "document"
"""The field name of a problem that concerns the whole document."""


@dataclass(frozen=True, slots=True)
class Pack:
    """One message of one region, in both directions.

    `version` is the hex SHA-256 of all that decides what it does (rules, schema, tables used, its message in the
    vocabulary): what a case is pinned to. `fingerprint` is that of everything in its folder. `losses` is what gets
    lost; `unheard` are the fields of ours that no rule reads, `lost` those that do not come back. `files` are the few
    files that it consists of, enough to compile it again; `rules`, `about` and `form` are for tools that explain it.
    """

    region: str
    message: str
    version: str
    fingerprint: str
    losses: tuple[Loss, ...]
    lost: frozenset[str]
    unheard: frozenset[str]
    files: Files = field(repr=False)
    rules: RuleSet = field(repr=False)
    about: Message = field(repr=False)
    form: Form = field(repr=False)
    _translator: Callable[[], Translator] = field(repr=False)
    _ours_for: Mapping[str, str] = field(repr=False)

    def to_region(self, canonical: Mapping[str, Any]) -> RegionDocument:
        """Say a canonical document in the region's format.

        Raises MappingFailed with every wrong field at once, named by its canonical path, never by its value.
        """
        tree, problems = self._translator().say(dict(canonical))
        document, faults = self.form.write(tree)
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
            tree, faults = self.form.read(document)
        except Wrong as wrong:
            self._refuse([FieldProblem(_WHOLE, wrong.reason, wrong.code)], "cannot be read")
            raise
        canonical, problems = self._translator().hear(tree)
        self._refuse(faults + problems, "cannot be read")
        return canonical

    def of(self, region: str, fingerprint: str, notice: Notice) -> Pack:
        """Return the same pack for another region that shares its folder; `notice` is told in that region's name.

        It is compiled when it is first used, since this pack was, from the same rules: a few milliseconds then, instead
        of a second and twenty megabytes at the start for eight provinces of which most wait for nobody.
        """
        teller = _Teller(partial(notice, region, self.message), in_service=True)
        translator = cache(partial(compile_rules, self.rules, self.about, self.form, teller.tell))
        return replace(self, region=region, fingerprint=fingerprint, _translator=translator)

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
            ours = ours.replace("[]", f"[{int(number) - self.form.notation.first + OURS.first}]", 1)
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


Notice = Callable[[str, str, str], None]
"""Is told region, message and field of every code of theirs that nobody knows."""


def unnoticed(_region: str, _message: str, _field: str) -> None:
    """Tell nobody."""


def packs_of(
    ground: Ground,
    region: str,
    folder: str = "",
    *,
    notice: Notice = unnoticed,
    earlier: Mapping[str, Pack] = _NONE,
    twins: Mapping[str, Pack] = _NONE,
) -> Mapping[str, Pack]:
    """Return the packs of a region by message. `folder` is where they are, when several regions share them.

    `earlier` are packs by fingerprint: one that has not changed is not compiled again. `twins` are the packs, by
    message, of another region from the same folder of this ground, which need not be tried again. Raises StartRefused
    with everything that is wrong in them.
    """
    faults = Faults(ground.files.name)
    place = folder or region
    found = [
        _pack(_Origin(region, f"{place}/{message}", ground, notice), earlier, twins, faults)
        for message in ground.files.folders(place)
    ]
    faults.refuse()
    return {pack.message: pack for pack in found if pack}


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where a pack comes from, and who is told of unknown codes."""

    region: str
    folder: str
    ground: Ground
    notice: Notice

    @property
    def message(self) -> str:
        return PurePosixPath(self.folder).name


def _pack(origin: _Origin, earlier: Mapping[str, Pack], twins: Mapping[str, Pack], faults: Faults) -> Pack | None:
    vocabulary = origin.ground.vocabulary
    message = vocabulary.get(origin.message)
    if message is None:
        faults.add(origin.folder, f"is no message of vocabulary.toml{closest(origin.message, vocabulary)}")
        return None
    if origin.message in twins:
        twin = twins[origin.message]
        fingerprint = _fingerprint(origin.region, twin.files)
        return earlier.get(fingerprint) or twin.of(origin.region, fingerprint, origin.notice)
    files = _own_files(origin)
    fingerprint = _fingerprint(origin.region, files)
    if fingerprint in earlier:
        return earlier[fingerprint]
    own = Faults(faults.folder)
    pack = _sound_pack(origin, message, files, own)
    faults.problems += own.problems
    return pack


def _sound_pack(origin: _Origin, message: Message, files: Files, faults: Faults) -> Pack | None:
    """Read, check and try one pack; None when it has faults. Examples run only when the rules are sound."""
    source = read_toml(origin.ground.files, f"{origin.folder}/rules.toml", faults)
    losses = read_losses(origin.ground.files, f"{origin.folder}/losses.toml", faults)
    form = open_form(origin.ground.files, origin.folder, source, faults) if source else None
    if form is None or source is None:
        return None
    setting = Setting(message, origin.ground.tables, form, faults)
    rules = read_rules(source, setting)
    lost = check_losses(losses, rules, setting, f"{origin.folder}/losses.toml")
    examples = read_examples(origin.ground.files, f"{origin.folder}/examples", form, faults)
    if faults.problems:
        return None
    teller = _Teller(partial(origin.notice, origin.region, message.name))
    version = _version(source, form, rules, origin.ground)
    translator = compile_rules(rules, message, form, teller.tell)
    pack = Pack(
        origin.region, message.name, version, _fingerprint(origin.region, files), losses, lost.unsaid | lost.unheard,
        lost.unheard, files, rules, message, form, lambda: translator, _ours_for(rules),
    )  # fmt: skip
    try_examples(examples, Trial(pack.to_region, pack.to_canonical, form, lost.unheard), faults)
    teller.in_service = True
    return None if faults.problems else pack


def _ours_for(rules: RuleSet) -> dict[str, str]:
    """Their places, as messages write them, and the field of ours that goes there."""
    return {rule.at: rule.field.name for rule in rules.rules if rule.at}


@dataclass
class _Teller:
    """Tells of unknown codes, but not of those in the examples."""

    notice: Callable[[str], None]
    in_service: bool = False

    def tell(self, name: str) -> None:
        if self.in_service:
            self.notice(name)


def _own_files(origin: _Origin) -> Files:
    """Return the files that a pack consists of: its folder, the tables, the vocabulary."""
    prefix = f"{origin.folder}/"
    contents = origin.ground.files.contents
    own = {path: raw for path, raw in contents.items() if path.startswith((prefix, "tables/")) or path == VOCABULARY}
    return Files(origin.ground.files.name, own)


def _fingerprint(region: str, files: Files) -> str:
    return _digest([region.encode(), *_pairs(files)])


def _pairs(files: Files) -> Iterator[bytes]:
    for path, raw in sorted(files.contents.items()):
        yield path.encode()
        yield raw


def _version(source: TomlFile, form: Form, rules: RuleSet, ground: Ground) -> str:
    about = repr(ground.vocabulary[PurePosixPath(source.path).parent.name]).encode()
    used = [ground.tables[name].raw for name in rules.tables]
    return _digest([LANGUAGE.encode(), source.raw, form.raw, about, *used])


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()
