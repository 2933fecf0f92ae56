"""Throwaway databases and roles on an embedded server."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from app.demo.servers import EmbeddedPostgres


@dataclass(frozen=True)
class SourceDatabase:
    """A fresh, empty database owned by a role that is no superuser.

    `url` is that role's, `admin_url` the superuser's, both for this database.
    """

    server: EmbeddedPostgres
    name: str
    user: str
    password: str
    url: str
    admin_url: str

    @property
    def bin_dir(self) -> Path:
        """The folder of the client programs of the server's own version."""
        return self.server.bin_dir


@contextmanager
def admin_connection(server: EmbeddedPostgres, database: str = "postgres") -> Iterator[psycopg.Connection]:
    """Yield a superuser's autocommit connection to a server."""
    with psycopg.connect(server.url(database), autocommit=True) as connection:
        yield connection


def create_database(
    server: EmbeddedPostgres, name: str | None = None, owner: str | None = None, template: str = "template0"
) -> str:
    """Create a copy of the template, by default an empty database, and return its name (random by default)."""
    name = name or f"db_{secrets.token_hex(6)}"
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
    if owner is not None:
        statement += sql.SQL(" OWNER {}").format(sql.Identifier(owner))
    with admin_connection(server) as connection:
        connection.execute(statement)
    return name


def drop_database(server: EmbeddedPostgres, name: str) -> None:
    """End a database's sessions and drop it, if it exists."""
    with admin_connection(server) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def fresh_database(server: EmbeddedPostgres, template: str = "template0") -> Iterator[str]:
    """Yield the superuser's URL of a copy of the template, by default an empty database; it is dropped afterwards."""
    name = create_database(server, template=template)
    try:
        yield server.url(name)
    finally:
        drop_database(server, name)


@contextmanager
def fresh_source(server: EmbeddedPostgres) -> Iterator[SourceDatabase]:
    """Yield an empty database with an owner of its own; both are dropped afterwards."""
    suffix = secrets.token_hex(5)
    name, user, password = f"motovaultpro_{suffix}", f"mvp_app_{suffix}", secrets.token_urlsafe(16)
    with admin_connection(server) as connection:
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN NOSUPERUSER CREATEDB CREATEROLE PASSWORD {}").format(
                sql.Identifier(user), sql.Literal(password)
            )
        )
    create_database(server, name, owner=user)
    try:
        yield SourceDatabase(server, name, user, password, server.url(name, user, password), server.url(name))
    finally:
        drop_database(server, name)
        _drop_role(server, user)


def _drop_role(server: EmbeddedPostgres, user: str) -> None:
    """Drop a role with the databases it owns (a test may have made more of them)."""
    with admin_connection(server) as connection:
        owned = connection.execute(
            "SELECT datname FROM pg_database JOIN pg_roles r ON r.oid = datdba WHERE rolname = %s", [user]
        ).fetchall()
        for (name,) in owned:
            drop_database(server, name)
        connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(user)))
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(user)))


def run_client(
    bin_dir: Path, program: str, *arguments: str, stdin: bytes | None = None, check: bool = True
) -> subprocess.CompletedProcess[bytes]:
    """Run one of the programs in a folder (psql, pg_dump ...) and return it with its output.

    Raise AssertionError with its stderr if it fails and `check` is set.
    """
    done = subprocess.run([str(bin_dir / program), *arguments], input=stdin, capture_output=True, timeout=240)
    if check:
        assert done.returncode == 0, f"{program} ended with {done.returncode}: {done.stderr.decode(errors='replace')}"
    return done


def psql(bin_dir: Path, url: str, script: str | bytes) -> str:
    """Run SQL with psql, stopping at the first error, and return its output (unaligned)."""
    data = script.encode() if isinstance(script, str) else script
    done = run_client(bin_dir, "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", url, stdin=data)
    return done.stdout.decode()


def pg_dump(bin_dir: Path, url: str, *arguments: str) -> str:
    r"""Return the plain dump without what differs between two runs (the \restrict key)."""
    output = run_client(bin_dir, "pg_dump", *arguments, "-d", url).stdout.decode()
    lines = output.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(("\\restrict ", "\\unrestrict ")))
