"""Metrics for Prometheus, counted from the database at each scrape, so that every web process reports the same.

docs/operators-guide.md lists them, with rules for alerts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from redis.exceptions import RedisError
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from app.extensions import db
from app.models import BackupHistory, BackupSchedule, BackupSlot, Notification, Restore, Tick, utcnow
from app.models.backup_history import STATUSES
from app.runs import queue
from app.services.installation.storage import storage
from app.services.monitoring import health
from app.services.schedules import schedules

logger = structlog.get_logger(__name__)

SCHEDULE_LABELS = ("schedule_id", "name")
# How long figures are kept: at most until the next scrape.
AWAY = (SQLAlchemyError, RedisError, OSError)


class _Figures(Collector):
    def collect(self) -> Iterator[Metric]:
        """Yield every metric; those that can't be read are left out, and their health check reports it."""
        found = health.checks()
        yield _gauge(
            "backup_check_ok",
            "Whether a health check passed (1) or failed (0).",
            ("check",),
            (((check.name,), float(check.ok)) for check in found),
        )
        fine = {check.name for check in found if check.ok}
        groups: list[tuple[str, Callable[[], Iterator[Metric]]]] = [
            ("postgresql", _history),
            ("postgresql", _last_success),
            ("postgresql", _proofs),
            ("postgresql", _restores),
            ("postgresql", _schedules),
            ("postgresql", _ticks),
            ("redis", _queues),
        ]
        for needs, group in groups:
            if needs in fine:
                yield from _whole(group)
        yield from _whole(_disk)


def text() -> bytes:
    """Return the metrics in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Figures())
    return generate_latest(registry)


def _whole(group: Callable[[], Iterator[Metric]]) -> list[Metric]:
    """Return a group's metrics, or none of them if one fails."""
    try:
        return list(group())
    except AWAY:
        db.session.rollback()
        logger.exception("metrics can't be read")
        return []


def _history() -> Iterator[Metric]:
    rows = BackupHistory
    counts = dict.fromkeys(STATUSES, 0)
    counted = db.session.execute(select(rows.status, func.count()).group_by(rows.status))
    counts |= {str(status): int(count) for status, count in counted}
    yield _gauge("backup_backups", "Backups in the history.", ("status",), (((name,), n) for name, n in counts.items()))
    size = db.session.scalar(select(func.sum(rows.size_bytes)).where(rows.status == "completed")) or 0
    yield _figure("backup_stored_bytes", "Bytes of all archives.", size)
    damaged = select(func.count()).where(rows.status == "completed", rows.damaged.is_not(None))
    yield _figure(
        "backup_damaged", "Archives that are damaged or missing, and protect nothing.", db.session.scalar(damaged) or 0
    )
    made_here = rows.kind != "uploaded"
    for status, name, words in (
        ("queued", "backup_oldest_queued_age_seconds", "How long the oldest queued backup has been waiting."),
        ("in_progress", "backup_running_age_seconds", "How long the running backup has been running."),
    ):
        since = db.session.scalar(
            select(func.min(func.coalesce(rows.started_at, rows.created_at))).where(rows.status == status, made_here)
        )
        yield _figure(name, words, _age(since) if since else 0)
    beat = db.session.scalar(select(func.min(rows.heartbeat_at)).where(rows.status == "in_progress", made_here))
    yield _figure(
        "backup_running_silent_seconds", "How long the running backup has shown no progress.", _age(beat) if beat else 0
    )
    failed = select(func.max(rows.finished_at)).where(rows.status == "failed", made_here)
    yield from _moment("backup_last_failure_timestamp_seconds", "When a backup last failed.", db.session.scalar(failed))
    waiting = select(func.count()).select_from(Notification).where(Notification.status.in_(("pending", "sending")))
    yield _figure("backup_notifications_waiting", "Messages not sent yet.", db.session.scalar(waiting) or 0)


def _last_success() -> Iterator[Metric]:
    rows = BackupHistory
    made = (rows.status == "completed", rows.kind.in_(("manual", "scheduled")), rows.damaged.is_(None))
    last = db.session.scalar(select(rows).where(*made).order_by(rows.started_at.desc()).limit(1))
    if last is None or last.started_at is None or last.finished_at is None:
        return
    yield from _moment("backup_last_success_timestamp_seconds", "When the last good backup ended.", last.finished_at)
    yield _figure("backup_last_success_age_seconds", "How long ago that was.", _age(last.finished_at))
    seconds = (last.finished_at - last.started_at).total_seconds()
    yield _figure("backup_last_duration_seconds", "How long it took.", seconds)
    yield _figure("backup_last_size_bytes", "How large it is.", last.size_bytes or 0)
    yield _figure("backup_last_warnings", "How many warnings it has.", len(last.warnings))
    for name in ("rows", "tables", "documents", "documents_bytes"):
        if name in last.summary:
            yield _figure(f"backup_last_{name}", f"The {name.replace('_', ' ')} in it.", last.summary[name])


def _proofs() -> Iterator[Metric]:
    rows = BackupHistory
    read = db.session.scalar(select(func.max(rows.verified_at)))
    yield from _moment("backup_last_verified_timestamp_seconds", "When an archive was last read back.", read)
    tested = db.session.execute(
        select(rows.restore_tested_at, rows.restore_test_seconds)
        .where(rows.restore_tested_at.is_not(None))
        .order_by(rows.restore_tested_at.desc())
        .limit(1)
    ).first()
    if tested is not None and tested[0] is not None:
        name = "backup_last_restore_tested_timestamp_seconds"
        yield from _moment(name, "When an archive was last actually restored.", tested[0])
        yield _figure("backup_last_restore_tested_age_seconds", "How long ago that was.", _age(tested[0]))
        yield _figure("backup_last_restore_test_seconds", "How long that restore took.", tested[1] or 0)


def _restores() -> Iterator[Metric]:
    counts = dict.fromkeys(STATUSES, 0)
    counted = db.session.execute(select(Restore.status, func.count()).group_by(Restore.status))
    counts |= {str(status): int(count) for status, count in counted}
    yield _gauge("backup_restores", "Restores in the history.", ("status",), (((name,), n) for name, n in counts.items()))


def _schedules() -> Iterator[Metric]:
    rows = list(db.session.scalars(select(BackupSchedule).where(BackupSchedule.deleted_at.is_(None))))
    labels = {row.id: (str(row.id), row.name) for row in rows}
    late = {entry.schedule.id for entry in schedules.overdue()}
    filled = db.session.execute(
        select(BackupSlot.schedule_id, func.max(BackupHistory.finished_at))
        .join(BackupHistory, BackupHistory.id == BackupSlot.backup_id)
        .where(BackupSlot.status == "completed", BackupHistory.status == "completed")
        .group_by(BackupSlot.schedule_id)
    )
    last = {schedule_id: moment for schedule_id, moment in filled if schedule_id in labels and moment is not None}

    def gauge(name: str, words: str, values: Iterator[tuple[BackupSchedule, float]]) -> Metric:
        return _gauge(name, words, SCHEDULE_LABELS, ((labels[row.id], value) for row, value in values))

    yield gauge("backup_schedule_enabled", "Whether a schedule is enabled.", ((row, row.enabled) for row in rows))
    yield gauge(
        "backup_schedule_overdue", "Whether its expected backup is missing.", ((row, row.id in late) for row in rows)
    )
    yield gauge(
        "backup_schedule_next_run_timestamp_seconds",
        "When it is due next.",
        ((row, row.next_run_at.timestamp()) for row in rows if row.next_run_at is not None),
    )
    yield gauge(
        "backup_schedule_last_success_timestamp_seconds",
        "When its last good backup ended.",
        ((row, last[row.id].timestamp()) for row in rows if row.id in last),
    )
    yield gauge(
        "backup_schedule_last_success_age_seconds",
        "How long ago that was.",
        ((row, _age(last[row.id])) for row in rows if row.id in last),
    )


def _ticks() -> Iterator[Metric]:
    ran = {tick.name: tick.last_ran_at.timestamp() for tick in db.session.scalars(select(Tick))}
    words = "When a periodic job last ran: check every minute, cleanup daily."
    yield _gauge("backup_tick_timestamp_seconds", words, ("tick",), (((name,), moment) for name, moment in ran.items()))


def _queues() -> Iterator[Metric]:
    served = [name for worker in queue.workers() for name in worker.queues]
    yield _gauge(
        "backup_workers",
        "Live workers that serve a queue.",
        ("queue",),
        (((name,), served.count(name)) for name in queue.QUEUES),
    )
    yield _gauge(
        "backup_queue_jobs",
        "Jobs waiting in a queue.",
        ("queue",),
        (((name,), queue.length(name)) for name in queue.QUEUES),
    )


def _disk() -> Iterator[Metric]:
    archives = storage()
    yield _figure("backup_storage_free_bytes", "Free bytes on the archives' disk.", archives.free_space())
    yield _figure("backup_storage_size_bytes", "Size of that disk in bytes.", archives.total_space())
    yield _figure(
        "backup_storage_needed_bytes", "Bytes that the next backup is expected to need.", health.next_backup_bytes()
    )


def _gauge(name: str, words: str, labels: Sequence[str], values: Iterator[tuple[Sequence[str], float]]) -> Metric:
    family = GaugeMetricFamily(name, words, labels=labels)
    for label_values, value in values:
        family.add_metric(label_values, float(value))
    return family


def _figure(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(name, words, value=float(value))


def _moment(name: str, words: str, moment: datetime | None) -> Iterator[Metric]:
    if moment is not None:
        yield _figure(name, words, moment.timestamp())


def _age(moment: datetime) -> float:
    return max(0.0, (utcnow() - moment).total_seconds())
