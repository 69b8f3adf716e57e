"""Drafts (暂存): forms that a window has begun and not handed in.

Owns: keeping a form as it was typed, for the clerks of one window alone, until it is handed in, discarded, or its term
is over; and keeping its files for as long. Leaves to `gateway.web.window`: what a form says. To `intake`:
whether that is right; nothing of it is asked before it is handed in.

A draft is no case: it has no number, no event, no delivery, no clock but its term. It goes by the reference that its
application will have, so whoever hands it in twice makes one case. From the commit that files the case the draft is
there no more: it is not found, cannot be saved, and is deleted by the janitor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

import orjson
from sqlalchemy import ColumnElement, Connection, RowMapping, and_, delete, exists, func, or_, select, update

from gateway.crypto.at_rest import Sealer
from gateway.domain.caller import Caller
from gateway.errors import Conflict, NotFound, Unavailable
from gateway.ports import Clock
from gateway.storage import Store
from gateway.storage.store import insert_into
from gateway.storage.tables import blobs, drafts, submissions
from gateway.submissions.materials import owner_of

MOST = 200
"""Drafts of one window at a time: what is begun is to be handed in or discarded."""
NEW = 0
"""The version of a form that was never saved."""


@dataclass(frozen=True, slots=True)
class Typed:
    """A form as it was typed.

    `item` and `place` say which form, `joint` that several offices handle it together; `files` are blob id and file
    name by material code.
    """

    item: str
    place: str
    joint: bool
    texts: Mapping[str, str]
    files: Mapping[str, Sequence[tuple[str, str]]]


@dataclass(frozen=True, slots=True)
class Draft:
    """A draft as its window sees it: saved `version` times, by `operator` last; `until` is the end of its term."""

    reference: str
    typed: Typed
    version: int
    operator: str
    saved_at: datetime
    until: datetime


class Drafts:
    """Keeps drafts. `life` is their term since they were saved last."""

    def __init__(self, *, store: Store, sealer: Sealer, clock: Clock, life: timedelta) -> None:
        self._store = store
        self._sealer = sealer
        self._clock = clock
        self._life = life

    async def save(self, caller: Caller, reference: str, typed: Typed, version: int) -> Draft:
        """Keep a form; `version` is the one that the clerk has seen, `NEW` when there was none.

        The same again is the same. Raises Conflict when another one was saved meanwhile, when it was handed in, or
        when the window has too many.
        """
        now = self._clock()
        return await self._store.write(lambda tx: self._save(tx, caller, reference, typed, version, now))

    async def find(self, caller: Caller, reference: str) -> Draft:
        """Return a draft of this window. Raises NotFound, also for one that is over or was handed in."""
        now = self._clock()
        found = await self._store.read(lambda tx: self._find(tx, owner_of(caller), reference, now))
        if found is None:
            raise NotFound("There is no such draft of this window.", code="draft.not_found")
        return found

    async def all_of(self, caller: Caller) -> list[Draft]:
        """Return the drafts of this window, the newest first."""
        mine, now = drafts.c.client_id == owner_of(caller), self._clock()
        query = select(drafts).where(mine, _open(now)).order_by(drafts.c.saved_at.desc(), drafts.c.reference)
        return await self._store.read(lambda tx: [_read(self._sealer, row) for row in tx.execute(query).mappings()])

    async def discard(self, caller: Caller, reference: str) -> None:
        """Delete a draft with its files; one that is not there is discarded already."""
        await self._store.write(lambda tx: self._discard(tx, owner_of(caller), reference))

    # --- their parts -------------------------------------------------------------------------------------------------

    def _save(self, tx: Connection, caller: Caller, reference: str, typed: Typed, version: int, now: datetime) -> Draft:
        owner = owner_of(caller)
        if tx.execute(select(_filed(owner, typed.item, reference))).scalar_one():
            raise Conflict("This form was handed in already.", code="draft.handed_in")
        draft = Draft(reference, typed, version + 1, caller.operator or "", now, now + self._life)
        if not self._write(tx, owner, draft, now):
            earlier = self._find(tx, owner, reference, now)
            if earlier is None or earlier.typed != typed:
                raise Conflict("This draft was saved or discarded meanwhile.", code="draft.changed")
            return earlier
        tx.execute(update(blobs).where(_files_of(owner, typed)).values(held_until=draft.until))
        return draft

    def _write(self, tx: Connection, owner: str, draft: Draft, now: datetime) -> bool:
        """Write the draft over the version before it; say whether that was the one that stands."""
        c = drafts.c
        clear = orjson.dumps(asdict(draft.typed))
        values = {
            "operator": draft.operator,
            "version": draft.version,
            "body": self._sealer.seal(clear, _context(owner, draft.reference)),
            "saved_at": draft.saved_at,
            "expires_at": draft.until,
        }
        mine = and_(c.client_id == owner, c.reference == draft.reference)
        if draft.version > NEW + 1:
            same = and_(mine, c.item_code == draft.typed.item)  # another item's would outlive its own hand-in
            stands = and_(same, c.version == draft.version - 1, c.expires_at > now)
            return tx.execute(update(drafts).where(stands).values(values)).rowcount > 0
        tx.execute(delete(drafts).where(mine, c.expires_at <= now))  # it is over; the janitor was not here yet
        if tx.execute(select(exists().where(mine))).scalar_one():
            return False
        if tx.execute(select(func.count()).where(c.client_id == owner, c.expires_at > now)).scalar_one() >= MOST:
            text = f"This window has {MOST} drafts: hand some in, or discard them."
            raise Conflict(text, code="draft.too_many")
        key = {"client_id": owner, "reference": draft.reference, "item_code": draft.typed.item}
        return tx.execute(insert_into(tx, drafts).values(key | values).on_conflict_do_nothing()).rowcount > 0

    def _find(self, tx: Connection, owner: str, reference: str, now: datetime) -> Draft | None:
        c = drafts.c
        query = select(drafts).where(c.client_id == owner, c.reference == reference, _open(now))
        row = tx.execute(query).mappings().one_or_none()
        return None if row is None else _read(self._sealer, row)

    def _discard(self, tx: Connection, owner: str, reference: str) -> None:
        c = drafts.c
        mine = and_(c.client_id == owner, c.reference == reference)
        row = tx.execute(delete(drafts).where(mine).returning(*c)).mappings().one_or_none()
        if row is not None:
            gone = {"state": "deleting", "why": "dropped", "reserved": 0}
            tx.execute(update(blobs).where(_files_of(owner, _read(self._sealer, row).typed)).values(gone))


def forget(tx: Connection, sealer: Sealer, now: datetime) -> int:
    """Delete drafts whose term is over, and those that were handed in; return how many. For the janitor.

    What a draft had and its application has not is kept no longer than any file that nobody uses.
    """
    c = drafts.c
    gone = or_(c.expires_at <= now, _filed(c.client_id, c.item_code, c.reference))
    rows = tx.execute(delete(drafts).where(gone).returning(*c)).mappings().all()
    for row in rows:
        if row["expires_at"] > now:
            _let_go(tx, sealer, row)
    return len(rows)


def _let_go(tx: Connection, sealer: Sealer, row: RowMapping) -> None:
    """Hold the files of a draft no longer, unless another draft holds them. One that no key opens ends by its term."""
    with suppress(Unavailable):
        mine = and_(_files_of(row["client_id"], _read(sealer, row).typed), blobs.c.held_until == row["expires_at"])
        tx.execute(update(blobs).where(mine).values(held_until=None))


def _read(sealer: Sealer, row: RowMapping) -> Draft:
    said = orjson.loads(sealer.open(row["body"], _context(row["client_id"], row["reference"])))
    files = {code: [(blob, name) for blob, name in held] for code, held in said["files"].items()}
    typed = Typed(**{**said, "files": files})
    return Draft(row["reference"], typed, row["version"], row["operator"], row["saved_at"], row["expires_at"])


def _files_of(owner: str, typed: Typed) -> ColumnElement[bool]:
    """Return which files are those of a draft: what it names, if this window uploaded it and no case has it."""
    c = blobs.c
    blob_ids = {blob for held in typed.files.values() for blob, _ in held}
    named = sorted(blob for blob in blob_ids if blob.isascii() and blob.isalnum())  # PostgreSQL takes no NUL
    return and_(c.id.in_(named), c.client_id == owner, c.state == "stored", c.case_id.is_(None))


def _open(now: datetime) -> ColumnElement[bool]:
    c = drafts.c
    return and_(c.expires_at > now, ~_filed(c.client_id, c.item_code, c.reference))


def _filed(owner: object, item: object, reference: object) -> ColumnElement[bool]:
    """Say whether there is a case by the business key that the application of a draft has."""
    c = submissions.c
    return exists().where(c.client_id == owner, c.item_code == item, c.client_reference == reference)


def _context(owner: str, reference: str) -> str:
    return f"drafts.body:{owner}:{reference}"
