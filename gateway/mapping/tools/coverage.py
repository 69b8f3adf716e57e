"""What gets across between us and the regions, and what does not: field by field, both ways.

Owns: the report of losses as data, and the matrix of fields and regions. Leaves to `gateway.mapping.losses`: finding
out that something is lost; to the packs: the reasons.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from gateway.mapping.packs import Pack
from gateway.mapping.tools.book import LOST
from gateway.mapping.tools.folder import Opened
from gateway.mapping.tools.words import ARROWS
from gateway.mapping.vocabulary import DIRECTIONS, OURS_TO_THEIRS, THEIRS_TO_OURS, Message

NO_PACK: Final = "–"
"""The sign of a region that has no pack for a message."""

PARTLY: Final = "~"
"""Stands after the sign of a field of which codes or parts get lost."""


class Lost(NamedTuple):
    """One thing that is lost between us and one region.

    `side` is whose name it is: ours for fields, theirs for places that nothing reads. `what` is all, codes or part, and
    `detail` says which.
    """

    region: str
    message: str
    direction: str
    side: str
    name: str
    words: str
    what: str
    detail: tuple[str, ...]
    reason: str


class Matrix(NamedTuple):
    """One message: for each field a sign for each region."""

    message: Message
    regions: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[str, ...]], ...]


def lost(opened: Opened) -> list[Lost]:
    """Return everything that the packs of a folder lose, in the order of the packs."""
    return [one for pack in opened.all() for one in _lost(pack)]


def matrices(opened: Opened) -> list[Matrix]:
    """Return a matrix for every message that some region has."""
    used = {pack.message for pack in opened.all()}
    return [_matrix(message, opened) for name, message in opened.ground.vocabulary.items() if name in used]


def _lost(pack: Pack) -> Iterable[Lost]:
    for loss in pack.losses:
        field, leaf = pack.about.fields.get(loss.field), pack.form.leaves.get(loss.field)
        words = field.zh if field else (leaf.words if leaf else "")
        what = "codes" if loss.values else "part" if loss.part else "all"
        detail = loss.values or ((loss.part,) if loss.part else ())
        side = "ours" if field else "theirs"
        yield Lost(
            pack.region, pack.message, loss.direction, side, loss.field, words, what, detail, loss.reason
        )  # fmt: skip


def _matrix(message: Message, opened: Opened) -> Matrix:
    regions = tuple(opened.packs)
    carried = [name for name, field in message.fields.items() if field.holds_value]
    rows = [
        (name, message.fields[name].zh, tuple(sign(opened.packs[region].get(message.name), name) for region in regions))
        for name in carried
    ]
    return Matrix(message, regions, tuple(rows))


def sign(pack: Pack | None, field: str) -> str:
    """Return how a field gets across: both ways, one way or not at all, and whether only partly."""
    if pack is None:
        return NO_PACK
    rules = [rule for rule in pack.rules.rules if rule.field.name == field]
    out, back = (any(rule.runs(direction) for rule in rules) for direction in DIRECTIONS)
    if not (out or back):
        return LOST
    partly = any(loss.field == field and (loss.values or loss.part) for loss in pack.losses)
    arrow = ARROWS["" if out and back else OURS_TO_THEIRS if out else THEIRS_TO_OURS]
    return arrow + (PARTLY if partly else "")
