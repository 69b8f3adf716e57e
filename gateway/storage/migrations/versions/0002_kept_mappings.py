"""Mapping packs and sets that are kept for the cases that began with them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

OPEN_CASE = sa.text("state NOT IN ('COMPLETED', 'DELIVERED', 'NOT_ACCEPTED')")


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "mapping_packs",
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("message", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("files", sa.LargeBinary(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("region", "message", "version", name=op.f("pk_mapping_packs")),
    )
    op.create_table(
        "mapping_sets",
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("kept_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("region", "version", name=op.f("pk_mapping_sets")),
    )
    op.create_table(
        "mapping_set_packs",
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("set_version", sa.String(length=64), nullable=False),
        sa.Column("message", sa.String(length=64), nullable=False),
        sa.Column("pack_version", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["region", "set_version"],
            ["mapping_sets.region", "mapping_sets.version"],
            name="fk_mapping_set_packs_set",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["region", "message", "pack_version"],
            ["mapping_packs.region", "mapping_packs.message", "mapping_packs.version"],
            name="fk_mapping_set_packs_pack",
        ),
        sa.PrimaryKeyConstraint("region", "set_version", "message", name=op.f("pk_mapping_set_packs")),
    )
    with op.batch_alter_table("mapping_set_packs", schema=None) as batch_op:
        batch_op.create_index("ix_mapping_set_packs_pack", ["region", "message", "pack_version"], unique=False)

    op.create_index(
        "ix_submissions_open",
        "submissions",
        ["handling_region", "mapping_version"],
        unique=False,
        sqlite_where=OPEN_CASE,
        postgresql_where=OPEN_CASE,
    )


def downgrade() -> None:
    """Go back."""
    op.drop_index("ix_submissions_open", "submissions")
    with op.batch_alter_table("mapping_set_packs", schema=None) as batch_op:
        batch_op.drop_index("ix_mapping_set_packs_pack")

    op.drop_table("mapping_set_packs")
    op.drop_table("mapping_sets")
    op.drop_table("mapping_packs")
