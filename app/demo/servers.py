"""The embedded servers in one place: `EmbeddedPostgres` and `EmbeddedValkey`."""

from app.demo.postgres import EmbeddedPostgres, postgres_bin_dir
from app.demo.processes import StackError, free_port
from app.demo.valkey import EmbeddedValkey

__all__ = ["EmbeddedPostgres", "EmbeddedValkey", "StackError", "free_port", "postgres_bin_dir"]
