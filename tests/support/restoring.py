"""What the tests of restores share: a live pair to be changed, its exact state, and what may be left beside it."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg import sql

from app.demo.servers import EmbeddedPostgres
from app.engine.restore.request import RestoreRequest
from app.engine.source.preflight import Source
from tests.support.archives import APP, KEY, backup
from tests.support.databases import admin_connection, drop_database, psql, run_client
from tests.support.documents import write_documents
from tests.support.hard_schema import HARD_SCHEMA

Documents = dict[str, tuple[int, int, int, int, str]]

CHANGES = """
DROP PUBLICATION "publish;";
DROP SCHEMA "semi;colon" CASCADE;
CREATE SCHEMA later;
CREATE TABLE later.made (id integer PRIMARY KEY, t text);
INSERT INTO later.made SELECT n, 'later' FROM generate_series(1, 50) n;
DELETE FROM bulk WHERE id % 3 = 0;
UPDATE bulk SET t = 'changed' WHERE id % 3 = 1;
DROP TABLE "COPY x FROM stdin;", dropped_column;
ALTER TABLE stdin ADD COLUMN more integer DEFAULT 7;
TRUNCATE hashed;
DROP FUNCTION dollar(text);
CREATE OR REPLACE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE FUNCTION later_too() RETURNS integer LANGUAGE sql AS 'SELECT 1';
DROP POLICY two ON every_value;
CREATE PUBLICATION another FOR TABLE bulk;
ALTER TYPE mood ADD VALUE 'changed';
SELECT setval('bulk_id_seq', 999999), nextval('"odd; sequence"');
SELECT lo_unlink(70001), lo_from_bytea(70009, 'later');
DROP MATERIALIZED VIEW "not; filled";
REFRESH MATERIALIZED VIEW filled;
GRANT INSERT ON hen TO pg_monitor;
REVOKE ALL ON "select" FROM PUBLIC;
GRANT CREATE ON SCHEMA public TO PUBLIC;
COMMENT ON SCHEMA public IS 'changed';
ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE USAGE ON SEQUENCES FROM pg_read_all_stats;
"""
"""Everything that a hard schema can have changed, by its owner."""

FACTS = """
ALTER DATABASE {database} SET work_mem TO '5MB';
ALTER DATABASE {database} SET search_path TO "$user", public, "semi;colon";
ALTER ROLE {owner} IN DATABASE {database} SET statement_timeout TO '55s';
ALTER DATABASE {database} CONNECTION LIMIT 77;
COMMENT ON DATABASE {database} IS 'the app''s; database';
REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC;
GRANT CONNECT, CREATE ON DATABASE {database} TO pg_monitor WITH GRANT OPTION;
"""
FACTS_CHANGED = """
ALTER DATABASE {database} RESET work_mem;
ALTER DATABASE {database} SET lock_timeout TO '9s';
ALTER ROLE {owner} IN DATABASE {database} RESET statement_timeout;
ALTER DATABASE {database} CONNECTION LIMIT 55;
COMMENT ON DATABASE {database} IS 'changed';
GRANT TEMPORARY ON DATABASE {database} TO PUBLIC;
REVOKE ALL ON DATABASE {database} FROM pg_monitor;
"""


@dataclass(frozen=True)
class State:
    """All of a live pair: pg_dump's text of the database (with its settings, grants and comment) and each document."""

    dump: bytes
    documents: Documents


@dataclass(frozen=True)
class Live:
    """A live database and its documents; `url` is its owner's, `admin_url` a superuser's."""

    server: EmbeddedPostgres
    name: str
    owner: str
    url: str
    admin_url: str
    documents: Path
    state_dir: Path

    def state(self) -> State:
        """Return what it is now."""
        return State(dumped_whole(self.server.bin_dir, self.admin_url, self.name), documents_in(self.documents))

    def source(self, url: str | None = None) -> Source:
        """Return it as the engine's source or target."""
        return Source(url or self.url, self.documents, APP)

    def request(self, archive: Path, url: str | None = None, **more: Any) -> RestoreRequest:
        """Return a request to restore an archive here, as the owner or another role."""
        values: dict[str, Any] = {"disk_reserve": 0, "threads": 2, "restore_id": uuid4(), "signing_key": KEY} | more
        return RestoreRequest(archive, self.source(url), values.pop("state_dir", self.state_dir), **values)

    def remains(self) -> list[str]:
        """Return everything that a restore may have left: databases, roles, sessions, folders, journals."""
        with admin_connection(self.server) as connection:
            rows = connection.execute(
                "SELECT 'database ' || datname FROM pg_database WHERE starts_with(datname, %s) AND datname <> %s"
                " UNION ALL SELECT 'role ' || rolname FROM pg_roles WHERE rolname LIKE 'restore_sandbox_%%'"
                " ORDER BY 1",
                [self.name, self.name],
            ).fetchall()
        found = [str(name) for (name,) in rows]
        found += sorted(f"folder {path.name}" for path in self.documents.parent.iterdir() if path.name.startswith("."))
        if self.state_dir.exists():
            found += sorted(f"journal {path.name}" for path in self.state_dir.iterdir())
        return found

    def kept(self, restore_id: UUID, database: bool = True, documents: bool = True) -> list[str]:
        """Return what may remain of a restore while its old state is kept for an undo."""
        short = restore_id.hex[:12]
        found = [f"database {self.name}_before_{short}"] if database else []
        found += [f"folder .{self.documents.name}_restore_{short}"] if documents else []
        return [*found, f"journal {restore_id}.json"]


@dataclass(frozen=True)
class Pristine:
    """A database and documents that live pairs are copied from, their owner, and an archive of both."""

    server: EmbeddedPostgres
    name: str
    owner: str
    password: str
    documents: Path
    archive: Path

    @contextmanager
    def live(self, folder: Path) -> Iterator[Live]:
        """Yield a live pair like it in an empty folder; the database is dropped afterwards."""
        name = f"live_{secrets.token_hex(5)}"
        with admin_connection(self.server) as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}").format(
                    sql.Identifier(name), sql.Identifier(self.name), sql.Identifier(self.owner)
                )
            )
        set_facts(self.server, name, self.owner, FACTS)
        place = folder / "app"
        place.mkdir(mode=0o755)
        copy_documents(self.documents, place / "documents")
        url = self.server.url(name, self.owner, self.password)
        try:
            yield Live(self.server, name, self.owner, url, self.server.url(name), place / "documents", folder / ".restores")
        finally:
            drop_all_like(self.server, name)


@contextmanager
def pristine(
    server: EmbeddedPostgres, folder: Path, script: bytes | None = None, rights: str = "CREATEDB CREATEROLE", **more: Any
) -> Iterator[Pristine]:
    """Yield a pristine database (by default the hard schema) with its archive."""
    suffix = secrets.token_hex(4)
    owner, password, name = f"owner_{suffix}", secrets.token_urlsafe(16), f"pristine_{suffix}"
    with admin_connection(server) as connection:
        connection.execute(f"CREATE ROLE {owner} LOGIN NOSUPERUSER {rights} PASSWORD '{password}'")
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 OWNER {owner}")
    url = server.url(name, owner, password)
    documents, storage = folder / "documents", folder / "backups"
    documents.mkdir(mode=0o750)
    storage.mkdir(mode=0o700)
    try:
        psql(server.bin_dir, url, HARD_SCHEMA.read_bytes() if script is None else script)
        set_facts(server, name, owner, FACTS)
        hard_documents(documents)
        archive = backup(url, documents, storage, **more).path
        yield Pristine(server, name, owner, password, documents, archive)
    finally:
        drop_database(server, name)
        with admin_connection(server) as connection:
            connection.execute(f"DROP OWNED BY {owner}")
            connection.execute(f"DROP ROLE {owner}")


def set_facts(server: EmbeddedPostgres, name: str, owner: str, statements: str) -> None:
    """Give a database the settings, grants and comment of `statements`."""
    with admin_connection(server) as connection:
        connection.execute(statements.format(database=f'"{name}"', owner=owner))


def drop_all_like(server: EmbeddedPostgres, name: str) -> None:
    """Drop a live database and everything that a restore has created beside it."""
    with admin_connection(server) as connection:
        rows = connection.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [name]).fetchall()
        for (found,) in rows:
            drop_database(server, found)
        for (role,) in connection.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE 'restore_sandbox_%'").fetchall():
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def hard_documents(folder: Path) -> None:
    """Fill a folder with difficult documents: odd names, modes, times, links, a large file, empty folders."""
    write_documents(folder)
    (folder / "Ünïcödé 表 🚗.txt").write_text("é")
    (folder / "line\nbreak; 'quote' \"double\" \\.txt").write_bytes(b"x" * 513)
    (folder / os.fsdecode(b"not utf-8 \xff\xfe.bin")).write_bytes(b"\xff" * 512)
    deep = folder / Path(*(f"level {n}" for n in range(12)))
    deep.mkdir(parents=True)
    (deep / "bottom.txt").write_text("deep")
    (deep / "up.txt").symlink_to("../" * 12 + "1/nothing.txt")
    (deep / "there and back").symlink_to("../level 11/bottom.txt")
    (folder / "dangling").symlink_to("1/not there")
    (folder / "large.bin").write_bytes(b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(300_000)))
    (folder / "old.txt").write_text("old")
    os.utime(folder / "old.txt", ns=(1, 1_000_000_001))
    os.utime(folder / "large.bin", ns=(1, 1_700_000_000_123_456_789))
    (folder / "1" / "note-2.md").chmod(0o640)
    (folder / "2").chmod(0o751)
    os.utime(folder / "3" / "empty", ns=(1, 1_600_000_000_000_000_000))
    folder.chmod(0o750)


def change_documents(folder: Path) -> None:
    """Change such a folder in every respect: added, lost, changed, renamed, other modes, times and kinds."""
    shutil.rmtree(folder / "2")
    (folder / "later").mkdir()
    (folder / "later" / "added.txt").write_text("added later")
    same = folder / "1" / "invoice-0.txt"
    stamp = same.stat().st_mtime_ns
    same.write_bytes(b"?" * same.stat().st_size)
    os.utime(same, ns=(stamp, stamp))
    (folder / "old.txt").rename(folder / "renamed.txt")
    (folder / "large.bin").chmod(0o600)
    (folder / "dangling").unlink()
    (folder / "dangling").write_text("a file now")
    folder.chmod(0o700)


def change_everything(live: Live) -> None:
    """Change a live pair's database, the database's own facts, and its documents; it has the hard schema."""
    psql(live.server.bin_dir, live.url, CHANGES)
    set_facts(live.server, live.name, live.owner, FACTS_CHANGED)
    change_documents(live.documents)


def dumped_whole(bin_dir: Path, url: str, name: str) -> bytes:
    """Return pg_dump's text of a database with settings, grants and comment, but without its own name."""
    text = run_client(bin_dir, "pg_dump", "--create", "--restrict-key=fixed", "-d", url).stdout
    return text.replace(name.encode(), b"THE_DATABASE")


def documents_in(folder: Path) -> Documents:
    """Return (mode, uid, gid, mtime in ns, hash or target) of a folder and of each entry in it."""
    found: Documents = {}
    for place, folders, files in os.walk(folder):
        for name in [*folders, *files, ""]:
            path = Path(place, name) if name else Path(place)
            info = path.lstat()
            content = ""
            if stat.S_ISREG(info.st_mode):
                content = hashlib.sha256(path.read_bytes()).hexdigest()
            elif stat.S_ISLNK(info.st_mode):
                content = os.readlink(path)
            found[str(path.relative_to(folder))] = (info.st_mode, info.st_uid, info.st_gid, info.st_mtime_ns, content)
    return found


def copy_documents(from_folder: Path, to_folder: Path) -> None:
    """Copy a folder with owners, modes and times."""
    run_client(Path("/bin"), "cp", "-a", str(from_folder), str(to_folder))


def backend_count(url: str, name: str) -> int:
    """Return the number of sessions on a database."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = %s", [name]).fetchone()
        return int(row[0]) if row else 0
