"""Prove a backup by restoring it into a scratch database, counting the rows, and dropping the database."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg import sql

from ..archive.reader import ArchiveReader, open_archive
from ..errors import EngineError, RestoreError, Subject
from ..progress import Meter, Progress
from ..restore.loading.load_ours import ArchiveLoader
from ..restore.places import staging_database
from ..restore.places.load_role import load_role
from ..restore.places.staging_database import maintenance, rights
from ..restore.preview.obstacles import needed_extensions
from ..source.needs import judge, some
from ..source.postgres import connect, one_line, server_facts
from ..source.preflight import Source
from ..system.threads import threads_of_machine
from ..verify.verify import verify_archive


@dataclass(frozen=True)
class RestoreTest:
    """Which archive to load into a scratch database, and on whose server. `threads` None: one for each core."""

    archive: Path
    target: Source
    signing_key: bytes
    run_id: UUID
    threads: int | None = None


@dataclass(frozen=True)
class RestoreTestReport:
    """The result of a test restore: its duration in seconds, and the tables and rows that were loaded."""

    problems: list[str]
    seconds: float
    tables: int
    rows: int

    @property
    def ok(self) -> bool:
        return not self.problems


def verify_by_restoring(test: RestoreTest, progress: Progress | None = None) -> RestoreTestReport:
    """Read an archive of ours back, and load its database into a scratch one on the target's server.

    The documents are proven by their hashes while reading back. What goes wrong with the archive is a problem in the
    report; raise EngineError where the server does not let us try.
    """
    began = time.monotonic()
    report = verify_archive(test.archive, test.signing_key, progress, threads=test.threads)
    problems = list(report.problems)
    if not problems and not report.signed:
        problems.append("the archive is not signed by this installation, so its SQL is not executed for a test")
    if problems:
        return RestoreTestReport(problems, time.monotonic() - began, 0, 0)
    meter = Meter(progress)
    try:
        with (
            open_archive(test.archive, test.signing_key) as reader,
            maintenance(test.target.database_url, test.run_id) as connection,
        ):
            rows = _load_scratch(test, reader, connection, meter)
    except RestoreError as error:
        return RestoreTestReport([str(error)], time.monotonic() - began, 0, 0)
    except psycopg.Error as error:
        raise EngineError(f"The test restore could not be made: {one_line(error)}") from error
    return RestoreTestReport([], time.monotonic() - began, len(rows), sum(rows.values()))


def _load_scratch(
    test: RestoreTest, reader: ArchiveReader, connection: psycopg.Connection[dict[str, object]], meter: Meter
) -> dict[tuple[str, str], int]:
    target, run_id = test.target, test.run_id
    with connect(target.database_url, f"restore {run_id}") as live:
        facts, role = server_facts(live), rights(live)
        for extension, may_superuser, _ in needed_extensions(live, reader.manifest.database.facts):
            if not (may_superuser and role.superuser):
                reason = "only a superuser may create" if may_superuser else "this server does not have"
                raise EngineError(
                    f"The test restore could not be made: the backup needs the extension {extension}, which {reason}."
                )
        found = judge(live, reader.manifest.database.facts, {(t.schema, t.name): t.rows for t in reader.manifest.tables})
        if beyond := found.refused + found.staying + found.tables:
            raise EngineError(
                f"The test restore could not be made: only a superuser may restore {some(beyond)}; use one in "
                f"{Subject.SOURCE} for it."
            )
    drop_forgotten(connection, str(facts["name"]))
    name = staging_database.derived_name(str(facts["name"]), "test", run_id)
    owner = role.role if facts["owner_is_superuser"] and not role.superuser else str(facts["owner"])
    backup_facts = reader.manifest.database.facts
    try:
        staging_database.create(connection, name, backup_facts, owner, facts)
    except RestoreError as error:
        raise EngineError(f"The test restore could not be made: {error}") from error
    try:
        with load_role(connection, target.database_url, name, owner, run_id) as loads:
            loader = ArchiveLoader(reader, loads.connect, threads_of_machine(test.threads), meter, loads.superuser)
            try:
                return loader.load().rows
            finally:
                loader.close()
    finally:
        staging_database.drop(connection, name)
        staging_database.drop_sandbox(connection, run_id)


_FORGOTTEN: LiteralString = """
SELECT datname AS name, right(datname, 12) AS run FROM pg_database d
WHERE starts_with(datname, left(%s, 44)) AND datname ~ '_test_[0-9a-f]{12}$'
  AND NOT EXISTS (SELECT FROM pg_stat_activity a
                  WHERE a.application_name LIKE 'restore ' || left(right(d.datname, 12), 8) || '-%%')
"""


def drop_forgotten(connection: psycopg.Connection[dict[str, Any]], live: str) -> None:
    """Drop the scratch databases and roles of test restores that no longer run, over a maintenance connection."""
    for row in connection.execute(_FORGOTTEN, [live]).fetchall():
        with contextlib.suppress(psycopg.Error):
            staging_database.drop(connection, row["name"])
            role = sql.Identifier(f"{staging_database.SANDBOX}{row['run']}")
            connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(role))
