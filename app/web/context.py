"""What every template may use besides its own values."""

from dataclasses import dataclass
from typing import Any

from app.services import health


@dataclass(frozen=True)
class NavItem:
    label: str
    endpoint: str
    icon: str
    section: str


NAVIGATION = (NavItem("Backups", "web.backups.index", "archive", "web.backups"),)


def template_context() -> dict[str, Any]:
    """Return the names that the layout needs; called by Flask for every page."""
    return {"navigation": NAVIGATION, "unhealthy_checks": unhealthy_checks}


def unhealthy_checks() -> list[health.Check]:
    """Return the health checks that fail now, for the banner of every page."""
    return [check for check in health.checks() if not check.ok]
