"""Certificates: those that cases rest on, notices of issuers, files by link, reported errors, vain look-ups."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make it."""
    op.create_table(
        "case_certificates",
        sa.Column("submission_id", sa.String(length=29), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("type_code", sa.String(length=21), nullable=False),
        sa.Column("issuer", sa.String(length=32), nullable=False),
        sa.Column("capability", sa.String(length=32), nullable=False),
        sa.Column("reference", sa.String(length=64), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("standing", sa.String(length=16), nullable=False),
        sa.Column("verified_at", sa.BigInteger(), nullable=False),
        sa.Column("good_until", sa.BigInteger(), nullable=False),
        sa.Column("evidence_id", sa.String(length=40), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=True),
        sa.Column("followed", sa.Boolean(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("last_code", sa.String(length=64), nullable=True),
        sa.Column("noticed_at", sa.BigInteger(), nullable=True),
        sa.Column("due", sa.BigInteger(), nullable=True),
        sa.Column("owner", sa.String(length=64), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["submission_id"], ["submissions.id"], name=op.f("fk_case_certificates_submission_id")),
        sa.PrimaryKeyConstraint("submission_id", "position", name=op.f("pk_case_certificates")),
    )
    with op.batch_alter_table("case_certificates", schema=None) as batch_op:
        batch_op.create_index(
            "ix_case_certificates_due",
            ["issuer", "due"],
            unique=False,
            sqlite_where=sa.text("due IS NOT NULL"),
            postgresql_where=sa.text("due IS NOT NULL"),
        )
        batch_op.create_index(
            "ix_case_certificates_good_until",
            ["good_until"],
            unique=False,
            sqlite_where=sa.text("due IS NOT NULL"),
            postgresql_where=sa.text("due IS NOT NULL"),
        )
        batch_op.create_index(
            "ix_case_certificates_reference",
            ["reference"],
            unique=False,
            sqlite_where=sa.text("due IS NOT NULL"),
            postgresql_where=sa.text("due IS NOT NULL"),
        )

    op.create_table(
        "certificate_disputes",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("client_id", sa.String(length=130), nullable=False),
        sa.Column("client_reference", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("type_code", sa.String(length=21), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("number", sa.String(length=128), nullable=True),
        sa.Column("reply", sa.LargeBinary(), nullable=True),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_code", sa.String(length=64), nullable=True),
        sa.Column("due", sa.BigInteger(), nullable=True),
        sa.Column("owner", sa.String(length=64), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_certificate_disputes")),
        sa.UniqueConstraint("client_id", "client_reference", name="uq_certificate_disputes_reference"),
    )
    with op.batch_alter_table("certificate_disputes", schema=None) as batch_op:
        batch_op.create_index(
            "ix_certificate_disputes_due",
            ["due"],
            unique=False,
            sqlite_where=sa.text("due IS NOT NULL"),
            postgresql_where=sa.text("due IS NOT NULL"),
        )

    op.create_table(
        "certificate_links",
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("client_id", sa.String(length=130), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_certificate_links")),
    )
    with op.batch_alter_table("certificate_links", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_certificate_links_expires_at"), ["expires_at"], unique=False)

    op.create_table(
        "certificate_misses",
        sa.Column("reference", sa.String(length=64), nullable=False),
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("type_code", sa.String(length=21), nullable=False),
        sa.Column("missed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("reference", name=op.f("pk_certificate_misses")),
    )
    with op.batch_alter_table("certificate_misses", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_certificate_misses_missed_at"), ["missed_at"], unique=False)

    op.create_table(
        "certificate_seen",
        sa.Column("reference", sa.String(length=64), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("reference", name=op.f("pk_certificate_seen")),
    )
    with op.batch_alter_table("certificate_seen", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_certificate_seen_seen_at"), ["seen_at"], unique=False)

    op.create_table(
        "certificate_freshness",
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("type_code", sa.String(length=21), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("counts", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("day", "region", "type_code", "owner", name=op.f("pk_certificate_freshness")),
    )

    op.create_table(
        "certificate_notices",
        sa.Column("reference", sa.String(length=64), nullable=False),
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("noticed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("reference", "region", name=op.f("pk_certificate_notices")),
    )
    with op.batch_alter_table("certificate_notices", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_certificate_notices_noticed_at"), ["noticed_at"], unique=False)


def downgrade() -> None:
    """Undo it."""
    with op.batch_alter_table("certificate_notices", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_certificate_notices_noticed_at"))

    op.drop_table("certificate_notices")
    op.drop_table("certificate_freshness")
    with op.batch_alter_table("certificate_seen", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_certificate_seen_seen_at"))

    op.drop_table("certificate_seen")
    with op.batch_alter_table("certificate_misses", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_certificate_misses_missed_at"))

    op.drop_table("certificate_misses")
    with op.batch_alter_table("certificate_links", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_certificate_links_expires_at"))

    op.drop_table("certificate_links")
    with op.batch_alter_table("certificate_disputes", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_certificate_disputes_due",
            sqlite_where=sa.text("due IS NOT NULL"),
            postgresql_where=sa.text("due IS NOT NULL"),
        )

    op.drop_table("certificate_disputes")
    with op.batch_alter_table("case_certificates", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_case_certificates_reference",
            sqlite_where=sa.text("due IS NOT NULL"),
            postgresql_where=sa.text("due IS NOT NULL"),
        )
        batch_op.drop_index(
            "ix_case_certificates_good_until",
            sqlite_where=sa.text("due IS NOT NULL"),
            postgresql_where=sa.text("due IS NOT NULL"),
        )
        batch_op.drop_index(
            "ix_case_certificates_due",
            sqlite_where=sa.text("due IS NOT NULL"),
            postgresql_where=sa.text("due IS NOT NULL"),
        )

    op.drop_table("case_certificates")
