"""The audit log: who changed what, when and from where."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Identity, Index, desc, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, utcnow

ACTOR_KINDS = ("admin", "token", "system", "cli")


class AuditEntry(Base):
    """One change. Written by app.services.audit.audit only, in the transaction of the change.

    `position` counts the sealed entries from 1, and `chain_hash` is the SHA-256 of the hash before and of this entry; both
    are null until the next tick: see app.services.audit.audit_chain.
    """

    __tablename__ = "audit_log"
    __table_args__ = (
        CheckConstraint(f"actor_kind IN ({', '.join(repr(kind) for kind in ACTOR_KINDS)})", name="actor_kind"),
        Index("ix_audit_log_at_id", desc("at"), desc("id")),
        Index("ix_audit_log_subject", "subject_type", "subject_id"),
        Index("ix_audit_log_unsealed", "id", postgresql_where=text("position IS NULL")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(default=utcnow)
    actor_kind: Mapped[str]
    actor_id: Mapped[str | None]
    actor_name: Mapped[str]
    address: Mapped[str | None]
    action: Mapped[str]
    subject_type: Mapped[str]
    subject_id: Mapped[str | None]
    position: Mapped[int | None] = mapped_column(unique=True)
    chain_hash: Mapped[str | None]
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)
