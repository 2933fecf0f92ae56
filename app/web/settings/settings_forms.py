"""The forms of the settings: fields, labels, help. The services check the values."""

from typing import Any

from flask_wtf import FlaskForm
from wtforms import BooleanField, FieldList, Form, FormField, HiddenField, PasswordField, StringField, TextAreaField
from wtforms.widgets import NumberInput

from app.errors import InvalidInput
from app.models.backup_settings import QUOTA_COLUMNS
from app.services.installation.settings import SettingsView
from app.web.forms import TYPED_BY_HAND, show_errors
from app.web.schedules.schedule_form import filled, quota_field

BYTES_PER_MB = 1_000_000
SWITCHES = {
    "notify_failure": "A backup failed",
    "notify_overdue": "A scheduled backup is overdue",
    "notify_warnings": "A backup completed with warnings",
    "notify_restore": "A restore ended or was undone",
    "notify_cleanup": "A cleanup could not delete something",
    "notify_success": "A backup completed",
}


def password_again() -> PasswordField:
    """Make the password field for actions that a session alone does not allow."""
    return PasswordField("Your password, again", render_kw={"autocomplete": "current-password"})


def number_field(label: str, least: int, most: int, description: str) -> StringField:
    """Make a field for a number with limits and a help text."""
    return StringField(label, widget=NumberInput(min=least, max=most, step="any"), description=description)


class QuotasForm(FlaskForm):
    keep_hourly = quota_field("hourly")
    keep_daily = quota_field("daily")
    keep_weekly = quota_field("weekly")
    keep_monthly = quota_field("monthly")

    def values(self) -> dict[str, Any]:
        """Return the quotas in the form that the services expect. Raise InvalidInput for an empty field."""
        values = {name: filled(self[name].data) for name in QUOTA_COLUMNS}
        empty = {name: "Give a number; 0 switches this category off." for name, value in values.items() if value is None}
        if empty:
            raise InvalidInput(empty)
        return values


class SaveQuotasForm(QuotasForm):
    password = password_again()


class ChannelForm(Form):
    channel_id = HiddenField()
    name = StringField("Name", render_kw={"maxlength": 100, "autocomplete": "off"})
    url = StringField("Apprise URL", render_kw=TYPED_BY_HAND | {"maxlength": 2000})
    remove = BooleanField("Remove")


class NotificationsForm(FlaskForm):
    notify_failure = BooleanField(SWITCHES["notify_failure"])
    notify_overdue = BooleanField(SWITCHES["notify_overdue"])
    notify_warnings = BooleanField(SWITCHES["notify_warnings"])
    notify_restore = BooleanField(SWITCHES["notify_restore"])
    notify_cleanup = BooleanField(SWITCHES["notify_cleanup"])
    notify_success = BooleanField(SWITCHES["notify_success"])
    recipients = TextAreaField("Email addresses", description="One a line.", render_kw={"spellcheck": "false"})
    channels = FieldList(FormField(ChannelForm), max_entries=60)
    heartbeat_url = StringField(
        "After a success, call", description="For a monitor that misses the call when backups stop.", render_kw=TYPED_BY_HAND
    )
    heartbeat_failure_url = StringField("After a failure, call", render_kw=TYPED_BY_HAND)
    password = password_again()

    def show(self, stored: SettingsView) -> None:
        """Fill the form from the settings: one address a line, and an empty row for a new channel."""
        self.process(data={name: getattr(stored, name) for name in (*SWITCHES, "heartbeat_url", "heartbeat_failure_url")})
        self.recipients.data = "\n".join(stored.recipients)
        for channel in stored.channels:
            self.channels.append_entry({"channel_id": channel.id, "name": channel.name, "url": channel.url})
        self.offer_channel()

    def offer_channel(self) -> None:
        """Make sure that the last row is empty."""
        if not self.channels.entries or any(filled(self.channels[-1][name].data) for name in ("name", "url")):
            self.channels.append_entry()

    def addresses(self) -> list[str]:
        """Return the recipients as typed."""
        lines = (self.recipients.data or "").replace(",", "\n").splitlines()
        return [line.strip() for line in lines if line.strip()]

    def kept_channels(self) -> list[ChannelForm]:
        """Return the rows to keep: neither those marked for removal nor the empty one."""
        rows = [entry.form for entry in self.channels]
        return [row for row in rows if not row.remove.data and (filled(row.name.data) or filled(row.url.data))]

    def values(self) -> dict[str, Any]:
        """Return all values in the form that the services expect."""
        values: dict[str, Any] = {name: self[name].data for name in SWITCHES}
        values["recipients"] = self.addresses()
        values["channels"] = [
            {"id": filled(row.channel_id.data), "name": filled(row.name.data) or "Channel", "url": filled(row.url.data)}
            for row in self.kept_channels()
        ]
        return values | {name: filled(self[name].data) for name in ("heartbeat_url", "heartbeat_failure_url")}

    def show_problems(self, error: InvalidInput) -> None:
        """Attach each message of a service to its field; for a row of a list the name is such as "channels.1.url"."""
        simple: dict[str, str] = {}
        for name, message in error.fields.items():
            kind, _, rest = name.partition(".")
            number, _, column = rest.partition(".")
            if kind == "recipients" and number.isdigit():
                self.recipients.errors = [*self.recipients.errors, f"{self.addresses()[int(number)]}: {message}"]
            elif kind == "channels" and number.isdigit():
                row = self.kept_channels()[int(number)]
                place = row.url if column == "url" else row.name
                place.errors = [*place.errors, message]
                self.form_errors.append(f"Channel {row.name.data or int(number) + 1}: {message}")
            else:
                simple[name] = message
        show_errors(self, InvalidInput(simple))


class LimitsForm(FlaskForm):
    undo_hours = number_field(
        "Hours in which a restore can be undone", 1, 8760, "The state before it uses disk space until then."
    )
    stall_minutes = number_field(
        "Minutes without a byte after which a backup is ended", 1, 1440, "It then counts as stalled."
    )
    audit_years = number_field("Years for which the audit log is kept", 1, 100, "Older entries are deleted at night.")
    disk_reserve_bytes = number_field(
        "Megabytes that stay free on the disk", 0, 10**9, "A backup that would need them is not begun."
    )
    password = password_again()

    def show(self, stored: SettingsView) -> None:
        """Fill the form from the settings."""
        for name, text in self.shown(stored).items():
            self[name].data = text

    @staticmethod
    def shown(stored: SettingsView) -> dict[str, str]:
        """Return the texts of the fields for these settings."""
        return {
            "undo_hours": str(stored.undo_hours),
            "stall_minutes": str(stored.stall_minutes),
            "audit_years": str(stored.audit_years),
            "disk_reserve_bytes": f"{stored.disk_reserve_bytes / BYTES_PER_MB:.0f}",
        }

    def values(self, stored: SettingsView) -> dict[str, Any]:
        """Return what was changed from these settings, in the form that the services expect. Raise InvalidInput."""
        before = self.shown(stored)
        values: dict[str, Any] = {
            name: filled(self[name].data) for name in before if filled(self[name].data) != before[name]
        }
        empty = {name: "Give a number." for name, value in values.items() if value is None}
        if empty:
            raise InvalidInput(empty)
        if "disk_reserve_bytes" in values:
            values["disk_reserve_bytes"] = megabytes(values["disk_reserve_bytes"])
        return values


def megabytes(text: str) -> int:
    """Convert typed megabytes to bytes. Raise InvalidInput."""
    try:
        number = float(text)
        if 0 <= number <= 10**9:
            return round(number * BYTES_PER_MB)
    except ValueError:
        pass
    raise InvalidInput({"disk_reserve_bytes": "Give the number of megabytes, from 0."})
