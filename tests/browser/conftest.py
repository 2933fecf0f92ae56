"""A real browser on the real stack."""

from __future__ import annotations

from tests.support.chromium import chromium, open_page, stack, things

__all__ = ["chromium", "open_page", "stack", "things"]
