"""Pictures of the running demo for the README, into docs/images/.

    python -m tests.support.screenshots http://127.0.0.1:8000 admin@example.com --password-file FILE

The password is read from a file or from PASSWORD in the environment, never from the command line.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
CHROMIUM_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDTH, HEIGHT = 1200, 920


def main() -> None:
    """Take the pictures that the command line asks for."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("url", help="where the demo runs")
    arguments.add_argument("email", help="the admin to log in as")
    arguments.add_argument("--password-file", type=Path)
    arguments.add_argument("--into", type=Path, default=IMAGES)
    chosen = arguments.parse_args()
    password = chosen.password_file.read_text().strip() if chosen.password_file else os.environ["PASSWORD"]
    chosen.into.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM_FLAGS)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        _log_in(page, chosen.url.rstrip("/"), chosen.email, password)
        page.screenshot(path=chosen.into / "backups.png")
        page.locator("tr", has_text="Completed").locator("th a").first.click()
        page.wait_for_url("**/backups/*-*")
        page.screenshot(path=chosen.into / "backup.png")
        browser.close()


def _log_in(page: Page, url: str, email: str, password: str) -> None:
    page.goto(f"{url}/login")
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", name="Backups", level=1).wait_for()


if __name__ == "__main__":
    main()
