"""The tables of the metadata database, one per file: columns and constraints only."""

from app.models.admin_invitations import AdminInvitation
from app.models.admin_sessions import AdminSession
from app.models.admins import Admin
from app.models.api_tokens import ApiToken
from app.models.audit_log import AuditEntry
from app.models.backup_history import BackupHistory
from app.models.backup_schedules import BackupSchedule
from app.models.backup_settings import BackupSettings
from app.models.backup_slots import BackupSlot
from app.models.base import Base, utcnow
from app.models.notifications import Notification
from app.models.restores import Restore
from app.models.ticks import Tick

__all__ = [
    "Admin",
    "AdminInvitation",
    "AdminSession",
    "ApiToken",
    "AuditEntry",
    "BackupHistory",
    "BackupSchedule",
    "BackupSettings",
    "BackupSlot",
    "Base",
    "Notification",
    "Restore",
    "Tick",
    "utcnow",
]
