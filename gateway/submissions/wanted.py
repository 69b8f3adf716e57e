"""What a handling region waits for: all that its supplement notice names, or what may follow a tolerant acceptance.

Owns: reading that from what was said of the case, and what of it is given by all supplements so far. One notice names
everything (一次性告知): so what is missing is known at any time, and whether a supplement is the last is for us to
reckon. Leaves to `supplements`: taking them. Everything here is part of the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, or_, select

from gateway.domain.item import Item
from gateway.domain.submission import RESUMED, Effect, Report, Standing, State
from gateway.storage.tables import deliveries, submission_materials
from gateway.submissions import queue
from gateway.submissions.story import Story

HANDED_IN = "supplement.handed_in"
"""The fact that a supplement was taken; its detail names the message and the materials."""
NOTICE, TOLERANCE = "notice", "tolerance"
_MAY_FOLLOW = frozenset({State.ACCEPTED_TOLERANT, State.EXTENDED, State.SPECIAL})
"""Where a case that was accepted tolerantly may stand while something still follows."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One material that is waited for. `reason` is the region's and may name people; `paper`: it asks for the paper."""

    code: str
    name: str | None
    reason: str | None
    paper: bool
    given: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """What is waited for: `why` is `notice` or `tolerance`; `seq` the event that says so.

    `named` is false when the region has named no material: then any of the item will do, and whether something is
    still missing is for the applicant to say.
    """

    why: str
    seq: int
    named: bool
    materials: tuple[Wanted, ...]
    reason: str | None = None
    basis: str | None = None

    def missing(self, more: Iterable[str] = ()) -> list[str]:
        """Return the codes that are still missing once these are there too."""
        there = set(more)
        return [wanted.code for wanted in self.materials if not wanted.given and wanted.code not in there]


def what_is_asked(tx: Connection, story: Story, item: Item | None, body: Mapping[str, Any]) -> Asked | None:
    """Return what the region waits for now; None when it waits for nothing of the applicant."""
    standing = story.standing
    if standing.state is State.SUPPLEMENT_NOTICE:
        return _notice(tx, story, _last(standing, State.SUPPLEMENT_NOTICE))
    accepted = _accepted_tolerantly(standing)
    return None if accepted is None else _tolerance(tx, story, accepted, item, body)


def _last(standing: Standing, state: State) -> Report:
    return next(report for report in reversed(standing.steps) if report.state is state)


def _accepted_tolerantly(standing: Standing) -> Report | None:
    """Return the tolerant acceptance that still holds: nothing said since that all is there."""
    if standing.state not in _MAY_FOLLOW:
        return None
    said = (r for r in reversed(standing.steps) if r.state in (State.ACCEPTED, State.ACCEPTED_TOLERANT))
    last = next((report for report in said if report.word != RESUMED), None)
    return last if last is not None and last.state is State.ACCEPTED_TOLERANT else None


def _notice(tx: Connection, story: Story, notice: Report) -> Asked:
    """Return what the notice names, and what was added to it before it was answered."""
    named: dict[str, Mapping[str, Any]] = {}
    for key in (notice.key, *_added(story, notice)):
        named |= {str(material["code"]): material for material in story.detail(key).get("materials") or ()}
    return _asked(tx, story, NOTICE, notice, named)


def _added(story: Story, notice: Report) -> Iterator[str]:
    """Yield the reports of the same notice that moved nothing: the region has said it again, maybe with more."""
    for key, effect in story.standing.effects.items():
        report = story.report(key)
        if effect is Effect.SAME and report.state is State.SUPPLEMENT_NOTICE and report.at >= notice.at:
            yield key


def _tolerance(tx: Connection, story: Story, accepted: Report, item: Item | None, body: Mapping[str, Any]) -> Asked:
    """Return what may follow: what the region names, else the item's deferrable materials that were left out."""
    said = story.detail(accepted.key).get("materials") or ()
    named: dict[str, Mapping[str, Any]] = {str(material["code"]): material for material in said}
    if not named and item is not None:
        there = {material["code"] for material in body.get("materials", ())}
        left_out = [rule for rule in item.materials if rule.deferrable and rule.code not in there]
        named = {rule.code: {"code": rule.code, "name": rule.name.get("zh-CN")} for rule in left_out}
    return _asked(tx, story, TOLERANCE, accepted, named)


def _asked(tx: Connection, story: Story, why: str, report: Report, named: Mapping[str, Mapping[str, Any]]) -> Asked:
    seq = story.seq(report.key)
    given = given_since(tx, story, seq)
    said = story.detail(report.key)
    materials = tuple(
        Wanted(code, about.get("name"), about.get("reason"), bool(about.get("paper")), code in given)
        for code, about in named.items()
    )
    return Asked(why, seq, bool(named), materials, said.get("reason"), said.get("basis"))


def given_since(tx: Connection, story: Story, seq: int) -> set[str]:
    """Return the codes of what was handed in after that event, and is on its way or there."""
    messages = [str(fact["message"]) for fact in story.facts(tx, HANDED_IN, seq)]
    return _there(tx, messages) if messages else set()


def _there(tx: Connection, messages: list[str]) -> set[str]:
    """Return the materials of these messages, without those that the region certainly does not get."""
    c, d = submission_materials.c, deliveries.c
    lost = or_(d.state == "cancelled", (d.state == "dead") & d.last_code.in_(queue.NOT_THERE))
    joined = select(c.code).join(deliveries, d.message_id == c.message_id).where(c.message_id.in_(messages), ~lost)
    return set(tx.execute(joined).scalars())
