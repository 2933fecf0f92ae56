"""Pictures of a running demo: for the README and the guides into docs/images, and of every page for reviewers.

    make demo                                                 # in another terminal; `data` below is its DATA_DIR
    python -m tests.support.screenshots data                  # renews docs/images
    python -m tests.support.screenshots data --year           # makes a year of nightly backups first
    python -m tests.support.screenshots data --things         # makes one of everything first
    python -m tests.support.screenshots data --sheet FOLDER   # every page, 390/768/1440 px, light and dark

`--year` and `--things` are for a demo that is thrown away: they invent backups, admins and tokens.
"""

from __future__ import annotations

import argparse
import html
import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from apiflask import APIFlask
from playwright.sync_api import Browser, Page, sync_playwright

from app import create_app
from app.config import read_settings
from app.services.backups import backups
from app.services.inputs import ScheduleInput, SettingsInput
from app.services.installation import settings
from app.services.recovery import recovery_sheet
from app.services.schedules import schedules
from tests.support.application import TESTER, wait_for
from tests.support.history import make_history
from tests.support.pages import PAGES, PUBLIC_PAGES, file_name
from tests.support.things import make_things

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTHS = (390, 768, 1440)
THEMES = ("light", "dark")
TALLEST = 4000
"""Pixels after which a picture of a page is cut off."""

FOR_GUIDES: dict[str, tuple[str, dict[str, int], str]] = {
    "overview": ("/", {"width": 1200, "height": 900}, "light"),
    "overview-dark": ("/", {"width": 390, "height": 844}, "dark"),
    "backups": ("/backups/", {"width": 1200, "height": 760}, "light"),
    "backup": ("/backups/{own}", {"width": 1200, "height": 800}, "light"),
    "preview": ("/backups/{own}/restore?exact=1", {"width": 1200, "height": 900}, "light"),
    "retention": ("/retention/", {"width": 1200, "height": 900}, "light"),
}
"""Picture → (path, viewport, theme)."""

IDS = {
    "own": "SELECT id FROM backup_history WHERE status = 'completed' AND origin = 'own' AND kind IN ('manual', 'scheduled')"
    " ORDER BY started_at DESC",
    "foreign": "SELECT id FROM backup_history WHERE status = 'completed' AND origin <> 'own'",
    "safety": "SELECT id FROM backup_history WHERE status = 'completed' AND kind = 'safety'",
    "warned": "SELECT id FROM backup_history WHERE status = 'completed' AND cardinality(warnings) > 1",
    "missing": "SELECT id FROM backup_history WHERE filename LIKE '%_20260101_000001.tar.gz'",
    "failed": "SELECT id FROM backup_history WHERE status = 'failed' ORDER BY created_at DESC",
    "cancelled": "SELECT id FROM backup_history WHERE status = 'cancelled'",
    "schedule": "SELECT id FROM backup_schedules WHERE deleted_at IS NULL AND frequency = 'daily'",
    "schedule_custom": "SELECT id FROM backup_schedules WHERE deleted_at IS NULL AND frequency = 'custom'",
    "restore": "SELECT id FROM restores WHERE status = 'completed' ORDER BY created_at DESC",
    "restore_failed": "SELECT id FROM restores WHERE status = 'failed'",
    "restore_cancelled": "SELECT id FROM restores WHERE status = 'cancelled'",
    "colleague": "SELECT id FROM admins WHERE email LIKE 'colleague@%'",
    "disabled": "SELECT id FROM admins WHERE disabled_at IS NOT NULL",
    "token": "SELECT id FROM api_tokens WHERE revoked_at IS NULL",
    "invitation": "SELECT id FROM admin_invitations ORDER BY created_at DESC",
}


def main() -> None:
    """Take the pictures that the command line asks for."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("data", type=Path, help="the demo's DATA_DIR")
    arguments.add_argument("--year", action="store_true", help="first make a year of nightly backups")
    arguments.add_argument("--things", action="store_true", help="first make one of everything")
    arguments.add_argument("--sheet", type=Path, metavar="FOLDER", help="pictures of every page for reviewers")
    arguments.add_argument("--only", default="", metavar="WORD", help="of the sheet, only pages whose path has this word")
    arguments.add_argument("--into", type=Path, default=IMAGES, help="where the guides' pictures go")
    chosen = arguments.parse_args()
    environment = demo_environment(chosen.data)
    fill(environment, chosen.year, chosen.things)
    things = known_things(environment["DATABASE_URL"])
    with browser() as chromium:
        state = log_in(chromium, environment)
        if chosen.sheet is None:
            shoot_guides(chromium, environment["PUBLIC_URL"], state, things, chosen.into)
        else:
            shoot_sheet(chromium, environment["PUBLIC_URL"], state, things, chosen.sheet, chosen.only)


def demo_environment(data: Path) -> dict[str, str]:
    """Return the environment of the processes of the demo in a folder."""
    lines = (data / "demo.env").read_text(encoding="utf-8").splitlines()
    pairs = (shlex.split(line)[1].partition("=") for line in lines if line.startswith("export "))
    return {name: value for name, _, value in pairs}


def fill(environment: dict[str, str], year: bool, things: bool) -> None:
    """Create the requested objects in a demo."""
    app: APIFlask = create_app(read_settings(environment))
    with app.app_context():
        if year:
            (first,) = backups.list_backups(1, 1, status="completed", kind="manual").items
            nightly = schedules.create(TESTER, ScheduleInput(name="Nightly", frequency="daily", hour=3))
            make_history(app, first, nightly)
            finish_setup(first.id)
            change_app(environment)
        if things:
            make_things(app)


def finish_setup(backup_id: UUID) -> None:
    """Complete the overview's setup steps: recipients, the recovery sheet, a test restore of a backup."""
    nobody = {"name": "On call", "url": "json://127.0.0.1:9/"}
    settings.update(TESTER, SettingsInput.model_validate({"channels": [nobody]}))
    recovery_sheet.text(TESTER)
    backups.verify(TESTER, backup_id, restore=True)
    wait_for(lambda: backups.get(backup_id).restore_tested_at)


def change_app(environment: dict[str, str]) -> None:
    """Change the data of a demo's app, so that previews have something to show."""
    with psycopg.connect(environment["BACKUP_SOURCE_URL"]) as connection:
        connection.execute("DELETE FROM fuel_logs WHERE id % 24 = 0")
        connection.execute("DELETE FROM maintenance_records WHERE category = 'upgrade'")
        connection.execute("UPDATE vehicles SET odometer_km = odometer_km + 500 WHERE license_plate LIKE '%7'")
        connection.execute("UPDATE fuel_logs SET station = 'another' WHERE id IN (10, 100, 1000)")
        connection.execute(
            "INSERT INTO fuel_logs (vehicle_id, filled_at, odometer_km, litres, price_per_litre)"
            " SELECT id, now(), odometer_km, 40, 1.79 FROM vehicles ORDER BY id LIMIT 2"
        )
    documents = sorted(path for path in Path(environment["BACKUP_DOCUMENTS_DIR"]).rglob("*") if path.is_file())
    for lost in documents[::40]:
        lost.unlink()
    documents[1].write_bytes(b"another version")
    documents[2].with_name("receipt.txt").write_text("uploaded after the backup")


def known_things(database_url: str) -> dict[str, str]:
    """Return the ids of existing objects to open pages for, by name, from this app's own database."""
    with psycopg.connect(database_url) as connection:
        found = {name: connection.execute(query.encode() + b" LIMIT 1").fetchone() for name, query in IDS.items()}
    return {name: str(row[0]) for name, row in found.items() if row}


@contextmanager
def browser() -> Iterator[Browser]:
    """Yield the system's Chromium."""
    path = next(found for name in NAMES if (found := shutil.which(name)))
    flags = ["--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=path, args=flags + (["--no-sandbox"] if os.geteuid() == 0 else [])
        )
        yield chromium
        chromium.close()


def log_in(chromium: Browser, environment: dict[str, str]) -> Any:
    """Log in as a demo's first admin and return the cookies."""
    page = chromium.new_page(base_url=environment["PUBLIC_URL"])
    page.goto("/login")
    page.get_by_label("Email").fill(environment["ADMIN_EMAIL"])
    page.get_by_label("Password", exact=True).fill(environment["ADMIN_PASSWORD"])
    page.get_by_role("button", name="Log in").click()
    page.get_by_label("Account of").wait_for()
    return page.context.storage_state()


def open_page(chromium: Browser, url: str, state: Any, theme: Any, **options: Any) -> Page:
    """Return an empty logged-in page with a theme and a viewport."""
    context = chromium.new_context(base_url=url, storage_state=state, color_scheme=theme, reduced_motion="reduce", **options)
    return context.new_page()


def shoot_guides(chromium: Browser, url: str, state: Any, things: dict[str, str], into: Path) -> None:
    """Take the pictures of the README and the guides."""
    into.mkdir(parents=True, exist_ok=True)
    for name, (path, viewport, theme) in FOR_GUIDES.items():
        page = open_page(chromium, url, state, theme, viewport=viewport)
        page.goto(path.format_map(things))
        page.wait_for_load_state("networkidle")
        page.screenshot(path=into / f"{name}.png")
        page.context.close()


def shoot_sheet(chromium: Browser, url: str, state: Any, things: dict[str, str], into: Path, only: str) -> None:
    """Take a picture of every page in every look, and write an index of them."""
    into.mkdir(parents=True, exist_ok=True)
    names = []
    public = [template for templates in PUBLIC_PAGES.values() for template in templates]
    private = [template for templates in PAGES.values() for template in templates]
    for width in WIDTHS:
        for theme in THEMES:
            for templates, cookies in ((public, None), (private, state)):
                page = open_page(chromium, url, cookies, theme, viewport={"width": width, "height": 900})
                for template in templates:
                    if only in template and things.keys() >= _names(template):
                        names.append(f"{file_name(template)}.{width}.{theme}.png")
                        shoot_whole(page, template.format_map(things), into / names[-1])
                page.context.close()
    figure = "<figure><img src='{0}' width=400><figcaption>{0}</figcaption></figure>"
    images = "\n".join(figure.format(html.escape(name)) for name in names)
    (into / "index.html").write_text(f"<!doctype html><title>Contact sheet</title>{images}")
    print(f"{len(names)} pictures in {into}")


def shoot_whole(page: Page, path: str, file: Path) -> None:
    """Take a full-page screenshot of a path."""
    page.goto(path)
    size = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
    page.screenshot(path=file, full_page=True, clip={"x": 0, "y": 0, "width": size[0], "height": min(size[1], TALLEST)})


def _names(template: str) -> set[str]:
    return {part.partition("}")[0] for part in template.split("{")[1:]}


if __name__ == "__main__":
    main()
