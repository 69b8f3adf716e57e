"""Cases: the whole life of a submission: messages after it, clocks, the stream of events, what follows the decision."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_ENDED = ("COMPLETED", "DELIVERED", "NOT_ACCEPTED", "NOT_WITHIN_POWER", "WITHDRAWN", "RETURNED", "VOID")


def _open_cases(ended: tuple[str, ...]) -> None:
    """Make the index over cases anew that are still somebody's turn."""
    is_open = sa.text(f"state NOT IN ({', '.join(repr(state) for state in ended)})")
    op.drop_index("ix_submissions_open", "submissions")
    columns = ["handling_region", "mapping_version"]
    op.create_index("ix_submissions_open", "submissions", columns, sqlite_where=is_open, postgresql_where=is_open)


def upgrade() -> None:
    """Make it."""
    op.create_table(
        "delivery_pauses",
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("paused_by", sa.String(length=64), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("region", name=op.f("pk_delivery_pauses")),
    )
    op.create_table(
        "item_pulls",
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("lease_until", sa.BigInteger(), nullable=False),
        sa.Column("due", sa.BigInteger(), nullable=False),
        sa.Column("tried_at", sa.BigInteger(), nullable=True),
        sa.Column("pulled_at", sa.BigInteger(), nullable=True),
        sa.Column("entries", sa.Integer(), nullable=False),
        sa.Column("unreadable", sa.Integer(), nullable=False),
        sa.Column("last_code", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("region", name=op.f("pk_item_pulls")),
    )
    op.create_table(
        "item_snapshots",
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("item_code", sa.String(length=64), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("paths", sa.Text(), nullable=False),
        sa.Column("first_seen_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("approved", sa.Text(), nullable=True),
        sa.Column("approved_hash", sa.String(length=64), nullable=True),
        sa.Column("approved_by", sa.String(length=64), nullable=True),
        sa.Column("approved_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("region", "item_code", name=op.f("pk_item_snapshots")),
    )
    with op.batch_alter_table("item_snapshots", schema=None) as batch_op:
        batch_op.create_index(
            "ix_item_snapshots_blocked",
            ["region", "item_code"],
            unique=False,
            sqlite_where=sa.text("state IN ('changed', 'suspended', 'gone')"),
            postgresql_where=sa.text("state IN ('changed', 'suspended', 'gone')"),
        )

    op.create_table(
        "stream_heads",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_stream_heads")),
    )
    op.create_table(
        "webhooks",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("client_id", sa.String(length=130), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("old_secret", sa.LargeBinary(), nullable=True),
        sa.Column("old_until", sa.BigInteger(), nullable=True),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("due", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("failing_since", sa.BigInteger(), nullable=True),
        sa.Column("last_code", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("disabled_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhooks")),
    )
    with op.batch_alter_table("webhooks", schema=None) as batch_op:
        batch_op.create_index("ix_webhooks_client", ["client_id"], unique=False)

    op.create_table(
        "archive_signatures",
        sa.Column("manifest_sha256", sa.String(length=64), nullable=False),
        sa.Column("submission_id", sa.String(length=29), nullable=False),
        sa.Column("jws", sa.Text(), nullable=False),
        sa.Column("signed_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["submission_id"], ["submissions.id"], name=op.f("fk_archive_signatures_submission_id")
        ),
        sa.PrimaryKeyConstraint("manifest_sha256", name=op.f("pk_archive_signatures")),
    )
    op.create_table(
        "blob_parts",
        sa.Column("blob_id", sa.String(length=40), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("place", sa.String(length=80), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["blob_id"], ["blobs.id"], name=op.f("fk_blob_parts_blob_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("blob_id", "position", name=op.f("pk_blob_parts")),
    )
    op.create_table(
        "case_clocks",
        sa.Column("submission_id", sa.String(length=29), nullable=False),
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.Column("soon_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("told", sa.String(length=16), nullable=False),
        sa.Column("wake_at", sa.BigInteger(), nullable=True),
        sa.Column("estimated", sa.Boolean(), nullable=False),
        sa.Column("limit_days", sa.Integer(), nullable=True),
        sa.Column("limit_unit", sa.String(length=1), nullable=True),
        sa.Column("calendar", sa.String(length=16), nullable=False),
        sa.ForeignKeyConstraint(["submission_id"], ["submissions.id"], name=op.f("fk_case_clocks_submission_id")),
        sa.PrimaryKeyConstraint("submission_id", "name", name=op.f("pk_case_clocks")),
    )
    with op.batch_alter_table("case_clocks", schema=None) as batch_op:
        batch_op.create_index(
            "ix_case_clocks_told",
            ["region", "name", "told"],
            unique=False,
            sqlite_where=sa.text("ended_at IS NULL AND told <> 'none'"),
            postgresql_where=sa.text("ended_at IS NULL AND told <> 'none'"),
        )
        batch_op.create_index(
            "ix_case_clocks_wake",
            ["wake_at"],
            unique=False,
            sqlite_where=sa.text("wake_at IS NOT NULL"),
            postgresql_where=sa.text("wake_at IS NOT NULL"),
        )

    op.create_table(
        "case_errands",
        sa.Column("submission_id", sa.String(length=29), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("due", sa.BigInteger(), nullable=True),
        sa.Column("owner", sa.String(length=64), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("last_code", sa.String(length=64), nullable=True),
        sa.Column("last_text", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("settled_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["submission_id"], ["submissions.id"], name=op.f("fk_case_errands_submission_id")),
        sa.PrimaryKeyConstraint("submission_id", "kind", name=op.f("pk_case_errands")),
    )
    with op.batch_alter_table("case_errands", schema=None) as batch_op:
        batch_op.create_index(
            "ix_case_errands_due",
            ["kind", "due"],
            unique=False,
            sqlite_where=sa.text("due IS NOT NULL"),
            postgresql_where=sa.text("due IS NOT NULL"),
        )
        batch_op.create_index(
            "ix_case_errands_unfinished",
            ["kind", "state"],
            unique=False,
            sqlite_where=sa.text("state <> 'done'"),
            postgresql_where=sa.text("state <> 'done'"),
        )

    op.create_table(
        "case_messages",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("submission_id", sa.String(length=29), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("client_reference", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["submission_id"], ["submissions.id"], name=op.f("fk_case_messages_submission_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_case_messages")),
        sa.UniqueConstraint("submission_id", "kind", "client_reference", name="uq_case_messages_reference"),
    )
    op.create_table(
        "paper_lists",
        sa.Column("submission_id", sa.String(length=29), nullable=False),
        sa.Column("client_reference", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("sent_at", sa.BigInteger(), nullable=False),
        sa.Column("received", sa.LargeBinary(), nullable=True),
        sa.Column("received_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["submission_id"], ["submissions.id"], name=op.f("fk_paper_lists_submission_id")),
        sa.PrimaryKeyConstraint("submission_id", "client_reference", name=op.f("pk_paper_lists")),
    )
    op.create_table(
        "result_documents",
        sa.Column("submission_id", sa.String(length=29), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("blob_id", sa.String(length=40), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["blob_id"], ["blobs.id"], name=op.f("fk_result_documents_blob_id")),
        sa.ForeignKeyConstraint(["submission_id"], ["submissions.id"], name=op.f("fk_result_documents_submission_id")),
        sa.PrimaryKeyConstraint("submission_id", "code", name=op.f("pk_result_documents")),
    )
    op.create_table(
        "service_records",
        sa.Column("submission_id", sa.String(length=29), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["submission_id"], ["submissions.id"], name=op.f("fk_service_records_submission_id")),
        sa.PrimaryKeyConstraint("submission_id", name=op.f("pk_service_records")),
    )
    op.create_table(
        "ratings",
        sa.Column("submission_id", sa.String(length=29), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("client_reference", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("score", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("message_id", sa.String(length=40), nullable=True),
        sa.Column("correct_until", sa.BigInteger(), nullable=True),
        sa.Column("rated_at", sa.BigInteger(), nullable=False),
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("corrected", sa.LargeBinary(), nullable=True),
        sa.Column("corrected_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["message_id"], ["case_messages.id"], name=op.f("fk_ratings_message_id")),
        sa.ForeignKeyConstraint(["submission_id"], ["submissions.id"], name=op.f("fk_ratings_submission_id")),
        sa.PrimaryKeyConstraint("submission_id", "role", name=op.f("pk_ratings")),
    )
    with op.batch_alter_table("ratings", schema=None) as batch_op:
        batch_op.create_index(
            "ix_ratings_open",
            ["region", "role", "correct_until"],
            unique=False,
            sqlite_where=sa.text("correct_until IS NOT NULL AND corrected_at IS NULL"),
            postgresql_where=sa.text("correct_until IS NOT NULL AND corrected_at IS NULL"),
        )

    op.create_table(
        "drafts",
        sa.Column("client_id", sa.String(length=130), nullable=False),
        sa.Column("reference", sa.String(length=32), nullable=False),
        sa.Column("item_code", sa.String(length=33), nullable=False),
        sa.Column("operator", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("saved_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("client_id", "reference", name=op.f("pk_drafts")),
    )
    with op.batch_alter_table("drafts", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_drafts_expires_at"), ["expires_at"], unique=False)

    with op.batch_alter_table("blobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("state", sa.String(length=16), server_default="stored", nullable=False))
        batch_op.add_column(sa.Column("case_id", sa.String(length=29), nullable=True))
        batch_op.add_column(sa.Column("length", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("reserved", sa.BigInteger(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("wanted", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("attempt", sa.Integer(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("held_by", sa.String(length=40), nullable=True))
        batch_op.add_column(sa.Column("held_until", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("why", sa.String(length=16), nullable=True))
        batch_op.create_index("ix_blobs_case", ["case_id"], unique=False)
        batch_op.create_index("ix_blobs_client", ["client_id", "case_id", "state"], unique=False)
        batch_op.create_index("ix_blobs_state", ["state", "created_at"], unique=False)

    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.add_column(sa.Column("kind", sa.String(length=16), server_default="submission", nullable=False))
        batch_op.add_column(sa.Column("message_id", sa.String(length=40), nullable=True))
        batch_op.add_column(sa.Column("client_id", sa.String(length=130), server_default="", nullable=False))
        batch_op.add_column(sa.Column("tried_since", sa.BigInteger(), nullable=True))
        batch_op.drop_index(batch_op.f("ix_deliveries_work"))
        batch_op.drop_constraint(batch_op.f("uq_deliveries_submission_id"), type_="unique")
        batch_op.create_index("ix_deliveries_case", ["submission_id", "created_at"], unique=False)
        batch_op.create_index(
            "ix_deliveries_turns",
            ["region", "client_id", "due"],
            unique=False,
            sqlite_where=sa.text("due IS NOT NULL"),
            postgresql_where=sa.text("due IS NOT NULL"),
        )
        batch_op.create_unique_constraint("uq_deliveries_message", ["message_id"])
        batch_op.create_index(
            "uq_deliveries_submission",
            ["submission_id"],
            unique=True,
            sqlite_where=sa.text("kind = 'submission'"),
            postgresql_where=sa.text("kind = 'submission'"),
        )
        batch_op.create_foreign_key(batch_op.f("fk_deliveries_message_id"), "case_messages", ["message_id"], ["id"])

    with op.batch_alter_table("event_conflicts", schema=None) as batch_op:
        batch_op.add_column(sa.Column("status", sa.String(length=16), server_default="open", nullable=False))
        batch_op.add_column(sa.Column("resolution", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("resolved_by", sa.String(length=64), nullable=True))
        batch_op.add_column(sa.Column("resolved_at", sa.BigInteger(), nullable=True))
        batch_op.create_index("ix_event_conflicts_status", ["status", "recorded_at"], unique=False)

    with op.batch_alter_table("evidence", schema=None) as batch_op:
        batch_op.add_column(sa.Column("case_no", sa.String(length=64), nullable=True))
        batch_op.create_index(
            "ix_evidence_case",
            ["case_no"],
            unique=False,
            sqlite_where=sa.text("case_no IS NOT NULL"),
            postgresql_where=sa.text("case_no IS NOT NULL"),
        )

    with op.batch_alter_table("region_numbers", schema=None) as batch_op:
        batch_op.create_index("ix_region_numbers_number", ["region", "number"], unique=False)

    with op.batch_alter_table("submission_events", schema=None) as batch_op:
        batch_op.add_column(sa.Column("kind", sa.String(length=32), server_default="step", nullable=False))
        batch_op.add_column(sa.Column("word", sa.String(length=64), server_default="", nullable=False))
        batch_op.add_column(sa.Column("effect", sa.String(length=16), server_default="moved", nullable=False))
        batch_op.add_column(sa.Column("case_state", sa.String(length=32), server_default="", nullable=False))
        batch_op.add_column(sa.Column("hash", sa.String(length=64), server_default="", nullable=False))
        batch_op.add_column(sa.Column("client_id", sa.String(length=130), server_default="", nullable=False))
        batch_op.add_column(sa.Column("position", sa.BigInteger(), nullable=True))
        batch_op.create_index("ix_submission_events_position", ["position"], unique=True)
        batch_op.create_index(
            "ix_submission_events_rules",
            ["client_id"],
            unique=False,
            sqlite_where=sa.text("kind IN ('policy.violation', 'tolerance.breached')"),
            postgresql_where=sa.text("kind IN ('policy.violation', 'tolerance.breached')"),
        )
        batch_op.create_index("ix_submission_events_stream", ["client_id", "position"], unique=False)
        batch_op.create_index(
            "ix_submission_events_waiting",
            ["recorded_at", "submission_id", "seq"],
            unique=False,
            sqlite_where=sa.text("position IS NULL"),
            postgresql_where=sa.text("position IS NULL"),
        )

    with op.batch_alter_table("submission_materials", schema=None) as batch_op:
        batch_op.add_column(sa.Column("message_id", sa.String(length=40), nullable=True))
        batch_op.create_foreign_key(
            batch_op.f("fk_submission_materials_message_id"), "case_messages", ["message_id"], ["id"]
        )

    with op.batch_alter_table("submissions", schema=None) as batch_op:
        batch_op.add_column(sa.Column("purpose_code", sa.String(length=64), server_default="", nullable=False))
        batch_op.add_column(sa.Column("head", sa.String(length=64), server_default="", nullable=False))
        batch_op.add_column(sa.Column("parent_id", sa.String(length=29), nullable=True))
        batch_op.add_column(sa.Column("part_code", sa.String(length=64), server_default="", nullable=False))
        batch_op.add_column(sa.Column("released_at", sa.BigInteger(), nullable=True))
        batch_op.create_index("ix_submissions_parent", ["parent_id"], unique=False)

    _open_cases(_ENDED)
    op.execute(
        "UPDATE submission_events SET case_state = state, "
        "client_id = (SELECT s.client_id FROM submissions AS s WHERE s.id = submission_id)"
    )
    op.execute(
        "UPDATE deliveries SET client_id = (SELECT s.client_id FROM submissions AS s WHERE s.id = submission_id)"
    )
    op.execute("INSERT INTO blob_parts (blob_id, position, place, size) SELECT id, 0, id, size FROM blobs")
    # A file of several cases goes with the one that will be kept longest: one that is open, else the last to change.
    ended = ", ".join(map(repr, _ENDED))
    longest = f"CASE WHEN s.state IN ({ended}) THEN 1 ELSE 0 END, s.updated_at DESC, s.id"
    op.execute(
        "UPDATE blobs SET case_id = (SELECT s.id FROM submission_materials AS m "  # noqa: S608 - our own words alone
        f"JOIN submissions AS s ON s.id = m.submission_id WHERE m.blob_id = blobs.id ORDER BY {longest} LIMIT 1)"
    )
    case_of = "what::json ->> 'case'" if op.get_bind().dialect.name == "postgresql" else "json_extract(what, '$.case')"
    op.execute(f"UPDATE evidence SET case_no = {case_of} WHERE what LIKE '%\"case\"%'")  # noqa: S608 - as above


def downgrade() -> None:
    """Undo it."""
    _open_cases(_ENDED[:3])
    op.execute("DELETE FROM deliveries WHERE kind <> 'submission'")
    op.execute("DELETE FROM submission_materials WHERE message_id IS NOT NULL")
    op.execute("DELETE FROM submission_events WHERE kind NOT IN ('step', 'unknown')")
    with op.batch_alter_table("submissions", schema=None) as batch_op:
        batch_op.drop_index("ix_submissions_parent")
        batch_op.drop_column("released_at")
        batch_op.drop_column("part_code")
        batch_op.drop_column("parent_id")
        batch_op.drop_column("head")
        batch_op.drop_column("purpose_code")

    with op.batch_alter_table("submission_materials", schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f("fk_submission_materials_message_id"), type_="foreignkey")
        batch_op.drop_column("message_id")

    with op.batch_alter_table("submission_events", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_submission_events_waiting",
            sqlite_where=sa.text("position IS NULL"),
            postgresql_where=sa.text("position IS NULL"),
        )
        batch_op.drop_index("ix_submission_events_stream")
        batch_op.drop_index(
            "ix_submission_events_rules",
            sqlite_where=sa.text("kind IN ('policy.violation', 'tolerance.breached')"),
            postgresql_where=sa.text("kind IN ('policy.violation', 'tolerance.breached')"),
        )
        batch_op.drop_index("ix_submission_events_position")
        batch_op.drop_column("position")
        batch_op.drop_column("client_id")
        batch_op.drop_column("hash")
        batch_op.drop_column("case_state")
        batch_op.drop_column("effect")
        batch_op.drop_column("word")
        batch_op.drop_column("kind")

    with op.batch_alter_table("region_numbers", schema=None) as batch_op:
        batch_op.drop_index("ix_region_numbers_number")

    with op.batch_alter_table("evidence", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_evidence_case",
            sqlite_where=sa.text("case_no IS NOT NULL"),
            postgresql_where=sa.text("case_no IS NOT NULL"),
        )
        batch_op.drop_column("case_no")

    with op.batch_alter_table("event_conflicts", schema=None) as batch_op:
        batch_op.drop_index("ix_event_conflicts_status")
        batch_op.drop_column("resolved_at")
        batch_op.drop_column("resolved_by")
        batch_op.drop_column("resolution")
        batch_op.drop_column("status")

    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f("fk_deliveries_message_id"), type_="foreignkey")
        batch_op.drop_index(
            "uq_deliveries_submission",
            sqlite_where=sa.text("kind = 'submission'"),
            postgresql_where=sa.text("kind = 'submission'"),
        )
        batch_op.drop_constraint("uq_deliveries_message", type_="unique")
        batch_op.drop_index(
            "ix_deliveries_turns", sqlite_where=sa.text("due IS NOT NULL"), postgresql_where=sa.text("due IS NOT NULL")
        )
        batch_op.drop_index("ix_deliveries_case")
        batch_op.create_unique_constraint(batch_op.f("uq_deliveries_submission_id"), ["submission_id"])
        batch_op.create_index(batch_op.f("ix_deliveries_work"), ["region", "due"], unique=False)
        batch_op.drop_column("tried_since")
        batch_op.drop_column("client_id")
        batch_op.drop_column("message_id")
        batch_op.drop_column("kind")

    with op.batch_alter_table("blobs", schema=None) as batch_op:
        batch_op.drop_index("ix_blobs_state")
        batch_op.drop_index("ix_blobs_client")
        batch_op.drop_index("ix_blobs_case")
        batch_op.drop_column("why")
        batch_op.drop_column("held_until")
        batch_op.drop_column("held_by")
        batch_op.drop_column("attempt")
        batch_op.drop_column("wanted")
        batch_op.drop_column("reserved")
        batch_op.drop_column("length")
        batch_op.drop_column("case_id")
        batch_op.drop_column("state")

    with op.batch_alter_table("ratings", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_ratings_open",
            sqlite_where=sa.text("correct_until IS NOT NULL AND corrected_at IS NULL"),
            postgresql_where=sa.text("correct_until IS NOT NULL AND corrected_at IS NULL"),
        )

    with op.batch_alter_table("drafts", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_drafts_expires_at"))

    op.drop_table("drafts")
    op.drop_table("ratings")
    op.drop_table("service_records")
    op.drop_table("result_documents")
    op.drop_table("paper_lists")
    op.drop_table("case_messages")
    with op.batch_alter_table("case_errands", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_case_errands_unfinished",
            sqlite_where=sa.text("state <> 'done'"),
            postgresql_where=sa.text("state <> 'done'"),
        )
        batch_op.drop_index(
            "ix_case_errands_due", sqlite_where=sa.text("due IS NOT NULL"), postgresql_where=sa.text("due IS NOT NULL")
        )

    op.drop_table("case_errands")
    with op.batch_alter_table("case_clocks", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_case_clocks_wake",
            sqlite_where=sa.text("wake_at IS NOT NULL"),
            postgresql_where=sa.text("wake_at IS NOT NULL"),
        )
        batch_op.drop_index(
            "ix_case_clocks_told",
            sqlite_where=sa.text("ended_at IS NULL AND told <> 'none'"),
            postgresql_where=sa.text("ended_at IS NULL AND told <> 'none'"),
        )

    op.drop_table("case_clocks")
    op.drop_table("blob_parts")
    op.drop_table("archive_signatures")
    with op.batch_alter_table("webhooks", schema=None) as batch_op:
        batch_op.drop_index("ix_webhooks_client")

    op.drop_table("webhooks")
    op.drop_table("stream_heads")
    with op.batch_alter_table("item_snapshots", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_item_snapshots_blocked",
            sqlite_where=sa.text("state IN ('changed', 'suspended', 'gone')"),
            postgresql_where=sa.text("state IN ('changed', 'suspended', 'gone')"),
        )

    op.drop_table("item_snapshots")
    op.drop_table("item_pulls")
    op.drop_table("delivery_pauses")
