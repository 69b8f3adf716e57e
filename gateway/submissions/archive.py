"""The archive package of a case: what stands in it, and who may have it.

Owns: reading a case that has ended into the entries of a package, as of one moment, and signing it once for each state
of the case. Leaves to `archive_package`: the form. To `archive_push`: handing it to an archive system (档案管理系统).

A package is for whoever must keep the file of the case, so it has the applicant's data in clear, as the form had them.
What is no part of the file stays out: ratings and complaints, and who has had the package.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table, select

from gateway.crypto.at_rest import Sealer
from gateway.crypto.signing import Signer
from gateway.domain.caller import Caller
from gateway.domain.submission import ENDS, State
from gateway.errors import Conflict
from gateway.evidence import Exchange, record
from gateway.evidence.record import who_is
from gateway.ports import Clock
from gateway.storage import Store
from gateway.storage.store import insert_into
from gateway.storage.tables import (
    archive_signatures,
    blobs,
    case_messages,
    consents,
    deliveries,
    evidence,
    mapping_set_packs,
    region_numbers,
    submission_events,
    submission_materials,
    submissions,
)
from gateway.submissions import recognised
from gateway.submissions.archive_package import EVENTS, TYP, Manifest, Package, Part, json_part
from gateway.submissions.materials import Materials
from gateway.submissions.owned import require_owner
from gateway.submissions.papers import papers_said
from gateway.submissions.parcels import open_body, open_message
from gateway.submissions.results import documents_of
from gateway.submissions.service import service_said
from gateway.submissions.story import LINKED, SALT, exact, open_detail

OF_THE_FILE = ("supplement", "withdrawal")
"""Kinds of messages that belong to the file of a case."""
_ABOUT_THE_PACKAGE = "archive."
"""How the actions begin whose evidence is about the package and not about the case."""


class Archive:
    """Makes packages."""

    def __init__(
        self, *, store: Store, sealer: Sealer, materials: Materials, signer: Signer, issuer: str, clock: Clock
    ) -> None:
        self._store = store
        self._sealer = sealer
        self._materials = materials
        self._signer = signer
        self._issuer = issuer
        self._clock = clock

    async def of(self, caller: Caller, submission_id: str) -> Package:
        """Return the package of a case for whoever filed it. Raises NotFound, Conflict while it has not ended."""

        def mine(tx: Connection) -> None:
            require_owner(tx, self._sealer, caller, submission_id)

        package = await self.package(submission_id, mine)
        now = self._clock()
        exchange = Exchange(
            action="archive.read", outcome="done", reason="handed out", who=who_is(caller),
            what={"case": submission_id, "manifest": package.manifest.sha256()}, purpose="file of the case",
            received_at=now,
        )  # fmt: skip
        await self._store.write(lambda tx: record(tx, exchange, now=now))
        return package

    async def package(self, submission_id: str, allow: Callable[[Connection], None] = lambda _tx: None) -> Package:
        """Return the package of a case as it is now. Raises Conflict while it has not ended, and what `allow` does."""

        def read(tx: Connection) -> Manifest:
            allow(tx)
            return self._read(tx, submission_id)

        manifest = await self._store.read(read)
        return Package(manifest, await self._signature(manifest))

    async def _signature(self, manifest: Manifest) -> str:
        """Return the one signature of this manifest; made now if there is none yet."""
        digest, now = manifest.sha256(), self._clock()

        def keep(tx: Connection) -> str:
            c = archive_signatures.c
            kept: str | None = tx.execute(select(c.jws).where(c.manifest_sha256 == digest)).scalar_one_or_none()
            if kept is not None:
                return kept
            said = {
                "iss": self._issuer, "iat": int(now.timestamp()), "case": manifest.case, "manifest_sha256": digest,
            }  # fmt: skip
            row = {
                "manifest_sha256": digest,
                "submission_id": manifest.case,
                "jws": self._signer.sign(said, typ=TYP),
                "signed_at": now,
            }
            tx.execute(insert_into(tx, archive_signatures).values(row).on_conflict_do_nothing())
            return str(tx.execute(select(c.jws).where(c.manifest_sha256 == digest)).scalar_one())

        return await self._store.write(keep)

    # --- what stands in it -------------------------------------------------------------------------------------

    def _read(self, tx: Connection, submission_id: str) -> Manifest:
        row = dict(tx.execute(select(submissions).where(submissions.c.id == submission_id)).mappings().one())
        if State(row["state"]) not in ENDS:
            raise Conflict("A case is archived once it has ended.", code="archive.too_early")
        events = self._events(tx, submission_id)
        documents = documents_of(tx, self._materials, submission_id)
        parts = [
            json_part("case.json", _case(row)),
            json_part("application.json", open_body(self._sealer, submission_id, row["body"])),
            json_part("materials.json", self._files(tx, submission_id)),
            json_part("messages.json", self._messages(tx, submission_id)),
            json_part("receipts.json", _receipts(tx, submission_id)),
            json_part("decision.json", _decision(events, documents)),
            json_part("service.json", service_said(tx, self._sealer, submission_id)),
            json_part("papers.json", papers_said(tx, self._sealer, submission_id)),
            json_part(EVENTS, events),
            json_part("evidence.json", _evidence(tx, submission_id)),
            json_part("consents.json", _rows(tx, consents, consents.c.case_no == submission_id, consents.c.id)),
            json_part("mappings.json", _mappings(tx, row)),
            json_part("certificates.json", recognised.for_the_file(tx, self._sealer, submission_id)),
        ]
        for code, blob in documents:
            if blob.state == "stored":
                parts.append(Part(f"results/{code}", blob.size, blob.sha256, self._opener(blob.id)))
        return Manifest(submission_id, row["head"], parts)

    def _opener(self, blob_id: str) -> Callable[[], AsyncIterator[bytes]]:
        return lambda: self._materials.open(blob_id)

    def _events(self, tx: Connection, submission_id: str) -> list[dict[str, Any]]:
        c = submission_events.c
        query = select(submission_events).where(c.submission_id == submission_id).order_by(c.seq)
        return [self._event(dict(row)) for row in tx.execute(query).mappings()]

    def _event(self, row: Mapping[str, Any]) -> dict[str, Any]:
        detail = open_detail(self._sealer, row["submission_id"], row["seq"], row["detail"], salt=True)
        salt = detail.pop(SALT, None)
        entry = {name: _text(row[name]) for name in LINKED}
        return {**entry, "effect": row["effect"], "detail": detail, "salt": salt, "hash": row["hash"]}

    def _files(self, tx: Connection, submission_id: str) -> list[dict[str, Any]]:
        c = submission_materials.c
        joined = (
            select(c.code, c.message_id, *blobs.c)
            .join(blobs, blobs.c.id == c.blob_id)
            .where(c.submission_id == submission_id)
            .order_by(c.position)
        )
        found = [(row, self._materials.read_row(dict(row))) for row in tx.execute(joined).mappings()]
        return [
            {"code": row["code"], "name": blob.name or None, "media_type": blob.media_type, "size": blob.size,
             "sha256": blob.sha256, "message": row["message_id"]}
            for row, blob in found
        ]  # fmt: skip

    def _messages(self, tx: Connection, submission_id: str) -> list[dict[str, Any]]:
        c = case_messages.c
        mine = select(case_messages).where(c.submission_id == submission_id, c.kind.in_(OF_THE_FILE))
        return [
            {"id": row["id"], "kind": row["kind"], "created_at": exact(row["created_at"]),
             "body": open_message(self._sealer, row["id"], row["body"])}
            for row in tx.execute(mine.order_by(c.created_at, c.id)).mappings()
        ]  # fmt: skip


def _case(row: Mapping[str, Any]) -> dict[str, Any]:
    names = (
        "id", "client_id", "item_code", "client_reference", "state", "mode", "channel", "origin_code", "window_id",
        "operator", "handling_region", "handling_code", "mapping_version", "parent_id", "created_at",
    )  # fmt: skip
    return {name: _text(row[name]) for name in names}


def _receipts(tx: Connection, submission_id: str) -> dict[str, Any]:
    """Return the region's own numbers, and what was handed over when."""
    c = deliveries.c
    columns = (c.kind, c.message_id, c.region, c.state, c.attempt, c.last_code, c.sent_at, c.settled_at, c.created_at)
    sent = select(*columns).where(c.submission_id == submission_id, c.kind.in_(("submission", *OF_THE_FILE)))
    return {
        "numbers": _rows(tx, region_numbers, region_numbers.c.submission_id == submission_id, region_numbers.c.region),
        "deliveries": [_plain(row) for row in tx.execute(sent.order_by(c.created_at, c.id)).mappings()],
    }


def _decision(events: list[dict[str, Any]], documents: Any) -> dict[str, Any]:
    """Return what the authority decided, as it said it, and the digests of the documents that came of it."""
    decided = ("DECIDED", "COMPLETED", "NOT_ACCEPTED", "NOT_WITHIN_POWER", "RETURNED", "VOID", "WITHDRAWN")
    steps = [event for event in events if event["kind"] == "step" and event["state"] in decided]
    return {
        "steps": [{name: step[name] for name in ("seq", "state", "source", "occurred_at", "detail")} for step in steps],
        "documents": [
            {"code": code, "name": blob.name or None, "media_type": blob.media_type, "size": blob.size,
             "sha256": blob.sha256}
            for code, blob in documents
        ],
    }  # fmt: skip


def _evidence(tx: Connection, submission_id: str) -> list[dict[str, Any]]:
    c = evidence.c
    about = (c.case_no == submission_id, ~c.action.startswith(_ABOUT_THE_PACKAGE))
    query = select(evidence).where(*about).order_by(c.recorded_at, c.id)
    return [_plain(row) for row in tx.execute(query).mappings()]


def _mappings(tx: Connection, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the version of the mappings that the case was written with, and of each of its packs."""
    c = mapping_set_packs.c
    query = select(c.message, c.pack_version).where(
        c.region == row["handling_region"], c.set_version == row["mapping_version"]
    )
    packs = {row.message: row.pack_version for row in tx.execute(query.order_by(c.message))}
    return {"region": row["handling_region"], "version": row["mapping_version"], "packs": packs}


def _rows(tx: Connection, table: Table, mine: Any, order: Any) -> list[dict[str, Any]]:
    return [_plain(row) for row in tx.execute(select(table).where(mine).order_by(order)).mappings()]


def _plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(name): _text(value) for name, value in row.items()}


def _text(value: Any) -> Any:
    return exact(value) if isinstance(value, datetime) else value
