"""archives that are not what the history says"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("backup_history", sa.Column("file_mtime_ns", sa.BigInteger(), nullable=True))
    op.add_column("backup_history", sa.Column("damaged", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("backup_history", "damaged")
    op.drop_column("backup_history", "file_mtime_ns")
