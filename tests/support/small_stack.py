"""The whole system of `make demo` with a small sample and a mail server, for tests with a real browser."""

from __future__ import annotations

import hashlib
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from apiflask import APIFlask

from app import create_app
from app.config import read_settings
from app.demo.config import ADMIN_EMAIL, APP_NAME, METADATA_NAME, Place, load_or_make_secrets
from app.demo.sample import SampleSize, fill_sample
from app.demo.servers import EmbeddedPostgres, free_port
from app.demo.stack import Stack
from app.extensions import db
from tests.support.mail import MailServer
from tests.support.processes import wait_until
from tests.support.restoring import Documents, documents_in, dumped_whole

SMALL = SampleSize(users=6, vehicles_per_user=2, fuel_logs_per_vehicle=30, maintenance_per_vehicle=5, documents_per_user=5)


class SmallStack(Stack):
    """PostgreSQL, Valkey, gunicorn, worker and scheduler of our own, in one folder and on free ports."""

    def __init__(self, folder: Path) -> None:
        place = Place(folder / "data", free_port())
        place.make_folders()
        super().__init__(place, load_or_make_secrets(place), say=lambda line: None)
        self.postgres = EmbeddedPostgres(18, place.postgres, password=self.secrets.postgres_password, durable=False)
        self.mail = MailServer()

    @property
    def url(self) -> str:
        """Where the pages are."""
        return self.place.url

    @property
    def email(self) -> str:
        """Who can log in."""
        return ADMIN_EMAIL

    @property
    def password(self) -> str:
        """With what."""
        return self.secrets.admin_password

    @property
    def database(self) -> str:
        """The name of the database that is backed up."""
        return APP_NAME

    @property
    def source_url(self) -> str:
        """The URL of that database, as its owner."""
        return self.settings()["BACKUP_SOURCE_URL"]

    def settings(self) -> dict[str, str]:
        """Return the settings of our processes, mail included."""
        return super().settings() | {"SMTP_URL": self.mail.url, "MAIL_FROM": "backup@example.org"}

    def fill(self) -> bool:
        """Make the small sample."""
        return fill_sample(self.source_url, self.place.documents, SMALL)

    def start(self) -> None:
        """Start all of it. Raise StackError."""
        self.mail.start()
        self.start_servers()
        self.fill()
        self.run_flask("db", "upgrade")
        self.start_children()

    def stop(self) -> None:
        """End all of it."""
        super().stop()
        self.mail.stop()

    # -- what is live -------------------------------------------------------------------------------------------

    def state(self) -> tuple[bytes, Documents]:
        """Return what is live, to the last row and byte: the database as pg_dump tells it, and the documents."""
        # A session that ended a moment ago may still update statistics, but pg_dump shows none.
        dump = dumped_whole(self.postgres.bin_dir, self.source_url, self.database)
        return dump, documents_in(self.place.documents)

    def change(self, word: str) -> None:
        """Change the app's data: rows and documents are added, removed and changed."""
        with psycopg.connect(self.source_url) as connection:
            connection.execute("DELETE FROM fuel_logs WHERE id IN (SELECT id FROM fuel_logs ORDER BY id LIMIT 20)")
            connection.execute("UPDATE users SET display_name = display_name || %s", [f" {word}"])
            connection.execute(f'CREATE TABLE "later_{word}" AS SELECT 1 AS n')
        files = sorted(path for path in self.place.documents.rglob("*") if path.is_file())
        files[0].write_bytes(word.encode())
        files[1].unlink()
        (files[2].parent / f"{word}.txt").write_text("written after the backup")

    @contextmanager
    def busy_source(self) -> Iterator[threading.Event]:
        """Hold a lock that a backup has to wait for; the caller sets the event to let it go on."""
        go_on = threading.Event()
        locked = threading.Event()

        def hold() -> None:
            with psycopg.connect(self.source_url) as connection:
                connection.execute("LOCK TABLE vehicles IN ACCESS EXCLUSIVE MODE")
                locked.set()
                go_on.wait(60)

        holder = threading.Thread(target=hold)
        holder.start()
        try:
            assert locked.wait(10)
            yield go_on
        finally:
            go_on.set()
            holder.join()

    @contextmanager
    def app(self) -> Iterator[APIFlask]:
        """Yield the application itself on the same servers, inside its context."""
        app = create_app(read_settings(self.settings()))
        with app.app_context():
            yield app
            db.session.remove()
            db.engine.dispose()

    # -- what it has made ---------------------------------------------------------------------------------------

    def metadata(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return a query's rows from this app's own database."""
        with psycopg.connect(self.postgres.url(METADATA_NAME)) as connection:
            return connection.execute(query.encode(), values).fetchall()

    def wait_until_idle(self) -> None:
        """Wait until no backup runs that another test has begun. Raise AssertionError."""
        query = "SELECT count(*) FROM backup_history WHERE status IN ('queued', 'in_progress')"
        assert wait_until(lambda: self.metadata(query) == [(0,)], 30), "a backup does not end"

    def web_log(self, lines: int = 40) -> str:
        """Return the end of what the web server wrote, for the message of a failed test."""
        log = self.place.logs / "web.log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""

    def mail_to(self, recipient: str, seconds: float = 20) -> Any:
        """Wait for a mail to an address and return it. Raise AssertionError."""

        def found() -> list[Any]:
            return [message for message in self.mail.messages if recipient in message["To"]]

        assert wait_until(lambda: bool(found()), seconds), f"no mail to {recipient} among {len(self.mail.messages)}"
        return found()[0]


def check_archive(archive: Path, published: Path) -> None:
    """Check that a downloaded archive is the published one and that Python's own tarfile reads all of it."""
    assert hashlib.sha256(archive.read_bytes()).digest() == hashlib.sha256(published.read_bytes()).digest()
    with tarfile.open(archive) as opened:
        names = opened.getnames()
        assert all(opened.extractfile(member) for member in opened if member.isreg())
    assert {"manifest.json", f"database/{APP_NAME}.sql.gz", "documents.index.jsonl"} <= set(names)
    assert any(name.startswith("documents/") for name in names)
