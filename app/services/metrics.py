"""The figures that Prometheus scrapes: counted from the database when asked for, so that every web process says the same."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select

from app.extensions import db
from app.models import BackupHistory, BackupSchedule, Notification
from app.models.backup_history import STATUSES
from app.services import health


class _Figures(Collector):
    def collect(self) -> Iterator[Metric]:
        """Yield every figure."""
        checks = GaugeMetricFamily("backup_check_ok", "Whether a health check is fine (1) or not (0).", labels=["check"])
        found = health.checks()
        for check in found:
            checks.add_metric([check.name], float(check.ok))
        yield checks
        if any(check.name == "postgresql" and check.ok for check in found):
            yield from _history()
            yield from _schedules()


def text() -> bytes:
    """Return the figures in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Figures())
    return generate_latest(registry)


def _history() -> Iterator[Metric]:
    rows = BackupHistory
    counts = dict.fromkeys(STATUSES, 0)
    counted = db.session.execute(select(rows.status, func.count()).group_by(rows.status))
    counts |= {str(status): int(count) for status, count in counted}
    backups = GaugeMetricFamily("backup_backups", "Backups in the history.", labels=["status"])
    for status, count in counts.items():
        backups.add_metric([status], count)
    yield backups
    done = select(rows).where(rows.status == "completed").order_by(rows.started_at.desc()).limit(1)
    last = db.session.scalar(done)
    stored = db.session.scalar(select(func.sum(rows.size_bytes)).where(rows.status == "completed")) or 0
    yield GaugeMetricFamily("backup_stored_bytes", "Bytes of all archives.", value=float(stored))
    if last is not None and last.started_at is not None and last.finished_at is not None:
        yield _moment("backup_last_success_timestamp_seconds", "When the last good backup ended.", last.finished_at)
        seconds = (last.finished_at - last.started_at).total_seconds()
        yield GaugeMetricFamily("backup_last_duration_seconds", "How long it took.", value=seconds)
        yield GaugeMetricFamily("backup_last_size_bytes", "How large it is.", value=float(last.size_bytes or 0))
        yield GaugeMetricFamily("backup_last_warnings", "How many warnings it has.", value=float(len(last.warnings)))
    verified = db.session.scalar(select(func.max(rows.verified_at)))
    if verified is not None:
        yield _moment("backup_last_verified_timestamp_seconds", "When an archive was last read back.", verified)
    waiting = select(func.count()).select_from(Notification).where(Notification.status.in_(("pending", "sending")))
    yield GaugeMetricFamily(
        "backup_notifications_waiting", "Messages not sent yet.", value=float(db.session.scalar(waiting) or 0)
    )


def _schedules() -> Iterator[Metric]:
    names = ["schedule_id", "name"]
    enabled = GaugeMetricFamily("backup_schedule_enabled", "Whether a schedule is on.", labels=names)
    following = GaugeMetricFamily("backup_schedule_next_run_timestamp_seconds", "When it is due next.", labels=names)
    for row in db.session.scalars(select(BackupSchedule).where(BackupSchedule.deleted_at.is_(None))):
        labels = [str(row.id), row.name]
        enabled.add_metric(labels, float(row.enabled))
        if row.next_run_at is not None:
            following.add_metric(labels, row.next_run_at.timestamp())
    yield enabled
    yield following


def _moment(name: str, text: str, moment: datetime) -> Metric:
    return GaugeMetricFamily(name, text, value=moment.timestamp())
