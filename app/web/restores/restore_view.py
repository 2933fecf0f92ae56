"""Turns previews and results of restores into what their pages show. Pure functions over the engine's figures."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from flask import Flask

from app.engine.restore.preview.findings import Preview
from app.engine.restore.preview.rows_diff import RowsDiff
from app.engine.restore.preview.tables_diff import TableDiff
from app.services.restores.restores import Restore

SCOPES = {"all": "Everything", "database": "Database only", "documents": "Documents only"}
SCOPE_WORDS = {"all": "the database and the documents", "database": "the database", "documents": "the documents"}

# In the engine's order, with the safety backup before it: a short name for the list of steps, and what is being done.
STEPS = {
    "safety_backup": ("Safety backup", "Backing up the current state first"),
    "prepare": ("Prepare", "Checking the server and the disk"),
    "check": ("Check", "Checking the archive"),
    "database": ("Tables", "Loading the tables next to the live ones"),
    "indexes": ("Indexes", "Building indexes and keys"),
    "documents": ("Documents", "Writing the documents next to the live ones"),
    "verify": ("Verify", "Comparing what was restored with the archive"),
    "swap": ("Swap", "Swapping the restored state in"),
    "health": ("Health", "Checking that the restored state answers"),
}
SCOPE_STEPS = {"database": STEPS.keys() - {"documents"}, "documents": STEPS.keys() - {"database", "indexes", "health"}}


def init_app(app: Flask) -> None:
    """Make this module's functions and labels available to templates."""
    for function in (restore_phase_name, restore_steps, signed_count, gap, hours):
        app.add_template_filter(function)
    app.jinja_env.globals.update(RESTORE_SCOPES=SCOPES, RESTORE_SCOPE_WORDS=SCOPE_WORDS, restore_reached=reached)


@dataclass(frozen=True)
class TableChange:
    """A table's rows now and in the backup (or after the restore).

    None as a number means that the table does not exist; `unknown`, that its rows have not been counted yet. `rows` says
    which rows differ, None if they were not compared.
    """

    name: str
    rows_now: int | None
    rows_backup: int | None
    approximate: bool
    unknown: bool
    columns_added: tuple[str, ...] = ()
    columns_lost: tuple[str, ...] = ()
    rows: RowsDiff | None = None

    @property
    def difference(self) -> int:
        """How many more rows there will be; negative: fewer."""
        return (self.rows_backup or 0) - (self.rows_now or 0)

    @property
    def changes(self) -> bool:
        """Whether its rows, its columns or its existence will change, as far as that is known."""
        if self.rows is not None and not self.rows.is_same:
            return True
        return self.unknown or self.rows_now != self.rows_backup or bool(self.columns_added or self.columns_lost)

    @property
    def says_more(self) -> bool:
        """Whether more is known about the change than the number of rows."""
        return bool(self.rows or self.columns_added or self.columns_lost)

    @property
    def is_same(self) -> bool:
        """Whether every row was compared and nothing changes."""
        return self.rows is not None and not self.changes

    @property
    def weight(self) -> int:
        """How many rows change, as far as that is known."""
        return self.rows.added + self.rows.changed + self.rows.lost if self.rows else abs(self.difference)


def table_changes(tables: Iterable[TableDiff], uncounted: bool = False) -> list[TableChange]:
    """Sort the engine's tables for display: those that change first, the largest change first.

    With `uncounted` the backup's contents are not known yet, so a missing number does not mean a missing table.
    """
    shown = [
        TableChange(
            table.name if table.schema == "public" else f"{table.schema}.{table.name}",
            table.rows_now,
            table.rows_backup,
            table.approximate,
            uncounted and table.rows_backup is None,
            table.columns_added,
            table.columns_lost,
            table.rows,
        )
        for table in tables
    ]
    return sorted(shown, key=lambda table: (not table.changes, -table.weight, table.name))


def preview_tables(preview: Preview) -> list[TableChange]:
    """Sort the tables of a preview for display."""
    return table_changes(preview.tables, uncounted=not preview.ours and not preview.exact)


def restore_steps(restore: Restore) -> dict[str, str]:
    """List the phases that a restore goes through, with their short names."""
    wanted = set(SCOPE_STEPS.get(restore.scope, STEPS)) - (set() if restore.safety_backup else {"safety_backup"})
    return {phase: words[0] for phase, words in STEPS.items() if phase in wanted}


def reached(restore: Restore, phase: str | None) -> int:
    """Return the index of the step that a restore has reached, -1 before the first one."""
    order = list(restore_steps(restore))
    # A restore starts, and may read the archive, before the safety backup: that step is not done then.
    early = phase in ("prepare", "check") and restore.safety_backup and restore.safety_backup_id is None
    return order.index(phase) if phase in order and not early else -1


def restore_phase_name(phase: str | None) -> str:
    """Describe a restore's phase in words. An unknown phase is shown by its name."""
    if phase == "waiting":
        return "Waiting until a running backup or restore has finished"
    if phase is None:
        return "Waiting for a worker"
    return STEPS[phase][1] if phase in STEPS else phase.replace("_", " ").capitalize()


def signed_count(number: int) -> str:
    """Format a difference with its sign and thousands separators: "+1,200", "−3", "0"."""
    return f"+{number:,}" if number > 0 else f"\N{MINUS SIGN}{-number:,}" if number else "0"


def result_tables(result: Mapping[str, Any]) -> list[TableChange]:
    """Sort the tables of a restore's `result` for display: before as `rows_now`, after as `rows_backup`.

    The numbers before are the server's estimates, unless the result says that they were counted.
    """
    found = [
        TableDiff(table["schema"], table["name"], table["rows_before"], table["rows_after"], table.get("approximate", True))
        for table in result.get("tables", [])
    ]
    return table_changes(found)


def gap(seconds: float) -> str:
    """Format the seconds that the app was without its database, to the hundredth."""
    return f"{seconds:.2f} s" if seconds >= 0.01 else "< 0.01 s"


def hours(number: int) -> str:
    """Format a number of hours in words."""
    return "1 hour" if number == 1 else f"{number} hours"
