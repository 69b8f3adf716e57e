"""Result documents (办理结果): the decision and what came out of it, fetched from the region and handed out.

Owns: seeing when a region that hands documents over has decided, fetching each document once (as an errand: streamed,
held against the digest that the region named, sealed), and giving them to whoever filed the case. They are files of the
case like its materials and go with them, when the retention ends. Leaves to `uploads`: taking the bytes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime

import orjson
from sqlalchemy import Connection, select, update

from gateway.crypto.at_rest import Sealer
from gateway.domain.caller import Caller
from gateway.domain.submission import State
from gateway.errors import InvalidRequest, NotFound, NotOffered, RegionRefused, RegionUncertain
from gateway.evidence import Exchange, record
from gateway.ports import Clock, ResultDocument, Results
from gateway.regions import Region
from gateway.storage import Store
from gateway.storage.store import insert_into
from gateway.storage.tables import blobs, region_numbers, result_documents, submissions
from gateway.submissions import errands
from gateway.submissions.errands import Errand, Finish, Note
from gateway.submissions.materials import Blob, Materials
from gateway.submissions.owned import require_owner
from gateway.submissions.story import Story
from gateway.submissions.uploads import Piece, Uploads, WholeDigestWrong, Wish

RESULTS = "results"
"""The kind of errand that fetches documents."""
READY = "results.ready"
"""The fact that the documents of a case are here."""
DECIDED = frozenset({State.COMPLETED, State.NOT_ACCEPTED, State.NOT_WITHIN_POWER})
MOST = 50
"""Documents of one case that are fetched."""


@dataclass(frozen=True, slots=True)
class ResultView:
    """One document. `state` is `stored`, or `deleted` when its retention has ended: then only the digest is left."""

    code: str
    name: str
    media_type: str
    size: int
    sha256: str
    state: str


@dataclass(frozen=True, slots=True)
class ResultsView:
    """The documents of a case. `state`: none (nothing is fetched), pending, ready, or failed (a person looks)."""

    state: str
    documents: Sequence[ResultView]


_STATES: Mapping[str | None, str] = {None: "none", "open": "pending", "done": "ready", "dead": "failed"}


@dataclass(frozen=True, slots=True)
class ResultsDue:
    """Writes the errand when a region that hands documents over has decided; a follower of the event log."""

    regions: Mapping[str, Region]

    def keep(self, tx: Connection, story: Story, now: datetime) -> None:
        """Write it once. Part of the transaction that recorded the step."""
        region = self.regions.get(str(story.case["handling_region"]))
        if region is None or region.adapter.results is None:
            return
        if any(step.state in DECIDED for step in story.standing.steps):
            errands.put(
                tx, submission_id=str(story.case["id"]), kind=RESULTS, region=region.id, now=now, due=now
            )  # fmt: skip


class ResultFetch:
    """Fetches the documents of a case; the runner of errands of kind `results`."""

    def __init__(
        self, *, store: Store, regions: Mapping[str, Region], uploads: Uploads, note: Note, clock: Clock
    ) -> None:
        self._store = store
        self._regions = regions
        self._uploads = uploads
        self._note = note
        self._clock = clock

    async def run(self, errand: Errand) -> Finish:
        """Fetch what is not here yet; return what to write once everything is. Raises GatewayError."""
        begun = self._clock()
        source = self._source(errand.region)
        owner, number, here = await self._store.read(lambda tx: _found(tx, errand))
        listed = await source.list(number)
        _check(listed, errand.region)
        for document in listed:
            if document.code not in here:
                await self._fetch(errand, source, owner, number, document)
        return lambda tx, now: self._ready(tx, errand, listed, begun, now)

    def _source(self, region_id: str) -> Results:
        region = self._regions.get(region_id)
        if region is None or region.adapter.results is None:
            raise NotOffered(f"Region {region_id} hands no documents over.", region=region_id)
        return region.adapter.results

    async def _fetch(self, errand: Errand, source: Results, owner: str, number: str, document: ResultDocument) -> None:
        """Store one document. One that is stored when this process dies belongs to no case, and is tidied away."""
        wish = Wish(document.name, document.media_type, document.size, {"sha-256": document.sha256})
        caller = Caller(owner, "", "", "", frozenset())
        async with aclosing(await source.open(number, document)) as content:
            try:
                blob = await self._uploads.take(caller, wish, Piece(0, content, last=True, size=document.size))
            except WholeDigestWrong as error:
                text = f"Region {errand.region} handed over another document than it had listed."
                raise RegionUncertain(text, region=errand.region) from error
            except InvalidRequest as error:  # it is the region's file that is wrong, not a caller's
                text = f"Region {errand.region} handed over a document that cannot be taken."
                reason = "; ".join(f"{problem.code}: {problem.reason}" for problem in error.problems)
                raise RegionRefused(text, detail=reason or error.public, region=errand.region) from error
        await self._store.write(lambda tx: self._keep(tx, errand, document, blob))

    def _keep(self, tx: Connection, errand: Errand, document: ResultDocument, blob: Blob) -> None:
        """Give a stored document to its case, unless another replica has brought it meanwhile."""
        now = self._clock()
        c = blobs.c
        row = {
            "submission_id": errand.submission_id,
            "code": document.code,
            "blob_id": blob.id,
            "recorded_at": now,
        }
        if tx.execute(insert_into(tx, result_documents).values(row).on_conflict_do_nothing()).rowcount:
            tx.execute(update(blobs).where(c.id == blob.id).values(case_id=errand.submission_id))

    def _ready(
        self, tx: Connection, errand: Errand, listed: Sequence[ResultDocument], begun: datetime, now: datetime
    ) -> None:
        if listed:
            self._note(tx, errand.submission_id, READY, now, {"codes": [document.code for document in listed]})
        record(tx, _exchange(errand, listed, begun, now), now=now)


class ResultDesk:
    """Hands documents out to whoever filed the case."""

    def __init__(self, store: Store, sealer: Sealer, materials: Materials) -> None:
        self._store = store
        self._sealer = sealer
        self._materials = materials

    async def show(self, caller: Caller, submission_id: str) -> ResultsView:
        """Return what there is. Raises NotFound, also for a case of another filer."""
        return await self._store.read(lambda tx: self._show(tx, caller, submission_id))

    async def open(self, caller: Caller, submission_id: str, code: str) -> tuple[ResultView, AsyncIterator[bytes]]:
        """Return one document and its bytes. Raises NotFound, also when its retention has ended."""
        blob = await self._store.read(lambda tx: self._blob(tx, caller, submission_id, code))
        return _shown(code, blob), self._materials.open(blob.id)

    def _show(self, tx: Connection, caller: Caller, submission_id: str) -> ResultsView:
        require_owner(tx, self._sealer, caller, submission_id)
        state = _STATES[errands.state_of(tx, submission_id, RESULTS)]
        return ResultsView(
            state, [_shown(code, blob) for code, blob in documents_of(tx, self._materials, submission_id)]
        )

    def _blob(self, tx: Connection, caller: Caller, submission_id: str, code: str) -> Blob:
        require_owner(tx, self._sealer, caller, submission_id)
        found = dict(documents_of(tx, self._materials, submission_id)).get(code)
        if found is None or found.state != "stored":
            raise NotFound("There is no such document of this case, or no longer.", code="result.not_found")
        return found


def documents_of(tx: Connection, materials: Materials, submission_id: str) -> list[tuple[str, Blob]]:
    """Return the documents of a case by code, deleted ones too."""
    c = result_documents.c
    joined = (
        select(c.code, *blobs.c)
        .join(blobs, blobs.c.id == c.blob_id)
        .where(c.submission_id == submission_id)
        .order_by(c.code)
    )
    return [(row["code"], materials.read_row(dict(row))) for row in tx.execute(joined).mappings()]


def _shown(code: str, blob: Blob) -> ResultView:
    state = "deleted" if blob.state == "deleting" else blob.state
    return ResultView(code, blob.name, blob.media_type, blob.size, blob.sha256, state)


def _found(tx: Connection, errand: Errand) -> tuple[str, str, set[str]]:
    """Return whose case it is, the region's number of it, and the codes of the documents that are here."""
    c, r = region_numbers.c, result_documents.c
    owner = tx.execute(select(submissions.c.client_id).where(submissions.c.id == errand.submission_id)).scalar_one()
    query = select(c.number).where(c.submission_id == errand.submission_id, c.region == errand.region)
    here = set(tx.execute(select(r.code).where(r.submission_id == errand.submission_id)).scalars())
    return owner, tx.execute(query).scalar_one(), here


def _check(listed: Sequence[ResultDocument], region: str) -> None:
    """Refuse a list that names a document twice, or more of them than a case has."""
    if len(listed) > MOST or len({document.code for document in listed}) < len(listed):
        raise RegionRefused(f"Region {region} listed documents that cannot be told apart, or too many.", region=region)


def _exchange(errand: Errand, listed: Sequence[ResultDocument], begun: datetime, now: datetime) -> Exchange:
    said = [{"code": document.code, "sha256": document.sha256} for document in listed]
    return Exchange(
        action="results.fetch",
        outcome="done",
        reason="fetched",
        who={"worker": errand.owner},
        what={"case": errand.submission_id, "region": errand.region, "documents": len(listed)},
        purpose="result of the case for whoever filed it",
        received_at=begun,
        forwarded_at=begun,
        answered_at=now,
        parts={"documents": orjson.dumps(said)},
    )
