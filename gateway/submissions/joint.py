"""Cases that several offices handle together (多地联办): one whole without a delivery, and a case for each part.

Owns: taking such an application, all of it in one transaction; letting a part go when those before it are done; and
keeping the whole where its parts have brought it. Leaves to `intake`: what is checked of each part. To
`gateway.domain.joint`: where the whole stands. Lock order: a part before its whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from gateway.domain.caller import Caller
from gateway.domain.identity import Assurance
from gateway.domain.item import Item
from gateway.domain.joint import MODE, PartStanding, part_reference, released, state_of, waits_for
from gateway.domain.submission import ENDS, State
from gateway.errors import Conflict, FieldProblem, InvalidRequest
from gateway.storage.tables import consents, deliveries, submissions
from gateway.submissions import queue
from gateway.submissions.application import Application, PartWanted
from gateway.submissions.borders import RECORDED
from gateway.submissions.events import EventLog
from gateway.submissions.intake import QUEUED, Checked, Intake, Receipt, written
from gateway.submissions.parts import is_waiting, parts_of
from gateway.submissions.story import Story, locked
from gateway.submissions.withdrawals import stop_before_it_leaves
from gateway.versions import UNPINNED

RELEASED, PART_ENDED = "part.released", "part.ended"
"""Facts: a part goes out, for those before it are done; of the whole: one of its parts has ended."""
_PART = insert(submissions)


class JointIntake(Intake):
    """An intake that takes applications for several offices too."""

    async def _accept(
        self, caller: Caller, application: Application, assurance: Assurance, channel: str, received_at: datetime
    ) -> Receipt:
        if not application.parts:
            return await super()._accept(caller, application, assurance, channel, received_at)
        item, _, region = self._place(application)
        self._may(caller, application, region, received_at)
        whole = application.model_copy(update={"materials": _all_materials(application)})
        blobs, digest, earlier = await self._store.read(lambda tx: self._look(tx, caller, application, whole.materials))
        if earlier is not None:
            return earlier
        _refuse(list(_choice_problems(item, application.parts)))
        found = self._found(caller, application, channel, received_at, digest, blobs)
        found = await self._proved(found)
        parts = self._all_ready(found, assurance)
        receipt = await self._store.write(lambda tx: self._write_whole(tx, found, parts))
        for place in sorted({part.region.id for part in parts}):
            self._nudge(place)
        return receipt

    def _all_ready(self, found: Checked, assurance: Assurance) -> list[Checked]:
        """Check every part as the application that its office gets. Raises InvalidRequest with what is wrong in all."""
        ready: list[Checked] = []
        problems: dict[tuple[str, str], FieldProblem] = {}
        for number, part in enumerate(found.application.parts):
            application = _application_of(found.application, part)
            try:
                self._may(found.caller, application, self._place(application)[2], found.received_at)
                ready.append(self._ready(found, application, assurance))
            except InvalidRequest as refused:
                if not refused.problems:
                    raise
                for problem in refused.problems:
                    told = _named(problem, found.application, number)
                    problems[told.field, told.code] = told
        _refuse(list(problems.values()))
        return ready

    # --- writing -----------------------------------------------------------------------------------------------

    def _write_whole(self, tx: Connection, whole: Checked, parts: Sequence[Checked]) -> Receipt:
        """Write the whole and every part, each with its own number, delivery, clocks and consent."""
        self._may_act(tx, whole)
        number = self._number(whole, self._next_sequence(tx, whole))
        row = {**self._row(whole, number), "mode": MODE, "mapping_version": UNPINNED}
        beginning = self._beginning(whole, row, {"parts": len(parts)})
        if tx.execute(written(tx.dialect.name), beginning.case).rowcount == 0:  # a twin of this request was faster
            earlier = self._earlier(tx, whole.caller, whole.application, whole.digest)
            if earlier is None:
                raise Conflict("The submission could not be numbered; send it again.", code="submission.numbering")
            return earlier
        kept = self._materials.belong(tx, number, list(whole.blobs.values()))
        self._begun(tx, whole, number, beginning)
        for position, (wanted, part) in enumerate(zip(whole.application.parts, parts, strict=True)):
            self._write_part(tx, part, {
                "client_reference": part_reference(number, position + 1),
                "parent_id": number, "part_code": wanted.part or "",
                "released_at": None if waits_for(part.item, wanted.part or "") else part.received_at,
            }, kept)  # fmt: skip
        return Receipt(number, State.COLLECTED, whole.received_at, replayed=False)

    def _write_part(self, tx: Connection, part: Checked, more: Mapping[str, Any], kept: Mapping[str, str]) -> None:
        number = self._number(part, self._next_sequence(tx, part))
        beginning = self._beginning(part, {**self._row(part, number), **more}, {"whole": more["parent_id"]})
        tx.execute(_PART, beginning.case)
        self._attach(tx, part, number, kept)
        due = more["released_at"]
        row = self._delivery(part, number, due=due)
        tx.execute(QUEUED, row if due else {**row, "state": queue.WAITING})
        self._begun(tx, part, number, beginning)
        self._record_consent(tx, part, number)
        self._keep_certificates(tx, part, number)


def _all_materials(application: Application) -> list[Any]:
    return [*application.materials, *(material for part in application.parts for material in part.materials)]


def _application_of(application: Application, part: PartWanted) -> Application:
    """Return the application as the office of one part gets it: what all share, and what is for it alone."""
    changed = {
        "place": part.place,
        "form": {**application.form, **part.form},
        "materials": [*application.materials, *part.materials],
        "parts": [],
    }
    return application.model_copy(update=changed)


def _choice_problems(item: Item, parts: Sequence[PartWanted]) -> Iterator[FieldProblem]:
    """Check that the parts are those of the item; of an item without any, that each office has one."""
    known = {part.code: part for part in item.parts}
    named = [part.part if known else part.place for part in parts]
    for number, part in enumerate(parts):
        if known and part.part not in known:
            yield FieldProblem(f"parts.{number}.part", f"must be one of {', '.join(known)}", "unknown_part")
        elif known and part.place not in known[str(part.part)].regions:
            may = ", ".join(known[str(part.part)].regions)
            yield FieldProblem(
                f"parts.{number}.place", f"does not handle this part; places that do: {may}", "unknown_place"
            )
        elif not known and part.part is not None:
            yield FieldProblem(f"parts.{number}.part", "must be left out: the item has no parts", "unknown_part")
        if named.index(named[number]) != number:
            yield FieldProblem(f"parts.{number}", "stands more than once", "twice")
    for code in sorted(known.keys() - set(named)):
        yield FieldProblem("parts", f"{code} is missing", "missing_part")
    if not known and len(parts) < 2:
        yield FieldProblem("parts", "must be two or more; without it, one office handles the case", "missing_part")


def _named(problem: FieldProblem, application: Application, number: int) -> FieldProblem:
    """Return a problem of a part's application under the path in which it stands in the whole."""
    head, _, rest = problem.field.partition(".")
    position, _, tail = rest.partition(".")
    shared = len(application.materials)
    mine = problem.field
    if head == "form" and rest in application.parts[number].form:
        mine = f"parts.{number}.form.{rest}"
    elif head == "materials" and position.isdigit() and int(position) >= shared:
        mine = f"parts.{number}.materials.{int(position) - shared}.{tail}"
    elif head == "place":
        mine = f"parts.{number}.place"
    return FieldProblem(mine, problem.reason, problem.code)


def _refuse(problems: list[FieldProblem]) -> None:
    if problems:
        raise InvalidRequest("Some fields are not valid; see `problems`.", problems=problems)


# --- keeping the whole ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parts:
    """Keeps the whole by its parts, and lets parts go. `begin` starts the clocks of a part that goes out."""

    events: EventLog
    items: Mapping[str, Item]
    begin: Callable[[Connection, str, datetime], None]

    def keep(self, tx: Connection, story: Story, now: datetime) -> None:
        """Look at the whole after a step of a part; a follower of the event log."""
        parent_id = story.case.get("parent_id")
        parent = locked(tx, str(parent_id)) if parent_id else None
        if parent is None:
            return
        before, after = State(story.case["state"]), story.standing.state
        if after in ENDS and before not in ENDS:
            self.events.note(tx, parent["id"], PART_ENDED, now, {"part": story.case["id"], "state": str(after)})
        if after in ENDS:
            self._let_go(tx, parent, now)
        self._derive(tx, parent["id"], now)

    def _derive(self, tx: Connection, parent_id: str, now: datetime) -> None:
        state = state_of(
            PartStanding(p["part_code"], State(p["state"]), is_waiting(p)) for p in parts_of(tx, parent_id)
        )
        self.events.derived(tx, parent_id, state, now)

    def _let_go(self, tx: Connection, parent: Mapping[str, Any], now: datetime) -> None:
        """Let every part go that waits for nothing any more, and give back those that wait in vain."""
        item, parts = self.items.get(parent["item_code"]), parts_of(tx, parent["id"])
        states: dict[str, list[State]] = {}
        for part in parts:
            states.setdefault(part["part_code"], []).append(State(part["state"]))
        for part in parts:
            if part["state"] in ENDS or not is_waiting(part):
                continue
            go = released(item, states, part["part_code"])
            if go is False:
                self._give_back(tx, part["id"], "a part that must be done before it was not done", now)
            elif go and _consent_is_over(tx, part["id"], now):
                self._give_back(tx, part["id"], "the consent to the transfer across the border is over", now)
            elif go:
                self._release(tx, part["id"], now)

    def _give_back(self, tx: Connection, part_id: str, reason: str, now: datetime) -> None:
        if stop_before_it_leaves(tx, part_id, now):
            self.events.ours(tx, part_id, State.RETURNED, now, {"reason": reason, "by": MODE})
            queue.cancel_waiting(tx, part_id, now)

    def _release(self, tx: Connection, part_id: str, now: datetime) -> None:
        """Queue the delivery as if it had been handed in now: its age is no reason to give it up, or to be alarmed."""
        c = deliveries.c
        waiting = (c.submission_id == part_id, c.kind == queue.SUBMISSION, c.state == queue.WAITING)
        queued = {"state": "pending", "due": now, "created_at": now, "tried_since": now}
        if tx.execute(update(deliveries).where(*waiting).values(queued)).rowcount == 0:
            return
        tx.execute(update(submissions).where(submissions.c.id == part_id).values(released_at=now))
        self.events.note(tx, part_id, RELEASED, now, {})
        self.begin(tx, part_id, now)


def _consent_is_over(tx: Connection, part_id: str, now: datetime) -> bool:
    """Say whether a part rested on a consent that holds no more: it may have waited for months (domain rule P3).

    A part without a border has none for its office; those to asking issuers about its certificates are no reason.
    """
    c, s = consents.c, submissions.c
    to_its_office = select(c.expires_at, c.revoked_at).join(submissions, RECORDED)
    rows = tx.execute(to_its_office.where(s.id == part_id, c.recipient == s.handling_region)).all()
    over = [row.expires_at <= now or (row.revoked_at is not None and row.revoked_at <= now) for row in rows]
    return bool(over) and all(over)
