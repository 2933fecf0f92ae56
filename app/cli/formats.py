"""Sizes and times as the commands print them."""

from __future__ import annotations

from datetime import datetime


def size(size_bytes: float | None) -> str:
    """Format bytes in decimal units, "-" for None."""
    if size_bytes is None:
        return "-"
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 999.5:
            return f"{size_bytes:.3g} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} TB"


def moment(when: datetime | None) -> str:
    """Format an aware UTC time to the second, "-" for None."""
    return f"{when:%Y-%m-%d %H:%M:%S} UTC" if when else "-"
