"""Create missing roles and databases, each owned by a role that is not a superuser."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import psycopg
from psycopg import sql

from app.container.first_start import FILES, PASSWORD_FILE, StartError

# Restoring needs a database and a sandbox role beside the live ones; backing up needs neither right.
RIGHTS = {"DATABASE_URL": "", "BACKUP_SOURCE_URL": "CREATEDB CREATEROLE"}


def make_all(secrets: Path, postgres: Path, host: str) -> None:
    """Create the databases of those URLs that name this server; databases elsewhere are their owner's responsibility. Raise
    StartError."""
    password = (postgres / PASSWORD_FILE).read_text(encoding="utf-8")
    for name, rights in RIGHTS.items():
        url = urlsplit((secrets / FILES[name]).read_text(encoding="utf-8"))
        if url.hostname != host:
            continue
        try:
            with psycopg.connect(
                host=host, port=url.port or 5432, user="postgres", password=password, dbname="postgres", autocommit=True
            ) as connection:
                database, role = unquote(url.path.lstrip("/")), unquote(url.username or "")
                make_database(connection, role, unquote(url.password or ""), rights, database)
        except psycopg.Error as error:
            raise StartError(f"{name}: its database can't be created: {' '.join(str(error).split())}") from error


def make_database(
    connection: psycopg.Connection, name: str, password: str, rights: str, database: str | None = None
) -> None:
    """Create a role with these rights and its database (default: named like the role) if they are missing, and set its
    password. Only that role may connect to a new database. Raise psycopg.Error."""
    role, database = sql.Identifier(name), database or name
    if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone() is None:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN NOSUPERUSER").format(role))
    attributes = sql.SQL(f"{rights} PASSWORD {{}}").format(sql.Literal(password))
    connection.execute(sql.SQL("ALTER ROLE {} WITH {}").format(role, attributes))
    if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone() is None:
        itself = sql.Identifier(database)
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0").format(itself, role))
        connection.execute(sql.SQL("REVOKE CONNECT, TEMPORARY ON DATABASE {} FROM PUBLIC").format(itself))
