"""A small database and a small archive of it, made once for each pytest process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from app.demo.servers import EmbeddedPostgres
from tests.support.archives import Archive, backup
from tests.support.databases import SourceDatabase, fresh_source
from tests.support.documents import write_documents

_TABLES = """
CREATE TABLE vehicles (id int PRIMARY KEY, name text NOT NULL);
INSERT INTO vehicles SELECT n, 'vehicle ' || n FROM generate_series(1, 500) n;
CREATE TABLE notes (id int PRIMARY KEY, text text);
INSERT INTO notes VALUES (1, NULL), (2, E'tab\\t, line\\n, backslash \\\\.');
CREATE TABLE empty (id int);
"""


@pytest.fixture(scope="session")
def small_database(pg18: EmbeddedPostgres) -> Iterator[SourceDatabase]:
    """A database of three small tables that no test changes."""
    with fresh_source(pg18) as source:
        with psycopg.connect(source.url) as connection:
            connection.execute(_TABLES)
        yield source


@pytest.fixture(scope="session")
def small_archive(small_database: SourceDatabase, tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """A published archive of that database and a few documents; no test changes it, they work on copies."""
    folder = tmp_path_factory.mktemp("small_archive")
    documents, storage = folder / "documents", folder / "backups"
    documents.mkdir(mode=0o700)
    storage.mkdir(mode=0o700)
    write_documents(documents, users=2, per_user=3)
    return _archive(small_database.url, documents, storage)


def _archive(url: str, documents: Path, storage: Path) -> Archive:
    result = backup(url, documents, storage)
    return Archive(result.path, documents, result)
