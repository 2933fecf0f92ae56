"""Rows and rules at scale: retention planned over 100,000 backups, and a page of a list of 10,000."""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

from app.demo.servers import EmbeddedPostgres
from app.engine.planning.retention import DEFAULT_SET, Candidate, Quotas, plan

PLANNED = 100_000
LISTED = 10_000
PAGES = 40
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def table(folder: Path) -> str:
    """Return the rows of the table as text; the folder is for the servers' data."""
    rows: list[tuple[str, float, float | None]] = [("retention planned over 100,000 backups", plan_seconds(), 1.0)]
    rows.append(("the same, with rows read from PostgreSQL and their files looked for", _listing(folder, "plan"), None))
    rows.append(("a page of the JSON list over 10,000 backups (median)", _listing(folder, "list"), 0.1))
    lines = [f"{'':<72}{'seconds':>9}{'at most':>9}"]
    return "\n".join(lines + [f"{name:<72}{seconds:>9.3f}{limit or '-':>9}" for name, seconds, limit in rows])


def plan_seconds() -> float:
    """Return how long a plan over backups of eleven years, an hour apart, takes; the median of three."""
    chance = random.Random(1)
    backups = [
        Candidate(
            uuid.UUID(int=number + 1),
            NOW - timedelta(hours=number),
            1000,
            pinned=chance.random() < 0.01,
            verified=True,
            sets=frozenset({DEFAULT_SET} if chance.random() < 0.5 else {DEFAULT_SET, "own"}),
        )
        for number in range(PLANNED)
    ]
    chance.shuffle(backups)
    quotas = {DEFAULT_SET: Quotas(), "own": Quotas(24, 30, 52, 120)}
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        found = plan(backups, quotas, NOW)
        seconds.append(time.perf_counter() - began)
        assert len(found.decisions) == PLANNED
    return statistics.median(seconds)


def _listing(folder: Path, what: str) -> float:
    """Measure in a process of its own, whose application has its own database and storage folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with EmbeddedPostgres(18, folder / f"house-{what}", durable=False) as server:
        command = [
            sys.executable,
            "-m",
            "tests.bench.house_bench",
            what,
            server.url("postgres"),
            str(folder / f"files-{what}"),
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONWARNINGS": "ignore"}
        )
    return float(done.stdout.split()[-1])


def measure(what: str, url: str, files: Path) -> float:
    """Fill a database and a folder and return the measured seconds."""
    from flask_migrate import upgrade

    from app import create_app
    from app.config import read_settings
    from app.extensions import db
    from app.services.audit.actor import Actor
    from app.services.history import retention_plan
    from app.services.people import tokens

    files.mkdir(parents=True, exist_ok=True)
    environment = {
        "DATABASE_URL": url, "REDIS_URL": "redis://127.0.0.1:1/0", "SECRET_KEY": "a secret key for the bench",
        "BACKUP_SOURCE_URL": "postgresql://nobody@127.0.0.1:1/nothing", "BACKUP_DOCUMENTS_DIR": str(files),
        "BACKUP_STORAGE_DIR": str(files),
    }  # fmt: skip
    app = create_app(read_settings(environment))
    with app.app_context():
        upgrade()
        count = LISTED if what == "list" else PLANNED
        _fill(count)
        if what == "plan":
            for number in range(count):
                (files / f"motovaultpro_backup_{number:08}.tar.gz").write_bytes(bytes(1000))
            began = time.perf_counter()
            retention_plan.current(NOW)
            return time.perf_counter() - began
        _, secret = tokens.create(Actor.system("bench"), "bench", ["read"])
        db.session.remove()
        client, header, seconds = app.test_client(), {"Authorization": f"Bearer {secret}"}, []
        for number in range(PAGES):
            began = time.perf_counter()
            answer = client.get(f"/api/admin/backups?page={1 + number * 5}&page_size=50", headers=header)
            seconds.append(time.perf_counter() - began)
            assert len(answer.get_json()["items"]) == 50
        return statistics.median(seconds)


def _fill(count: int) -> None:
    from sqlalchemy import insert

    from app.extensions import db
    from app.models import BackupHistory

    def row(number: int) -> dict[str, object]:
        at = NOW - timedelta(hours=number)
        return {
            "id": uuid.UUID(int=number + 1), "kind": "scheduled", "status": "completed", "created_at": at, "started_at": at,
            "finished_at": at, "verified_at": at, "filename": f"motovaultpro_backup_{number:08}.tar.gz", "size_bytes": 1000,
            "sha256": "ab" * 32,
        }  # fmt: skip

    for begin in range(0, count, 10_000):
        db.session.execute(insert(BackupHistory), [row(number) for number in range(begin, min(begin + 10_000, count))])
    db.session.commit()


if __name__ == "__main__":
    print(measure(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
