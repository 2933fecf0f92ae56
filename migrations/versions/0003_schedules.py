"""slots, notifications and the rest of the settings"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SWITCHES = {
    "notify_success": "false", "notify_failure": "true", "notify_warnings": "true",
    "notify_overdue": "true", "notify_restore": "true", "notify_cleanup": "true",
}  # fmt: skip
SEALED = ("channels_sealed", "heartbeat_sealed", "heartbeat_failure_sealed")


def upgrade() -> None:
    op.create_table(
        "backup_slots",
        sa.Column("schedule_id", sa.Uuid(), nullable=False),
        sa.Column("scheduled_for", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("backup_id", sa.Uuid(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "status IN ('pending', 'running', 'completed', 'failed', 'cancelled')", name=op.f("ck_backup_slots_status")
        ),
        sa.CheckConstraint(
            "status <> 'pending' OR next_attempt_at IS NOT NULL", name=op.f("ck_backup_slots_pending_has_time")
        ),
        sa.ForeignKeyConstraint(["schedule_id"], ["backup_schedules.id"], name=op.f("fk_backup_slots_schedule_id")),
        sa.ForeignKeyConstraint(
            ["backup_id"], ["backup_history.id"], name=op.f("fk_backup_slots_backup_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_backup_slots")),
        sa.UniqueConstraint("schedule_id", "scheduled_for", name=op.f("uq_backup_slots_schedule_id_scheduled_for")),
    )
    op.create_index("ix_backup_slots_backup_id", "backup_slots", ["backup_id"])
    op.create_index(
        "ix_backup_slots_open", "backup_slots", ["status"], postgresql_where=sa.text("status IN ('pending', 'running')")
    )
    op.create_table(
        "notifications",
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("subject_key", sa.Text(), nullable=False),
        sa.Column("medium", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("html", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("medium IN ('email', 'channel', 'heartbeat')", name=op.f("ck_notifications_medium")),
        sa.CheckConstraint("status IN ('pending', 'sending', 'sent', 'failed')", name=op.f("ck_notifications_status")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notifications")),
        sa.UniqueConstraint("subject_key", "medium", "target", name=op.f("uq_notifications_subject_key_medium_target")),
    )
    op.create_index(
        "ix_notifications_created_at",
        "notifications",
        [sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
    )
    op.create_index(
        "ix_notifications_open",
        "notifications",
        ["next_attempt_at"],
        postgresql_where=sa.text("status IN ('pending', 'sending')"),
    )
    for name, default in SWITCHES.items():
        op.add_column("backup_settings", sa.Column(name, sa.Boolean(), server_default=sa.text(default), nullable=False))
    op.add_column("backup_settings", sa.Column("recipients", sa.ARRAY(sa.Text()), server_default="{}", nullable=False))
    for name in SEALED:
        op.add_column("backup_settings", sa.Column(name, sa.Text(), nullable=True))
    op.add_column("backup_settings", sa.Column("undo_hours", sa.BigInteger(), nullable=True))
    op.add_column("backup_settings", sa.Column("stall_minutes", sa.BigInteger(), server_default="10", nullable=False))
    op.add_column(
        "backup_settings", sa.Column("disk_reserve_bytes", sa.BigInteger(), server_default="268435456", nullable=False)
    )
    op.create_check_constraint(
        op.f("ck_backup_settings_limits"),
        "backup_settings",
        "undo_hours > 0 AND stall_minutes > 0 AND disk_reserve_bytes >= 0",
    )
    for table in ("backup_history", "restores"):
        op.add_column(table, sa.Column("notified_at", sa.DateTime(timezone=True), nullable=True))
        # Do not announce what ended before there were notifications.
        op.execute(f"UPDATE {table} SET notified_at = now() WHERE status NOT IN ('queued', 'in_progress')")  # noqa: S608
        op.create_index(
            f"ix_{table}_news",
            table,
            ["status"],
            postgresql_where=sa.text("notified_at IS NULL"),
        )


def downgrade() -> None:
    for table in ("restores", "backup_history"):
        op.drop_index(f"ix_{table}_news", table_name=table)
        op.drop_column(table, "notified_at")
    op.drop_constraint(op.f("ck_backup_settings_limits"), "backup_settings")
    for name in ("disk_reserve_bytes", "stall_minutes", "undo_hours", *SEALED, "recipients", *SWITCHES):
        op.drop_column("backup_settings", name)
    op.drop_table("notifications")
    op.drop_table("backup_slots")
