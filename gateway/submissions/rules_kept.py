"""Rules that a region or an applicant has broken: told in the timeline and counted, never acted upon.

Owns: seeing that an authority has given a second supplement notice, or asks for the paper of what an electronic
certificate has proved (免证办), that it has decided on a certificate that nobody could confirm any more, and that what
was promised to follow a tolerant acceptance never came (容缺逾期).
Leaves to people: what comes of it. The case goes on. A follower of the event log; part of its transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from gateway.domain.clocks import ClockName
from gateway.domain.submission import State
from gateway.storage.tables import RULES_BROKEN, submission_events, submissions
from gateway.submissions.events import EventLog
from gateway.submissions.recognised import CHANGED, unconfirmed
from gateway.submissions.story import Story, own_key, retold

VIOLATION, BREACH = "policy.violation", "tolerance.breached"
ONE_NOTICE = "one_notice"
"""行政许可法 32: whatever is missing is told once, and all of it."""
CERTIFICATE_FREE = "certificate_free"
"""免证办: what a verified certificate has proved is final; nobody asks for the paper."""
CERTIFICATE_UNCONFIRMED = "certificate_unconfirmed"
"""复核: nobody decides on a certificate whose last verification is older than its type allows, or that has changed."""
_DECISIONS = frozenset({State.DECIDED, State.COMPLETED})
CERTIFIED = "certified"
"""In the detail of a case's first event: the codes of materials that a verified certificate stands for."""
_BY_REGION, _BY_CLOCK = "region", "clock"


@dataclass(frozen=True, slots=True)
class _Broken:
    rule: str
    key: str
    materials: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RulesKept:
    """Looks at every step of a case, and at every clock that is told of."""

    events: EventLog

    def watch(self, tx: Connection, story: Story, now: datetime) -> None:
        """Tell of what a step shows; a follower of the event log."""
        for broken in _unsaid(tx, story, [*_violations(tx, story), *_decisions(tx, story)]):
            detail = {"rule": broken.rule, "seq": story.seq(broken.key), "materials": list(broken.materials)}
            self.events.note(tx, str(story.case["id"]), VIOLATION, now, detail, broken.rule)
        if any(step.state is State.TOLERANCE_BREACHED for step in story.standing.steps):
            self._breach(tx, story, now, _BY_REGION)

    def note_clock(
        self, tx: Connection, submission_id: str, kind: str, now: datetime, detail: Mapping[str, Any]
    ) -> None:
        """Write the fact that a clock is due, and what it means when it is the one of a tolerance."""
        self.events.note(tx, submission_id, kind, now, detail)
        if kind == "clock.overdue" and detail["clock"] == ClockName.TOLERANCE:
            story = retold(self.events.sealer, tx, submission_id)
            if story is not None:
                self._breach(tx, story, now, _BY_CLOCK)

    def _breach(self, tx: Connection, story: Story, now: datetime, by: str) -> None:
        """Tell once that a promise was not kept, whoever saw it first."""
        if not story.facts(tx, BREACH):
            self.events.note(tx, str(story.case["id"]), BREACH, now, {"by": by}, by)


def _violations(tx: Connection, story: Story) -> Iterator[_Broken]:
    notices = [step for step in story.standing.steps if step.state is State.SUPPLEMENT_NOTICE]
    for again in notices[1:]:
        yield _Broken(ONE_NOTICE, again.key)
    certified = _certified(story) if notices else set()
    for notice in notices if certified else ():
        named = {str(material["code"]) for material in story.detail(notice.key).get("materials") or ()}
        if wanted := (named & certified) - _needed_again(tx, story, named & certified):
            yield _Broken(CERTIFICATE_FREE, notice.key, tuple(sorted(wanted)))


def _needed_again(tx: Connection, story: Story, codes: set[str]) -> set[str]:
    """Return those of these materials whose certificate was found in force no more: they may be asked for."""
    facts = story.facts(tx, CHANGED) if codes else []
    return {str(fact["code"]) for fact in facts if fact["needed"]}


def _decisions(tx: Connection, story: Story) -> Iterator[_Broken]:
    """Yield the decision on certificates that nobody had confirmed when it was taken."""
    decided = next((step for step in story.standing.steps if step.state in _DECISIONS), None)
    if decided is None or not _certified(story):
        return
    if codes := unconfirmed(tx, str(story.case["id"]), decided.at):
        yield _Broken(CERTIFICATE_UNCONFIRMED, decided.key, tuple(codes))


def _certified(story: Story) -> set[str]:
    return set(story.detail(own_key(1)).get(CERTIFIED) or ())


def _unsaid(tx: Connection, story: Story, broken: list[_Broken]) -> list[_Broken]:
    """Leave out what was told of before."""
    if not broken:
        return []
    said = {(fact["rule"], fact["seq"]) for fact in story.facts(tx, VIOLATION)}
    return [one for one in broken if (one.rule, story.seq(one.key)) not in said]


Figures = Mapping[tuple[str, str, str], int]
"""Rule, region and agency → how often. The rule of a breach is `tolerance`."""


def figures(tx: Connection) -> Figures:
    """Return how often which rule was broken in the cases of whom. Costs what there is of it, not of events."""
    c, s = submission_events.c, submissions.c
    columns = (c.kind, c.word, s.handling_region, c.client_id, func.count())
    joined = select(*columns).join(submissions, s.id == c.submission_id).where(RULES_BROKEN)
    found: dict[tuple[str, str, str], int] = {}
    for kind, word, region, owner, count in tx.execute(joined.group_by(*columns[:4])):
        key = ("tolerance" if kind == BREACH else word, region, owner.partition("/")[0])
        found[key] = found.get(key, 0) + count
    return found
