"""POST /api/admin/backups/upload: archives from elsewhere, by a real web server where the connection matters."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient

from app import engine
from app.extensions import db
from app.models import BackupHistory
from app.services import audit, backups, restore_engine, uploads
from app.services.uploads import READ_BYTES
from tests.house.fixtures import TESTER
from tests.house.uploading import made_by_hand, tarball

URL = "/api/admin/backups/upload"
Token = Callable[..., dict[str, str]]


@pytest.fixture
def client(app: APIFlask, token: Token) -> FlaskClient:
    """A machine with a token that may upload."""
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = token("backup")["Authorization"]
    return client


@pytest.fixture
def foreign() -> bytes:
    """An archive as people make it by hand."""
    return made_by_hand()


def own_archive(app: APIFlask, signing_key: bytes | None = None) -> bytes:
    """Return the bytes of an archive that the engine made, and forget it."""
    settings = restore_engine.settings()
    request = engine.BackupRequest(
        restore_engine.target(), settings.storage_dir, signing_key or settings.signing_key, restore_engine.uuid4()
    )
    path = engine.make_backup(request).path
    content: bytes = path.read_bytes()
    path.unlink()
    return content


def raw(client: FlaskClient, content: bytes, **options: Any) -> Any:
    """Given bytes, send them as the body."""
    return client.post(URL, data=content, content_type="application/gzip", **options)


def form(client: FlaskClient, content: bytes) -> Any:
    """Given bytes, send them as the file of a form."""
    return client.post(URL, data={"other": "field", "file": (io.BytesIO(content), "mine.tar.gz")})


@pytest.mark.parametrize("send", [raw, form], ids=["raw", "multipart"])
def test_an_own_archive_comes_in_pinned_verified_and_under_its_own_time(
    app: APIFlask, client: FlaskClient, storage_dir: Path, send: Callable[[FlaskClient, bytes], Any]
) -> None:
    content = own_archive(app)
    answer = send(client, content)
    assert answer.status_code == 201, answer.get_json()
    body = answer.get_json()
    assert (body["kind"], body["status"], body["pinned"], body["origin"]) == ("uploaded", "completed", True, "own")
    assert body["verified_at"]
    assert body["summary"]["rows"] == 1000
    path = storage_dir / body["filename"]
    assert path.read_bytes() == content
    assert path.stat().st_mode & 0o777 == 0o600
    manifest = engine.read_manifest(path)
    assert body["filename"] == f"motovaultpro_backup_{manifest.started_at:%Y%m%d_%H%M%S}.tar.gz"
    assert audit.list_entries().items[0].action == "backup.uploaded"
    assert [item.name for item in storage_dir.iterdir()] == [path.name]


def test_an_archive_signed_elsewhere_and_one_made_by_hand_say_so(app: APIFlask, client: FlaskClient, foreign: bytes) -> None:
    assert raw(client, own_archive(app, b"another installation's key")).get_json()["origin"] == "other_key"
    body = raw(client, foreign).get_json()
    assert body["origin"] == "foreign"
    counts = {"tables": 1, "rows": 2, "documents": 1, "documents_bytes": 7, "server_version": "18"}
    assert body["summary"] == counts


def test_a_second_upload_of_the_same_archive_is_refused_with_the_id_of_the_first(
    client: FlaskClient, foreign: bytes, storage_dir: Path
) -> None:
    first = raw(client, foreign).get_json()
    again = form(client, foreign)
    assert (again.status_code, again.get_json()["id"]) == (409, first["id"])
    assert len(list(storage_dir.iterdir())) == 1


def test_two_archives_of_the_same_second_get_names_of_their_own(
    app: APIFlask, client: FlaskClient, storage_dir: Path
) -> None:
    content = own_archive(app)
    first = raw(client, content).get_json()
    db.session.execute(db.delete(BackupHistory))
    db.session.commit()
    second = raw(client, content).get_json()
    assert first["filename"] != second["filename"]
    assert (storage_dir / first["filename"]).read_bytes() == (storage_dir / second["filename"]).read_bytes()


BAD = {
    "nothing": b"",
    "no archive": b"these are no bytes of an archive",
    "an empty tar": tarball({}),
    "something else in a tar": tarball({"notes.txt": b"hello"}),
    "a path out of the tree": tarball({"documents/../../etc/passwd": b"root"}),
    "a dump cut short": tarball({"database/a.sql.gz": gzip.compress(b"-- PostgreSQL database dump\nCREATE TABLE a();\n")}),
}


@pytest.mark.parametrize("send", [raw, form], ids=["raw", "multipart"])
@pytest.mark.parametrize("content", BAD.values(), ids=BAD.keys())
def test_what_is_no_whole_archive_is_refused_and_nothing_stays(
    client: FlaskClient, storage_dir: Path, content: bytes, send: Callable[[FlaskClient, bytes], Any]
) -> None:
    answer = send(client, content)
    assert answer.status_code == 422
    assert len(answer.get_json()["detail"]) > 15
    assert "partial" not in str(answer.get_json()), "the internal file's name means nothing to anybody"
    assert list(storage_dir.iterdir()) == []
    assert backups.list_backups().total == 0


def test_a_cut_own_archive_is_refused(app: APIFlask, client: FlaskClient, storage_dir: Path) -> None:
    content = own_archive(app)
    for cut in (1, 46, 200, 5000, len(content) // 2):
        answer = raw(client, content[:-cut])
        assert (answer.status_code, "partial" in str(answer.get_json())) == (422, False), cut
    assert raw(client, content[:2000] + b"\xff" + content[2001:]).status_code == 422
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
    monkeypatch.setattr(engine, "DISK_RESERVE", 1 << 60)
    answer = raw(client, b"x" * READ_BYTES)
    assert (answer.status_code, "stay free" in answer.get_json()["detail"]) == (507, True)
    assert list(storage_dir.iterdir()) == []


def test_the_tick_leaves_an_upload_under_way_alone(
    app: APIFlask, client: FlaskClient, foreign: bytes, storage_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.services.reconcile.FOREIGN_PARTIAL_SECONDS", -1.0)
    seen: list[int] = []
    check = engine.check_archive

    def check_while_the_tick_runs(*arguments: Any) -> engine.ArchiveCheck:
        backups.reconcile()
        seen.append(len(engine.list_partials(storage_dir)))
        return check(*arguments)

    monkeypatch.setattr(uploads.engine, "check_archive", check_while_the_tick_runs)
    assert raw(client, foreign).status_code == 201
    assert seen == [1]
    (storage_dir / f".{restore_engine.uuid4()}.1.partial").write_bytes(b"left by a killed web process")
    backups.reconcile()
    assert engine.list_partials(storage_dir) == []


@pytest.mark.parametrize("when", ["before it has its name", "after it has its name"])
def test_an_upload_whose_process_dies_at_its_last_step_is_settled_by_the_tick(
    app: APIFlask, client: FlaskClient, foreign: bytes, storage_dir: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    publish = engine.publish_archive

    def die(*arguments: Any) -> Path:
        if when == "after it has its name":
            publish(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(uploads.engine, "publish_archive", die)
        with pytest.raises(KeyboardInterrupt):
            raw(client, foreign)
    rescanned = backups.rescan(TESTER).findings
    assert [finding.outcome for finding in rescanned] == (["known"] if when == "after it has its name" else [])
    (row,) = backups.list_backups().items
    assert (row.status, row.kind) == ("in_progress", "uploaded")
    row.heartbeat_at = row.created_at - timedelta(seconds=30)
    db.session.commit()
    backups.reconcile()
    row = backups.get(row.id)
    if when == "after it has its name":
        assert (row.status, row.origin, row.pinned) == ("completed", "foreign", True)
        assert (storage_dir / str(row.filename)).read_bytes() == foreign
        assert raw(client, foreign).status_code == 409
    else:
        assert (row.status, "Send it again" in str(row.error)) == ("failed", True)
        assert list(storage_dir.iterdir()) == []
        assert raw(client, foreign).status_code == 201
