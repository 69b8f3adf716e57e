"""The proof of a pack beyond its examples coming out right: what has gone there and back once changes no more.

Owns: the law, tried with the pack's own examples, and the shape of every proof (`Prove`). Leaves to the caller: which
proof is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import orjson

from gateway.errors import FieldProblem, MappingFailed
from gateway.mapping.packs import Pack
from gateway.mapping.tools.documents import compare
from gateway.mapping.tools.folder import Opened


class Proof(NamedTuple):
    """What a proof of one pack comes to: how many documents were tried, and where the law does not hold."""

    documents: int
    problems: tuple[FieldProblem, ...]


Prove = Callable[[Opened, Pack], Proof]


def prove_all(opened: Opened, prove: Iterable[Prove]) -> Proof:
    """Prove every pack of a folder in every way; return all of it as one proof."""
    found = [one(opened, pack) for one in prove for pack in opened.all()]
    return Proof(sum(proof.documents for proof in found), tuple(p for proof in found for p in proof.problems))


def there_and_back(opened: Opened, pack: Pack) -> Proof:
    """Send each example there and back twice: what the first trip leaves, the second must bring home unchanged."""
    paths = [ours for _, ours, _ in opened.examples(pack)]
    problems = [
        FieldProblem(f"{opened.files.name}/{path}", reason)
        for path in paths
        for reason in _unstable(pack, orjson.loads(opened.files.contents[path]))
    ]
    return Proof(len(paths), tuple(problems))


def _unstable(pack: Pack, canonical: dict[str, Any]) -> Iterator[str]:
    try:
        once = pack.to_canonical(pack.to_region(canonical))
    except MappingFailed:
        return  # an example of one direction; loading the pack has tried what must work
    try:
        twice = pack.to_canonical(pack.to_region(once))
    except MappingFailed as failure:
        yield from (f"{problem.field} {problem.reason} on the second trip" for problem in failure.problems)
        return
    yield from (f"{one.place} is {one.kind} on the second trip" for one in compare(once, twice))
