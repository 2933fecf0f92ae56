"""restores, uploads and trust"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "restores",
        sa.Column("backup_id", sa.Uuid(), nullable=True),
        sa.Column("safety_backup_id", sa.Uuid(), nullable=True),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("safety_backup", sa.Boolean(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=True),
        sa.Column("bytes_done", sa.BigInteger(), nullable=False),
        sa.Column("bytes_total", sa.BigInteger(), nullable=True),
        sa.Column("phase_started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("warnings", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("result", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("swap_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("undo_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("undone_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("discarded_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("enqueued_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancel_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("requested_by", sa.Text(), nullable=True),
        sa.Column("job_id", sa.Text(), nullable=True),
        sa.Column("host", sa.Text(), nullable=True),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "status IN ('queued', 'in_progress', 'completed', 'failed', 'cancelled')", name=op.f("ck_restores_status")
        ),
        sa.CheckConstraint("scope IN ('all', 'database', 'documents')", name=op.f("ck_restores_scope")),
        sa.CheckConstraint("status <> 'failed' OR error IS NOT NULL", name=op.f("ck_restores_failed_has_reason")),
        sa.CheckConstraint("status <> 'completed' OR finished_at IS NOT NULL", name=op.f("ck_restores_completed_has_end")),
        sa.ForeignKeyConstraint(
            ["backup_id"], ["backup_history.id"], name=op.f("fk_restores_backup_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["safety_backup_id"], ["backup_history.id"], name=op.f("fk_restores_safety_backup_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_restores")),
    )
    op.create_index(
        "ix_restores_created_at", "restores", [sa.literal_column("created_at DESC"), sa.literal_column("id DESC")]
    )
    op.create_index(
        "ix_restores_live", "restores", ["status"], postgresql_where=sa.text("status IN ('queued', 'in_progress')")
    )
    op.create_index(op.f("ix_restores_backup_id"), "restores", ["backup_id"])
    op.create_index(op.f("ix_restores_safety_backup_id"), "restores", ["safety_backup_id"])
    op.add_column("backup_history", sa.Column("origin", sa.Text(), server_default="own", nullable=False))
    op.add_column("backup_history", sa.Column("trusted_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("backup_history", sa.Column("trusted_by", sa.Text(), nullable=True))
    op.add_column("backup_history", sa.Column("restore_test_seconds", sa.Double(), nullable=True))
    op.add_column(
        "backup_history", sa.Column("verify_restoring", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )
    op.create_check_constraint(
        op.f("ck_backup_history_origin"), "backup_history", "origin IN ('own', 'other_key', 'foreign')"
    )


def downgrade() -> None:
    op.drop_constraint(op.f("ck_backup_history_origin"), "backup_history")
    for name in ("verify_restoring", "restore_test_seconds", "trusted_by", "trusted_at", "origin"):
        op.drop_column("backup_history", name)
    op.drop_table("restores")
