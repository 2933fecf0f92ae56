"""A small live pair for every test of a restore that needs no schema of its own."""

from __future__ import annotations

from tests.support.small_pair import live, small

__all__ = ["live", "small"]
