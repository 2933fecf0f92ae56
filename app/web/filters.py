"""Numbers and times as people read them. Pure functions, so that every page shows the same text."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from flask import Flask

from app.services.history.archive_damage import damage

DECIMAL_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")

PHASES = {
    "preflight": "Checking the source and the disk space",
    "database": "Reading the database",
    "documents": "Reading the documents",
    "verify": "Reading the archive back",
    "publish": "Publishing the archive",
}
UPLOAD_PHASES = {
    "check": "Checking the archive to its last byte",
    "publish": "Publishing the archive",
}
STATUSES = {
    "queued": "Queued",
    "in_progress": "In progress",
    "completed": "Completed",
    "failed": "Failed",
    "cancelled": "Cancelled",
}
KINDS = {"manual": "Manual", "scheduled": "Scheduled", "safety": "Safety", "uploaded": "Uploaded"}


def init_app(app: Flask) -> None:
    """Make this module's functions and labels available to templates."""
    for function in (filesize, count, utc, utc_day, zoned, iso, ago, duration, time_left, rate, phase_name, counted, damage):
        app.add_template_filter(function)
    app.jinja_env.globals.update(PHASES=PHASES, UPLOAD_PHASES=UPLOAD_PHASES, STATUSES=STATUSES, KINDS=KINDS)


def filesize(size_bytes: int | float | None) -> str:
    """Format bytes in decimal units with three significant digits ("12.3 MB"), "–" for None."""
    if size_bytes is None:
        return "–"
    size = float(size_bytes)
    for unit in DECIMAL_UNITS[:-1]:
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.0f} {DECIMAL_UNITS[-1]}"


def count(number: int | None) -> str:
    """Format a number with thousands separators, "–" for None."""
    return "–" if number is None else f"{number:,}"


def counted(number: int, noun: str) -> str:
    """Join a number and a noun given in the singular: "no sessions", "1 session", "2 sessions"."""
    return f"{number:,} {noun}" if number == 1 else f"{number or 'no'} {noun}s" if number < 1000 else f"{number:,} {noun}s"


def utc(moment: datetime | None) -> str:
    """Format a time as "3 Jan 2026, 04:05:06 UTC", "–" for None."""
    return "–" if moment is None else f"{utc_day(moment)}, {moment.astimezone(UTC):%H:%M:%S} UTC"


def utc_day(moment: datetime) -> str:
    """Format the day in UTC as "3 Jan 2026"."""
    moment = moment.astimezone(UTC)
    return f"{moment.day} {moment:%b %Y}"


def zoned(moment: datetime, zone: str) -> str:
    """Format the local time in a time zone: "Sat 3 Jan 2026, 04:05 CET". An unknown zone counts as UTC."""
    try:
        moment = moment.astimezone(ZoneInfo(zone))
    except (KeyError, ValueError, OSError):
        moment = moment.astimezone(UTC)
    return f"{moment:%a} {moment.day} {moment:%b %Y, %H:%M %Z}"


def iso(moment: datetime) -> str:
    """Format a time as ISO 8601 in UTC to the second, for `<time datetime>`."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def ago(moment: datetime | None, now: datetime | None = None) -> str:
    """Format a time relative to now: "just now", "5 minutes ago", "in 2 days"; "never" for None."""
    if moment is None:
        return "never"
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    minutes = round(abs(seconds) / 60)
    for size, unit in ((525600, "year"), (43200, "month"), (1440, "day"), (60, "hour"), (1, "minute")):
        number = minutes // size
        if number and abs(seconds) >= 45:
            distance = f"{number} {unit}{'' if number == 1 else 's'}"
            return f"{distance} ago" if seconds > 0 else f"in {distance}"
    return "just now"


def duration(seconds: float | None) -> str:
    """Format seconds as "< 0.1 s", "0.4 s", "42 s", "3 min 12 s" or "1 h 4 min", "–" for None."""
    if seconds is None:
        return "–"
    if seconds < 0.05:
        return "< 0.1 s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def time_left(seconds: float) -> str:
    """Format an estimate in seconds without false precision: "a moment left", "about 9 s left"."""
    if seconds < 2:
        return "a moment left"
    return f"about {round(seconds)} s left" if seconds < 60 else f"about {duration(seconds)} left"


def rate(bytes_per_second: float | None) -> str:
    """Format bytes per second as "12.3 MB/s", "–" for None."""
    return "–" if bytes_per_second is None else f"{filesize(bytes_per_second)}/s"


def phase_name(phase: str | None) -> str:
    """Describe the phase of a run in words. An unknown phase is shown by its name."""
    if phase == "waiting":
        return "Waiting for another backup to finish"
    if phase is None:
        return "Waiting for a worker"
    return (PHASES | UPLOAD_PHASES).get(phase, phase.replace("_", " ").capitalize())
