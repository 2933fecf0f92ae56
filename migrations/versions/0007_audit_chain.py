"""the audit log as a chain, and how long it is kept"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Existing entries become part of the chain at the first tick.
    op.add_column("audit_log", sa.Column("position", sa.BigInteger(), nullable=True))
    op.add_column("audit_log", sa.Column("chain_hash", sa.Text(), nullable=True))
    op.create_unique_constraint(op.f("uq_audit_log_position"), "audit_log", ["position"])
    op.create_index("ix_audit_log_unsealed", "audit_log", ["id"], postgresql_where=sa.text("position IS NULL"))
    op.add_column("backup_settings", sa.Column("audit_years", sa.BigInteger(), server_default="7", nullable=False))
    op.add_column("backup_settings", sa.Column("audit_cut_position", sa.BigInteger(), nullable=True))
    op.add_column("backup_settings", sa.Column("audit_cut_hash", sa.Text(), nullable=True))
    op.create_check_constraint(op.f("ck_backup_settings_audit_years"), "backup_settings", "audit_years > 0")


def downgrade() -> None:
    op.drop_constraint(op.f("ck_backup_settings_audit_years"), "backup_settings", type_="check")
    op.drop_column("backup_settings", "audit_cut_hash")
    op.drop_column("backup_settings", "audit_cut_position")
    op.drop_column("backup_settings", "audit_years")
    op.drop_index("ix_audit_log_unsealed", "audit_log")
    op.drop_constraint(op.f("uq_audit_log_position"), "audit_log", type_="unique")
    op.drop_column("audit_log", "chain_hash")
    op.drop_column("audit_log", "position")
