"""What can be done side by side when a dump of ours is loaded: which statements belong to one table's data and to no other.

pg_dump writes them in an order that is always right (pg_dump_sort.c); here those that need only their own table are taken
out of it, as pg_restore does with the dependencies that its archives hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from ...source.names import unquoted
from .sql_loader import TABLESPACE

Key = tuple[str, str]
"""A table's schema and name."""

_NAME = rb'(?:"(?:[^"]|"")*"|[a-z_\x80-\xff][a-z0-9_$\x80-\xff]*)'
_TABLE = rb"(?P<schema>" + _NAME + rb")\.(?P<table>" + _NAME + rb")"
_COLUMNS = rb"\((?P<columns>" + _NAME + rb"(?:, " + _NAME + rb")*)\)"
_CONSTRAINT = rb"ALTER TABLE ONLY " + _TABLE + rb"\s+ADD CONSTRAINT (?P<name>" + _NAME + rb") "
_INDEX = re.compile(rb"CREATE (?:UNIQUE )?INDEX (?:" + _NAME + rb" )?ON " + _TABLE + rb" USING ")
# A call of a function that is not PostgreSQL's own, as pg_dump writes it. False matches only cost time.
_CALL = re.compile(_NAME + rb"\." + _NAME + rb" ?\(")
_KEY = re.compile(_CONSTRAINT + rb"(?:PRIMARY KEY|UNIQUE)\b")
_PLAIN_KEY = re.compile(_CONSTRAINT + rb"(?P<kind>PRIMARY KEY|UNIQUE) " + _COLUMNS + rb";\Z")
_STATISTICS = re.compile(rb"CREATE STATISTICS .* FROM " + _TABLE + rb";\Z", re.DOTALL)
_LITERAL = rb"'((?:[^']|'')*)'"
_PLANNER = re.compile(
    rb"SELECT \* FROM pg_catalog\.pg_restore_(?:relation|attribute)_stats\(\s*'version', '\d+'::integer,"
    rb"\s*'schemaname', " + _LITERAL + rb",\s*'relname', " + _LITERAL + rb",\s*('att[a-z]+', )?"
)
_FOREIGN_KEY = re.compile(
    _CONSTRAINT
    + rb"FOREIGN KEY "
    + _COLUMNS
    + rb" REFERENCES (?P<other_schema>"
    + _NAME
    + rb")\.(?P<other>"
    + _NAME
    + rb")\((?:[^()]|\"[^\"]*\")*\)(?: (?:MATCH FULL|ON (?:UPDATE|DELETE) (?:CASCADE|RESTRICT|SET NULL|SET DEFAULT)"
    rb"|DEFERRABLE|INITIALLY DEFERRED))*;\Z"
)


@dataclass
class TableWork:
    """What follows a table's data. `builds` may run side by side, and so may `late_builds`, which call functions, when all
    tables are filled; `last` in order, when they are done."""

    builds: list[list[bytes]] = field(default_factory=list)
    late_builds: list[list[bytes]] = field(default_factory=list)
    last: list[bytes] = field(default_factory=list)
    has_statistics: bool = False
    has_extended_statistics: bool = False
    is_analyzed: bool = False

    @property
    def must_be_analyzed(self) -> bool:
        """Whether the dump does not bring all of the planner's statistics: it has none, or there are CREATE STATISTICS,
        whose data pg_dump 18 does not write."""
        return not self.has_statistics or self.has_extended_statistics


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key in two steps: `add` checks nothing, `validate` reads both tables and locks next to nothing.

    `statement` is the dump's own, which does both at once.
    """

    table: Key
    other: Key
    statement: bytes
    add: bytes
    validate: bytes


class PostData:
    """Sorts the statements behind the data by the tables that can be worked on one by one. `tablespace` is the statement
    that sets the default tablespace as the head of the dump left it."""

    def __init__(self, tables: Iterable[Key], tablespace: bytes) -> None:
        self.tables: dict[Key, TableWork] = {table: TableWork() for table in tables}
        self.tablespace_before = self._tablespace = tablespace

    def take(self, statement: bytes) -> bool:
        """Return whether the next statement was taken out of the order. Otherwise it must be run in it."""
        if TABLESPACE.match(statement):
            self._tablespace = statement
            return False
        if (statistics := planner_statistics(statement)) is not None:
            if statistics.is_of_column and statistics.relation in self.tables:
                self.tables[statistics.relation].has_statistics = True
            return False
        match = _INDEX.match(statement) or _KEY.match(statement) or _STATISTICS.match(statement)
        work = self.tables.get(_key(match["schema"], match["table"])) if match is not None else None
        if match is None or work is None:
            return False
        plain = _PLAIN_KEY.match(statement)
        if plain is not None:
            # Adding a key locks out the building of the table's other indexes; adopting an index takes an instant.
            build = b"CREATE UNIQUE INDEX %b ON ONLY %b.%b (%b);" % plain.group("name", "schema", "table", "columns")
            adopt = b"ALTER TABLE ONLY %b.%b ADD CONSTRAINT %b %b USING INDEX %b;"
            work.builds.append([self._tablespace, build])
            work.last.append(adopt % plain.group("schema", "table", "name", "kind", "name"))
        elif match.re is _INDEX:
            # A function may read other tables, whatever it says of itself: their rows have to be there.
            builds = work.late_builds if _CALL.search(statement, match.end()) else work.builds
            builds.append([self._tablespace, statement])
        else:
            work.last += [self._tablespace, statement]
            work.has_extended_statistics |= match.re is _STATISTICS
        return True

    def wants(self, statistics: PlannerStatistics) -> bool:
        """Return whether the statement that sets these statistics is executed after the load.

        Not if the table was analyzed. Never the counts of rows and pages: the table they describe may have been half empty.
        """
        work = self.tables.get(statistics.relation)
        return work is None or (statistics.is_of_column and not work.is_analyzed)


def foreign_key(statement: bytes, tables: Iterable[Key]) -> ForeignKey | None:
    """Return the foreign key that a statement adds, if both its tables are among those named."""
    match = _FOREIGN_KEY.match(statement)
    if match is None:
        return None
    table, other = _key(match["schema"], match["table"]), _key(match["other_schema"], match["other"])
    if table not in tables or other not in tables:
        return None
    validate = b"ALTER TABLE ONLY %b.%b VALIDATE CONSTRAINT %b;" % match.group("schema", "table", "name")
    return ForeignKey(table, other, statement, statement.removesuffix(b";") + b" NOT VALID;", validate)


@dataclass(frozen=True)
class PlannerStatistics:
    """What a statement of `pg_dump --statistics` sets: the statistics of a table or an index, or those of a column."""

    relation: Key
    is_of_column: bool


def planner_statistics(statement: bytes) -> PlannerStatistics | None:
    """Return which planner statistics a statement sets, if it sets any."""
    match = _PLANNER.match(statement)
    return PlannerStatistics((_text(match[1]), _text(match[2])), match[3] is not None) if match is not None else None


def _text(literal: bytes) -> str:
    """Return the text of a literal that pg_dump wrote, without its quotes."""
    return literal.replace(b"''", b"'").decode("utf-8", "surrogateescape")


def _key(schema: bytes, table: bytes) -> Key:
    return unquoted(schema), unquoted(table)
