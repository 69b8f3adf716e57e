"""Sign-on: clients in the database, token families, delegation, linking, logout, regions that can be closed.

The tables of sign-ons under way are made anew rather than altered: what they hold lives for an hour, and everybody
signs on again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_REMADE = {
    "authorization_codes": ["ix_authorization_codes_session_id"],
    "sign_on_sessions": ["ix_sign_on_sessions_expires_at"],
    "sign_on_interactions": ["ix_sign_on_interactions_expires_at"],
}
"""Table → its indices as they were."""


def upgrade() -> None:
    """Go forward."""
    for table, indices in _REMADE.items():
        for index in indices:
            op.drop_index(index, table)
        op.drop_table(table)
    op.create_table(
        "clients",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("registration", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("disabled_at", sa.BigInteger(), nullable=True),
        sa.Column("enabled_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clients")),
    )
    op.create_table(
        "identity_links",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("one_region", sa.String(length=32), nullable=False),
        sa.Column("one_ref", sa.String(length=64), nullable=False),
        sa.Column("other_region", sa.String(length=32), nullable=False),
        sa.Column("other_ref", sa.String(length=64), nullable=False),
        sa.Column("key_ref", sa.String(length=64), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_identity_links")),
    )
    with op.batch_alter_table("identity_links", schema=None) as batch_op:
        batch_op.create_index("ix_identity_links_one", ["one_region", "one_ref"], unique=False)
        batch_op.create_index("ix_identity_links_other", ["other_region", "other_ref"], unique=False)
        batch_op.create_index(
            "uq_identity_links_key",
            ["one_region", "key_ref"],
            unique=True,
            sqlite_where=sa.text("ended_at IS NULL"),
            postgresql_where=sa.text("ended_at IS NULL"),
        )
        batch_op.create_index(
            "uq_identity_links_one",
            ["one_region", "one_ref", "other_region"],
            unique=True,
            sqlite_where=sa.text("ended_at IS NULL"),
            postgresql_where=sa.text("ended_at IS NULL"),
        )
        batch_op.create_index(
            "uq_identity_links_other",
            ["other_region", "other_ref", "one_region"],
            unique=True,
            sqlite_where=sa.text("ended_at IS NULL"),
            postgresql_where=sa.text("ended_at IS NULL"),
        )

    op.create_table(
        "logouts",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("handle_hash", sa.String(length=64), nullable=False),
        sa.Column("session_id", sa.String(length=40), nullable=False),
        sa.Column("begun_by", sa.String(length=64), nullable=False),
        sa.Column("return_to", sa.Text(), nullable=True),
        sa.Column("begun_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_logouts")),
    )
    with op.batch_alter_table("logouts", schema=None) as batch_op:
        batch_op.create_index("ix_logouts_begun_at", ["begun_at"], unique=False)

    op.create_table(
        "mandates",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("principal_ref", sa.String(length=64), nullable=False),
        sa.Column("agent_ref", sa.String(length=64), nullable=False),
        sa.Column("relation", sa.String(length=32), nullable=False),
        sa.Column("items", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("recorded_by", sa.String(length=130), nullable=False),
        sa.Column("valid_from", sa.BigInteger(), nullable=False),
        sa.Column("valid_until", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_by", sa.String(length=130), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mandates")),
    )
    with op.batch_alter_table("mandates", schema=None) as batch_op:
        batch_op.create_index("ix_mandates_agent", ["agent_ref"], unique=False)
        batch_op.create_index("ix_mandates_principal", ["principal_ref"], unique=False)

    op.create_table(
        "pushed_requests",
        sa.Column("uri_hash", sa.String(length=64), nullable=False),
        sa.Column("client_id", sa.String(length=64), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("uri_hash", name=op.f("pk_pushed_requests")),
    )
    with op.batch_alter_table("pushed_requests", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_pushed_requests_expires_at"), ["expires_at"], unique=False)

    op.create_table(
        "region_switches",
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("closed", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("changed_by", sa.String(length=64), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("region", name=op.f("pk_region_switches")),
    )
    op.create_table(
        "revoked_tokens",
        sa.Column("token_id", sa.String(length=64), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("token_id", name=op.f("pk_revoked_tokens")),
    )
    with op.batch_alter_table("revoked_tokens", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_revoked_tokens_expires_at"), ["expires_at"], unique=False)

    op.create_table(
        "sign_on_consents",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("client_id", sa.String(length=64), nullable=False),
        sa.Column("subject_ref", sa.String(length=64), nullable=False),
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("recipient", sa.String(length=12), nullable=False),
        sa.Column("claims", sa.Text(), nullable=False),
        sa.Column("shown", sa.Text(), nullable=False),
        sa.Column("given_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sign_on_consents")),
    )
    with op.batch_alter_table("sign_on_consents", schema=None) as batch_op:
        batch_op.create_index("ix_sign_on_consents_whose", ["client_id", "subject_ref"], unique=False)

    op.create_table(
        "sign_on_interactions",
        sa.Column("id", sa.String(length=43), nullable=False),
        sa.Column("handle_hash", sa.String(length=64), nullable=False),
        sa.Column("client_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("region", sa.String(length=32), nullable=True),
        sa.Column("state_hash", sa.String(length=64), nullable=True),
        sa.Column("memory", sa.LargeBinary(), nullable=True),
        sa.Column("session_id", sa.String(length=40), nullable=True),
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
        sa.Column("upstream_ref", sa.String(length=64), nullable=True),
        sa.Column("assurance", sa.Integer(), nullable=False),
        sa.Column("method", sa.String(length=64), nullable=False),
        sa.Column("person", sa.LargeBinary(), nullable=False),
        sa.Column("kept", sa.LargeBinary(), nullable=True),
        sa.Column("evidence_id", sa.String(length=40), nullable=False),
        sa.Column("authenticated_at", sa.BigInteger(), nullable=False),
        sa.Column("last_used_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sign_on_sessions")),
        sa.UniqueConstraint("handle_hash", name=op.f("uq_sign_on_sessions_handle_hash")),
    )
    with op.batch_alter_table("sign_on_sessions", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_sign_on_sessions_expires_at"), ["expires_at"], unique=False)
        batch_op.create_index("ix_sign_on_sessions_subject", ["region", "subject_ref"], unique=False)
        batch_op.create_index("ix_sign_on_sessions_upstream", ["region", "upstream_ref"], unique=False)

    op.create_table(
        "subject_references",
        sa.Column("reference_hash", sa.String(length=64), nullable=False),
        sa.Column("client_id", sa.String(length=64), nullable=False),
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("subject", sa.LargeBinary(), nullable=False),
        sa.Column("assurance", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("reference_hash", name=op.f("pk_subject_references")),
    )
    with op.batch_alter_table("subject_references", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_subject_references_expires_at"), ["expires_at"], unique=False)

    op.create_table(
        "upstream_returns",
        sa.Column("handle_hash", sa.String(length=64), nullable=False),
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("handle_hash", name=op.f("pk_upstream_returns")),
    )
    with op.batch_alter_table("upstream_returns", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_upstream_returns_expires_at"), ["expires_at"], unique=False)

    op.create_table(
        "authorization_codes",
        sa.Column("code_hash", sa.String(length=64), nullable=False),
        sa.Column("client_id", sa.String(length=64), nullable=False),
        sa.Column("session_id", sa.String(length=40), nullable=False),
        sa.Column("redirect_uri", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("claims", sa.Text(), nullable=False),
        sa.Column("nonce", sa.Text(), nullable=True),
        sa.Column("challenge", sa.String(length=128), nullable=False),
        sa.Column("acr", sa.String(length=64), nullable=False),
        sa.Column("jkt", sa.String(length=64), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["session_id"], ["sign_on_sessions.id"], name=op.f("fk_authorization_codes_session_id")
        ),
        sa.PrimaryKeyConstraint("code_hash", name=op.f("pk_authorization_codes")),
    )
    with op.batch_alter_table("authorization_codes", schema=None) as batch_op:
        batch_op.create_index("ix_authorization_codes_session_id", ["session_id"], unique=False)

    op.create_table(
        "logout_parties",
        sa.Column("logout_id", sa.String(length=40), nullable=False),
        sa.Column("party", sa.String(length=80), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("message", sa.LargeBinary(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due", sa.BigInteger(), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.Column("last_code", sa.String(length=64), nullable=True),
        sa.Column("settled_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["logout_id"], ["logouts.id"], name=op.f("fk_logout_parties_logout_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("logout_id", "party", name=op.f("pk_logout_parties")),
    )
    with op.batch_alter_table("logout_parties", schema=None) as batch_op:
        batch_op.create_index("ix_logout_parties_due", ["due"], unique=False)

    op.create_table(
        "token_families",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("client_id", sa.String(length=64), nullable=False),
        sa.Column("session_id", sa.String(length=40), nullable=False),
        sa.Column("code_hash", sa.String(length=64), nullable=True),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("claims", sa.Text(), nullable=False),
        sa.Column("acr", sa.String(length=64), nullable=False),
        sa.Column("binding", sa.Text(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=True),
        sa.Column("mandate_id", sa.String(length=40), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["session_id"], ["sign_on_sessions.id"], name=op.f("fk_token_families_session_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_token_families")),
        sa.UniqueConstraint("code_hash", name=op.f("uq_token_families_code_hash")),
    )
    with op.batch_alter_table("token_families", schema=None) as batch_op:
        batch_op.create_index("ix_token_families_client_id", ["client_id"], unique=False)
        batch_op.create_index("ix_token_families_session_id", ["session_id"], unique=False)

    op.create_table(
        "refresh_tokens",
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("family_id", sa.String(length=40), nullable=False),
        sa.Column("issued_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["family_id"], ["token_families.id"], name=op.f("fk_refresh_tokens_family_id")),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_refresh_tokens")),
    )
    with op.batch_alter_table("refresh_tokens", schema=None) as batch_op:
        batch_op.create_index("ix_refresh_tokens_family_id", ["family_id"], unique=False)


def downgrade() -> None:
    """Go back."""
    with op.batch_alter_table("refresh_tokens", schema=None) as batch_op:
        batch_op.drop_index("ix_refresh_tokens_family_id")

    op.drop_table("refresh_tokens")
    with op.batch_alter_table("token_families", schema=None) as batch_op:
        batch_op.drop_index("ix_token_families_session_id")
        batch_op.drop_index("ix_token_families_client_id")

    op.drop_table("token_families")
    with op.batch_alter_table("logout_parties", schema=None) as batch_op:
        batch_op.drop_index("ix_logout_parties_due")

    op.drop_table("logout_parties")
    with op.batch_alter_table("authorization_codes", schema=None) as batch_op:
        batch_op.drop_index("ix_authorization_codes_session_id")

    op.drop_table("authorization_codes")
    with op.batch_alter_table("upstream_returns", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_upstream_returns_expires_at"))

    op.drop_table("upstream_returns")
    with op.batch_alter_table("subject_references", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_subject_references_expires_at"))

    op.drop_table("subject_references")
    with op.batch_alter_table("sign_on_sessions", schema=None) as batch_op:
        batch_op.drop_index("ix_sign_on_sessions_upstream")
        batch_op.drop_index("ix_sign_on_sessions_subject")
        batch_op.drop_index(batch_op.f("ix_sign_on_sessions_expires_at"))

    op.drop_table("sign_on_sessions")
    with op.batch_alter_table("sign_on_interactions", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_sign_on_interactions_expires_at"))

    op.drop_table("sign_on_interactions")
    with op.batch_alter_table("sign_on_consents", schema=None) as batch_op:
        batch_op.drop_index("ix_sign_on_consents_whose")

    op.drop_table("sign_on_consents")
    with op.batch_alter_table("revoked_tokens", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_revoked_tokens_expires_at"))

    op.drop_table("revoked_tokens")
    op.drop_table("region_switches")
    with op.batch_alter_table("pushed_requests", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_pushed_requests_expires_at"))

    op.drop_table("pushed_requests")
    with op.batch_alter_table("mandates", schema=None) as batch_op:
        batch_op.drop_index("ix_mandates_principal")
        batch_op.drop_index("ix_mandates_agent")

    op.drop_table("mandates")
    with op.batch_alter_table("logouts", schema=None) as batch_op:
        batch_op.drop_index("ix_logouts_begun_at")

    op.drop_table("logouts")
    with op.batch_alter_table("identity_links", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_identity_links_other",
            sqlite_where=sa.text("ended_at IS NULL"),
            postgresql_where=sa.text("ended_at IS NULL"),
        )
        batch_op.drop_index(
            "uq_identity_links_one",
            sqlite_where=sa.text("ended_at IS NULL"),
            postgresql_where=sa.text("ended_at IS NULL"),
        )
        batch_op.drop_index(
            "uq_identity_links_key",
            sqlite_where=sa.text("ended_at IS NULL"),
            postgresql_where=sa.text("ended_at IS NULL"),
        )
        batch_op.drop_index("ix_identity_links_other")
        batch_op.drop_index("ix_identity_links_one")

    op.drop_table("identity_links")
    op.drop_table("clients")
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
