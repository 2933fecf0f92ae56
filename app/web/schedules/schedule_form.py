"""The form of a schedule: fields, labels, help, and the values that go to the services."""

from collections.abc import Mapping
from typing import Any
from zoneinfo import available_timezones

from flask_wtf import FlaskForm
from wtforms import BooleanField, PasswordField, SelectField, StringField
from wtforms.fields.choices import SelectChoice  # type: ignore[attr-defined]  # newer than the stubs
from wtforms.widgets import NumberInput

from app.models.backup_settings import QUOTA_COLUMNS
from app.services.schedules.schedule_rules import DEFAULTS, USED
from app.web.forms import TYPED_BY_HAND

FREQUENCIES = {
    "hourly": "Every hour",
    "daily": "Every day",
    "weekly": "Every week",
    "monthly": "Every month",
    "custom": "By a cron expression",
}
DAYS = dict(enumerate(("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")))
MONTH_DAYS = {str(day): str(day) for day in range(1, 32)} | {"last": "the last day"}
ZONES = sorted(available_timezones())


def choices(words: Mapping[Any, str]) -> list[SelectChoice]:
    """Make the options of a select field from values and their labels."""
    return [SelectChoice(value=str(value), label=text) for value, text in words.items()]


def quota_field(category: str) -> StringField:
    """Make the field for the quota of a category."""
    return StringField(category.capitalize(), widget=NumberInput(min=0, max=10_000), render_kw={"inputmode": "numeric"})


class ScheduleForm(FlaskForm):
    name = StringField("Name", description="For example: Nightly.", render_kw={"maxlength": 100, "autocomplete": "off"})
    frequency = SelectField("How often", choices=choices(FREQUENCIES), default="daily")
    day_of_week = SelectField("On", choices=choices(DAYS), default="0")
    day_of_month = SelectField(
        "On day", choices=choices(MONTH_DAYS), default="1", description="In shorter months a later day means their last day."
    )
    hour = StringField("Hour", default="3", widget=NumberInput(min=0, max=23), description="0 to 23")
    minute = StringField("Minute", default="0", widget=NumberInput(min=0, max=59), description="0 to 59")
    cron_expression = StringField(
        "Cron expression",
        description="Minute, hour, day of the month, month, day of the week. For example: 0 */6 * * 1-5",
        render_kw=TYPED_BY_HAND | {"maxlength": 200},
    )
    timezone = StringField(
        "Time zone",
        default="UTC",
        description="For example: Europe/London. Changes to and from summer time are followed.",
        render_kw=TYPED_BY_HAND | {"list": "zones"},
    )
    enabled = BooleanField("On: backups are made at these times", default=True)
    keep_hourly = quota_field("hourly")
    keep_daily = quota_field("daily")
    keep_weekly = quota_field("weekly")
    keep_monthly = quota_field("monthly")

    password = PasswordField(
        "Your password, again",
        description="Only needed to change quotas: a cleanup may then delete more backups.",
        render_kw={"autocomplete": "current-password"},
    )

    def rule(self) -> dict[str, Any]:
        """Return the timing, with only the fields that the chosen frequency uses: no hidden field may cause an error."""
        names = USED.get(self.frequency.data or "", ())
        return {name: filled(self[name].data) for name in ("frequency", "timezone", *names)}

    def quotas(self) -> dict[str, Any]:
        """Return the quotas; None where the global one applies."""
        return {name: filled(self[name].data) for name in QUOTA_COLUMNS}

    def values(self) -> dict[str, Any]:
        """Return all values in the form that the services expect."""
        return {"name": filled(self.name.data), "enabled": self.enabled.data} | self.rule() | self.quotas()

    def show_defaults(self) -> None:
        """Fill the fields that the schedule's frequency does not use, in case the frequency is changed."""
        for name, value in DEFAULTS.items():
            if self[name].data in (None, "", "None"):
                self[name].data = str(value)


def filled(value: str | int | None) -> str | None:
    """Strip white space from a field's value; None if nothing is left."""
    return ("" if value is None else str(value)).strip() or None
