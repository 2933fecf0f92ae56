"""Input models (pydantic): one set of rules for forms and JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

from email_validator import EmailNotValidError, validate_email
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    field_validator,
)

from app.errors import InvalidInput

LARGEST_QUOTA = 10_000
LARGEST_NUMBER_OF_TARGETS = 50

Frequency = Literal["hourly", "daily", "weekly", "monthly", "custom"]
Quota = Annotated[int, Field(ge=0, le=LARGEST_QUOTA, description="Backups kept; 0 switches the category off.")]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
Words = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200)]


def _checked_email(text: str) -> str:
    try:
        return validate_email(text.strip(), check_deliverability=False, test_environment=True).normalized
    except EmailNotValidError as error:
        raise ValueError(f"This is not an email address: {error}") from None


DAY_OF_MONTH = {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 31}, {"const": "last"}, {"type": "null"}]}
# JSON has no UUID type.
Id = Annotated[UUID, Field(strict=False)]
Email = Annotated[str, AfterValidator(_checked_email), Field(json_schema_extra={"format": "email"})]


class Input(BaseModel):
    """Reject unknown fields, and do not coerce types: `false` is not 0, and "yes" is not true."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @field_validator("*", mode="before")
    @classmethod
    def _is_text(cls, value: Any) -> Any:
        """Reject text that PostgreSQL or UTF-8 can't hold, whatever the field's own rules: no later code expects it."""
        for text in _texts_in(value):
            if "\0" in text:
                raise ValueError("NUL bytes are not allowed. Remove it.")
            if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
                raise ValueError("This is not valid Unicode: it contains half of a surrogate pair. Remove it.")
        return value


def _texts_in(value: Any) -> Iterator[str]:
    """Yield the texts of a value or of a list of values. A nested model checks its own."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        yield from (item for item in value if isinstance(item, str))


class ScheduleInput(Input):
    """A schedule. On creation an omitted field gets its frequency's default; on a change it keeps its value.

    `day_of_week`: 0 is Sunday. `keep_*` null: the global quota.
    """

    name: Name | None = None
    frequency: Frequency | None = None
    minute: int | None = Field(None, ge=0, le=59)
    hour: int | None = Field(None, ge=0, le=23)
    day_of_week: int | None = Field(None, ge=0, le=6)
    day_of_month: Annotated[str | None, WithJsonSchema(DAY_OF_MONTH)] = Field(None, description='1 to 31, or "last"')
    cron_expression: Words | None = None
    timezone: Words | None = None
    enabled: bool | None = None
    keep_hourly: Quota | None = None
    keep_daily: Quota | None = None
    keep_weekly: Quota | None = None
    keep_monthly: Quota | None = None

    @field_validator("day_of_month", mode="before")
    @classmethod
    def _day(cls, value: Any) -> Any:
        """Accept numbers as well; both are stored as text."""
        if value is None:
            return None
        text = str(value).strip().lower()
        if text == "last" or (text.isascii() and text.isdigit() and 1 <= int(text) <= 31):
            return text if text == "last" else str(int(text))
        raise ValueError('Give a day from 1 to 31, or "last".')


class Proof(Input):
    """The password that a browser session must confirm, and a token need not."""

    password: str | None = Field(None, max_length=1000, description="The admin's own; required in a browser session.")


class ScheduleChange(ScheduleInput, Proof):
    """A change of a schedule; a browser session adds the password if quotas change."""


class Toggle(Input):
    """`enabled` sets the state; without it, the state flips."""

    enabled: bool | None = None


class QuotaInput(Input):
    """Global quotas to try; omitted ones stay."""

    keep_hourly: Quota | None = None
    keep_daily: Quota | None = None
    keep_weekly: Quota | None = None
    keep_monthly: Quota | None = None


class ScheduleQuotaInput(Input):
    """A schedule's quotas to try: omitted ones stay, null is the global quota."""

    id: Id
    keep_hourly: Quota | None = None
    keep_daily: Quota | None = None
    keep_weekly: Quota | None = None
    keep_monthly: Quota | None = None


class PlanInput(QuotaInput):
    """A policy for a dry run."""

    schedules: list[ScheduleQuotaInput] = Field(default_factory=list, max_length=1000)


class ChannelInput(Input):
    """An Apprise channel. With the `id` of a known one, its URL is kept if `url` is omitted or sent back as shown."""

    id: str | None = Field(None, max_length=40)
    name: Name
    url: str | None = Field(None, max_length=2000)


class SettingsInput(QuotaInput):
    """The global settings. Omitted ones stay; heartbeat URLs are kept if sent back as shown."""

    notify_success: bool | None = None
    notify_failure: bool | None = None
    notify_warnings: bool | None = None
    notify_overdue: bool | None = None
    notify_restore: bool | None = None
    notify_cleanup: bool | None = None
    recipients: list[Email] | None = Field(None, max_length=LARGEST_NUMBER_OF_TARGETS)
    channels: list[ChannelInput] | None = Field(None, max_length=LARGEST_NUMBER_OF_TARGETS)
    heartbeat_url: str | None = Field(None, max_length=2000)
    heartbeat_failure_url: str | None = Field(None, max_length=2000)
    undo_hours: int | None = Field(None, ge=1, le=24 * 365)
    stall_minutes: int | None = Field(None, ge=1, le=24 * 60)
    audit_years: int | None = Field(None, ge=1, le=100)
    disk_reserve_bytes: int | None = Field(None, ge=0, le=1 << 50)


M = TypeVar("M", bound=BaseModel)


def checked(model: type[M], values: Mapping[str, Any]) -> M:
    """Validate values against a model. Raise InvalidInput with a message for each field."""
    try:
        # All values of a form are text.
        return model.model_validate(values, strict=False)
    except ValidationError as error:
        fields: dict[str, str] = {}
        for found in error.errors():
            name = ".".join(str(part) for part in found["loc"]) or "form"
            fields[name] = "; ".join(filter(None, [fields.get(name), found["msg"].removeprefix("Value error, ")]))
        raise InvalidInput(fields) from None
