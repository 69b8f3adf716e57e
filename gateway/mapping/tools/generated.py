"""The proof of a pack with documents that nobody wrote: made up from the vocabulary and from the schema.

Owns: two laws, tried with hypothesis. What we say is what we hear, less what `losses.toml` declares, and it fits the
schema. What we hear from any document of theirs stays the same when we say it and hear it again. Leaves to
`gateway.mapping.tools.invented`: making documents up. Refusing a document is no fault, but a proof that meets nothing
else proves nothing, and says so.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisWarning

from gateway.errors import FieldProblem, MappingFailed
from gateway.mapping.codes import UNKNOWN
from gateway.mapping.examples import without
from gateway.mapping.packs import Pack
from gateway.mapping.tools.documents import compare
from gateway.mapping.tools.folder import Opened
from gateway.mapping.tools.invented import Inventor
from gateway.mapping.tools.proving import Proof, Prove
from gateway.mapping.vocabulary import OURS_TO_THEIRS

_LEAST_SAID: Final = 0.3
"""The part of the documents made up from the vocabulary that must be sayable for the proof to mean anything."""


class _Broken(Exception):
    """A law does not hold; the reason names places, never values."""


def generated(documents: int) -> Prove:
    """Return the proof with this many documents of ours, and as many of theirs, for each pack."""

    def prove(opened: Opened, pack: Pack) -> Proof:
        inventor = Inventor.of(pack, opened.ground.tables)
        said = _Law(pack, documents)
        said.run(inventor.ours(), said.ours)
        heard = _Law(pack, documents)
        heard.run(inventor.theirs(), heard.theirs)
        problems = [*said.broken, *heard.broken]
        if not said.broken and said.passed < _LEAST_SAID * said.tried:
            reason = f"only {said.passed} of {said.tried} documents could be said: the proof means little"
            problems.append(reason)
        place = f"{opened.files.name}/{pack.region}/{pack.message}"
        return Proof(said.tried + heard.tried, tuple(FieldProblem(place, reason) for reason in problems))

    return prove


class _Law:
    """One law on its way: how many documents it met, how many it could judge, and where it broke."""

    def __init__(self, pack: Pack, documents: int) -> None:
        self._pack = pack
        self._documents = documents
        self.tried = 0
        self.passed = 0
        self.broken: list[str] = []

    def run(self, documents: st.SearchStrategy[Any], law: Callable[[Any], None]) -> None:
        """Try the law; hypothesis goes on to the least document that breaks it."""

        @settings(
            max_examples=self._documents,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(documents)
        def tried(document: Any) -> None:
            self.tried += 1
            law(document)

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", HypothesisWarning)
                tried()
        except _Broken as broken:
            self.broken.append(str(broken))

    # --- ours, there and back ---

    def ours(self, document: dict[str, Any]) -> None:
        """What we say is what we hear, less the declared losses, and fits their schema."""
        pack = self._pack
        try:
            said = pack.to_region(document)
        except MappingFailed:
            return
        self.passed += 1
        _, faults = pack.form.read(said)
        if faults:
            raise _Broken(f"what we say does not fit their schema: {_places(faults)}")
        heard = self._heard(said, "what we say cannot be heard")
        expected, back = (self._comparable(one, document) for one in (document, heard))
        if expected != back:
            raise _Broken(f"there and back changes {_differences(expected, back)}")

    def _comparable(self, document: Mapping[str, Any], given_by: Mapping[str, Any]) -> Any:
        """Return a document less what the pack declares lost."""
        kept = without(dict(document), self._pack.lost)
        for loss in self._pack.losses:
            if loss.part == "fraction":
                _each(kept, loss.field.split("."), _whole_seconds)
            if loss.part == "stand-in" and loss.direction == OURS_TO_THEIRS and _at(given_by, loss.field) is None:
                _each(kept, loss.field.split("."), lambda _value: None)
        return _tidied(kept)

    # --- theirs, there and back ---

    def theirs(self, document: Any) -> None:
        """What was heard once is heard again from what we say of it."""
        try:
            heard = self._pack.to_canonical(document)
        except MappingFailed:
            return
        self.passed += 1
        try:
            said = self._pack.to_region(heard)
        except MappingFailed:
            return  # an unknown code, or a one-way rule: what we heard is not always for saying
        again = self._heard(said, "what we heard cannot be heard again")
        first, second = (self._comparable(one, heard) for one in (heard, again))
        if first != second and UNKNOWN not in str(first):
            raise _Broken(f"hearing, saying and hearing again changes {_differences(first, second)}")

    def _heard(self, document: Any, what: str) -> dict[str, Any]:
        try:
            return self._pack.to_canonical(document)
        except MappingFailed as failure:
            raise _Broken(f"{what}: {_places(failure.problems)}") from None


def _places(problems: Any) -> str:
    return "; ".join(f"{problem.field} {problem.reason}" for problem in problems)


def _differences(one: Any, other: Any) -> str:
    return "; ".join(f"{found.place} ({found.kind})" for found in compare(one, other))


def _whole_seconds(value: Any) -> Any:
    moment = datetime.fromisoformat(value).astimezone(UTC)
    return int(moment.timestamp() // 1)


def _at(node: Any, path: str) -> Any:
    for key in path.split("."):
        node = node.get(key) if isinstance(node, dict) else None
    return node


def _each(node: Any, path: list[str], change: Callable[[Any], Any]) -> None:
    """Change the value at a path, in every item of the lists on the way."""
    key, *rest = path
    name = key.removesuffix("[]")
    if not isinstance(node, dict) or node.get(name) is None:
        return
    if not rest:
        node[name] = change(node[name])
    for inner in (node[name] if key.endswith("[]") else [node[name]]) if rest else ():
        _each(inner, rest, change)


def _tidied(node: Any) -> Any:
    """Return a document without what says nothing: empty texts, lists and objects."""
    if isinstance(node, dict):
        inner = {key: _tidied(value) for key, value in node.items()}
        return {key: value for key, value in inner.items() if value not in (None, "", [], {})}
    if isinstance(node, list):
        items = [_tidied(item) for item in node]
        return items if any(item != {} for item in items) else []
    return node
