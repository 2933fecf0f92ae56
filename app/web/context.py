"""What every template may use besides its own values."""

import logging
from dataclasses import dataclass
from typing import Any

from app.services import health

log = logging.getLogger(__name__)


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
    """Return the health checks that fail now. A page is worth more than its banner, so trouble in asking is itself a finding."""
    try:
        return [check for check in health.checks() if not check.ok]
    except Exception:
        log.exception("health checks could not be made")
        return [health.Check(name="health", ok=False, detail="The health checks could not be made; see the web log.")]
