"""Supplements (补正): what an applicant hands in after a supplement notice, or after a tolerant acceptance.

Owns: when that may be, which materials and corrections are taken, whether the answer is complete, and the one
transaction that writes message, delivery, event, consent and evidence. Leaves to `wanted`: what is asked for. To
`followups`: who may speak. To `policy`: what may cross which border.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import orjson
from pydantic import Field
from sqlalchemy import Connection, select

from gateway.crypto.at_rest import References
from gateway.domain.calendar import local_day
from gateway.domain.caller import Caller
from gateway.domain.joint import MODE as JOINT
from gateway.domain.region import place_of
from gateway.edge import Long, Short
from gateway.errors import Conflict, FieldProblem, GatewayError
from gateway.evidence import Exchange, record
from gateway.evidence.record import who_is
from gateway.policy.transfer import Basis, ConsentGiven, Grounds, Transfer, require
from gateway.regions import Region
from gateway.storage.tables import consents
from gateway.submissions.application import Consent, MaterialReference, utc_text
from gateway.submissions.attempt import Pinned
from gateway.submissions.checks import FormChecker
from gateway.submissions.events import EventLog
from gateway.submissions.followups import Followups, Mine, Said, by_mandate, refuse
from gateway.submissions.intake import not_too_large, unusable
from gateway.submissions.materials import Blob, Materials, owner_of
from gateway.submissions.messages import Message, Queued, enqueue, said_before, try_out
from gateway.submissions.owned import said_digest
from gateway.submissions.story import locked, tell
from gateway.submissions.wanted import HANDED_IN, Asked, what_is_asked

KIND = "supplement"


class Supplement(Said):
    """One supplement (`POST /v1/submissions/{id}/supplements`)."""

    form: dict[Short, Long] = Field(default_factory=dict, max_length=100)
    """Fields of the item's form that are put right."""
    materials: list[MaterialReference] = Field(default_factory=list, max_length=50)
    complete: bool | None = None
    """False: more will come although nothing named is missing. True is checked against what is asked for."""
    consents: list[Consent] = Field(default_factory=list, max_length=10)
    """Needed across a border when the consent of the case does not cover what is handed in now."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The answer to a supplement: whether all that was asked for is there now, and which materials are not."""

    message_id: str
    submission_id: str
    complete: bool
    missing: Sequence[str]
    replayed: bool


@dataclass(frozen=True, slots=True)
class _Checked:
    """A supplement with what was found for it."""

    caller: Caller
    said: Supplement
    mine: Mine
    region: Region
    blobs: Mapping[str, Blob]
    received_at: datetime
    digest: str
    grounds: Grounds | None = None


class Supplements:
    """Takes supplements from those who filed the case."""

    def __init__(
        self,
        desk: Followups,
        *,
        materials: Materials,
        bases: tuple[Basis, ...],
        events: EventLog,
        references: References,
        pinned: Pinned,
        nudge: Any,
    ) -> None:
        self._desk = desk
        self._materials = materials
        self._bases = bases
        self._events = events
        self._references = references
        self._pinned = pinned
        self._nudge = nudge
        self._forms = FormChecker(desk.items)

    async def add(self, caller: Caller, submission_id: str, said: Supplement) -> Taken:
        """Take a supplement and queue its delivery.

        Raises NotFound, NotPermitted, NotOffered (`submission.on_paper`), Conflict (`submission.not_asked`),
        InvalidRequest, MappingFailed.
        """
        received_at = self._desk.clock()
        try:
            return await self._add(caller, submission_id, said, received_at)
        except GatewayError as error:
            await self._desk.note_refusal(caller, submission_id, "submission.supplement", error, received_at)
            raise

    async def _add(self, caller: Caller, submission_id: str, said: Supplement, received_at: datetime) -> Taken:
        checked = await self._desk.store.read(lambda tx: self._found(tx, caller, submission_id, said, received_at))
        self._desk.require_grant(caller, checked.mine, received_at)
        earlier = await self._desk.store.read(lambda tx: self._earlier(tx, checked))
        if earlier is not None:
            return earlier
        self._desk.require_wire(checked.mine, KIND, "hand it in at the window of the authority")
        asked = await self._desk.store.read(lambda tx: self._asked(tx, checked.mine))
        self._check(checked, asked)
        not_too_large(said.materials, checked.blobs, checked.region)
        given = await self._desk.store.read(lambda tx: self._consents(tx, checked))
        checked = replace(checked, grounds=self._may_cross(checked, given))
        await self._try(checked)
        taken = await self._desk.store.write(lambda tx: self._write(tx, checked))
        self._nudge(checked.region.id)
        return taken

    # --- checks ------------------------------------------------------------------------------------------------

    def _found(
        self, tx: Connection, caller: Caller, submission_id: str, said: Supplement, received_at: datetime
    ) -> _Checked:
        mine = self._desk.find(tx, caller, submission_id)
        blobs = self._materials.find(tx, caller, [material.blob for material in said.materials])
        digest = _digest(said, blobs)
        return _Checked(caller, said, mine, self._desk.region(mine), blobs, received_at, digest)

    def _earlier(self, tx: Connection, checked: _Checked) -> Taken | None:
        """Return the answer to the supplement that holds this reference. Raises Conflict when it differs."""
        message_id = said_before(tx, _message(checked, complete=False))
        if message_id is None:
            return None
        return self._answer(Queued(message_id, replayed=True), checked, self._asked(tx, checked.mine))

    def _asked(self, tx: Connection, mine: Mine) -> Asked | None:
        story, _ = tell(tx, mine.row, self._desk.sealer)
        return what_is_asked(tx, story, self._desk.items.get(mine.row["item_code"]), mine.body)

    def _check(self, checked: _Checked, asked: Asked | None) -> Asked:
        """Find everything that is wrong with an answer to what is asked for, and return that.

        Raises Conflict when nothing is asked for, InvalidRequest.
        """
        said, mine = checked.said, checked.mine
        item = self._desk.items.get(mine.row["item_code"])
        if asked is None:
            raise _not_asked(mine)
        offered = [rule.code for rule in item.materials] if item else []
        known = [wanted.code for wanted in asked.materials] if asked.named else offered
        refuse(
            [
                *self._desk.speaker_problems(checked.caller, mine, said, local_day(checked.received_at)),
                *self._forms.correction_problems(item, said.form),
                *_crossing_problems(checked, {f.id for f in item.fields if not f.may_cross} if item else set()),
                *_material_problems(checked, known),
                *_complete_problems(said, asked),
            ]
        )
        return asked

    def _consents(self, tx: Connection, checked: _Checked) -> list[ConsentGiven]:
        """Return the consents that are recorded for the case, the oldest first."""
        document = checked.mine.applicant
        c, reference = consents.c, self._references.of(document.document_type, document.number)
        query = select(consents).where(c.case_no == checked.mine.id, c.subject_ref == reference).order_by(c.given_at)
        return [_recorded(dict(row)) for row in tx.execute(query).mappings()]

    def _may_cross(self, checked: _Checked, recorded: Sequence[ConsentGiven]) -> Grounds | None:
        """Apply the transfer rules; return what rests on a consent that is new, under a new id.

        The purpose is that of the case: a consent to another one carries nothing here.
        """
        mine, said = checked.mine, checked.said
        transfer = Transfer(
            origin=place_of(checked.caller.origin_code),
            target=place_of(mine.row["handling_code"]),
            target_region=mine.region,
            target_recipient=mine.region,
            document_type=None,
            fields=[*(f"form.{name}" for name in said.form), *(["materials"] if said.materials else [])],
            purpose=recorded[0].purpose if recorded else "",
            consents=[*recorded, *map(_given, said.consents)],
            bases=self._bases,
            now=checked.received_at,
            item=mine.row["item_code"],
        )
        grounds = require(transfer)
        if grounds is None or grounds.consent.id is not None:
            return None
        return replace(grounds, consent=replace(grounds.consent, id="CNS" + secrets.token_hex(12)))

    async def _try(self, checked: _Checked) -> None:
        """Convert it once, with the mappings that the case is pinned to."""
        packs = await self._pinned(checked.region, checked.mine.row["mapping_version"])
        try_out(packs, KIND, checked.mine.id, "0", _body(checked, complete=False))

    # --- writing -----------------------------------------------------------------------------------------------

    def _write(self, tx: Connection, checked: _Checked) -> Taken:
        """Write everything that a supplement means, in one transaction, by what is asked for as it commits."""
        now = checked.received_at
        locked(tx, checked.mine.id)
        earlier = self._earlier(tx, checked)
        if earlier is not None:  # a twin of this request was faster
            return earlier
        asked = self._check(checked, self._asked(tx, checked.mine))  # the region may ask for something else by now
        self._desk.require_mandate(tx, checked.mine, checked.said, now)
        missing = asked.missing(material.code for material in checked.said.materials)
        complete = not missing and checked.said.complete is not False
        kept = self._materials.belong(tx, checked.mine.id, [checked.blobs[m.blob] for m in checked.said.materials])
        files = [(material.code, kept[material.blob]) for material in checked.said.materials]
        message = replace(_message(checked, complete=complete), materials=files)
        queued = enqueue(tx, self._desk.sealer, message, now)
        codes = [material.code for material in checked.said.materials]
        detail = {"message": queued.message_id, "materials": codes, "complete": complete, **by_mandate(checked.said)}
        self._events.note(tx, checked.mine.id, HANDED_IN, now, detail)
        self._keep_consent(tx, checked)
        record(tx, _exchange(checked, queued.message_id, complete=complete), now=self._desk.clock())
        return Taken(queued.message_id, checked.mine.id, complete, missing, replayed=False)

    def _answer(self, queued: Queued, checked: _Checked, asked: Asked | None) -> Taken:
        missing = [] if asked is None else asked.missing()
        complete = not missing and checked.said.complete is not False
        return Taken(queued.message_id, checked.mine.id, complete, missing, queued.replayed)

    def _keep_consent(self, tx: Connection, checked: _Checked) -> None:
        """Keep the consent that this transfer rests on, with the case (domain rule P3)."""
        if checked.grounds is None:
            return
        consent, basis, applicant = checked.grounds.consent, checked.grounds.basis, checked.mine.applicant
        row = {
            "id": consent.id,
            "case_no": checked.mine.id,
            "subject_ref": self._references.of(applicant.document_type, applicant.number),
            "recipient": consent.recipient,
            "purpose": consent.purpose,
            "fields": sorted(consent.fields),
            "basis": f"{basis.kind} {basis.reference}",
            "legal_basis": KIND,
            "recorded_by": owner_of(checked.caller),
            "evidence": consent.evidence,
            "given_at": consent.given_at,
            "expires_at": consent.expires_at,
            "revoked_at": None,
        }
        tx.execute(consents.insert().values(row))


def _not_asked(mine: Mine) -> Conflict:
    if mine.row["mode"] == JOINT:
        return Conflict("Several offices handle this case: supplement its part.", code="submission.in_parts")
    text = f"The region waits for nothing of the applicant now; the case is {mine.row['state']}."
    return Conflict(text, code="submission.not_asked")


def _crossing_problems(checked: _Checked, kept: set[str]) -> Iterator[FieldProblem]:
    """Check that no form field leaves its legal territory that may not (domain rule P1)."""
    here, there = place_of(checked.caller.origin_code), place_of(checked.mine.row["handling_code"])
    if here.zone is not there.zone:
        for name in sorted(kept & checked.said.form.keys()):
            yield FieldProblem(f"form.{name}", "may not leave its legal territory; leave it out", "may_not_cross")


def _material_problems(checked: _Checked, known: Sequence[str]) -> Iterator[FieldProblem]:
    said = checked.said
    if not said.form and not said.materials:
        yield FieldProblem("materials", "nothing is handed in: name materials or corrected form fields", "missing")
    for position, material in enumerate(said.materials):
        if material.code not in known:
            reason = f"is not asked for; asked for: {', '.join(known) or 'no material'}"
            yield FieldProblem(f"materials.{position}.code", reason, "not_asked")
        if problem := unusable(f"materials.{position}.blob", checked.blobs.get(material.blob)):
            yield problem


def _complete_problems(said: Supplement, asked: Asked) -> Iterator[FieldProblem]:
    """A caller may not call complete what is not."""
    missing = asked.missing(material.code for material in said.materials)
    if said.complete and missing:
        yield FieldProblem("complete", f"still missing of what was asked for: {', '.join(missing)}", "incomplete")


def _digest(said: Supplement, blobs: Mapping[str, Blob]) -> str:
    """Return the digest of what is said: the same file uploaded again is the same material."""
    told = said.model_dump(mode="json")
    for material in told["materials"]:
        if material["blob"] in blobs:
            material["blob"] = blobs[material["blob"]].sha256
    return said_digest(told)


def _message(checked: _Checked, *, complete: bool) -> Message:
    mine, said = checked.mine, checked.said
    return Message(
        mine.id, owner_of(checked.caller), mine.region, KIND, said.reference, checked.digest,
        _body(checked, complete=complete),
    )  # fmt: skip


def _body(checked: _Checked, *, complete: bool) -> dict[str, Any]:
    """Return the canonical supplement (mappings/vocabulary.toml) without its numbers."""
    caller, said = checked.caller, checked.said
    origin = {"window": caller.window_id, "operator": caller.operator}
    described = [
        {"code": m.code, "name": blob.name, "media_type": blob.media_type, "size": blob.size, "sha256": blob.sha256}
        for m in said.materials
        if (blob := checked.blobs.get(m.blob)) is not None
    ]
    body: dict[str, Any] = {
        "submitted_at": utc_text(checked.received_at.replace(microsecond=0)),
        "materials": described,
        "complete": complete,
    }
    if said.form:
        body["form"] = dict(said.form)
    known = {name: value for name, value in origin.items() if value}
    return {**body, "origin": known} if known else body


def _exchange(checked: _Checked, message_id: str, *, complete: bool) -> Exchange:
    said, mine = checked.said, checked.mine
    return Exchange(
        action="submission.supplement",
        outcome="done",
        reason="complete" if complete else "partial",
        who=who_is(checked.caller),
        what={
            "case": mine.id, "message": message_id, "item": mine.row["item_code"], "region": mine.region,
            **by_mandate(said),
        },
        purpose=mine.row["purpose_code"],
        received_at=checked.received_at,
        parts={
            "form": orjson.dumps(dict(said.form), option=orjson.OPT_SORT_KEYS),
            **({"agent": orjson.dumps(said.agent.model_dump(mode="json"))} if said.agent else {}),
            **{f"material.{m.code}": checked.blobs[m.blob].sha256.encode() for m in said.materials},
        },
    )  # fmt: skip


def _given(consent: Consent) -> ConsentGiven:
    return ConsentGiven(
        id=None,
        recipient=consent.recipient,
        purpose=consent.purpose,
        fields=frozenset(consent.fields),
        given_at=consent.given_at,
        expires_at=consent.expires_at,
        evidence=consent.evidence,
    )


def _recorded(row: Mapping[str, Any]) -> ConsentGiven:
    names = ("id", "recipient", "purpose", "given_at", "expires_at", "revoked_at", "evidence")
    return ConsentGiven(fields=frozenset(row["fields"]), **{name: row[name] for name in names})
