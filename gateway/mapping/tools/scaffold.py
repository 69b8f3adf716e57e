"""The beginning of a pack: files proposed from a region's schema, for a person to finish.

Owns: putting the proposals, the texts and the example together, and saying what is still open. Leaves to `proposals`:
the guesses; to `draft`: the texts; to the caller: writing the files.

What is likely stands as a rule; what is doubtful, every loss and the region's half of the example stand as comments or
under a name that does not count. So the engine refuses the pack until somebody has looked at each of them, and its
refusal is the list of what is to be decided.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import orjson

from gateway.errors import FieldProblem, InvalidRequest, StartRefused
from gateway.mapping.formats import JSON_SCHEMA, XML_SCHEMA, open_form
from gateway.mapping.forms import Form
from gateway.mapping.packs import Ground, packs_of, read_ground
from gateway.mapping.rules import RuleSet, Setting, read_rules
from gateway.mapping.source import Faults, Files, TomlFile, closest, read_toml
from gateway.mapping.tools.draft import losses_text, rules_text
from gateway.mapping.tools.evidence import evidence
from gateway.mapping.tools.first_example import first_example
from gateway.mapping.tools.proposals import Ask, Proposal, proposals
from gateway.mapping.tools.specimens import Specimens

PROPOSED: Final = ".proposed"
"""How the name of a file ends that does not count yet."""

_REGION: Final = re.compile("[a-z][a-z0-9-]*")
_LOCATION: Final = re.compile(rb"""schemaLocation\s*=\s*["']([^"'\s]+)["']""")


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for: a region, a message, the schema, the schemas beside it, and the head of the rules."""

    region: str
    message: str
    schema: bytes
    is_xml: bool
    beside: Mapping[str, bytes] = field(default_factory=dict)
    head: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Return the pack's folder below the mappings folder."""
        return f"{self.region}/{self.message}"

    @property
    def schema_files(self) -> dict[str, bytes]:
        """Return the schema and those beside it under the names that they get."""
        name = XML_SCHEMA if self.is_xml else JSON_SCHEMA
        return {f"{self.folder}/{file}": raw for file, raw in {**self.beside, name: self.schema}.items()}


def schemas_beside(schema: Path) -> dict[str, bytes]:
    """Return the schemas of the same folder that an XML schema takes in, and those that they take in, by name."""
    found: dict[str, bytes] = {}
    waiting = [schema.read_bytes()]
    while waiting:
        for name in _LOCATION.findall(waiting.pop()):
            beside = schema.parent / Path(name.decode("utf-8", "replace")).name
            if beside.name not in found and beside.is_file():
                found[beside.name] = beside.read_bytes()
                waiting.append(found[beside.name])
    return found


@dataclass(frozen=True, slots=True)
class Scaffold:
    """The files by their paths below the mappings folder, the proposals, and what a person still has to decide."""

    files: Mapping[str, bytes]
    proposals: tuple[Proposal, ...]
    open: tuple[FieldProblem, ...]


def scaffold(files: Files, order: Order) -> Scaffold:
    """Begin a pack. Raises StartRefused when the schema cannot be used, InvalidRequest for a name that is unknown."""
    if not _REGION.fullmatch(order.region) or order.region == "tables":
        raise InvalidRequest(f"{order.region} is no name of a region: small letters, digits and hyphens")
    ground = read_ground(files)
    if order.message not in ground.vocabulary:
        hint = closest(order.message, ground.vocabulary) or f"; there are {', '.join(ground.vocabulary)}"
        raise InvalidRequest(f"vocabulary.toml has no message {order.message}{hint}")
    form = _form(files, order)
    learned = evidence(files, ground.vocabulary, order.region)
    ask = Ask(order.region, ground.vocabulary[order.message], form, ground.tables, learned)
    specimens = Specimens(form)
    found = proposals(ask, specimens)
    made = {**dict(_texts(order, ask, found, ground, specimens)), **order.schema_files}
    return Scaffold(made, tuple(found), tuple(_open(files, order, made)))


def _form(files: Files, order: Order) -> Form:
    faults = Faults(files.name)
    own = Files(files.name, order.schema_files)
    form = open_form(own, order.folder, TomlFile("rules.toml", b"", dict(order.head)), faults)
    faults.refuse()
    if form is None:
        raise AssertionError("no fault was found, so the form is there")
    return form


def _texts(
    order: Order, ask: Ask, found: list[Proposal], ground: Ground, specimens: Specimens
) -> Iterator[tuple[str, bytes]]:
    """Yield the files of the pack but the schema, by their paths."""
    rules = rules_text(ask, found, order.head)
    setting, read = _read(rules, ask)
    theirs, ours = first_example(read, ask.form, ask.message, ground, specimens)
    example = f"{order.folder}/examples/first"
    yield f"{order.folder}/rules.toml", rules.encode()
    yield f"{order.folder}/losses.toml", losses_text(setting, read).encode()
    yield f"{example}.canonical.json", orjson.dumps(ours, option=orjson.OPT_INDENT_2) + b"\n"
    if theirs is not None:
        yield f"{example}{ask.form.suffix}{PROPOSED}", theirs


def _read(rules: str, ask: Ask) -> tuple[Setting, RuleSet]:
    """Read the rules as the engine will; those that a person must mend are left out of it."""
    faults = Faults("")
    setting = Setting(ask.message, ask.tables, ask.form, faults)
    source = read_toml(Files("", {"rules.toml": rules.encode()}), "rules.toml", faults)
    if source is None:
        raise AssertionError("what is written here is TOML")
    return setting, read_rules(source, setting)


def _open(files: Files, order: Order, made: Mapping[str, bytes]) -> Iterator[FieldProblem]:
    """Load the folder with the new files, and yield what the engine finds wrong with them."""
    both = Files(files.name, {**files.contents, **made})
    try:
        packs_of(read_ground(both), order.region)
    except StartRefused as refused:
        prefix = f"{files.name}/{order.folder}/"
        yield from (problem for problem in refused.problems if problem.field.startswith(prefix))
