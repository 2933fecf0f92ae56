"""Icons from the bootstrap-icons sheet of the Bootstrap-Flask wheel, inlined into the page.

The sheet is over a megabyte and a page uses a dozen icons: linking to it would cost more than the rest of the page.
"""

import re
from functools import cache
from importlib.resources import files

from markupsafe import Markup

SYMBOL = re.compile(
    r'<symbol class="[^"]*" viewBox="(?P<view_box>[^"]+)" id="(?P<name>[^"]+)">(?P<shapes>.*?)</symbol>', re.S
)


@cache
def _sheet() -> dict[str, Markup]:
    path = files("flask_bootstrap") / "static" / "bootstrap5" / "icons" / "bootstrap-icons.svg"
    return {
        found["name"]: Markup(  # noqa: S704 - from a file of a library
            f'<svg class="icon" viewBox="{found["view_box"]}" fill="currentColor" aria-hidden="true" focusable="false">'
            f"{found['shapes']}</svg>"
        )
        for found in SYMBOL.finditer(path.read_text(encoding="utf-8"))
    }


def icon(name: str) -> Markup:
    """Return the SVG of a bootstrap-icons name, hidden from screen readers. Raise KeyError for an unknown name."""
    return _sheet()[name]
