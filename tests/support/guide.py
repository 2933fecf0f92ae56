"""README.md and docs/operators-guide.md, taken apart for the tests that do what they say."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "operators-guide.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str, text: str = GUIDE) -> list[str]:
    """Return the code blocks of a language, without their indentation."""
    found = []
    # Fences come in pairs: every second piece is a block.
    for block in re.split(r"^ *```", text, flags=re.MULTILINE)[1::2]:
        name, _, body = block.partition("\n")
        if name == language:
            found.append(textwrap.dedent(body).strip("\n"))
    return found


def section(title: str) -> str:
    """Return the text of a section of the guide."""
    return GUIDE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
