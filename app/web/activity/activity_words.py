"""The audit log in plain words: what was done, to what, and with which details."""

from collections import defaultdict
from typing import Any

from app.web.filters import filesize

# Action: icon, tone, sentence; names in braces are taken from the entry's detail.
WORDS = {
    "login": ("box-arrow-in-right", "secondary", "Logged in"),
    "login.failed": ("shield-exclamation", "warning", "A login as {email} failed"),
    "login.throttled": ("shield-x", "danger", "Logins as {email} were refused: too many wrong passwords"),
    "logout": ("box-arrow-right", "secondary", "Logged out"),
    "sessions.ended": ("box-arrow-right", "secondary", "Ended other sessions of their own"),
    "password.wrong": ("shield-exclamation", "warning", "Typed a wrong password where it was asked for again"),
    "password.changed": ("key", "info", "Changed their own password"),
    "password.reset": ("key", "warning", "Set a new password for {email}"),
    "admin.created": ("person-plus", "info", "Made {email} an admin"),
    "admin.invited": ("envelope-plus", "info", "Invited {email} to be an admin"),
    "admin.invitation_withdrawn": ("envelope-x", "info", "Withdrew the invitation of {email}"),
    "admin.joined": ("person-check", "info", "Accepted the invitation of {invited_by}, and is an admin now"),
    "admin.disabled": ("person-slash", "warning", "Disabled {email}"),
    "admin.enabled": ("person-check", "info", "Enabled {email} again"),
    "admin.unlocked": ("unlock", "warning", "Unlocked {email}, after too many wrong passwords"),
    "admin.removed": ("person-x", "danger", "Removed {email}"),
    "token.created": ("key", "info", "Made the API token “{name}”"),
    "token.revoked": ("key", "warning", "Revoked the API token “{name}”"),
    "backup.started": ("archive", "primary", "Started a backup"),
    "backup.cancelled": ("slash-circle", "secondary", "Cancelled a backup"),
    "backup.changed": ("pencil", "secondary", "Changed a backup’s pin or note"),
    "backup.deleted": ("trash3", "danger", "Deleted a backup"),
    "backup.verify": ("patch-check", "secondary", "Asked for a backup to be verified"),
    "backup.uploaded": ("upload", "primary", "Uploaded an archive"),
    "backup.upload_accepted": ("check-circle", "success", "Checked an uploaded archive and took it in"),
    "backup.upload_refused": ("x-circle", "warning", "Checked an uploaded archive and refused it"),
    "backup.downloaded": ("download", "info", "Downloaded a backup’s archive"),
    "backup.document_downloaded": ("file-earmark-arrow-down", "info", "Downloaded a document out of a backup"),
    "backup.trusted": ("patch-exclamation", "warning", "Trusted an archive that is not signed by this installation"),
    "backup.rescan": ("search", "secondary", "Looked for archives in the storage folder"),
    "restore.started": ("arrow-counterclockwise", "primary", "Started a restore"),
    "restore.without_safety_backup": ("exclamation-triangle", "danger", "Chose to restore without a safety backup"),
    "restore.cancelled": ("slash-circle", "secondary", "Cancelled a restore"),
    "restore.completed": ("check-circle", "success", "A restore was completed"),
    "restore.failed": ("x-circle", "danger", "A restore failed"),
    "restore.undone": ("arrow-counterclockwise", "warning", "Undid a restore"),
    "restore.redone": ("arrow-clockwise", "warning", "Made a restore’s state live again"),
    "restore.discarded": ("trash3", "secondary", "The state before a restore was dropped: its time to undo was over"),
    "restore.found": ("search", "secondary", "Found a restore that this history did not know"),
    "schedule.created": ("calendar2-plus", "info", "Made a schedule"),
    "schedule.changed": ("pencil", "info", "Changed a schedule"),
    "schedule.deleted": ("calendar2-x", "danger", "Deleted the schedule “{name}”"),
    "schedule.enabled": ("toggle-on", "info", "Switched a schedule on"),
    "schedule.disabled": ("toggle-off", "warning", "Switched a schedule off"),
    "schedule.run": ("play", "primary", "Ran a schedule by hand"),
    "settings.changed": ("sliders", "info", "Changed the settings"),
    "notifications.tested": ("send", "secondary", "Sent a test message"),
    "recovery_sheet.downloaded": ("life-preserver", "warning", "Downloaded the recovery sheet"),
    "audit.cut": ("scissors", "secondary", "Deleted the oldest entries of this log"),
    "retention.cleanup": ("recycle", "secondary", "Cleaned up old backups"),
}
# The filter's groups: a title, then the beginnings of the actions in it.
GROUPS = {
    "Backups": ("backup.",),
    "Restores": ("restore.",),
    "Schedules": ("schedule.",),
    "Logging in": ("login", "logout", "sessions.", "password."),
    "Admins": ("admin.",),
    "API tokens": ("token.",),
    "Settings and upkeep": (
        "settings.changed",
        "notifications.tested",
        "recovery_sheet.downloaded",
        "retention.cleanup",
        "audit.",
    ),
}
LABELS = {
    "backup_id": "Backup",
    "categories": "Kept as",
    "created_by": "Made by",
    "filename": "File",
    "id": "Backup",
    "note": "Note",
    "sha256": "SHA-256",
    "undo_hours": "Hours to undo a restore",
    "stall_minutes": "Minutes until a stall",
    "audit_years": "Years of the audit log",
    "entries": "Entries",
    "head": "Last of them",
    "secrets": "Secrets changed (not kept here)",
}
SUBJECTS = {
    "backup": "this backup",
    "restore": "this restore",
    "schedule": "this schedule",
    "admin": "this admin",
    "token": "this token",
    "invitation": "this invitation",
    "settings": "the settings",
    "storage": "the storage folder",
}


def icon_of(action: str) -> str:
    """Return the name of an action's icon."""
    return WORDS.get(action, ("dot", "", ""))[0]


def tone_of(action: str) -> str:
    """Return the Bootstrap colour of an action."""
    return WORDS.get(action, ("", "secondary", ""))[1]


def sentence(action: str, detail: dict[str, Any]) -> str:
    """Describe an action in a sentence; an unknown action is shown by its name."""
    if action not in WORDS:
        return action.replace(".", ": ").replace("_", " ").capitalize()
    known = {name: value for name, value in detail.items() if isinstance(value, str) and value}
    return WORDS[action][2].format_map(defaultdict(lambda: "somebody", known))


def choices() -> dict[str, dict[str, str]]:
    """Return the filter's options: for each group its actions with their labels; a name that ends in a dot stands for all
    actions that begin with it."""
    blank: defaultdict[str, str] = defaultdict(lambda: "…")
    chosen = {}
    for title, beginnings in GROUPS.items():
        every = {beginnings[0]: f"All of: {title}"} if beginnings[0].endswith(".") else {}
        names = [action for action in WORDS if action.startswith(beginnings)]
        chosen[title] = every | {action: WORDS[action][2].format_map(blank) for action in names}
    return chosen


def facts(action: str, detail: dict[str, Any]) -> list[tuple[str, str]]:
    """List the details that the sentence does not mention, as pairs of a label and a text."""
    said = WORDS[action][2] if action in WORDS else ""
    return [(label(name), text(name, value)) for name, value in detail.items() if f"{{{name}}}" not in said]


def label(name: str) -> str:
    """Return the label of a detail."""
    return LABELS.get(name) or name.replace("_", " ").capitalize()


def text(name: str, value: Any) -> str:
    """Format the value of a detail."""
    if value is None or value in ("", []):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float) and name.endswith("_bytes"):
        return filesize(value)
    if isinstance(value, list):
        return ", ".join(text("", part) for part in value)
    if isinstance(value, dict):
        return ", ".join(f"{label(key)}: {text(key, part)}" for key, part in value.items())
    return str(value)
