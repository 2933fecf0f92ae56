"""What on the server blocks a restore, and which strategy the restore would use."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, LiteralString

from ...errors import Subject
from ...source.lock_table import RELATIONS_OF_A_TABLE, capacity, locks_to_replace
from ...source.needs import Verdict, judge, label_providers, objects_in_the_way, relations, some
from ...source.postgres import Connection, server_facts
from ..loading.sql_loader import closed_tablespace, lacks_tablespace
from ..places.staging_database import Rights, rights, subscriptions

_UNENDABLE: LiteralString = """
SELECT DISTINCT a.usename AS role FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
  AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
  AND (r.rolsuper OR NOT (pg_has_role(current_user, r.oid, 'USAGE')
                          OR pg_has_role(current_user, 'pg_signal_backend', 'USAGE')))
"""
_PREPARED: LiteralString = "SELECT min(gid) AS gid FROM pg_prepared_xacts WHERE database = current_database()"
_SLOTS: LiteralString = "SELECT slot_name AS name FROM pg_replication_slots WHERE database = current_database() ORDER BY 1"
_EXTENSIONS: LiteralString = """
SELECT x.name, bool_or(v.superuser AND NOT v.trusted) AS needs_superuser,
       x.name IN (SELECT extname FROM pg_extension) AS is_here
FROM unnest(%s::text[]) AS x(name) LEFT JOIN pg_available_extension_versions v ON v.name = x.name
GROUP BY x.name HAVING bool_or(v.name IS NULL) OR bool_or(v.superuser AND NOT v.trusted)
"""

_LOCALES: LiteralString = """
SELECT DISTINCT name FROM unnest(%s::text[]) AS name
WHERE name <> ALL (%s) AND lower(replace(name, '-', '')) NOT IN
    (SELECT lower(replace(collcollate, '-', '')) FROM pg_collation WHERE collprovider = 'c')
"""

LEAVING_SECONDS = 0.6
OTHER_LOCALE = "Without it the restored database uses the live database's collation."
IN_PLACE = (
    "the restore runs in one transaction inside the live database: still all or nothing, but the app waits meanwhile, and "
    "undoing means restoring the safety backup"
)


def needed_extensions(connection: Connection, facts: dict[str, Any]) -> list[tuple[str, bool, bool]]:
    """Return the backup's extensions that not every owner may create here: name, whether a superuser may, whether the live
    database has it. `facts` are those of a manifest."""
    names = [extension["name"] for extension in facts["extensions"] if extension["name"] != "plpgsql"]
    rows = connection.execute(_EXTENSIONS, [names]).fetchall()
    return [(str(row["name"]), row["needs_superuser"] is not None, bool(row["is_here"])) for row in rows]


class ServerObstacles:
    """Examines the live database's server. `blockers` and `warnings` are sentences, `strategy` is "swap" or "in_place"."""

    def __init__(self, connection: Connection, may_run_as_us: bool) -> None:
        self._connection = connection
        self._may_run_as_us = may_run_as_us
        self.blockers: list[str] = []
        self.warnings: list[str] = []
        self.strategy = "swap"
        self.facts = server_facts(connection)
        self.rights: Rights = rights(connection)

    def look(
        self,
        backup_version: int | None,
        backup_facts: dict[str, Any] | None,
        rows: Mapping[tuple[str, str], int] | None = None,
    ) -> None:
        """Find all obstacles. Facts and rows come from the manifest; None for an archive without one."""
        self._look_at_version(backup_version)
        self._look_at_rights()
        if backup_facts is not None:
            self._look_at_extensions(backup_facts)
            self._look_at_needs(judge(self._connection, backup_facts, rows))
            for provider in label_providers(backup_facts):
                self.warnings.append(
                    f"The backup has security labels of the provider {provider}: they are left out if this server has not "
                    "loaded it."
                )
        if self.strategy == "in_place" and self._may_run_as_us:
            self._look_inside(backup_facts or {})
            self._look_at_locks(backup_facts or {}, len(rows or ()))
        if self.strategy == "swap":
            self._look_at_sessions()
        self._look_at_replication()
        self._look_at_trust()
        if backup_facts is not None:
            self._look_at_roles(backup_facts)
            self._look_at_tablespaces(backup_facts)
            self._look_at_locale(backup_facts)

    def _look_at_version(self, backup_version: int | None) -> None:
        now = int(self.facts["server_version_num"]) // 10000
        if backup_version and backup_version > now:
            self.blockers.append(
                f"The backup comes from PostgreSQL {backup_version}, but the server is PostgreSQL {now}: an older server "
                f"can't load a newer dump. Upgrade the server to {backup_version} or newer first."
            )

    def _look_at_rights(self) -> None:
        if not self.rights.owns_database:
            self.blockers.append(
                f"The role {self.rights.role} does not own the database {self.facts['name']}: ALTER DATABASE … OWNER TO it, "
                f"or use the owner in {Subject.SOURCE}."
            )
        if not self.rights.createdb:
            self.strategy = "in_place"
            self.warnings.append(
                f"The role {self.rights.role} may not create databases (ALTER ROLE … CREATEDB would let it), so {IN_PLACE}."
            )

    def _look_at_sessions(self) -> None:
        row = self._connection.execute(_PREPARED).fetchone()
        if row is not None and row["gid"] is not None:
            self.blockers.append(
                f"The database has the prepared transaction {row['gid']}, which keeps it in its place: COMMIT PREPARED or "
                "ROLLBACK PREPARED it first."
            )
        for role in self._unendable_roles():
            self.blockers.append(
                f"There is a session of the role {role} which {self.rights.role} may not end: stop that program, or "
                f"GRANT pg_signal_backend TO {self.rights.role} (superusers' sessions can't be ended by others)."
            )

    def _look_at_replication(self) -> None:
        """Warn of what happens to the live database's subscriptions, and to the logical slots that others read."""
        for row in subscriptions(self._connection, str(self.facts["name"])):
            name = row["name"]
            if self.strategy == "in_place":
                self.warnings.append(
                    f"The subscription {name} goes on writing into this database: ALTER SUBSCRIPTION {name} DISABLE before "
                    "the restore, ENABLE and REFRESH PUBLICATION after it."
                )
                continue
            text = (
                f"The live database has the subscription {name}. It goes on writing into the old database, which is kept "
                f"for an undo, not into the restored one: ALTER SUBSCRIPTION {name} DISABLE before the restore."
            )
            if not row["is_ours"]:
                text += (
                    f" Its owner is {row['owner']}, so {self.rights.role} can't drop the old database afterwards: have a "
                    f"superuser drop the subscription there, or ALTER SUBSCRIPTION {name} OWNER TO {self.rights.role} now."
                )
            self.warnings.append(text)
        if self.strategy == "swap":
            for row in self._connection.execute(_SLOTS).fetchall():
                self.warnings.append(
                    f"The logical replication slot {row['name']} belongs to the live database, not to the restored one: "
                    "what reads from it stops, and needs a new slot and a new copy of the tables."
                )

    def _unendable_roles(self) -> list[str]:
        """Return the roles of sessions that we may not end; short ones, as of monitoring, are given the time to end."""
        until = time.monotonic() + LEAVING_SECONDS
        while True:
            roles = [str(row["role"]) for row in self._connection.execute(_UNENDABLE)]
            if not roles or time.monotonic() >= until:
                return roles
            time.sleep(0.05)

    def _look_at_trust(self) -> None:
        if self._may_run_as_us:
            return
        if self.facts.get("owner_is_superuser"):
            self.blockers.append(
                f"The live database belongs to the superuser {self.facts['owner']}, and untrusted SQL never ends up owned "
                "by one. Give the database to a role of its own (ALTER DATABASE … OWNER TO), or trust this archive."
            )
        if not self.rights.createrole:
            self.blockers.append(
                f"This archive is untrusted, and the role {self.rights.role} may not create the sandbox role for it: ALTER "
                f"ROLE {self.rights.role} CREATEROLE, or trust this archive."
            )
        if self.strategy == "in_place":
            self.blockers.append(
                "An untrusted archive is never executed inside the live database: ALTER ROLE … CREATEDB first."
            )

    def _look_at_extensions(self, facts: dict[str, Any]) -> None:
        for name, needs_superuser, is_here in needed_extensions(self._connection, facts):
            what = f"The backup needs the extension {name}, which"
            if not needs_superuser:
                self.blockers.append(f"{what} this server does not have: install it.")
            elif self.rights.superuser:
                continue
            elif not is_here or not self._may_run_as_us:
                self.blockers.append(
                    f"{what} only a superuser may create: have one create it in the database {self.facts['name']}, or use a "
                    f"superuser in {Subject.SOURCE} for this restore."
                )
            elif self.strategy == "swap":
                self.strategy = "in_place"
                self.warnings.append(f"{what} only a superuser may create (one in {Subject.SOURCE} could), so {IN_PLACE}.")

    def _look_at_needs(self, verdict: Verdict) -> None:
        """Say what of the backup this role may not create, and choose the live database if it has that."""
        role, name = self.rights.role, self.facts["name"]
        if verdict.refused or (verdict.staying and not self._may_run_as_us):
            self.blockers.append(
                f"Only a superuser may create what the backup holds: {some(verdict.refused or verdict.staying)}. Use a "
                f"superuser in {Subject.SOURCE} for this restore."
            )
        elif verdict.staying:
            if self.strategy == "swap":
                self.strategy = "in_place"
            self.warnings.append(
                f"Only a superuser may create what the backup holds: {some(verdict.staying)}. The database {name} has it, "
                f"and it stays as it is there (a superuser in {Subject.SOURCE} could restore it), so {IN_PLACE}."
            )
        left_out = verdict.missing if self.strategy == "in_place" else verdict.dispensable
        if left_out:
            self.warnings.append(
                f"Left out, because only a superuser may create it: {some(left_out)}. Use a superuser in {Subject.SOURCE} "
                "for this restore, or have a superuser create it in the restored database; the backup's dump has the "
                "statement."
            )
        if verdict.tables:
            self.blockers.append(
                f"Only a superuser may write the rows that the backup has for {some(verdict.tables)}. Use a superuser in "
                f"{Subject.SOURCE} for this restore."
            )
        if verdict.policy_roles:
            self.blockers.append(
                f"Row security policies in the backup name roles that do not exist here: {some(verdict.policy_roles)}. "
                "CREATE ROLE them first."
            )
        if verdict.strangers:
            self.blockers.append(
                f"The role {role} may give objects to {some(verdict.strangers)}, but not use them afterwards: GRANT that "
                f"role TO {role} WITH INHERIT TRUE first."
            )
        if verdict.owners and self.strategy == "swap":  # inside the live database it stays theirs
            self.warnings.append(
                f"The role {role} can't become {some(verdict.owners)}: what they own in the backup will belong to {role}. "
                f"GRANT them TO {role} before the restore to keep their owners."
            )
        if verdict.parameters:
            self.warnings.append(
                f"Settings of the database that only a superuser may set are left out: {some(verdict.parameters)}."
            )
        for space in verdict.tablespaces:
            self.warnings.append(closed_tablespace(space))

    def _look_inside(self, facts: dict[str, Any]) -> None:
        """Find what a restore inside the live database could not replace."""
        others = objects_in_the_way(self._connection, facts)
        if others:
            self.blockers.append(
                f"Inside the live database only what the role {self.rights.role} owns can be replaced, not {some(others)}: "
                f"ALTER … OWNER TO {self.rights.role} first, or use a superuser in {Subject.SOURCE} for this restore."
            )

    def _look_at_locks(self, facts: dict[str, Any], tables: int) -> None:
        """Compare the locks of one transaction over everything with those that the server can hold."""
        known = relations(facts)
        least, most = locks_to_replace(self._connection, tables * RELATIONS_OF_A_TABLE if known is None else known)
        server = capacity(self._connection)
        if most <= server.locks:
            return
        text = (
            f"Inside the live database the restore needs up to {most} locks at once, and this server can hold "
            f"{server.locks}: set max_locks_per_transaction to {server.setting_for(most)} and restart it, or ALTER ROLE "
            f"{self.rights.role} CREATEDB, so that the restore can run beside the live database."
        )
        (self.blockers if least > server.locks else self.warnings).append(text)

    def _look_at_roles(self, facts: dict[str, Any]) -> None:
        names = [role["name"] for role in facts["roles"]]
        known = {
            row["name"]
            for row in self._connection.execute("SELECT rolname AS name FROM pg_roles WHERE rolname = ANY(%s)", [names])
        }
        for name in names:
            if name not in known:
                self.warnings.append(
                    f"The role {name} does not exist here: what it owned or was granted is left to the owner."
                )

    def _look_at_tablespaces(self, facts: dict[str, Any]) -> None:
        query = "SELECT spcname AS name FROM pg_tablespace"
        known = {row["name"] for row in self._connection.execute(query)}
        for name in facts.get("tablespaces", ()):
            if name not in known:
                self.warnings.append(lacks_tablespace(name))

    def _look_at_locale(self, facts: dict[str, Any]) -> None:
        wanted = [str(facts["lc_collate"]), str(facts["lc_ctype"])]
        # Beside these the server knows those that the operating system had when it was set up.
        known = [self.facts["lc_collate"], self.facts["lc_ctype"], "C", "POSIX"]
        for row in self._connection.execute(_LOCALES, [wanted, known]).fetchall():
            self.warnings.append(f"The backup's locale {row['name']} may not be available on this server. {OTHER_LOCALE}")
