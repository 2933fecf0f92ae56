"""The people who may sign in."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from sqlalchemy import CheckConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, HasId, utcnow


class Admin(HasId, Base):
    """An admin. `session_version` is part of every session's id: raising it ends all of them at once."""

    __tablename__ = "admins"
    __table_args__ = (CheckConstraint("email = lower(email)", name="email_lower_case"),)

    # What Flask-Login asks of a user.
    is_authenticated: ClassVar[bool] = True
    is_active: ClassVar[bool] = True
    is_anonymous: ClassVar[bool] = False

    email: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str]
    session_version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    last_login_at: Mapped[datetime | None]
    disabled_at: Mapped[datetime | None]

    def get_id(self) -> str:
        """Return what a session remembers of this admin."""
        return f"{self.id}.{self.session_version}"
