"""Pending invitations to become an admin."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, HasId, utcnow


class AdminInvitation(HasId, Base):
    """A pending invitation: only the SHA-256 of its link's secret is stored. Accepting or withdrawing it deletes the row."""

    __tablename__ = "admin_invitations"
    __table_args__ = (CheckConstraint("email = lower(email)", name="email_lower_case"),)

    email: Mapped[str] = mapped_column(unique=True)
    secret_hash: Mapped[str] = mapped_column(unique=True)
    invited_by: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("admins.id", ondelete="CASCADE"), index=True)
    invited_by_name: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    expires_at: Mapped[datetime]
