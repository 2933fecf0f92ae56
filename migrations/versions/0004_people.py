"""sessions, invitations, and who made a token"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

MAKER = "fk_api_tokens_created_by"


def upgrade() -> None:
    op.create_table(
        "admin_sessions",
        sa.Column("admin_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("user_agent", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["admin_id"], ["admins.id"], name=op.f("fk_admin_sessions_admin_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_admin_sessions")),
    )
    op.create_index("ix_admin_sessions_admin_id", "admin_sessions", ["admin_id"])
    op.create_table(
        "admin_invitations",
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.Text(), nullable=False),
        sa.Column("invited_by", sa.Uuid(), nullable=True),
        sa.Column("invited_by_name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("email = lower(email)", name=op.f("ck_admin_invitations_email_lower_case")),
        sa.ForeignKeyConstraint(
            ["invited_by"], ["admins.id"], name=op.f("fk_admin_invitations_invited_by"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_admin_invitations")),
        sa.UniqueConstraint("email", name=op.f("uq_admin_invitations_email")),
        sa.UniqueConstraint("secret_hash", name=op.f("uq_admin_invitations_secret_hash")),
    )
    op.create_index("ix_admin_invitations_invited_by", "admin_invitations", ["invited_by"])
    op.add_column("api_tokens", sa.Column("created_by_name", sa.Text(), nullable=True))
    op.execute(
        "UPDATE api_tokens SET created_by_name = coalesce("
        "(SELECT email FROM admins WHERE admins.id = api_tokens.created_by), 'the command line')"
    )
    op.alter_column("api_tokens", "created_by_name", nullable=False)
    op.drop_constraint(MAKER, "api_tokens", type_="foreignkey")
    op.create_foreign_key(MAKER, "api_tokens", "admins", ["created_by"], ["id"], ondelete="SET NULL")
    op.drop_column("admins", "session_version")


def downgrade() -> None:
    op.add_column("admins", sa.Column("session_version", sa.BigInteger(), server_default="1", nullable=False))
    op.alter_column("admins", "session_version", server_default=None)
    op.drop_constraint(MAKER, "api_tokens", type_="foreignkey")
    op.create_foreign_key(MAKER, "api_tokens", "admins", ["created_by"], ["id"])
    op.drop_column("api_tokens", "created_by_name")
    op.drop_table("admin_invitations")
    op.drop_table("admin_sessions")
