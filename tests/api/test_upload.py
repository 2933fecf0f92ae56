"""POST /api/admin/backups/upload: archives from elsewhere, by a real web server where the connection matters."""

from __future__ import annotations

import contextlib
import gzip
import io
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient

from app import current
from app.engine.archive.reader import read_manifest
from app.engine.backup.backup import BackupRequest, make_backup
from app.engine.proof.check_archive import ArchiveCheck, check_archive
from app.engine.storage.local import LocalStorage
from app.errors import InvalidInput, NotEnoughSpace
from app.extensions import db
from app.models import BackupHistory, utcnow
from app.runs import ledger, locks, queue
from app.services.audit import audit
from app.services.backups import backups, upload_check, uploads
from app.services.backups.uploads import READ_BYTES
from app.services.installation import restore_engine
from app.services.recovery import backup_recovery
from tests.support.api_session import machine
from tests.support.application import TESTER, unreachable_redis
from tests.support.foreign_archives import check_all, made_by_hand, tarball

URL = "/api/admin/backups/upload"
Token = Callable[..., dict[str, str]]


@pytest.fixture
def client(app: APIFlask, token: Token) -> FlaskClient:
    """A machine with a token that may upload."""
    return machine(app, token("backup"))


@pytest.fixture
def foreign() -> bytes:
    """An archive as people make it by hand."""
    return made_by_hand()


def own_archive(app: APIFlask, signing_key: bytes | None = None) -> bytes:
    """Return the bytes of an archive that the engine made, and forget it."""
    settings = current.settings()
    request = BackupRequest(
        restore_engine.target(), settings.storage_dir, signing_key or settings.signing_key, restore_engine.uuid4()
    )
    path = make_backup(request).path
    content: bytes = path.read_bytes()
    path.unlink()
    return content


def raw(client: FlaskClient, content: bytes, **options: Any) -> Any:
    """Upload bytes as the body."""
    return client.post(URL, data=content, content_type="application/gzip", **options)


def form(client: FlaskClient, content: bytes) -> Any:
    """Upload bytes as the file of a form."""
    return client.post(URL, data={"other": "field", "file": (io.BytesIO(content), "mine.tar.gz")})


def result_of(client: FlaskClient, answer: Any) -> dict[str, Any]:
    """Check an upload as a worker would, and return what the API then says of it."""
    assert answer.status_code == 202, answer.get_json()
    body = answer.get_json()
    assert (body["status"], body["phase"], body["kind"]) == ("in_progress", "check", "uploaded")
    check_all()
    found: dict[str, Any] = client.get(answer.headers["Location"]).get_json()
    assert found["id"] == body["id"]
    return found


@pytest.mark.parametrize("send", [raw, form], ids=["raw", "multipart"])
def test_an_own_archive_comes_in_pinned_verified_and_under_its_own_time(
    app: APIFlask, client: FlaskClient, storage_dir: Path, send: Callable[[FlaskClient, bytes], Any]
) -> None:
    content = own_archive(app)
    body = result_of(client, send(client, content))
    assert (body["kind"], body["status"], body["pinned"], body["origin"]) == ("uploaded", "completed", True, "own")
    assert body["verified_at"]
    assert body["summary"]["rows"] == 1000
    path = storage_dir / body["filename"]
    assert path.read_bytes() == content
    assert path.stat().st_mode & 0o777 == 0o600
    manifest = read_manifest(path)
    assert body["filename"] == f"motovaultpro_backup_{manifest.started_at:%Y%m%d_%H%M%S}.tar.gz"
    assert [entry.action for entry in audit.list_entries().items[:2]] == ["backup.upload_accepted", "backup.uploaded"]
    assert [item.name for item in storage_dir.iterdir()] == [path.name]


def test_an_archive_signed_elsewhere_and_one_made_by_hand_say_so(app: APIFlask, client: FlaskClient, foreign: bytes) -> None:
    assert result_of(client, raw(client, own_archive(app, b"another installation's key")))["origin"] == "other_key"
    body = result_of(client, raw(client, foreign))
    assert body["origin"] == "foreign"
    counts = {"tables": 1, "rows": 2, "documents": 1, "documents_bytes": 7, "server_version": "18"}
    assert body["summary"] == counts


def test_a_second_upload_of_the_same_archive_is_refused_with_the_id_of_the_first(
    client: FlaskClient, foreign: bytes, storage_dir: Path
) -> None:
    first = raw(client, foreign).get_json()
    for state in ("being checked", "checked"):
        again = form(client, foreign)
        assert (again.status_code, again.get_json()["id"]) == (409, first["id"]), state
        assert len(list(storage_dir.iterdir())) == 1
        check_all()


def test_a_duplicate_found_late_is_failed_and_names_the_first(
    app: APIFlask, client: FlaskClient, foreign: bytes, storage_dir: Path
) -> None:
    answer = raw(client, foreign)
    row = backups.get(answer.get_json()["id"])
    # As if a file that somebody put into the folder had been listed while ours waited.
    name, first = "motovaultpro_backup_20260101_000000.tar.gz", restore_engine.uuid4()
    (storage_dir / name).write_bytes(foreign)
    values = {"filename": name, "sha256": row.sha256, "size_bytes": row.size_bytes}
    values |= {"started_at": row.created_at, "finished_at": row.created_at}
    db.session.add(BackupHistory(id=first, kind="uploaded", status="completed", **values))
    db.session.commit()
    body = result_of(client, answer)
    assert body["status"] == "failed"
    assert str(first) in body["error"]
    assert name in body["error"]
    assert [path.name for path in storage_dir.iterdir()] == [name]


def test_two_archives_of_the_same_second_get_names_of_their_own(
    app: APIFlask, client: FlaskClient, storage_dir: Path
) -> None:
    content = own_archive(app)
    first = result_of(client, raw(client, content))
    db.session.execute(db.delete(BackupHistory))
    db.session.commit()
    second = result_of(client, raw(client, content))
    assert first["filename"] != second["filename"]
    assert (storage_dir / first["filename"]).read_bytes() == (storage_dir / second["filename"]).read_bytes()


BAD = {
    "no archive": b"these are no bytes of an archive",
    "an empty tar": tarball({}),
    "something else in a tar": tarball({"notes.txt": b"hello"}),
    "a path out of the tree": tarball({"documents/../../etc/passwd": b"root"}),
    "a dump cut short": tarball({"database/a.sql.gz": gzip.compress(b"-- PostgreSQL database dump\nCREATE TABLE a();\n")}),
}


def test_an_empty_file_is_refused_at_once(client: FlaskClient, storage_dir: Path) -> None:
    answer = raw(client, b"")
    assert (answer.status_code, "Nothing was sent" in answer.get_json()["detail"]) == (422, True)
    assert list(storage_dir.iterdir()) == []
    assert backups.list_backups().total == 0


@pytest.mark.parametrize("content", BAD.values(), ids=BAD.keys())
def test_what_is_no_whole_archive_is_failed_with_the_reason_and_nothing_stays(
    client: FlaskClient, storage_dir: Path, content: bytes
) -> None:
    body = result_of(client, raw(client, content))
    assert body["status"] == "failed"
    assert "was refused" in body["error"]
    assert "partial" not in body["error"], "the internal file's name means nothing to anybody"
    assert list(storage_dir.iterdir()) == []
    assert audit.list_entries().items[0].action == "backup.upload_refused"
    health = {check["name"]: check["ok"] for check in client.get("/healthz").get_json()["checks"]}
    assert health["last_backup"], "a refused upload is no failed backup"
    assert raw(client, content).status_code == 202, "what was refused may be tried again"


def test_a_cut_own_archive_is_refused(app: APIFlask, client: FlaskClient, storage_dir: Path) -> None:
    content = own_archive(app)
    for cut in (1, 46, 200, 5000, len(content) // 2):
        body = result_of(client, raw(client, content[:-cut]))
        assert (body["status"], "partial" in body["error"]) == ("failed", False), cut
    assert result_of(client, raw(client, content[:2000] + b"\xff" + content[2001:]))["status"] == "failed"
    assert list(storage_dir.iterdir()) == []


def test_a_form_that_ends_early_or_holds_no_file_or_two_is_refused(
    client: FlaskClient, foreign: bytes, storage_dir: Path
) -> None:
    kind = "multipart/form-data; boundary=xyz"
    head = b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="a.tar.gz"\r\n\r\n'
    cut = client.post(URL, data=head + foreign, content_type=kind)
    assert (cut.status_code, "ended early" in cut.get_json()["detail"]) == (422, True)
    none = client.post(
        URL, data=b'--xyz\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--xyz--\r\n', content_type=kind
    )
    assert (none.status_code, "no file" in none.get_json()["detail"]) == (422, True)
    two = client.post(URL, data=head + b"a\r\n" + head + b"b\r\n--xyz--\r\n", content_type=kind)
    assert (two.status_code, "more than one" in two.get_json()["detail"]) == (422, True)
    assert list(storage_dir.iterdir()) == []


def test_another_content_type_is_named(client: FlaskClient) -> None:
    answer = client.post(URL, data=b"x", content_type="application/x-www-form-urlencoded")
    assert (answer.status_code, "application/gzip" in answer.get_json()["detail"]) == (415, True)


def test_the_size_limit_holds_whether_the_length_is_said_or_not(
    app: APIFlask, client: FlaskClient, storage_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = app.config["SETTINGS"]
    object.__setattr__(settings, "upload_max_bytes", 100_000)
    said = raw(client, b"x" * 300_000)
    assert (said.status_code, "100,000" in said.get_json()["detail"]) == (413, True)
    unsaid = client.post(
        URL,
        input_stream=io.BytesIO(b"x" * 300_000),
        content_type="application/gzip",
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert unsaid.status_code == 413
    assert list(storage_dir.iterdir()) == []


def test_the_disks_reserve_is_kept(client: FlaskClient, storage_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "DISK_RESERVE", 1 << 60)
    answer = raw(client, b"x" * READ_BYTES)
    assert (answer.status_code, "are reserved" in answer.get_json()["detail"]) == (507, True)
    assert list(storage_dir.iterdir()) == []


def test_uploads_that_are_received_at_once_do_not_count_on_the_same_room(
    app: APIFlask, storage_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    length = 200_000_000
    monkeypatch.setattr(uploads, "DISK_RESERVE", shutil.disk_usage(storage_dir).free - length * 3 // 2)

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            with pytest.raises(NotEnoughSpace, match="are reserved"):
                uploads.receive(TESTER, io.BytesIO(), "application/gzip", length)
            return super().read(size)

    with pytest.raises(InvalidInput, match="Nothing was sent"):
        uploads.receive(TESTER, Slow(), "application/gzip", length)
    assert list(storage_dir.iterdir()) == []


def test_more_uploads_than_may_wait_or_be_received_are_refused_with_words(
    client: FlaskClient, foreign: bytes, storage_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MOST_WAITING", 1)
    first = raw(client, foreign)
    full = raw(client, b"another")
    assert (full.status_code, full.headers["Retry-After"]) == (429, "60")
    assert "waiting for their check" in full.get_json()["detail"]
    assert result_of(client, first)["status"] == "completed"
    monkeypatch.setattr(uploads, "TURN_SECONDS", 0.01)
    with contextlib.ExitStack() as turns:
        for _ in range(uploads.MOST_RECEIVED):
            turns.enter_context(uploads._turn())
        busy = raw(client, b"another")
    assert (busy.status_code, busy.headers["Retry-After"]) == (429, "10")
    assert "being received" in busy.get_json()["detail"]
    assert raw(client, b"another").status_code == 202, "the turns were given back"


def test_an_upload_is_kept_while_redis_is_away_and_checked_afterwards(
    app: APIFlask, client: FlaskClient, foreign: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as away:
        away.setitem(app.extensions, "redis", unreachable_redis())
        answer = raw(client, foreign)
    assert answer.status_code == 202
    job_id = f"check-{answer.get_json()['id']}-1"
    assert not queue.knows(queue.CHECKS, job_id)
    monkeypatch.setattr(backup_recovery, "IN_TRANSIT", timedelta(0))
    backup_recovery.reconcile()
    assert queue.knows(queue.CHECKS, job_id)


def test_the_tick_leaves_an_upload_that_waits_alone_and_enqueues_one_that_redis_forgot(
    app: APIFlask, client: FlaskClient, foreign: bytes, storage_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.services.recovery.backup_recovery.FOREIGN_PARTIAL_SECONDS", -1.0)
    monkeypatch.setattr(backup_recovery, "IN_TRANSIT", timedelta(0))
    answer = raw(client, foreign)
    row = backups.get(answer.get_json()["id"])
    row.created_at = row.enqueued_at = utcnow() - timedelta(days=1)
    db.session.commit()
    queue.connection().flushdb()
    (storage_dir / f".{restore_engine.uuid4()}.1.partial").write_bytes(b"left by a killed web process")
    backup_recovery.reconcile()
    assert [partial.backup_id for partial in LocalStorage(storage_dir).partials()] == [row.id]
    assert queue.knows(queue.CHECKS, f"check-{row.id}-1")
    assert result_of(client, answer)["status"] == "completed"


def test_a_waiting_upload_can_be_cancelled_and_then_deleted(
    client: FlaskClient, foreign: bytes, storage_dir: Path, token: Token
) -> None:
    address = raw(client, foreign).headers["Location"]
    assert client.delete(address, headers=token("admin")).status_code == 409
    assert client.post(f"{address}/cancel").get_json()["status"] == "cancelled"
    assert list(storage_dir.iterdir()) == []
    check_all()
    assert client.get(address).get_json()["status"] == "cancelled"
    assert client.delete(address, headers=token("admin")).status_code == 204


def test_a_check_stops_when_it_is_cancelled(
    app: APIFlask, client: FlaskClient, foreign: bytes, storage_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = raw(client, foreign).headers["Location"]
    check = check_archive

    def cancel_first(*arguments: Any) -> ArchiveCheck:
        assert client.post(f"{address}/cancel").status_code == 202
        return check(*arguments)

    monkeypatch.setattr(upload_check, "check_archive", cancel_first)
    check_all()
    assert client.get(address).get_json()["status"] == "cancelled"
    assert list(storage_dir.iterdir()) == []


def test_no_two_checks_run_at_once_and_none_holds_up_a_backup(app: APIFlask, client: FlaskClient, foreign: bytes) -> None:
    answer = raw(client, foreign)
    with locks.holding(locks.CHECKER):
        check_all()
        assert client.get(answer.headers["Location"]).get_json()["status"] == "in_progress"
        backup = backups.start(TESTER)
        assert ledger.backups.wait_in_line(backup.id)
        backup_recovery.enqueue_waiting()
        assert queue.knows(queue.BACKUPS, f"backup-{backup.id}")
    assert result_of(client, answer)["status"] == "completed"


class Died(BaseException):
    """The worker is gone in the middle of it."""


@pytest.mark.parametrize("when", ["in the check", "before it has its name", "after it has its name"])
def test_an_upload_whose_worker_dies_is_settled_by_the_tick(
    app: APIFlask, client: FlaskClient, foreign: bytes, storage_dir: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    answer = raw(client, foreign)
    row_id = answer.get_json()["id"]
    publish = LocalStorage.publish

    def die(*arguments: Any) -> str:
        if when == "after it has its name":
            publish(*arguments)
        raise Died

    def die_once() -> None:
        with monkeypatch.context() as dying:
            if when == "in the check":
                dying.setattr(upload_check, "check_archive", die)
            else:
                dying.setattr(LocalStorage, "publish", die)
            with pytest.raises(Died):
                check_all()
        row = backups.get(row_id)
        assert (row.status, row.kind) == ("in_progress", "uploaded")
        row.heartbeat_at = row.created_at - timedelta(seconds=30)
        db.session.commit()
        backup_recovery.reconcile()

    die_once()
    if when != "after it has its name":
        row = backups.get(row_id)
        assert (row.status, row.worker, row.attempt) == ("in_progress", None, 1), "it is checked once more"
        assert len(LocalStorage(storage_dir).partials()) == 1
        die_once()
        row = backups.get(row_id)
        assert (row.status, "lost each time" in str(row.error)) == ("failed", True)
        assert list(storage_dir.iterdir()) == []
        assert raw(client, foreign).status_code == 202
        return
    row = backups.get(row_id)
    assert (row.status, row.origin, row.pinned) == ("completed", "foreign", True)
    assert (storage_dir / str(row.filename)).read_bytes() == foreign
    assert raw(client, foreign).status_code == 409
