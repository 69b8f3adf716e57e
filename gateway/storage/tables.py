"""The one schema, for SQLite and for PostgreSQL alike. Migrations live in `migrations/`; a test holds the two together.

Personal data stands only in columns of type `Sealed`: bytes that `gateway.crypto.at_rest` encrypted. References to
people (`..._ref`) are keyed hashes. Everything else may be read by whoever may read the database.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Instant(TypeDecorator[datetime]):
    """An aware UTC time, stored as microseconds since 1970: the same order and precision on both engines."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> int | None:
        """Store; a naive time is refused rather than guessed."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a stored time must carry its zone")
        return (value - _EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: int | None, _dialect: Dialect) -> datetime | None:
        """Load as aware UTC."""
        return None if value is None else _EPOCH + timedelta(microseconds=value)


class Json(TypeDecorator[Any]):
    """A small JSON value without personal data, stored as text so that both engines return the same bytes."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, _dialect: Dialect) -> str | None:
        """Store."""
        return None if value is None else orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()

    def process_result_value(self, value: str | None, _dialect: Dialect) -> Any:
        """Load."""
        return None if value is None else orjson.loads(value)


class Sealed(LargeBinary):
    """Bytes encrypted by us before they reach the database (`gateway.crypto.at_rest`)."""

    cache_ok = True


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# --- submissions -------------------------------------------------------------------------------------------------

OPEN_CASE = text(
    "state NOT IN ('COMPLETED', 'DELIVERED', 'NOT_ACCEPTED', 'NOT_WITHIN_POWER', 'WITHDRAWN', 'RETURNED', 'VOID')"
)
"""A case that is still somebody's turn. In the very words of the index over such cases, or no engine would use it."""

submissions = Table(
    "submissions",
    metadata,
    Column("id", String(29), primary_key=True),
    Column("client_id", String(130), nullable=False),
    Column("item_code", String(33), nullable=False),
    Column("client_reference", String(64), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("state", String(32), nullable=False),
    Column("mode", String(16), nullable=False),
    Column("purpose_code", String(64), nullable=False, server_default=""),  # of the grant that it was filed under
    Column("channel", String(16), nullable=False),
    Column("origin_code", String(12), nullable=False),
    Column("window_id", String(64)),
    Column("operator", String(64)),
    Column("handling_region", String(32), nullable=False),
    Column("handling_code", String(12), nullable=False),
    Column("applicant_ref", String(64), nullable=False),
    Column("body", Sealed, nullable=False),
    Column("mapping_version", String(64), nullable=False),  # of mapping_sets; empty: of the one in use
    Column("last_seq", Integer, nullable=False),
    Column("head", String(64), nullable=False, server_default=""),  # hash of its last event
    Column("parent_id", String(29)),  # the case that this one is a part of (多地联办)
    Column("part_code", String(64), nullable=False, server_default=""),  # which part of the item, where it has parts
    Column("released_at", Instant),  # of a part: when nothing before it was left to be done
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Index("ix_submissions_parent", "parent_id"),
    UniqueConstraint("client_id", "item_code", "client_reference", name="uq_submissions_business_key"),
    Index("ix_submissions_recent", "client_id", "created_at"),
    Index(
        "ix_submissions_open", "handling_region", "mapping_version", sqlite_where=OPEN_CASE, postgresql_where=OPEN_CASE
    ),
)

NO_POSITION = text("position IS NULL")
"""An event that no reader of the stream has seen. In the very words of the index over such events."""

RULES_BROKEN = text("kind IN ('policy.violation', 'tolerance.breached')")
"""Facts that are counted. In the very words of the index over them."""

submission_events = Table(
    "submission_events",
    metadata,
    Column("submission_id", String(29), ForeignKey("submissions.id"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("kind", String(32), nullable=False, server_default="step"),  # step, or a fact that moves nothing
    Column("state", String(32), nullable=False),
    Column("word", String(64), nullable=False, server_default=""),  # the region's, where it says more than the state
    Column("effect", String(16), nullable=False, server_default="moved"),  # what it does to the case, as of now
    Column("case_state", String(32), nullable=False, server_default=""),  # where the case stood once it was recorded
    Column("source", String(32), nullable=False),  # "gateway" or a region id
    Column("region_event_id", String(64)),
    Column("occurred_at", Instant, nullable=False),
    Column("recorded_at", Instant, nullable=False),
    Column("detail", Sealed, nullable=False),  # remarks and results of regions may name people
    Column("hash", String(64), nullable=False, server_default=""),  # over this event and the hash before it
    Column("client_id", String(130), nullable=False, server_default=""),  # whose stream it belongs to
    Column("position", BigInteger),  # in the stream of all events; none until it was given one
    UniqueConstraint("source", "region_event_id", name="uq_submission_events_region_event"),
    Index("ix_submission_events_stream", "client_id", "position"),
    Index("ix_submission_events_position", "position", unique=True),
    Index(
        "ix_submission_events_rules",
        "client_id",
        sqlite_where=RULES_BROKEN,
        postgresql_where=RULES_BROKEN,
    ),
    Index(
        "ix_submission_events_waiting",
        "recorded_at",
        "submission_id",
        "seq",
        sqlite_where=NO_POSITION,
        postgresql_where=NO_POSITION,
    ),
)

stream_heads = Table(
    "stream_heads",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("position", BigInteger, nullable=False),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("client_id", String(130), nullable=False),
    Column("url", Text, nullable=False),
    Column("secret", Sealed, nullable=False),
    Column("old_secret", Sealed),  # signs too, until `old_until`
    Column("old_until", Instant),
    Column("position", BigInteger, nullable=False),  # the last event of the stream that was taken there
    Column("due", Instant, nullable=False),  # not before
    Column("owner", String(64)),
    Column("lease_until", Instant),
    Column("failures", Integer, nullable=False),  # in a row
    Column("failing_since", Instant),
    Column("last_code", String(64)),
    Column("created_at", Instant, nullable=False),
    Column("disabled_at", Instant),
    Index("ix_webhooks_client", "client_id"),
)

event_conflicts = Table(
    "event_conflicts",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("region", String(32), nullable=False),
    Column("region_event_id", String(64), nullable=False),
    Column("submission_id", String(64), nullable=False),
    Column("reason", Text, nullable=False),
    Column("event", Sealed, nullable=False),
    Column("recorded_at", Instant, nullable=False),
    Column("status", String(16), nullable=False, server_default="open"),  # open, resolved
    Column("resolution", Text),
    Column("resolved_by", String(64)),
    Column("resolved_at", Instant),
    UniqueConstraint("region", "region_event_id", name="uq_event_conflicts_region_event"),
    Index("ix_event_conflicts_status", "status", "recorded_at"),
)

region_numbers = Table(
    "region_numbers",
    metadata,
    Column("submission_id", String(29), ForeignKey("submissions.id"), primary_key=True),
    Column("region", String(32), primary_key=True),
    Column("number", String(64), nullable=False),
    Column("short_number", String(64)),
    Index("ix_region_numbers_number", "region", "number"),  # whose else a number is
)

case_messages = Table(
    "case_messages",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("submission_id", String(29), ForeignKey("submissions.id"), nullable=False),
    Column("kind", String(16), nullable=False),  # supplement, withdrawal, rating, complaint
    Column("client_reference", String(64), nullable=False),  # the caller's own number: the same again is the same
    Column("digest", String(64), nullable=False),
    Column("body", Sealed, nullable=False),
    Column("created_at", Instant, nullable=False),
    UniqueConstraint("submission_id", "kind", "client_reference", name="uq_case_messages_reference"),
)

THE_SUBMISSION = text("kind = 'submission'")
OUTSTANDING = text("due IS NOT NULL")
"""A delivery that some worker is to take. In the very words of the index over such deliveries."""

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("submission_id", String(29), ForeignKey("submissions.id"), nullable=False),
    Column("kind", String(16), nullable=False, server_default="submission"),  # or a kind of case message
    Column("message_id", String(40), ForeignKey("case_messages.id")),  # none for the submission itself
    Column("client_id", String(130), nullable=False, server_default=""),  # for fairness between agencies
    Column("region", String(32), nullable=False),
    Column("state", String(16), nullable=False),  # waiting, pending, sending, in_doubt, delivered, dead, cancelled
    Column("due", Instant),  # when the next worker may take it; none for what is settled or dead
    Column("tried_since", Instant),  # its region is waited for from then on; none: since it was created
    Column("lease_until", Instant),
    Column("owner", String(64)),
    Column("attempt", Integer, nullable=False),
    Column("failures", Integer, nullable=False),  # attempts whose outcome nobody knows
    Column("last_code", String(64)),
    Column("last_text", Text),
    Column("sent_at", Instant),
    Column("settled_at", Instant),
    Column("created_at", Instant, nullable=False),
    UniqueConstraint("message_id", name="uq_deliveries_message"),
    Index(
        "uq_deliveries_submission",
        "submission_id",
        unique=True,
        sqlite_where=THE_SUBMISSION,
        postgresql_where=THE_SUBMISSION,
    ),
    Index("ix_deliveries_turns", "region", "client_id", "due", sqlite_where=OUTSTANDING, postgresql_where=OUTSTANDING),
    Index("ix_deliveries_case", "submission_id", "created_at"),
    Index("ix_deliveries_figures", "state", "region", "created_at"),
)

TO_BE_TOLD = text("wake_at IS NOT NULL")
OPEN_AND_TOLD = text("ended_at IS NULL AND told <> 'none'")
"""Clocks that somebody must look at. In the very words of the index over them."""

case_clocks = Table(
    "case_clocks",
    metadata,
    Column("submission_id", String(29), ForeignKey("submissions.id"), primary_key=True),
    Column("name", String(32), primary_key=True),
    Column("region", String(32), nullable=False),  # that handles the case
    Column("state", String(16), nullable=False),  # running, stopped, met, late, overdue, void
    Column("started_at", Instant, nullable=False),
    Column("due_at", Instant),  # the end of the last day; none while it is stopped
    Column("soon_at", Instant),
    Column("ended_at", Instant),
    Column("told", String(16), nullable=False),  # none, due_soon, overdue
    Column("wake_at", Instant),  # when there is something to tell; none when there is nothing more
    Column("estimated", Boolean, nullable=False),
    Column("limit_days", Integer),  # that it began with, whatever the catalogue says later
    Column("limit_unit", String(1)),
    Column("calendar", String(16), nullable=False),  # the version of the working days that it was reckoned with
    Index("ix_case_clocks_wake", "wake_at", sqlite_where=TO_BE_TOLD, postgresql_where=TO_BE_TOLD),
    Index(
        "ix_case_clocks_told",
        "region",
        "name",
        "told",
        sqlite_where=OPEN_AND_TOLD,
        postgresql_where=OPEN_AND_TOLD,
    ),
)

delivery_pauses = Table(
    "delivery_pauses",
    metadata,
    Column("region", String(32), primary_key=True),
    Column("reason", Text, nullable=False),
    Column("paused_by", String(64), nullable=False),
    Column("since", Instant, nullable=False),
)

daily_sequences = Table(
    "daily_sequences",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Integer, nullable=False),
)

feed_cursors = Table(
    "feed_cursors",
    metadata,
    Column("region", String(32), primary_key=True),
    Column("cursor", Text, nullable=False),
    Column("lease_until", Instant, nullable=False),
    Column("owner", String(64), nullable=False),
    Column("updated_at", Instant, nullable=False),
)

# --- after the decision -------------------------------------------------------------------------------------------

OPEN_CORRECTION = text("correct_until IS NOT NULL AND corrected_at IS NULL")
"""A bad rating that nobody has put right. In the very words of the index over them."""

ratings = Table(
    "ratings",
    metadata,
    Column("submission_id", String(29), ForeignKey("submissions.id"), primary_key=True),
    Column("role", String(16), primary_key=True),  # collecting or handling: each is rated once
    Column("client_reference", String(64), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("score", Integer, nullable=False),
    Column("body", Sealed, nullable=False),  # indicators, words, channel
    Column("message_id", String(40), ForeignKey("case_messages.id")),  # none where it stays with the collecting side
    Column("correct_until", Instant),  # the end of the last day to put right what was rated badly
    Column("rated_at", Instant, nullable=False),
    Column("region", String(32), nullable=False),  # that handled the case
    Column("corrected", Sealed),  # what was done about it
    Column("corrected_at", Instant),
    Index(
        "ix_ratings_open", "region", "role", "correct_until",
        sqlite_where=OPEN_CORRECTION, postgresql_where=OPEN_CORRECTION,
    ),
)  # fmt: skip

service_records = Table(
    "service_records",
    metadata,
    Column("submission_id", String(29), ForeignKey("submissions.id"), primary_key=True),  # a result is served once
    Column("digest", String(64), nullable=False),
    Column("body", Sealed, nullable=False),  # who took it, how it is proved
    Column("recorded_at", Instant, nullable=False),
)

result_documents = Table(
    "result_documents",
    metadata,
    Column("submission_id", String(29), ForeignKey("submissions.id"), primary_key=True),
    Column("code", String(64), primary_key=True),  # the region's
    Column("blob_id", String(40), ForeignKey("blobs.id"), nullable=False),
    Column("recorded_at", Instant, nullable=False),
)

ERRAND_DUE = text("due IS NOT NULL")
"""An errand that somebody is to run. In the very words of the index over such errands."""

UNFINISHED = text("state <> 'done'")
"""An errand that is to be run or needs a person. In the very words of the index over such errands."""

case_errands = Table(
    "case_errands",
    metadata,
    Column("submission_id", String(29), ForeignKey("submissions.id"), primary_key=True),
    Column("kind", String(16), primary_key=True),  # results: fetch them; archive: hand the package over
    Column("region", String(32), nullable=False),
    Column("state", String(16), nullable=False),  # open, done, dead
    Column("due", Instant),  # when it is to be run; while somebody runs it, when the lease ends; none afterwards
    Column("owner", String(64)),
    Column("attempt", Integer, nullable=False),
    Column("last_code", String(64)),
    Column("last_text", Text),
    Column("created_at", Instant, nullable=False),
    Column("settled_at", Instant),
    Index("ix_case_errands_due", "kind", "due", sqlite_where=ERRAND_DUE, postgresql_where=ERRAND_DUE),
    Index("ix_case_errands_unfinished", "kind", "state", sqlite_where=UNFINISHED, postgresql_where=UNFINISHED),
)

archive_signatures = Table(
    "archive_signatures",
    metadata,
    Column("manifest_sha256", String(64), primary_key=True),
    Column("submission_id", String(29), ForeignKey("submissions.id"), nullable=False),
    Column("jws", Text, nullable=False),  # kept, so that the package of a case has the same bytes each time
    Column("signed_at", Instant, nullable=False),
)

paper_lists = Table(
    "paper_lists",
    metadata,
    Column("submission_id", String(29), ForeignKey("submissions.id"), primary_key=True),
    Column("client_reference", String(64), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("body", Sealed, nullable=False),  # what is sent, by whom, to whom, under which tracking number
    Column("sent_at", Instant, nullable=False),
    Column("received", Sealed),
    Column("received_at", Instant),
)

# --- items ---------------------------------------------------------------------------------------------------------

BLOCKED_ITEM = text("state IN ('changed', 'suspended', 'gone')")
"""What nothing is routed to, in the very words of the index over it."""

item_pulls = Table(
    "item_pulls",
    metadata,
    Column("region", String(32), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("lease_until", Instant, nullable=False),
    Column("due", Instant, nullable=False),
    Column("tried_at", Instant),
    Column("pulled_at", Instant),  # of the snapshot that is kept
    Column("entries", Integer, nullable=False),
    Column("unreadable", Integer, nullable=False),
    Column("last_code", String(64)),
)

item_snapshots = Table(
    "item_snapshots",
    metadata,
    Column("region", String(32), primary_key=True),
    Column("item_code", String(64), primary_key=True),
    Column("document", Json, nullable=False),  # what the region published last, in our own words; no person
    Column("hash", String(64), nullable=False),
    Column("state", String(16), nullable=False),  # open, new, changed, suspended, gone
    Column("since", Instant, nullable=False),
    Column("paths", Json, nullable=False),  # that differ from what was approved, and matter
    Column("first_seen_at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
    Column("approved", Json),
    Column("approved_hash", String(64)),
    Column("approved_by", String(64)),
    Column("approved_at", Instant),
    Index("ix_item_snapshots_blocked", "region", "item_code", sqlite_where=BLOCKED_ITEM, postgresql_where=BLOCKED_ITEM),
)

# --- mappings ----------------------------------------------------------------------------------------------------

mapping_packs = Table(
    "mapping_packs",
    metadata,
    Column("region", String(32), primary_key=True),
    Column("message", String(64), primary_key=True),
    Column("version", String(64), primary_key=True),
    Column("files", LargeBinary, nullable=False),  # a ZIP archive of rule files and invented examples: no person
    Column("seen_at", Instant, nullable=False),  # when a set with it was last written
)

mapping_sets = Table(
    "mapping_sets",
    metadata,
    Column("region", String(32), primary_key=True),
    Column("version", String(64), primary_key=True),
    Column("kept_at", Instant, nullable=False),
    Column("seen_at", Instant, nullable=False),  # when it was last in use somewhere, or needed by an open case
)

mapping_set_packs = Table(
    "mapping_set_packs",
    metadata,
    Column("region", String(32), primary_key=True),
    Column("set_version", String(64), primary_key=True),
    Column("message", String(64), primary_key=True),
    Column("pack_version", String(64), nullable=False),
    ForeignKeyConstraint(
        ["region", "set_version"],
        ["mapping_sets.region", "mapping_sets.version"],
        name="fk_mapping_set_packs_set",
        ondelete="CASCADE",
    ),
    ForeignKeyConstraint(
        ["region", "message", "pack_version"],
        ["mapping_packs.region", "mapping_packs.message", "mapping_packs.version"],
        name="fk_mapping_set_packs_pack",
    ),
    Index("ix_mapping_set_packs_pack", "region", "message", "pack_version"),
)

# --- materials ---------------------------------------------------------------------------------------------------

blobs = Table(
    "blobs",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("client_id", String(130), nullable=False),
    Column("name", Sealed, nullable=False),
    Column("media_type", String(100), nullable=False),
    Column("size", BigInteger, nullable=False),  # while it is open: the offset, what is kept of it so far
    Column("sha256", String(64), nullable=False),  # empty while it is open
    Column("created_at", Instant, nullable=False),  # of an open one: begun; afterwards: complete
    Column("state", String(16), nullable=False, server_default="stored"),  # open, stored, deleting, deleted
    Column("case_id", String(29)),  # the submission that it belongs to; no other can have it
    Column("length", BigInteger),  # what the whole will have, once the client has said so
    Column("reserved", BigInteger, nullable=False, server_default="0"),  # what an open one may come to, as far as known
    Column("wanted", Json),  # digests of the whole (RFC 9530 names, hex) that the client named
    Column("attempt", Integer, nullable=False, server_default="0"),  # counts requests that appended
    Column("held_by", String(40)),
    Column("held_until", Instant),
    Column("why", String(16)),  # it is deleted: unfinished, orphan, retention, twin, refused, dropped; open: once
    Index("ix_blobs_state", "state", "created_at"),
    Index("ix_blobs_client", "client_id", "case_id", "state"),
    Index("ix_blobs_case", "case_id"),
)

blob_parts = Table(
    "blob_parts",
    metadata,
    Column("blob_id", String(40), ForeignKey("blobs.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("place", String(80), nullable=False),  # its key in the place for blobs
    Column("size", BigInteger, nullable=False),
)

submission_materials = Table(
    "submission_materials",
    metadata,
    Column("submission_id", String(29), ForeignKey("submissions.id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("code", String(64), nullable=False),
    Column("blob_id", String(40), ForeignKey("blobs.id"), nullable=False),
    Column("message_id", String(40), ForeignKey("case_messages.id")),  # none for what came with the submission
)

# --- trust, consent, evidence ------------------------------------------------------------------------------------

nonces = Table(
    "nonces",
    metadata,
    Column("scope", String(64), primary_key=True),
    Column("value", String(128), primary_key=True),
    Column("expires_at", Instant, nullable=False, index=True),
)

# --- certificates ------------------------------------------------------------------------------------------------

certificate_notices = Table(
    "certificate_notices",
    metadata,
    Column("reference", String(64), primary_key=True),  # keyed reference of the identifier, which may name a person
    Column("region", String(32), primary_key=True),  # who has told it: it counts for what that one issued
    Column("state", String(16), nullable=False),
    Column("changed_at", Instant, nullable=False),
    Column("noticed_at", Instant, nullable=False, index=True),
)

CERTIFICATE_DUE = text("due IS NOT NULL")
"""A certificate that is to be asked about again. In the very words of the index over them."""

case_certificates = Table(
    "case_certificates",
    metadata,
    Column("submission_id", String(29), ForeignKey("submissions.id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("code", String(64), nullable=False),  # of the material that it stands for
    Column("type_code", String(21), nullable=False),
    Column("issuer", String(32), nullable=False),  # the region that is asked
    Column("capability", String(32), nullable=False),  # of the grant by which it was asked about, and is again
    Column("reference", String(64), nullable=False),  # keyed reference of the identifier
    Column("body", Sealed, nullable=False),  # identifier, and what the question about it says
    Column("standing", String(16), nullable=False),
    Column("verified_at", Instant, nullable=False),  # when the issuer said so
    Column("good_until", Instant, nullable=False),  # from then on the proof is too old to be decided upon
    Column("evidence_id", String(40), nullable=False),
    Column("changed_at", Instant),  # since when it is worth something else than it was
    Column("followed", Boolean, nullable=False),  # whether what its standing means for the case was done
    Column("failures", Integer, nullable=False),  # attempts in a row at which nothing was learnt
    Column("last_code", String(64)),  # why nothing was learnt at the last attempt
    Column("noticed_at", Instant),  # since when its issuer has told of a change that nobody has asked about yet
    Column("due", Instant),  # when it is asked about again; while somebody asks, when the lease ends; NULL: never
    Column("owner", String(64)),
    Column("attempt", Integer, nullable=False),
    Index(
        "ix_case_certificates_due",
        "issuer",
        "due",
        sqlite_where=CERTIFICATE_DUE,
        postgresql_where=CERTIFICATE_DUE,
    ),
    Index(
        "ix_case_certificates_good_until", "good_until", sqlite_where=CERTIFICATE_DUE, postgresql_where=CERTIFICATE_DUE
    ),
    Index(
        "ix_case_certificates_reference", "reference", sqlite_where=CERTIFICATE_DUE, postgresql_where=CERTIFICATE_DUE
    ),
)

certificate_misses = Table(
    "certificate_misses",
    metadata,
    Column("reference", String(64), primary_key=True),  # keyed reference of holder, type and issuer
    Column("region", String(32), nullable=False),
    Column("type_code", String(21), nullable=False),
    Column("missed_at", Instant, nullable=False, index=True),
)

certificate_seen = Table(
    "certificate_seen",  # certificates of the last weeks that were found once: each counts once as timely or late
    metadata,
    Column("reference", String(64), primary_key=True),  # keyed reference of the identifier
    Column("seen_at", Instant, nullable=False, index=True),
)

certificate_freshness = Table(
    "certificate_freshness",  # what issuers answered, counted by day; a process writes its own rows over and over
    metadata,
    Column("day", String(10), primary_key=True),
    Column("region", String(32), primary_key=True),
    Column("type_code", String(21), primary_key=True),
    Column("owner", String(64), primary_key=True),
    Column("counts", Json, nullable=False),
)

certificate_links = Table(
    "certificate_links",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    Column("client_id", String(130), nullable=False),
    Column("body", Sealed, nullable=False),
    Column("expires_at", Instant, nullable=False, index=True),
)

certificate_disputes = Table(
    "certificate_disputes",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("client_id", String(130), nullable=False),
    Column("client_reference", String(64), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("region", String(32), nullable=False),
    Column("type_code", String(21), nullable=False),
    Column("body", Sealed, nullable=False),
    Column("state", String(16), nullable=False),
    Column("number", String(128)),  # the issuer's
    Column("reply", Sealed),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("last_code", String(64)),  # of the last failure
    Column("due", Instant),  # when the issuer is told, or asked, next; NULL: never again
    Column("owner", String(64)),
    Column("lease_until", Instant),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    UniqueConstraint("client_id", "client_reference", name="uq_certificate_disputes_reference"),
    Index(
        "ix_certificate_disputes_due",
        "due",
        sqlite_where=text("due IS NOT NULL"),
        postgresql_where=text("due IS NOT NULL"),
    ),
)

consents = Table(
    "consents",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("case_no", String(64), nullable=False),
    Column("subject_ref", String(64), nullable=False),
    Column("recipient", String(32), nullable=False),
    Column("purpose", Text, nullable=False),
    Column("fields", Json, nullable=False),
    Column("basis", Text, nullable=False),  # of transfers.toml: kind and filing number
    Column("legal_basis", Text, nullable=False),
    Column("recorded_by", String(130), nullable=False),
    Column("evidence", Text, nullable=False),  # how the consent is proved: a form's number
    Column("given_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("revoked_at", Instant),
    Index("ix_consents_case", "case_no", "subject_ref"),
)

OF_A_CASE = text("case_no IS NOT NULL")
"""Evidence about a case. In the very words of the index over it."""

evidence = Table(
    "evidence",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("action", String(64), nullable=False),
    Column("outcome", String(16), nullable=False),  # done, refused, failed
    Column("reason", String(128), nullable=False),
    Column("who", Json, nullable=False),
    Column("what", Json, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("parts", Json, nullable=False),
    Column("received_at", Instant, nullable=False),
    Column("forwarded_at", Instant),
    Column("answered_at", Instant),
    Column("recorded_at", Instant, nullable=False),
    Column("case_no", String(64)),  # the case that it is about, for its archive package
    Index("ix_evidence_recorded_at", "recorded_at"),
    Index("ix_evidence_case", "case_no", sqlite_where=OF_A_CASE, postgresql_where=OF_A_CASE),
)

# --- sign-on: clients ----------------------------------------------------------------------------------------------

clients = Table(
    "clients",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("registration", Json, nullable=False),  # public keys only; there is no secret to keep
    Column("version", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
    Column("disabled_at", Instant),
    Column("enabled_at", Instant),  # when it was last enabled again: tokens of before do not come back
)

pushed_requests = Table(
    "pushed_requests",
    metadata,
    Column("uri_hash", String(64), primary_key=True),
    Column("client_id", String(64), nullable=False),
    Column("request", Json, nullable=False),
    Column("expires_at", Instant, nullable=False, index=True),
)

# --- sign-on: persons ----------------------------------------------------------------------------------------------

sign_on_interactions = Table(
    "sign_on_interactions",
    metadata,
    Column("id", String(43), primary_key=True),  # in the address of the page: a browser may hold several at once
    Column("handle_hash", String(64), nullable=False),  # SHA-256 of the browser's cookie
    Column("client_id", String(64), nullable=False),
    Column("kind", String(16), nullable=False),  # sign-on, or link
    Column("request", Json, nullable=False),  # the validated authorization request
    Column("region", String(32)),
    Column("state_hash", String(64), unique=True),  # SHA-256 of the `state` sent upstream, once a region is chosen
    Column("memory", Sealed),
    Column("session_id", String(40)),  # who signed on, while consent is asked for; who links, for a link
    Column("expires_at", Instant, nullable=False, index=True),
)

upstream_returns = Table(
    "upstream_returns",
    metadata,
    Column("handle_hash", String(64), primary_key=True),
    Column("region", String(32), nullable=False),
    Column("body", Sealed, nullable=False),  # a form that a region had the browser post, until the browser comes by GET
    Column("expires_at", Instant, nullable=False, index=True),
)

sign_on_sessions = Table(
    "sign_on_sessions",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("handle_hash", String(64), nullable=False, unique=True),
    Column("region", String(32), nullable=False),
    Column("subject_ref", String(64), nullable=False),
    Column("upstream_ref", String(64)),  # keyed hash of the region's own name for its session
    Column("assurance", Integer, nullable=False),
    Column("method", String(64), nullable=False),
    Column("person", Sealed, nullable=False),  # upstream subject, canonical claims, organisation and role
    Column("kept", Sealed),  # what the adapter needs to end the region's session
    Column("evidence_id", String(40), nullable=False),  # of the sign-on: assertion, mapping version, decision
    Column("authenticated_at", Instant, nullable=False),
    Column("last_used_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False, index=True),
    Column("ended_at", Instant),
    Index("ix_sign_on_sessions_subject", "region", "subject_ref"),
    Index("ix_sign_on_sessions_upstream", "region", "upstream_ref"),
)

sign_on_consents = Table(
    "sign_on_consents",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("client_id", String(64), nullable=False),
    Column("subject_ref", String(64), nullable=False),
    Column("region", String(32), nullable=False),
    Column("recipient", String(12), nullable=False),  # GB/T 2260 code of the place where the client sits
    Column("claims", Json, nullable=False),
    Column("shown", Json, nullable=False),  # language and digest of the text that the person agreed to
    Column("given_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("revoked_at", Instant),
    Index("ix_sign_on_consents_whose", "client_id", "subject_ref"),
)

authorization_codes = Table(
    "authorization_codes",
    metadata,
    Column("code_hash", String(64), primary_key=True),
    Column("client_id", String(64), nullable=False),
    Column("session_id", String(40), ForeignKey("sign_on_sessions.id"), nullable=False),
    Column("redirect_uri", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("claims", Json, nullable=False),  # claims that were asked for one by one: where they go → their names
    Column("nonce", Text),
    Column("challenge", String(128), nullable=False),
    Column("acr", String(64), nullable=False),
    Column("jkt", String(64)),  # thumbprint of the DPoP key that the request announced
    Column("expires_at", Instant, nullable=False),
    Column("used_at", Instant),
    Index("ix_authorization_codes_session_id", "session_id"),
)

token_families = Table(
    "token_families",
    metadata,
    Column("id", String(40), primary_key=True),  # `grant_id` of every token that came of one code or one exchange
    Column("client_id", String(64), nullable=False),
    Column("session_id", String(40), ForeignKey("sign_on_sessions.id"), nullable=False),
    Column("code_hash", String(64), unique=True),
    Column("scope", Text, nullable=False),
    Column("claims", Json, nullable=False),
    Column("acr", String(64), nullable=False),
    Column("binding", Json),  # `cnf` of RFC 7800: the key or certificate that must be shown with its tokens
    Column("actor", Json),  # `act` of RFC 8693, for a family that an exchange began
    Column("mandate_id", String(40)),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("revoked_at", Instant),
    Index("ix_token_families_session_id", "session_id"),
    Index("ix_token_families_client_id", "client_id"),
)

refresh_tokens = Table(
    "refresh_tokens",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    Column("family_id", String(40), ForeignKey("token_families.id"), nullable=False),
    Column("issued_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("used_at", Instant),
    Index("ix_refresh_tokens_family_id", "family_id"),
)

revoked_tokens = Table(
    "revoked_tokens",
    metadata,
    Column("token_id", String(64), primary_key=True),  # `jti`
    Column("expires_at", Instant, nullable=False, index=True),
)

# --- sign-on: delegation and linking ---------------------------------------------------------------------------------

mandates = Table(
    "mandates",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("principal_ref", String(64), nullable=False),
    Column("agent_ref", String(64), nullable=False),
    Column("relation", String(32), nullable=False),
    Column("items", Json, nullable=False),
    Column("body", Sealed, nullable=False),  # who principal and agent are, and the evidence of the consent
    Column("recorded_by", String(130), nullable=False),
    Column("valid_from", Instant, nullable=False),
    Column("valid_until", Instant, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("revoked_at", Instant),
    Column("revoked_by", String(130)),
    Index("ix_mandates_principal", "principal_ref"),
    Index("ix_mandates_agent", "agent_ref"),
)

LIVE_LINK = text("ended_at IS NULL")
"""A link that counts. What is unique among links is unique among those alone: an ended one stays as a record."""

identity_links = Table(
    "identity_links",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("one_region", String(32), nullable=False),  # the region whose sign-on proved the linking key
    Column("one_ref", String(64), nullable=False),
    Column("other_region", String(32), nullable=False),
    Column("other_ref", String(64), nullable=False),
    Column("key_ref", String(64), nullable=False),  # keyed hash of the linking key, the permit's number
    Column("body", Sealed, nullable=False),  # both subjects and levels, the kind of document, what was agreed to
    Column("made_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Index("ix_identity_links_one", "one_region", "one_ref"),
    Index("ix_identity_links_other", "other_region", "other_ref"),
    Index(
        "uq_identity_links_one", "one_region", "one_ref", "other_region",
        unique=True, sqlite_where=LIVE_LINK, postgresql_where=LIVE_LINK,
    ),
    Index(
        "uq_identity_links_other", "other_region", "other_ref", "one_region",
        unique=True, sqlite_where=LIVE_LINK, postgresql_where=LIVE_LINK,
    ),
    Index(
        "uq_identity_links_key", "one_region", "key_ref",
        unique=True, sqlite_where=LIVE_LINK, postgresql_where=LIVE_LINK,
    ),
)  # fmt: skip

subject_references = Table(
    "subject_references",
    metadata,
    Column("reference_hash", String(64), primary_key=True),
    Column("client_id", String(64), nullable=False),
    Column("region", String(32), nullable=False),
    Column("subject", Sealed, nullable=False),
    Column("assurance", Integer, nullable=False),
    Column("expires_at", Instant, nullable=False, index=True),
    Column("used_at", Instant),
)

# --- sign-on: logout, and regions that are closed -------------------------------------------------------------------

logouts = Table(
    "logouts",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("handle_hash", String(64), nullable=False),  # of the browser that may see how it went
    Column("session_id", String(40), nullable=False),
    Column("begun_by", String(64), nullable=False),  # client:…, person, region:…, operator:…
    Column("return_to", Text),
    Column("begun_at", Instant, nullable=False),
    Column("finished_at", Instant),
    Index("ix_logouts_begun_at", "begun_at"),
)

logout_parties = Table(
    "logout_parties",
    metadata,
    Column("logout_id", String(40), ForeignKey("logouts.id", ondelete="CASCADE"), primary_key=True),
    Column("party", String(80), primary_key=True),  # client:<id> or region:<id>
    Column("state", String(16), nullable=False),  # pending, done, failed, not_offered
    Column("message", Sealed),  # what must be said to the party
    Column("attempts", Integer, nullable=False),
    Column("due", Instant),
    Column("lease_until", Instant),
    Column("last_code", String(64)),
    Column("settled_at", Instant),
    Index("ix_logout_parties_due", "due"),
)

region_switches = Table(
    "region_switches",
    metadata,
    Column("region", String(32), primary_key=True),
    Column("closed", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Column("changed_by", String(64), nullable=False),
    Column("changed_at", Instant, nullable=False),
)

# --- the clerks' window ------------------------------------------------------------------------------------------

drafts = Table(
    "drafts",
    metadata,
    Column("client_id", String(130), primary_key=True),  # the window whose draft it is
    Column("reference", String(32), primary_key=True),  # that the application will have once it is handed in
    Column("item_code", String(33), nullable=False),
    Column("operator", String(64), nullable=False),  # who saved it last
    Column("version", Integer, nullable=False),  # counts how often it was saved
    Column("body", Sealed, nullable=False),
    Column("saved_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False, index=True),
)

window_sessions = Table(
    "window_sessions",
    metadata,
    Column("handle_hash", String(64), primary_key=True),
    Column("clerk_id", String(64)),  # None until the clerk has signed on
    Column("window_id", String(64)),
    Column("csrf", String(64), nullable=False),
    Column("memory", Sealed, nullable=False),  # what the sign-on under way must remember, then who the clerk is
    Column("expires_at", Instant, nullable=False, index=True),
)
