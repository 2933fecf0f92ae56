"""The sessions of admins."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, HasId, utcnow


class AdminSession(HasId, Base):
    """A session. The signed cookie holds its id; deleting the row invalidates the cookie and every copy of it."""

    __tablename__ = "admin_sessions"

    admin_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("admins.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    last_seen_at: Mapped[datetime] = mapped_column(default=utcnow)
    address: Mapped[str]
    user_agent: Mapped[str]
