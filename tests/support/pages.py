"""Every page of the app by its endpoint, for what is checked of all pages: valid HTML, axe, pictures.

A path's {names} are those of `tests.support.things`. A GET route that is in neither list fails the tests that walk them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from flask import Flask

PAGES: dict[str, tuple[str, ...]] = {
    "web.start": ("/",),
    "web.backups.index": ("/backups/", "/backups/?status=failed", "/backups/?kind=uploaded", "/backups/?page=99"),
    "web.backups.detail": tuple(
        f"/backups/{{{name}}}" for name in ("own", "failed", "cancelled", "warned", "foreign", "safety", "missing")
    ),
    "web.backups.unpin": ("/backups/{own}/unpin",),
    "web.backups.delete": ("/backups/{own}/delete", "/backups/{failed}/delete", "/backups/{foreign}/delete"),
    "web.contents.tables": ("/backups/{own}/tables", "/backups/{foreign}/tables"),
    "web.contents.documents": (
        "/backups/{own}/documents",
        "/backups/{own}/documents?search=invoice",
        "/backups/{own}/documents?search=there+is+no+such+document",
        "/backups/{foreign}/documents",
    ),
    "web.uploads.form": ("/backups/upload",),
    "web.restores.index": ("/restores/",),
    "web.restores.choose": ("/restores/new", "/restores/new?text=there+is+no+such+backup"),
    "web.restores.preview": (
        "/backups/{own}/restore",
        "/backups/{own}/restore?exact=1",
        "/backups/{own}/restore?scope=documents",
        "/backups/{foreign}/restore?exact=1",
    ),
    "web.restores.confirm": ("/backups/{own}/restore/confirm?scope=all", "/backups/{own}/restore/confirm?scope=database"),
    "web.restores.trust": ("/backups/{foreign}/trust",),
    "web.restores.detail": tuple(f"/restores/{{{name}}}" for name in ("restore", "restore_failed", "restore_cancelled")),
    "web.restores.undo": ("/restores/{restore}/undo",),
    "web.schedules.index": ("/schedules/",),
    "web.schedules.create": ("/schedules/new",),
    "web.schedules.edit": ("/schedules/{schedule}", "/schedules/{schedule_custom}"),
    "web.schedules.delete": ("/schedules/{schedule}/delete",),
    "web.retention.index": ("/retention/",),
    "web.settings.quotas": ("/settings/quotas",),
    "web.settings.notify": ("/settings/notifications",),
    "web.settings.limits": ("/settings/limits",),
    "web.recovery.sheet": ("/recovery",),
    "web.activity.index": ("/activity/", "/activity/?who=nobody+at+all"),
    "web.account.index": ("/account/",),
    "web.admins.index": ("/admins/",),
    "web.admins.invite": ("/admins/invite",),
    "web.admins.invited": ("/admins/invitations/{invitation}",),
    "web.admins.disable": ("/admins/{colleague}/disable",),
    "web.admins.enable": ("/admins/{disabled}/enable",),
    "web.admins.remove": ("/admins/{colleague}/remove",),
    "web.tokens.index": ("/tokens/",),
    "web.tokens.create": ("/tokens/new",),
    "web.tokens.created": ("/tokens/{token}",),
    "web.tokens.revoke": ("/tokens/{token}/revoke",),
}
PUBLIC_PAGES: dict[str, tuple[str, ...]] = {
    "web.auth.login": ("/login",),
    "web.auth.accept": ("{invitation_page}",),
}
NO_PAGES: dict[str, str] = {
    "static": "files",
    "bootstrap.static": "files",
    "health.healthz": "JSON",
    "health.readyz": "JSON",
    "metrics.show": "text for Prometheus",
    "web.settings.index": "leads on to a page",
    "web.backups.download": "a file",
    "web.contents.document": "a file",
    "web.backups.partial": "a part of a page",
    "web.restores.partial": "a part of a page",
    "web.restores.exact_preview": "a part of a page",
    "web.schedules.preview": "a part of a page",
}
NOT_FOUND = "/there-is-no-such-page"


def unlisted(app: Flask) -> list[str]:
    """Return the endpoints of GET routes that are not listed, and listed ones that are not routes."""
    routes = {rule.endpoint for rule in app.url_map.iter_rules() if "GET" in (rule.methods or ())}
    routes = {endpoint for endpoint in routes if not endpoint.startswith("api_")}
    return sorted(routes ^ {*PAGES, *PUBLIC_PAGES, *NO_PAGES})


def paths(things: Mapping[str, str], pages: Mapping[str, tuple[str, ...]] = PAGES) -> Iterator[str]:
    """Yield the path of every page behind the login (or of other pages); `ids` are those of things by name."""
    for templates in pages.values():
        for template in templates:
            yield template.format_map(things)


def paths_without_things() -> Iterator[str]:
    """Yield the paths of the pages behind the login that are there in an empty installation."""
    for templates in PAGES.values():
        for template in templates:
            if "{" not in template:
                yield template


def file_name(template: str) -> str:
    """Return a page's template as a file name."""
    place = urlsplit(template)
    name = "-".join(part for part in (*place.path.split("/"), place.query.replace("=", "-").replace("&", "-")) if part)
    return name.replace("{", "").replace("}", "") or "start"
