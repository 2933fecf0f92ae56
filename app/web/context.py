"""What every template may use in addition to its own values."""

from dataclasses import dataclass
from typing import Any

from app.services.monitoring import health
from app.services.restores import restores
from app.services.restores.restores import Restore


@dataclass(frozen=True)
class NavItem:
    label: str
    endpoint: str
    icon: str
    sections: tuple[str, ...]


NAVIGATION = (
    NavItem("Overview", "web.start", "house", ("web.start",)),
    NavItem("Backups", "web.backups.index", "archive", ("web.backups", "web.uploads", "web.contents")),
    NavItem("Restore", "web.restores.index", "arrow-counterclockwise", ("web.restores",)),
    NavItem("Schedules", "web.schedules.index", "calendar2-week", ("web.schedules",)),
    NavItem("Retention", "web.retention.index", "layers", ("web.retention",)),
    NavItem("Settings", "web.settings.index", "gear", ("web.settings",)),
    NavItem("Activity", "web.activity.index", "clock-history", ("web.activity",)),
)
ACCOUNT_MENU = (
    NavItem("Your account", "web.account.index", "person", ("web.account",)),
    NavItem("Admins", "web.admins.index", "people", ("web.admins",)),
    NavItem("API tokens", "web.tokens.index", "key", ("web.tokens",)),
    NavItem("Recovery sheet", "web.recovery.sheet", "life-preserver", ("web.recovery",)),
)


def template_context() -> dict[str, Any]:
    """Return the names that the layout needs; Flask calls this for every page."""
    return {
        "navigation": NAVIGATION,
        "account_menu": ACCOUNT_MENU,
        "unhealthy_checks": unhealthy_checks,
        "running_restore": running_restore,
    }


def unhealthy_checks() -> list[health.Check]:
    """Return the failing health checks, for the banner of every page."""
    return [check for check in health.checks() if not check.ok]


def running_restore() -> Restore | None:
    """Return the queued or running restore, for the banner of every page."""
    newest = restores.status()
    return newest if newest is not None and newest.status in ("queued", "in_progress") else None
