"""Intake: an application becomes a submission, or a refusal that says everything that is wrong.

Owns: the order of the checks, business idempotency for the life of a case, and the one transaction that writes
submission, delivery, event, consents and evidence. Nothing answers 2xx before it commits. Leaves to `delivery` what
happens next, and to `policy` who may.

Business idempotency: client + item + the client's own reference is the key. The same application again gets the same
receipt; another one under the same key is a conflict that names the submission which holds it.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, insert, select

from gateway.certificates.types import CertificateType
from gateway.crypto.at_rest import References, Sealer
from gateway.domain.calendar import local_day
from gateway.domain.caller import Caller
from gateway.domain.identifiers import case_number
from gateway.domain.identity import Assurance
from gateway.domain.item import Item, Office
from gateway.domain.mandate import Party, Use
from gateway.domain.region import place_of
from gateway.domain.submission import State
from gateway.errors import Conflict, FieldProblem, GatewayError, InvalidRequest, NotOffered
from gateway.evidence import Exchange, record
from gateway.evidence.record import refusal, who_is
from gateway.identity.mandates import Mandates
from gateway.mapping.library import PackSet
from gateway.policy.grants import Ask, Capability, Grants
from gateway.policy.transfer import Basis, ConsentGiven, Grounds, Transfer, bases_for, require
from gateway.ports import Clock
from gateway.regions import Region
from gateway.storage import Store
from gateway.storage.store import INSERTS
from gateway.storage.tables import consents, daily_sequences, deliveries, submission_materials, submissions
from gateway.submissions import checks, recognised
from gateway.submissions.application import Application, Consent, MaterialReference, utc_text
from gateway.submissions.certified import Proof, proofs_of, rechecked_after
from gateway.submissions.events import Beginning, EventLog
from gateway.submissions.materials import Blob, Materials, owner_of
from gateway.submissions.parcels import seal_body
from gateway.submissions.rules_kept import CERTIFIED
from gateway.submissions.vouched import identity_problems, typed_in


@dataclass(frozen=True, slots=True)
class Receipt:
    """The answer to an application. `replayed` says that it was here before."""

    submission_id: str
    state: str
    received_at: datetime
    replayed: bool


@dataclass(frozen=True, slots=True)
class Checked:
    """An application with what was found for it, on its way through the checks and past them."""

    caller: Caller
    application: Application
    item: Item
    office: Office
    region: Region
    packs: PackSet
    channel: str
    received_at: datetime
    digest: str
    grounds: Grounds | None
    blobs: Mapping[str, Blob]
    proofs: Sequence[Proof] = ()


# --- statements, built once: building one costs more than running it --------------------------------------------------

_S = submissions.c
_EARLIER = select(_S.id, _S.digest, _S.state, _S.created_at).where(
    _S.client_id == bindparam("owner"),
    _S.item_code == bindparam("item"),
    _S.client_reference == bindparam("reference"),
)
QUEUED = insert(deliveries)
_ATTACHED = insert(submission_materials)


@cache
def written(dialect: str) -> Any:
    """Return the statement that writes a case unless its number or its business key stands already."""
    return INSERTS[dialect](submissions).on_conflict_do_nothing()


@cache
def _counted(dialect: str) -> Any:
    """Return the statement that takes the next number of a sequence."""
    value = daily_sequences.c.value
    first = INSERTS[dialect](daily_sequences)
    return first.on_conflict_do_update(index_elements=["name"], set_={"value": value + 1}).returning(value)


class Intake:
    """Takes applications from agencies and from clerks alike."""

    def __init__(
        self,
        *,
        store: Store,
        items: Mapping[str, Item],
        regions: Mapping[str, Region],
        grants: Grants,
        bases: tuple[Basis, ...],
        materials: Materials,
        mandates: Mandates,
        events: EventLog,
        sealer: Sealer,
        references: References,
        clock: Clock,
        nudge: Callable[[str], None],
        refuse_blocked: Callable[[str, str], None] = lambda _item, _region: None,
        types: Mapping[str, CertificateType] = {},
    ) -> None:
        self._store = store
        self._items = items
        self._regions = regions
        self._grants = grants
        self._bases = bases
        self._materials = materials
        self._mandates = mandates
        self._events = events
        self._sealer = sealer
        self._references = references
        self._clock = clock
        self._nudge = nudge
        self._refuse_blocked = refuse_blocked
        self._types = types
        self._forms = checks.FormChecker(items)

    async def accept(self, caller: Caller, application: Application, *, assurance: Assurance, channel: str) -> Receipt:
        """Store the application and queue its delivery. Raises InvalidRequest, NotPermitted, Conflict, MappingFailed.

        `assurance` is how sure the channel is of the applicant; `channel` is `api` or `window`.
        """
        received_at = self._clock()
        try:
            return await self._accept(caller, application, assurance, channel, received_at)
        except GatewayError as error:
            await self._note_refusal(caller, application, error, received_at)
            raise

    async def _accept(
        self,
        caller: Caller,
        application: Application,
        assurance: Assurance,
        channel: str,
        received_at: datetime,
    ) -> Receipt:
        _, _, region = self._place(application)
        self._may(caller, application, region, received_at)
        blobs, digest, earlier = await self._store.read(
            lambda tx: self._look(tx, caller, application, application.materials)
        )
        if earlier is not None:
            return earlier
        found = self._found(caller, application, channel, received_at, digest, blobs)
        checked = self._ready(await self._proved(found), application, assurance)
        receipt = await self._store.write(lambda tx: self._write(tx, checked))
        self._nudge(region.id)
        return receipt

    def _found(
        self, caller: Caller, application: Application, channel: str, received_at: datetime, digest: str,
        blobs: Mapping[str, Blob],
    ) -> Checked:  # fmt: skip
        """Return an application with what was found for it, before it is checked."""
        item, office, region = self._place(application)
        return Checked(
            caller, application, item, office, region, region.packs.now(), channel, received_at, digest, None, blobs
        )  # fmt: skip

    async def _proved(self, found: Checked) -> Checked:
        """Require that every certificate which stands for a material was found valid. Raises InvalidRequest."""
        if not found.application.certificates:
            return found
        caller, application, item, now = found.caller, found.application, found.item, found.received_at
        proofs, problems = await self._store.read(lambda tx: proofs_of(tx, caller, application, item, self._types, now))
        if problems:
            raise InvalidRequest("Some certificates are not proved; see `problems`.", problems=problems)
        return replace(found, proofs=proofs)

    def _ready(self, found: Checked, application: Application, assurance: Assurance) -> Checked:
        """Check an application, which is the one that was found or a part of it, and may be filed."""
        caller, now = found.caller, found.received_at
        item, office, region = self._place(application)
        self._refuse_blocked(item.code, region.id)  # what the region changed meanwhile is for a person first
        self._check(caller, application, item, office, assurance, now)
        grounds = self._may_cross(caller, application, item, office, now)
        _all_found(application, found.blobs)
        not_too_large(application.materials, found.blobs, region)
        checked = replace(
            found, application=application, item=item, office=office, region=region, packs=region.packs.now(),
            grounds=grounds,
        )  # fmt: skip
        # A trial conversion under a well-formed number: what the region's format cannot say is refused now, to the
        # caller, and not found out at three in the morning by the delivery worker.
        pack = checked.packs.need("submission")
        _require_told(application, pack.lost, region)
        pack.to_region(self._body(checked, self._number(checked, 0)))
        return checked

    # --- checks ------------------------------------------------------------------------------------------------

    def _place(self, application: Application) -> tuple[Item, Office, Region]:
        item = self._items.get(application.item)
        if item is None:
            problem = FieldProblem("item", "is not in the catalogue; see GET /v1/items", "unknown_item")
            raise InvalidRequest("There is no such item.", problems=[problem], code="submission.unknown_item")
        office = item.office(application.place)
        region = self._regions.get(application.place)
        if office is None or region is None:
            places = ", ".join(office.region for office in item.offices)
            problem = FieldProblem("place", f"has no power over this item; places that have: {places}", "unknown_place")
            raise InvalidRequest("This place does not handle the item.", problems=[problem], code="submission.place")
        if region.adapter.submissions is None:  # its packs may be there all the same
            raise NotOffered(f"Region {region.id} takes no submissions.", region=region.id)
        return item, office, region

    def _may(self, caller: Caller, application: Application, region: Region, now: datetime) -> None:
        self._grants.require(
            Ask(
                client=caller.client_id,
                capability=Capability.CREATE_SUBMISSIONS,
                item=application.item,
                certificate_type=None,
                purpose=application.purpose_code,
                region=region.id,
                on=local_day(now),
            )
        )

    def _check(
        self,
        caller: Caller,
        application: Application,
        item: Item,
        office: Office,
        assurance: Assurance,
        now: datetime,
    ) -> None:
        problems = [
            *checks.reference_problems(application),
            *checks.applicant_problems(application, local_day(now)),
            *checks.agent_problems(application, local_day(now)),
            *checks.acting_problems(caller, application),
            *identity_problems(caller, application, item),
            *checks.mode_problems(application, item, assurance),
            *self._forms.problems(item, application.form),
            *checks.material_problems(application, item),
            *checks.crossing_problems(application, item, office, caller.origin_code),
        ]
        if problems:
            raise InvalidRequest("Some fields are not valid; see `problems`.", problems=problems)

    def _may_cross(
        self, caller: Caller, application: Application, item: Item, office: Office, now: datetime
    ) -> Grounds | None:
        """Apply the transfer rules; return what the transfer rests on, under a new id, when it crosses a border."""
        transfer = Transfer(
            origin=place_of(caller.origin_code),
            target=place_of(office.code),
            target_region=office.region,
            target_recipient=office.region,
            document_type=application.applicant.document.type,
            fields=sent_fields(application),
            purpose=application.purpose,
            consents=[_given(consent) for consent in application.consents],
            bases=self._bases,
            now=now,
            item=item.code,
        )
        grounds = require(transfer)
        if grounds is None:
            return None
        return replace(grounds, consent=replace(grounds.consent, id="CNS" + secrets.token_hex(12)))

    # --- writing -----------------------------------------------------------------------------------------------

    def _look(
        self, tx: Connection, caller: Caller, application: Application, materials: Sequence[MaterialReference]
    ) -> tuple[Mapping[str, Blob], str, Receipt | None]:
        """Return the uploads that are named, the digest of what is said, and the receipt that stands for it already."""
        wanted = [material.blob for material in materials]
        blobs = self._materials.find(tx, caller, wanted) if wanted else {}
        digest = digest_of(application, blobs)
        return blobs, digest, self._earlier(tx, caller, application, digest)

    def _earlier(self, tx: Connection, caller: Caller, application: Application, digest: str) -> Receipt | None:
        """Return the receipt of the submission that holds this business key. Raises Conflict when it differs."""
        key = {"owner": owner_of(caller), "item": application.item, "reference": application.reference}
        row = tx.execute(_EARLIER, key).one_or_none()
        if row is None:
            return None
        if row.digest != digest:
            text = f"Reference and item already stand for submission {row.id}, which says something else."
            problem = FieldProblem("reference", "choose a new one for a new application", "reference_used")
            raise Conflict(text, problems=[problem], code="submission.reference_conflict")
        return Receipt(row.id, row.state, row.created_at, replayed=True)

    def _write(self, tx: Connection, checked: Checked) -> Receipt:
        """Write everything that an accepted application means, in one transaction."""
        self._may_act(tx, checked)
        number = self._number(checked, self._next_sequence(tx, checked))
        beginning = self._beginning(checked, self._row(checked, number), {})
        if tx.execute(written(tx.dialect.name), beginning.case).rowcount == 0:  # a twin of this request was faster
            earlier = self._earlier(tx, checked.caller, checked.application, checked.digest)
            if earlier is None:
                raise Conflict("The submission could not be numbered; send it again.", code="submission.numbering")
            return earlier
        materials = checked.application.materials
        if materials:
            kept = self._materials.belong(tx, number, [checked.blobs[material.blob] for material in materials])
            self._attach(tx, checked, number, kept)
        tx.execute(QUEUED, self._delivery(checked, number, due=checked.received_at))
        self._begun(tx, checked, number, beginning)
        self._record_consent(tx, checked, number)
        self._keep_certificates(tx, checked, number)
        return Receipt(number, State.COLLECTED, checked.received_at, replayed=False)

    def _attach(self, tx: Connection, checked: Checked, number: str, kept: Mapping[str, str]) -> None:
        """Write which files come with the case; `kept` says under which id each is kept."""
        rows = [
            {"submission_id": number, "position": position, "code": material.code, "blob_id": kept[material.blob]}
            for position, material in enumerate(checked.application.materials)
        ]
        if rows:
            tx.execute(_ATTACHED, rows)

    def _beginning(self, checked: Checked, row: Mapping[str, Any], more: Mapping[str, Any]) -> Beginning:
        """Return the first event of a case, and the row of the case with it."""
        codes = sorted({certified.code for certified in checked.application.certificates})
        final = {CERTIFIED: codes} if codes else {}
        detail = {"channel": checked.channel, **_by_mandate(checked), **final, **more}
        return self._events.begin(row, checked.received_at, detail)

    def _begun(self, tx: Connection, checked: Checked, number: str, beginning: Beginning) -> None:
        """Write the first event of a case, and the evidence that it was taken."""
        self._events.begun(tx, beginning, checked.received_at)
        record(tx, self._exchange(checked, number), now=self._clock())

    def _delivery(self, checked: Checked, number: str, *, due: datetime | None) -> dict[str, Any]:
        return {
            "id": "DL" + secrets.token_hex(16),
            "submission_id": number,
            "client_id": owner_of(checked.caller),
            "region": checked.region.id,
            "state": "pending",
            "due": due,
            "attempt": 0,
            "failures": 0,
            "created_at": checked.received_at,
        }

    def _may_act(self, tx: Connection, checked: Checked) -> None:
        """Let an agent file only by a mandate of this applicant that is live as this transaction commits."""
        application = checked.application
        if application.agent is None or application.mandate is None:  # both or none, see `checks`
            return
        document = application.applicant.document
        applicant = Party(document.type, document.number, application.applicant.name)
        use = Use(application.agent.party(), checked.item.code, checked.received_at, applicant)
        self._mandates.check(tx, application.mandate, use, hold=True)

    def _next_sequence(self, tx: Connection, checked: Checked) -> int:
        """Return the next number of the day for this pair of places."""
        day = local_day(checked.received_at)
        name = f"{checked.caller.origin_code[:6]}-{checked.office.code[:6]}-{day:%Y%m%d}"
        return int(tx.execute(_counted(tx.dialect.name), {"name": name, "value": 1}).scalar_one())

    def _number(self, checked: Checked, sequence: int) -> str:
        return case_number(
            origin=checked.caller.origin_code,
            handling=checked.office.code,
            day=local_day(checked.received_at),
            sequence=sequence,
        )

    def _row(self, checked: Checked, number: str) -> dict[str, Any]:
        document = checked.application.applicant.document
        return {
            "id": number,
            "client_id": owner_of(checked.caller),
            "item_code": checked.item.code,
            "client_reference": checked.application.reference,
            "digest": checked.digest,
            "state": State.COLLECTED,
            "mode": checked.application.mode,
            "purpose_code": checked.application.purpose_code,
            "channel": checked.channel,
            "origin_code": checked.caller.origin_code,
            "window_id": checked.caller.window_id,
            "operator": checked.caller.operator,
            "handling_region": checked.region.id,
            "handling_code": checked.office.code,
            "applicant_ref": self._references.of(document.type, document.number),
            "body": seal_body(self._sealer, number, self._body(checked, number)),
            "mapping_version": checked.packs.version,
            "created_at": checked.received_at,
            "updated_at": checked.received_at,
        }

    def _body(self, checked: Checked, number: str) -> dict[str, Any]:
        """Return the canonical submission (mappings/vocabulary.toml)."""
        application, caller = checked.application, checked.caller
        origin = {"region": caller.origin_code, "window": caller.window_id, "operator": caller.operator}
        body: dict[str, Any] = {
            "id": number,
            "mode": application.mode,
            "item": {"code": checked.item.code, "name": checked.item.name["zh-CN"]},
            "submitted_at": utc_text(checked.received_at.replace(microsecond=0)),
            "channel": checked.channel,
            "origin": {name: value for name, value in origin.items() if value},
            "handling": {"region": checked.office.code},
            "applicant": application.applicant.model_dump(mode="json", exclude_none=True),
            "form": dict(application.form),
            "materials": [_described(m, checked.blobs[m.blob]) for m in application.materials],
        }
        if application.agent is not None:
            body["agent"] = application.agent.model_dump(mode="json", exclude_none=True)
            body["mandate"] = application.mandate
        if application.certificates:
            body["certified"] = [{"code": one.code, "identifier": one.identifier} for one in application.certificates]
        if application.deferred:
            body["deferred"] = [deferred.model_dump() for deferred in application.deferred]
        return body if checked.grounds is None else {**body, "consent": checked.grounds.consent.id}

    def _record_consent(self, tx: Connection, checked: Checked, number: str) -> None:
        """Keep the consent that the transfer rests on, with the case (domain rule P3)."""
        if checked.grounds is not None:
            self._record_grounds(tx, checked, number, checked.grounds)

    def _record_grounds(self, tx: Connection, checked: Checked, number: str, grounds: Grounds) -> None:
        application, consent, basis = checked.application, grounds.consent, grounds.basis
        document = application.applicant.document
        row = {
            "id": consent.id,
            "case_no": number,
            "subject_ref": self._references.of(document.type, document.number),
            "recipient": consent.recipient,
            "purpose": consent.purpose,
            "fields": sorted(consent.fields),
            "basis": f"{basis.kind} {basis.reference}",
            "legal_basis": application.legal_basis,
            "recorded_by": owner_of(checked.caller),
            "evidence": consent.evidence,
            "given_at": consent.given_at,
            "expires_at": consent.expires_at,
            "revoked_at": None,
        }
        tx.execute(consents.insert().values(row))

    def _keep_certificates(self, tx: Connection, checked: Checked, number: str) -> None:
        """Keep what the case rests on, so that it is asked about again, and the consents by which that is done."""
        if not checked.proofs:
            return
        application = checked.application
        proofs = [(proof, rechecked_after(self._types, proof.kind)) for proof in checked.proofs]
        grounds = recognised.Grounds(application.purpose, application.legal_basis)
        recognised.keep(tx, self._sealer, self._references, number, proofs, grounds, self._clock())
        for place in sorted({proof.issuer for proof in checked.proofs if proof.issuer in self._regions}):
            self._keep_consents_to_ask(tx, checked, number, self._regions[place])

    def _keep_consents_to_ask(self, tx: Connection, checked: Checked, number: str, issuer: Region) -> None:
        """Keep the consents to asking an issuer beyond a border, both ways; without them it is asked no more."""
        if place_of(checked.caller.origin_code).zone is issuer.place.zone:
            return
        for consent in checked.application.consents:
            given = replace(_given(consent), id="CNS" + secrets.token_hex(12))
            own = checked.grounds and replace(checked.grounds.consent, id=given.id) == given
            if consent.purpose != checked.application.purpose or own:
                continue  # of another purpose than the question's; or the case's own, which is kept already
            for basis in self._bases_to_ask(checked, consent, issuer)[:1]:
                self._record_grounds(tx, checked, number, Grounds(given, basis))

    def _bases_to_ask(self, checked: Checked, consent: Consent, issuer: Region) -> list[Basis]:
        """Return what carries a consent to a question to this issuer, or to its answer; nothing for another one."""
        here = place_of(checked.caller.origin_code)
        ends = {issuer.id: (here, issuer.place), checked.caller.client_id: (issuer.place, here)}
        if consent.recipient not in ends:
            return []
        origin, target = ends[consent.recipient]
        way = Transfer(
            origin=origin, target=target, target_region=issuer.id, target_recipient=consent.recipient,
            document_type=None, fields=consent.fields, purpose=consent.purpose, consents=(), bases=self._bases,
            now=checked.received_at, item=checked.item.code,
        )  # fmt: skip
        return bases_for(way)

    # --- evidence ----------------------------------------------------------------------------------------------

    def _exchange(self, checked: Checked, number: str) -> Exchange:
        application = checked.application
        return Exchange(
            action="submission.accept",
            outcome="done",
            reason="accepted",
            who=who_is(checked.caller),
            what={
                "case": number,
                "item": checked.item.code,
                "region": checked.region.id,
                **_by_mandate(checked),
                **_sighted(application),
                **_typed_in(checked),
                **({"lookups": [one.lookup for one in application.certificates]} if application.certificates else {}),
            },
            purpose=f"{application.purpose_code}: {application.purpose}",
            received_at=checked.received_at,
            parts={
                "applicant": orjson.dumps(application.applicant.model_dump(mode="json")),
                "form": orjson.dumps(dict(application.form), option=orjson.OPT_SORT_KEYS),
                **({"agent": orjson.dumps(application.agent.model_dump(mode="json"))} if application.agent else {}),
                **{f"material.{code}": blob.sha256.encode() for code, blob in _by_code(checked).items()},
            },
        )

    async def _note_refusal(
        self, caller: Caller, application: Application, error: GatewayError, received_at: datetime
    ) -> None:
        exchange = refusal(
            error,
            action="submission.accept",
            who=who_is(caller),
            what={
                "item": application.item,
                "region": application.place,
                **({"mandate": application.mandate} if application.mandate else {}),
            },
            purpose=f"{application.purpose_code}: {application.purpose}",
            received_at=received_at,
        )
        error.evidence = await self._store.write(lambda tx: record(tx, exchange, now=self._clock()))


def digest_of(application: Application, blobs: Mapping[str, Blob]) -> str:
    """Return the digest of what an application says: the same file uploaded again is the same material."""
    said = application.model_dump(mode="json")
    for name in ("agent", "mandate"):  # whoever files for oneself says what was said before these fields joined
        if said[name] is None:
            del said[name]
    for name in ("certificates", "deferred", "parts"):  # as above
        if not said[name]:
            del said[name]
    files = [*said["materials"], *(file for part in said.get("parts", ()) for file in part["materials"])]
    for material in files:
        if material["original_sighted"] is None:  # as above
            del material["original_sighted"]
        if material["blob"] in blobs:
            material["blob"] = blobs[material["blob"]].sha256
    return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()


def sent_fields(application: Application) -> list[str]:
    """Return the canonical names of the personal fields that this application sends to the handling region."""
    applicant = application.applicant.model_dump(exclude_none=True)
    named = [f"applicant.{name}" for name in applicant if name != "kind"]
    lists = {
        "materials": application.materials, "certified": application.certificates, "deferred": application.deferred,
    }  # fmt: skip
    more = [name for name, given in lists.items() if given]
    return [*named, *(f"form.{name}" for name in application.form), *more]


def _all_found(application: Application, blobs: Mapping[str, Blob]) -> None:
    problems = [
        problem
        for position, material in enumerate(application.materials)
        if (problem := unusable(f"materials.{position}.blob", blobs.get(material.blob)))
    ]
    if problems:
        raise InvalidRequest("Some materials were not uploaded.", problems=problems)


def unusable(field: str, blob: Blob | None) -> FieldProblem | None:
    """Say why a blob cannot be referred to; None when it can."""
    if blob is None:
        return FieldProblem(field, "is no upload of this caller; POST /v1/blobs first", "unknown_blob")
    if blob.case is not None:
        return FieldProblem(field, f"belongs to case {blob.case}; upload the file again", "blob_used")
    if blob.state == "open":
        return FieldProblem(field, "is not complete yet", "blob_unfinished")
    return None


def _require_told(application: Application, lost: Set[str], region: Region) -> None:
    """Require that the region learns of certificates that stand for materials. Raises InvalidRequest.

    Otherwise the material would only be missing there, and a notice would ask for the paper.
    """
    if application.certificates and not lost.isdisjoint(("certified[].code", "certified[].identifier")):
        reason = f"cannot stand for a material at {region.id}, which takes no certificate in its place: hand it in"
        problem = FieldProblem("certificates", reason, "not_certifiable")
        raise InvalidRequest("Some materials are missing; see `problems`.", problems=[problem])


def not_too_large(materials: Sequence[MaterialReference], blobs: Mapping[str, Blob], region: Region) -> None:
    """Refuse at the counter what the region's wire cannot carry, and not at three in the morning."""
    sizes = [blobs[material.blob].size for material in materials]
    problems = list(checks.size_problems(sizes, region.id, region.limits.material_bytes))
    if problems:
        raise InvalidRequest("The region does not take files as large as this.", problems=problems)


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


def _by_mandate(checked: Checked) -> dict[str, str]:
    return {"mandate": checked.application.mandate} if checked.application.mandate else {}


def _described(material: MaterialReference, blob: Blob) -> dict[str, Any]:
    """Return a material as it is kept; what no pack lists (`original_sighted`) stays here."""
    seen = {} if material.original_sighted is None else {"original_sighted": material.original_sighted}
    return {
        "code": material.code,
        "name": blob.name,
        "media_type": blob.media_type,
        "size": blob.size,
        "sha256": blob.sha256,
        **seen,
    }


def _sighted(application: Application) -> dict[str, Any]:
    """Return which originals the clerk saw, by code, where anything was said of it; the clerk stands in `who`."""
    said = [material for material in application.materials if material.original_sighted is not None]
    return {"originals_sighted": sorted({m.code for m in said if m.original_sighted})} if said else {}


def _typed_in(checked: Checked) -> dict[str, Any]:
    """Return the fields from a sign-on that nobody but the caller vouches for, where there are any; no value."""
    fields = typed_in(checked.caller, checked.application, checked.item)
    return {"typed_in": fields} if fields else {}


def _by_code(checked: Checked) -> dict[str, Blob]:
    return {material.code: checked.blobs[material.blob] for material in checked.application.materials}
