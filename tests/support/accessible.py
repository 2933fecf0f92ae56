"""axe-core on a page: what it finds that would keep people out."""

from __future__ import annotations

from importlib.resources import files

from playwright.sync_api import Page

AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
THEMES = ("light", "dark")
WIDTHS = (390, 1440)
HEIGHT = 900
BAD = ("serious", "critical")


def look(page: Page, path: str, theme: str, width: int) -> None:
    """Open a path in a theme and at a width in CSS pixels."""
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
    page.set_viewport_size({"width": width, "height": HEIGHT})
    if page.url.endswith(path):
        # The theme follows the system's at once; colours must not be measured in between.
        page.wait_for_function("theme => document.documentElement.dataset.bsTheme === theme", arg=theme)
    else:
        page.goto(path)


def faults(page: Page) -> list[str]:
    """Return axe's serious and critical findings on a page, and whether it scrolls sideways."""
    # An evaluated script is not the page's own: the Content-Security-Policy stays as it is.
    if not page.evaluate("() => typeof axe === 'object'"):
        page.evaluate(AXE)
    found = page.evaluate("() => axe.run(document, {resultTypes: ['violations']}).then(results => results.violations)")
    told = [
        f"{violation['impact']} {violation['id']}: {violation['help']}: {node['target']} {node['failureSummary']}"
        for violation in found
        if violation["impact"] in BAD
        for node in violation["nodes"][:5]
    ]
    too_wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return told + ([f"{too_wide} px wider than the screen"] if too_wide > 0 else [])
