"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "blobs",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("client_id", sa.String(length=130), nullable=False),
        sa.Column("name", sa.LargeBinary(), nullable=False),
        sa.Column("media_type", sa.String(length=100), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_blobs")),
    )
    op.create_table(
        "consents",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("case_no", sa.String(length=64), nullable=False),
        sa.Column("subject_ref", sa.String(length=64), nullable=False),
        sa.Column("recipient", sa.String(length=32), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("fields", sa.Text(), nullable=False),
        sa.Column("basis", sa.Text(), nullable=False),
        sa.Column("legal_basis", sa.Text(), nullable=False),
        sa.Column("recorded_by", sa.String(length=130), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("given_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_consents")),
    )
    with op.batch_alter_table("consents", schema=None) as batch_op:
        batch_op.create_index("ix_consents_case", ["case_no", "subject_ref"], unique=False)

    op.create_table(
        "daily_sequences",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_daily_sequences")),
    )
    op.create_table(
        "event_conflicts",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("region_event_id", sa.String(length=64), nullable=False),
        sa.Column("submission_id", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("event", sa.LargeBinary(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event_conflicts")),
        sa.UniqueConstraint("region", "region_event_id", name="uq_event_conflicts_region_event"),
    )
    op.create_table(
        "evidence",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=128), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("parts", sa.Text(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("forwarded_at", sa.BigInteger(), nullable=True),
        sa.Column("answered_at", sa.BigInteger(), nullable=True),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evidence")),
    )
    with op.batch_alter_table("evidence", schema=None) as batch_op:
        batch_op.create_index("ix_evidence_recorded_at", ["recorded_at"], unique=False)

    op.create_table(
        "feed_cursors",
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("cursor", sa.Text(), nullable=False),
        sa.Column("lease_until", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("region", name=op.f("pk_feed_cursors")),
    )
    op.create_table(
        "nonces",
        sa.Column("scope", sa.String(length=64), nullable=False),
        sa.Column("value", sa.String(length=128), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "value", name=op.f("pk_nonces")),
    )
    with op.batch_alter_table("nonces", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_nonces_expires_at"), ["expires_at"], unique=False)

    op.create_table(
        "sign_on_interactions",
        sa.Column("id", sa.String(length=43), nullable=False),
        sa.Column("handle_hash", sa.String(length=64), nullable=False),
        sa.Column("client_id", sa.String(length=64), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("region", sa.String(length=32), nullable=True),
        sa.Column("state_hash", sa.String(length=64), nullable=True),
        sa.Column("memory", sa.LargeBinary(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sign_on_interactions")),
        sa.UniqueConstraint("state_hash", name=op.f("uq_sign_on_interactions_state_hash")),
    )
    with op.batch_alter_table("sign_on_interactions", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_sign_on_interactions_expires_at"), ["expires_at"], unique=False)

    op.create_table(
        "sign_on_sessions",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("handle_hash", sa.String(length=64), nullable=False),
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("subject_ref", sa.String(length=64), nullable=False),
        sa.Column("assurance", sa.Integer(), nullable=False),
        sa.Column("method", sa.String(length=64), nullable=False),
        sa.Column("person", sa.LargeBinary(), nullable=False),
        sa.Column("authenticated_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sign_on_sessions")),
        sa.UniqueConstraint("handle_hash", name=op.f("uq_sign_on_sessions_handle_hash")),
    )
    with op.batch_alter_table("sign_on_sessions", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_sign_on_sessions_expires_at"), ["expires_at"], unique=False)

    op.create_table(
        "submissions",
        sa.Column("id", sa.String(length=29), nullable=False),
        sa.Column("client_id", sa.String(length=130), nullable=False),
        sa.Column("item_code", sa.String(length=33), nullable=False),
        sa.Column("client_reference", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("channel", sa.String(length=16), nullable=False),
        sa.Column("origin_code", sa.String(length=12), nullable=False),
        sa.Column("window_id", sa.String(length=64), nullable=True),
        sa.Column("operator", sa.String(length=64), nullable=True),
        sa.Column("handling_region", sa.String(length=32), nullable=False),
        sa.Column("handling_code", sa.String(length=12), nullable=False),
        sa.Column("applicant_ref", sa.String(length=64), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("mapping_version", sa.String(length=64), nullable=False),
        sa.Column("last_seq", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_submissions")),
        sa.UniqueConstraint("client_id", "item_code", "client_reference", name="uq_submissions_business_key"),
    )
    with op.batch_alter_table("submissions", schema=None) as batch_op:
        batch_op.create_index("ix_submissions_recent", ["client_id", "created_at"], unique=False)

    op.create_table(
        "window_sessions",
        sa.Column("handle_hash", sa.String(length=64), nullable=False),
        sa.Column("clerk_id", sa.String(length=64), nullable=True),
        sa.Column("window_id", sa.String(length=64), nullable=True),
        sa.Column("csrf", sa.String(length=64), nullable=False),
        sa.Column("memory", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("handle_hash", name=op.f("pk_window_sessions")),
    )
    with op.batch_alter_table("window_sessions", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_window_sessions_expires_at"), ["expires_at"], unique=False)

    op.create_table(
        "authorization_codes",
        sa.Column("code_hash", sa.String(length=64), nullable=False),
        sa.Column("client_id", sa.String(length=64), nullable=False),
        sa.Column("session_id", sa.String(length=40), nullable=False),
        sa.Column("redirect_uri", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("nonce", sa.Text(), nullable=True),
        sa.Column("challenge", sa.String(length=128), nullable=False),
        sa.Column("acr", sa.String(length=64), nullable=False),
        sa.Column("token_id", sa.String(length=40), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["session_id"], ["sign_on_sessions.id"], name=op.f("fk_authorization_codes_session_id")
        ),
        sa.PrimaryKeyConstraint("code_hash", name=op.f("pk_authorization_codes")),
        sa.UniqueConstraint("token_id", name=op.f("uq_authorization_codes_token_id")),
    )
    with op.batch_alter_table("authorization_codes", schema=None) as batch_op:
        batch_op.create_index("ix_authorization_codes_session_id", ["session_id"], unique=False)

    op.create_table(
        "deliveries",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("submission_id", sa.String(length=29), nullable=False),
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("due", sa.BigInteger(), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.Column("owner", sa.String(length=64), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("last_code", sa.String(length=64), nullable=True),
        sa.Column("last_text", sa.Text(), nullable=True),
        sa.Column("sent_at", sa.BigInteger(), nullable=True),
        sa.Column("settled_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["submission_id"], ["submissions.id"], name=op.f("fk_deliveries_submission_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
        sa.UniqueConstraint("submission_id", name=op.f("uq_deliveries_submission_id")),
    )
    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.create_index("ix_deliveries_figures", ["state", "region", "created_at"], unique=False)
        batch_op.create_index("ix_deliveries_work", ["region", "due"], unique=False)

    op.create_table(
        "region_numbers",
        sa.Column("submission_id", sa.String(length=29), nullable=False),
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("number", sa.String(length=64), nullable=False),
        sa.Column("short_number", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(["submission_id"], ["submissions.id"], name=op.f("fk_region_numbers_submission_id")),
        sa.PrimaryKeyConstraint("submission_id", "region", name=op.f("pk_region_numbers")),
    )
    op.create_table(
        "submission_events",
        sa.Column("submission_id", sa.String(length=29), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("source", sa.String(length=32), nullable=False),
        sa.Column("region_event_id", sa.String(length=64), nullable=True),
        sa.Column("occurred_at", sa.BigInteger(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.Column("detail", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["submission_id"], ["submissions.id"], name=op.f("fk_submission_events_submission_id")),
        sa.PrimaryKeyConstraint("submission_id", "seq", name=op.f("pk_submission_events")),
        sa.UniqueConstraint("source", "region_event_id", name="uq_submission_events_region_event"),
    )
    op.create_table(
        "submission_materials",
        sa.Column("submission_id", sa.String(length=29), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("blob_id", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(["blob_id"], ["blobs.id"], name=op.f("fk_submission_materials_blob_id")),
        sa.ForeignKeyConstraint(
            ["submission_id"], ["submissions.id"], name=op.f("fk_submission_materials_submission_id")
        ),
        sa.PrimaryKeyConstraint("submission_id", "position", name=op.f("pk_submission_materials")),
    )


def downgrade() -> None:
    """Go back."""
    op.drop_table("submission_materials")
    op.drop_table("submission_events")
    op.drop_table("region_numbers")
    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.drop_index("ix_deliveries_work")
        batch_op.drop_index("ix_deliveries_figures")

    op.drop_table("deliveries")
    with op.batch_alter_table("authorization_codes", schema=None) as batch_op:
        batch_op.drop_index("ix_authorization_codes_session_id")

    op.drop_table("authorization_codes")
    with op.batch_alter_table("window_sessions", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_window_sessions_expires_at"))

    op.drop_table("window_sessions")
    with op.batch_alter_table("submissions", schema=None) as batch_op:
        batch_op.drop_index("ix_submissions_recent")

    op.drop_table("submissions")
    with op.batch_alter_table("sign_on_sessions", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_sign_on_sessions_expires_at"))

    op.drop_table("sign_on_sessions")
    with op.batch_alter_table("sign_on_interactions", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_sign_on_interactions_expires_at"))

    op.drop_table("sign_on_interactions")
    with op.batch_alter_table("nonces", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_nonces_expires_at"))

    op.drop_table("nonces")
    op.drop_table("feed_cursors")
    with op.batch_alter_table("evidence", schema=None) as batch_op:
        batch_op.drop_index("ix_evidence_recorded_at")

    op.drop_table("evidence")
    op.drop_table("event_conflicts")
    op.drop_table("daily_sequences")
    with op.batch_alter_table("consents", schema=None) as batch_op:
        batch_op.drop_index("ix_consents_case")

    op.drop_table("consents")
    op.drop_table("blobs")
