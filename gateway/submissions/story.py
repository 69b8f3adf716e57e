"""The story of a case: what was said of it, in the order in which it was recorded, and where it stands by that.

Owns: reading a case with its reports under its lock, what is sealed of each, and the hash that links each event to the
one before it. Leaves to `gateway.domain.submission`: where the reports lead. To `events`: writing. Everything here is
part of the caller's transaction.

The hash (SHA-256 over the JSON of `linked`, keys sorted) covers a digest of what the event says rather than its
words, salted with what only readers of the event get: so a case whose words were erased still verifies.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, select

from gateway.crypto.at_rest import Sealer
from gateway.domain.submission import Report, Standing, State, stand
from gateway.storage.tables import submission_events, submissions
from gateway.submissions.conflicts import LONGEST_NUMBER

STEP, UNKNOWN = "step", "unknown"
"""Kinds of events: a step of the case's life; a step whose state nobody here knows. Others are facts beside it."""

SALT = "_salt"
LINKED = (
    "submission_id", "seq", "kind", "state", "word", "case_state", "source", "region_event_id", "occurred_at",
    "recorded_at",
)  # fmt: skip
"""What the hash of an event covers beside the digest of what it says."""
_COLUMNS = (
    submissions.c.id,
    submissions.c.client_id,
    submissions.c.item_code,
    submissions.c.state,
    submissions.c.handling_region,
    submissions.c.handling_code,
    submissions.c.last_seq,
    submissions.c.head,
    submissions.c.parent_id,
    submissions.c.mode,
    submissions.c.released_at,
    submissions.c.created_at,
    submissions.c.updated_at,
)
_E = submission_events.c

# Built once: every step of every case runs them, and building a statement costs more than running it.

_LOCKED = select(*_COLUMNS).where(submissions.c.id == bindparam("case")).with_for_update(of=submissions)
_STEPS = (
    select(_E.seq, _E.state, _E.source, _E.region_event_id, _E.occurred_at, _E.word, _E.effect, _E.detail)
    .where(_E.submission_id == bindparam("case"), _E.kind == STEP)
    .order_by(_E.seq)
)


@dataclass(frozen=True, slots=True)
class Story:
    """A case as it stands after its last event, inside the transaction that recorded it.

    `case` has id, client_id, item_code, handling_region, handling_code, parent_id, mode, created_at and `state`, where
    the case stood before. `standing` is where it stands now; its steps name their reports, and `detail` tells what one
    of them said in the canonical words (mappings/vocabulary.toml, [event]).
    """

    case: Mapping[str, Any]
    standing: Standing
    _reports: Mapping[str, Report] = field(repr=False)
    _sealed: Mapping[str, tuple[int, bytes]] = field(repr=False)
    _sealer: Sealer = field(repr=False)

    def detail(self, key: str) -> dict[str, Any]:
        """Return what the report of this key said beyond its state."""
        seq, sealed = self._sealed[key]
        return open_detail(self._sealer, str(self.case["id"]), seq, sealed)

    def report(self, key: str) -> Report:
        """Return the report of this key."""
        return self._reports[key]

    def seq(self, key: str) -> int:
        """Return the number in the timeline of the report of this key."""
        return self._sealed[key][0]

    def facts(self, tx: Connection, kind: str, after: int = 0) -> list[dict[str, Any]]:
        """Return what the facts of this kind say that stand in the timeline behind that number."""
        c, case = submission_events.c, str(self.case["id"])
        query = select(c.seq, c.detail).where(c.submission_id == case, c.kind == kind, c.seq > after).order_by(c.seq)
        return [open_detail(self._sealer, case, row.seq, row.detail) for row in tx.execute(query)]


@dataclass(frozen=True, slots=True)
class Said:
    """A step that is about to be written: its report, its number, and what is sealed of it."""

    report: Report
    seq: int
    sealed: bytes = field(repr=False)

    @property
    def key(self) -> str:
        """The key of the report."""
        return self.report.key


Noted = Mapping[str, tuple[int, str]]


def locked(tx: Connection, submission_id: str) -> dict[str, Any] | None:
    """Return the case, locked until the end of the transaction, so that its sequence has no gap and no twin."""
    found = tx.execute(_LOCKED, {"case": submission_id}).mappings().first()
    return dict(found) if found else None


def tell(tx: Connection, case: Mapping[str, Any], sealer: Sealer, new: Said | None = None) -> tuple[Story, Noted]:
    """Read a case's steps, with a new one that is about to be written, and see where they lead.

    Return the story, and for each report that is on record its number and the effect that was noted for it.
    """
    reports = [new.report] if new else []
    sealed = {new.report.key: (new.seq, new.sealed)} if new else {}
    noted: dict[str, tuple[int, str]] = {}
    for row in tx.execute(_STEPS, {"case": case["id"]}):
        key = row.region_event_id or own_key(row.seq)
        reports.append(Report(State(row.state), row.source, row.occurred_at, key, row.word))
        noted[key] = (row.seq, row.effect)
        sealed[key] = (row.seq, row.detail)
    return _story(case, reports, sealed, sealer), noted


def told_first(case: Mapping[str, Any], sealer: Sealer, new: Said) -> Story:
    """Return the story of a case that is about to be written: its first step is all that was said of it."""
    return _story(case, [new.report], {new.report.key: (new.seq, new.sealed)}, sealer)


def _story(
    case: Mapping[str, Any], reports: Sequence[Report], sealed: Mapping[str, tuple[int, bytes]], sealer: Sealer
) -> Story:
    return Story(dict(case), stand(reports), {report.key: report for report in reports}, sealed, sealer)


def retold(sealer: Sealer, tx: Connection, submission_id: str) -> Story | None:
    """Return the story of a case as it is on record, locked; None when there is no such case."""
    case = locked(tx, submission_id)
    return None if case is None else tell(tx, case, sealer)[0]


def own_key(seq: int) -> str:
    """Return the key of a step of ours, which has no id of a region: longer than any id, so that it is none of one."""
    return f"#{seq}".ljust(LONGEST_NUMBER + 1)


# --- what an event says, and its link ------------------------------------------------------------------------------


def salted(detail: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an event says with a salt, so that its digest tells nothing to who cannot read it."""
    return {**detail, SALT: secrets.token_hex(8)}


def digest_of(detail: Mapping[str, Any]) -> str:
    """Return the digest of what an event says, salt included: SHA-256 over its JSON, keys sorted; hex."""
    return hashlib.sha256(orjson.dumps(dict(detail), option=orjson.OPT_SORT_KEYS)).hexdigest()


def linked(previous: str, entry: Mapping[str, Any]) -> str:
    """Return the hash of an event: of the hash before it and of what `entry` holds; hex. Times are as in `exact`."""
    said = {name: _plain(value) for name, value in entry.items()}
    return hashlib.sha256(orjson.dumps({**said, "previous": previous}, option=orjson.OPT_SORT_KEYS)).hexdigest()


def seal_detail(sealer: Sealer, submission_id: str, seq: int, detail: Mapping[str, Any]) -> bytes:
    """Seal what an event says beyond its state: a region's remark or result may name people."""
    return sealer.seal(orjson.dumps(dict(detail)), _context(submission_id, seq))


def open_detail(sealer: Sealer, submission_id: str, seq: int, sealed: bytes, *, salt: bool = False) -> dict[str, Any]:
    """Open what an event says beyond its state; with its salt for who is to check the hash."""
    detail: dict[str, Any] = orjson.loads(sealer.open(sealed, _context(submission_id, seq)))
    return detail if salt else {name: value for name, value in detail.items() if name != SALT}


def _context(submission_id: str, seq: int) -> str:
    return f"submission_events.detail:{submission_id}:{seq}"


def exact(moment: datetime) -> str:
    """Return a time as events carry it and their hash covers it: RFC 3339, UTC, six digits of a second, `Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _plain(value: Any) -> Any:
    return exact(value) if isinstance(value, datetime) else value
