"""A history row changes hands only by a conditional UPDATE."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from apiflask import APIFlask
from sqlalchemy.exc import IntegrityError

from app.extensions import db
from app.models import BackupHistory, BackupSchedule, utcnow
from app.runs import ledger
from app.services.backups import backups

MakeRow = Callable[..., BackupHistory]
FIGURES = {"filename": "a.tar.gz", "size_bytes": 1, "sha256": "0", "finished_at": utcnow()}


def test_only_one_of_many_claims_a_row(app: APIFlask, make_row: MakeRow) -> None:
    row_id = make_row("queued").id

    def claim(number: int) -> int | None:
        with app.app_context():
            return ledger.backups.claim(row_id, f"worker {number}")

    with ThreadPoolExecutor(8) as pool:
        attempts = list(pool.map(claim, range(16)))
    assert [attempt for attempt in attempts if attempt] == [1]
    row = backups.get(row_id)
    assert (row.status, row.attempt, row.phase) == ("in_progress", 1, "preflight")


def test_a_closed_row_takes_no_progress_and_no_result(app: APIFlask, make_row: MakeRow) -> None:
    row_id = make_row("queued").id
    attempt = ledger.backups.claim(row_id, "worker")
    assert attempt == 1
    assert ledger.backups.fail(row_id, attempt, "The worker was lost.")
    with pytest.raises(ledger.Lost):
        ledger.backups.progress(row_id, attempt, "database", 1, 2)
    assert not ledger.backups.complete(row_id, attempt, **FIGURES, started_at=utcnow())
    assert not ledger.backups.cancel_running(row_id, attempt)
    assert backups.get(row_id).error == "The worker was lost."


def test_an_older_attempt_has_no_say(app: APIFlask, make_row: MakeRow) -> None:
    row_id = make_row("in_progress", attempt=2).id
    with pytest.raises(ledger.Lost):
        ledger.backups.progress(row_id, 1, "database", 1, 2)
    assert not ledger.backups.complete(row_id, 1, **FIGURES, started_at=utcnow())
    assert ledger.backups.complete(row_id, 2, **FIGURES, started_at=utcnow())


def test_a_request_to_cancel_reaches_the_next_heartbeat(app: APIFlask, make_row: MakeRow) -> None:
    row_id = make_row("in_progress", attempt=1).id
    ledger.backups.progress(row_id, 1, "database", 1, None)
    assert ledger.backups.request_cancel(row_id)
    with pytest.raises(ledger.Cancelled):
        ledger.backups.progress(row_id, 1, "database", 2, None)


def test_the_clock_of_a_phase_begins_with_it(app: APIFlask, make_row: MakeRow) -> None:
    row_id = make_row("in_progress", attempt=1).id
    ledger.backups.progress(row_id, 1, "database", 1, 10)
    begun = backups.get(row_id).phase_started_at
    ledger.backups.progress(row_id, 1, "database", 2, 10)
    assert backups.get(row_id).phase_started_at == begun
    ledger.backups.progress(row_id, 1, "documents", 0, 10)
    assert backups.get(row_id).phase_started_at != begun


def test_the_database_refuses_what_must_never_be(app: APIFlask, make_row: MakeRow) -> None:
    schedule = BackupSchedule(name="nightly", frequency="daily")
    db.session.add(schedule)
    db.session.commit()
    slot = {"schedule_id": schedule.id, "scheduled_for": utcnow()}
    make_row("queued", **slot)
    for status, columns in (("queued", slot), ("done", {}), ("completed", {"size_bytes": 0}), ("failed", {"error": None})):
        with pytest.raises(IntegrityError):
            make_row(status, **columns)
        db.session.rollback()


def test_an_unknown_row_is_nobodys(app: APIFlask) -> None:
    assert ledger.backups.claim(uuid.uuid4(), "worker") is None
    assert not ledger.backups.request_cancel(uuid.uuid4())


def test_a_reason_that_no_text_can_hold_is_kept_as_far_as_it_can(app: APIFlask, make_row: MakeRow) -> None:
    row_id = make_row("queued").id
    attempt = ledger.backups.claim(row_id, "worker")
    assert attempt == 1
    assert ledger.backups.fail(row_id, attempt, "The server refused a\0b and c\udcffd.")
    assert backups.get(row_id).error == "The server refused a\ufffdb and c?d."
