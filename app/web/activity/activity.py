"""The audit log: who did what, when and from where. Its words are in app.web.activity.activity_words."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from flask import Blueprint, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import login_required

from app.models import AuditEntry
from app.services.audit import audit, audit_subjects
from app.services.people import admins, tokens
from app.web.activity import activity_words

bp = Blueprint("activity", __name__, url_prefix="/activity")

PAGE_SIZE = 50
LONGEST_FILTER = 200
DAY_HELP = "Give the day as year-month-day, for example 2026-03-31."
PAGES = {
    "backup": ("web.backups.detail", "backup_id"),
    "restore": ("web.restores.detail", "restore_id"),
    "schedule": ("web.schedules.edit", "schedule_id"),
}


@dataclass(frozen=True)
class Line:
    """An entry as the page shows it. `link` is its subject's page, `subject` the text of that link, `about` the list of all
    entries about the subject."""

    entry: AuditEntry
    words: str
    icon: str
    tone: str
    subject: str | None
    link: str | None
    about: str | None
    facts: list[tuple[str, str]]


@dataclass(frozen=True)
class Filters:
    """The query's filters as typed, and what is wrong with them."""

    who: str
    action: str
    since: str
    until: str
    subject_type: str
    subject_id: str
    problems: dict[str, str]

    def query(self) -> dict[str, str]:
        """Return the filters that are set, as parameters for links to other pages of the list."""
        names = ("who", "action", "since", "until", "subject_type", "subject_id")
        return {name: getattr(self, name) for name in names if getattr(self, name)}


@bp.before_request
@login_required
def admins_only() -> None:
    """Require a login for every route of this blueprint."""


@bp.get("/")
def index() -> ResponseReturnValue:
    """List the entries that the query asks for, newest first."""
    filters, since, until = asked_for()
    number = min(max(1, request.args.get("page", 1, type=int)), 1_000_000)
    page = audit.list_entries(
        number,
        PAGE_SIZE,
        action=filters.action or None,
        actor=filters.who or None,
        subject_type=filters.subject_type or None,
        subject_id=filters.subject_id or None,
        since=since,
        until=until,
    )
    there = audit_subjects.present(page.items)
    values = {
        "page": page,
        "lines": [line(entry, there) for entry in page.items],
        "filters": filters,
        "choices": activity_words.choices(),
        "people": sorted({person.email for person in admins.list_admins()} | {row.name for row in tokens.list_tokens()}),
        "about": about_words(filters),
    }
    return render_template("activity/index.html", **values), 422 if filters.problems else 200


def asked_for() -> tuple[Filters, datetime | None, datetime | None]:
    """Parse the query's filters, and the times that its days stand for: both days are inclusive, in UTC."""
    typed = {
        name: request.args.get(name, "").replace("\0", "").strip()[:LONGEST_FILTER]
        for name in ("who", "action", "since", "until", "subject_type", "subject_id")
    }
    known = {action for group in activity_words.choices().values() for action in group}
    if typed["action"] not in known:
        typed["action"] = ""
    problems: dict[str, str] = {}
    since, until = (moment(name, typed[name], problems) for name in ("since", "until"))
    if since and until and until < since:
        problems["until"] = "This is before the first day. Swap the two."
    return Filters(**typed, problems=problems), since, until + timedelta(days=1) if until else None


def moment(name: str, typed: str, problems: dict[str, str]) -> datetime | None:
    """Parse a typed day to its start in UTC, or None; add an error to `problems`."""
    if not typed:
        return None
    try:
        day = date.fromisoformat(typed)
        return datetime(max(day.year, 1970), day.month, day.day, tzinfo=UTC) if day.year < 9999 else None
    except ValueError:
        problems[name] = DAY_HELP
        return None


def line(entry: AuditEntry, there: dict[audit_subjects.Subject, str | None]) -> Line:
    """Prepare an entry for the page; `there` holds the subjects that still exist."""
    subject = (entry.subject_type, entry.subject_id or "")
    about = None
    if entry.subject_id:
        about = url_for(".index", subject_type=entry.subject_type, subject_id=entry.subject_id)
    return Line(
        entry=entry,
        words=activity_words.sentence(entry.action, entry.detail),
        icon=activity_words.icon_of(entry.action),
        tone=activity_words.tone_of(entry.action),
        subject=subject_words(*subject, there.get(subject)),
        link=link_to(*subject) if subject in there else None,
        about=about,
        facts=activity_words.facts(entry.action, entry.detail),
    )


def subject_words(kind: str, subject_id: str, name: str | None) -> str | None:
    """Return the text of the link to a subject; None if the sentence names it already."""
    if kind == "restore":
        return "The restore"
    if kind in ("backup", "schedule") and subject_id:
        return name or f"The {kind}"
    return {"token": "API tokens", "admin": "Admins", "invitation": "Admins"}.get(kind)


def link_to(kind: str, subject_id: str) -> str | None:
    """Return the URL of an existing subject's page, if it has one."""
    if kind in PAGES:
        endpoint, name = PAGES[kind]
        values: dict[str, Any] = {name: UUID(subject_id)}
        return url_for(endpoint, **values)
    return None


def about_words(filters: Filters) -> str | None:
    """Describe the one subject that the list is filtered by, if there is one."""
    if not filters.subject_type:
        return None
    words = activity_words.SUBJECTS.get(filters.subject_type, filters.subject_type)
    name = audit_subjects.name_of(filters.subject_type, filters.subject_id)
    return f"{words} ({name})" if name and filters.subject_type != "restore" else words
