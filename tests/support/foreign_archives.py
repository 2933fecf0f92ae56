"""Archives as people make them by hand: a dump and documents, neither index nor signature."""

from __future__ import annotations

import gzip
import io
import tarfile
from uuid import UUID

from sqlalchemy import select

from app.extensions import db
from app.jobs import check
from app.models import BackupHistory
from app.runs import upload_steps
from app.services.backups import backups, uploads
from tests.support.application import TESTER

DUMP = (
    b"--\n-- PostgreSQL database dump\n--\n\n-- Dumped from database version 18.1\n\n"
    b"CREATE TABLE public.vehicles (\n    id integer,\n    name text\n);\n\n"
    b"COPY public.vehicles (id, name) FROM stdin;\n1\tBus\n2\tTruck\n\\.\n\n\n"
    b"--\n-- PostgreSQL database dump complete\n--\n\n"
)


def made_by_hand() -> bytes:
    """Return an archive of a table with two rows and of one document of 7 bytes."""
    return tarball({"database/motovaultpro.sql.gz": gzip.compress(DUMP), "documents/7/title.txt": b"a title"})


def tarball(files: dict[str, bytes]) -> bytes:
    """Return names and contents as .tar.gz."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def upload(content: bytes, kind: str = "application/gzip") -> BackupHistory:
    """Receive an archive and check it; return its row."""
    row_id = uploads.receive(TESTER, io.BytesIO(content), kind, len(content)).id
    check.run(str(row_id))
    return backups.get(row_id)


def check_all() -> None:
    """Do what a worker would: check all uploads that wait for it."""
    waiting: list[UUID] = list(db.session.scalars(select(BackupHistory.id).where(*upload_steps.waits_for_check())))
    for row_id in waiting:
        check.run(str(row_id))
    db.session.expire_all()
