"""Convert a schedule's columns, or a form's values, to the engine's rule."""

from __future__ import annotations

from typing import Any

from app.engine.planning import schedule_times
from app.engine.planning.schedule_times import ScheduleError, ScheduleRule
from app.errors import InvalidInput
from app.models import BackupSchedule
from app.services.inputs import ScheduleInput

RULE_COLUMNS = ("frequency", "minute", "hour", "day_of_week", "day_of_month", "cron_expression", "timezone")
# The columns that each frequency uses; the others stay empty.
USED = {
    "hourly": ("minute",),
    "daily": ("minute", "hour"),
    "weekly": ("minute", "hour", "day_of_week"),
    "monthly": ("minute", "hour", "day_of_month"),
    "custom": ("cron_expression",),
}
DEFAULTS: dict[str, Any] = {"minute": 0, "hour": 3, "day_of_week": 0, "day_of_month": "1", "timezone": "UTC"}


def rule_of(row: BackupSchedule) -> ScheduleRule:
    """Return a schedule's rule. Raise ScheduleError if its time zone is no longer known."""
    return _rule({name: getattr(row, name) for name in RULE_COLUMNS})


def columns(given: ScheduleInput, present: BackupSchedule | None = None) -> dict[str, Any]:
    """Validate input, merged with the existing schedule if there is one, and return the rule's columns.

    Raise InvalidInput with a message for each field.
    """
    values: dict[str, Any] = {}
    for name in RULE_COLUMNS:
        value = getattr(given, name)
        if value is None and name not in given.model_fields_set and present is not None:
            value = getattr(present, name)
        values[name] = value
    if values["frequency"] is None:
        raise InvalidInput({"frequency": f"Choose one of {', '.join(schedule_times.FREQUENCIES)}."})
    for name, default in DEFAULTS.items():
        if values[name] in (None, "") and (name == "timezone" or name in USED[values["frequency"]]):
            values[name] = default
    for name in ("minute", "hour", "day_of_week", "day_of_month", "cron_expression"):
        if name not in USED[values["frequency"]]:
            values[name] = None
    _check(values)
    return values


def _check(values: dict[str, Any]) -> None:
    problems: dict[str, str] = {}
    try:
        schedule_times.zone(values["timezone"])
    except ScheduleError as error:
        problems[error.field] = str(error)
    try:
        _rule(values | ({"timezone": "UTC"} if problems else {}))
    except ScheduleError as error:
        problems[error.field] = str(error)
    if problems:
        raise InvalidInput(problems)


def _rule(values: dict[str, Any]) -> ScheduleRule:
    day = values["day_of_month"]
    return ScheduleRule(
        frequency=values["frequency"],
        minute=values["minute"] or 0,
        hour=values["hour"] if values["hour"] is not None else DEFAULTS["hour"],
        day_of_week=values["day_of_week"] or 0,
        day_of_month=int(day) if day and day.isdigit() else day or 1,
        cron_expression=values["cron_expression"] or "",
        timezone=values["timezone"] or "UTC",
    )
