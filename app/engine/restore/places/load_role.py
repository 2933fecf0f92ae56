"""As whom an archive of ours is loaded. Tables run their owner's code (checks, defaults, indexes) with the rights of whoever
fills them: so no superuser fills what belongs to a role that is none, but a temporary role with that role's rights."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import LiteralString
from uuid import UUID

import psycopg
from psycopg import sql

from ...errors import EngineError
from ...source.postgres import Connection, connect
from . import staging_database
from .staging_database import Sandbox, with_database

_SUPERUSERS: LiteralString = "SELECT rolname AS name FROM pg_roles WHERE rolsuper AND rolname = ANY(%s)"


@dataclass(frozen=True)
class LoadRole:
    """How to connect for loading. `superuser`, if there is one, connects for what only a superuser may do; `sandbox` is the
    temporary role of an untrusted archive."""

    connect: Callable[[], Connection]
    superuser: Callable[[], Connection] | None = None
    warnings: list[str] = field(default_factory=list)
    sandbox: Sandbox | None = None


@contextlib.contextmanager
def load_role(connection: Connection, url: str, name: str, owner: str, run_id: UUID) -> Iterator[LoadRole]:
    """Yield as whom to load the new database `name`. `connection` is a maintenance connection, `url` the source's.

    What the temporary role has made belongs to the owner afterwards, and the role is dropped.
    """
    application = f"restore {run_id}"

    def as_us() -> Connection:
        return connect(with_database(url, name), application)

    row = connection.execute("SELECT current_user AS name").fetchone()
    assert row is not None
    supers = {str(found["name"]) for found in connection.execute(_SUPERUSERS, [[row["name"], owner]])}
    if row["name"] not in supers or owner in supers:
        yield LoadRole(as_us)
        return
    sandbox = staging_database.create_sandbox(connection, run_id)
    role = sql.Identifier(sandbox.role)
    try:
        # Its rights and no other role's: what belongs to others is given to them when all is loaded.
        options = sql.SQL(" WITH INHERIT TRUE, SET TRUE" if connection.info.server_version >= 160000 else "")
        connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(owner), role) + options)
        sandbox_url = with_database(url, name, sandbox.role, sandbox.password)
        try:
            connect(sandbox_url, application).close()
        except EngineError as error:
            refused = (
                f"A temporary role could not log in ({error}), so the superuser {row['name']} loaded the archive itself."
            )
            yield LoadRole(as_us, None, [refused])
        else:
            yield LoadRole(lambda: connect(sandbox_url, application), as_us)
            with as_us() as inside:
                staging_database.give_all(inside, sandbox.role, owner)
                inside.execute(sql.SQL("DROP OWNED BY {}").format(role))
        staging_database.drop_sandbox(connection, run_id)
    except BaseException:
        # It owns what was half loaded, until that database is dropped and then the role, by whoever clears up.
        with contextlib.suppress(psycopg.Error):
            connection.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(role))
        raise
