"""The start page: is everything fine, what needs attention, and the last year in pictures."""

from flask import render_template
from flask.typing import ResponseReturnValue
from flask_login import login_required

from app.models import utcnow
from app.services.monitoring import attention, calendar, storage_history
from app.services.retention import timeline
from app.web.backups.running import running
from app.web.charts.calendar import calendar as heat_map
from app.web.charts.storage import storage
from app.web.charts.timeline import picture


@login_required
def start() -> ResponseReturnValue:
    """Show whether everything is fine, and what needs attention."""
    kept = timeline.timeline()
    values = {
        "now": utcnow(),
        "standing": attention.standing(),
        "running": running(),
        "timeline": kept,
        "kept": picture(kept),
        "calendar": heat_map(calendar.days()),
        "storage": storage(storage_history.history(), kept.forecast),
    }
    return render_template("overview/index.html", **values)
