"""The steps of an admin's day, told by what a person sees: labels, buttons, headings."""

from __future__ import annotations

import re
from pathlib import Path
from uuid import uuid4

from playwright.sync_api import Locator, Page, expect

from tests.support.small_stack import SmallStack, check_archive

WORK_MS = 60_000
"""How long a backup or restore of the small sample may take on a busy machine."""


class Story:
    """An admin with a browser in front of a running stack."""

    def __init__(self, page: Page, stack: SmallStack, scripts: bool = True, touch: bool = False) -> None:
        self.page = page
        self.stack = stack
        self.scripts = scripts
        self.touch = touch

    # -- gestures -----------------------------------------------------------------------------------------------

    def press(self, target: Locator) -> None:
        """Press a button or link as the device does."""
        if self.touch:
            target.tap()
        else:
            target.click()

    def button(self, name: str | re.Pattern[str]) -> Locator:
        """Return the only button of that name in the page's content."""
        return self.page.get_by_role("main").get_by_role("button", name=name).first

    def link(self, name: str | re.Pattern[str]) -> Locator:
        """Return the first link of that name in the page's content."""
        return self.page.get_by_role("main").get_by_role("link", name=name).first

    def account_menu(self) -> Locator:
        """Return what every page shows to whoever is logged in, and to nobody else."""
        return self.page.get_by_label(f"Account of {self.stack.email}")

    def go_to(self, name: str) -> None:
        """Follow a link of the navigation, opening the menu first if it is collapsed."""
        banner = self.page.get_by_role("banner")
        link = banner.get_by_role("link", name=name, exact=True).first
        menu = banner.locator("summary").filter(has_text="Menu")
        # The answer to a form just sent may still be on its way: decide by a page that is there.
        expect(link.or_(menu).filter(visible=True).first).to_be_visible()
        if menu.is_visible():
            self.press(menu)
        self.press(link)
        self.fits(self.page.get_by_role("heading", level=1))

    def fits(self, shown: Locator) -> None:
        """Wait for an element of the next page and check that the page does not scroll sideways."""
        expect(shown).to_be_visible()
        if not self.scripts:
            return
        wide = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{self.page.url} is {wide} px wider than the screen"

    def mark(self) -> None:
        """Leave a mark that does not survive a reload."""
        if self.scripts:
            self.page.evaluate("window.storyMark = 'still here'")

    def was_not_reloaded(self) -> None:
        """Check that the mark is still there."""
        if self.scripts:
            assert self.page.evaluate("window.storyMark") == "still here", "the page was reloaded meanwhile"

    def wait_for(self, thing: Locator) -> None:
        """Wait for an element that appears when the work is done; without scripts, by reloading."""
        if self.scripts:
            expect(thing).to_be_visible(timeout=WORK_MS)
            return
        for _ in range(WORK_MS // 500):
            if thing.is_visible():
                return
            self.page.wait_for_timeout(500)
            self.page.reload()
        expect(thing).to_be_visible()

    # -- the story ----------------------------------------------------------------------------------------------

    def log_in(self) -> None:
        """Come as a stranger, be asked who one is, and get in."""
        self.page.goto("/")
        expect(self.page).to_have_url(re.compile("/login"))
        self.page.get_by_label("Email").fill(self.stack.email)
        self.page.get_by_label("Password", exact=True).fill(self.stack.password)
        self.press(self.page.get_by_role("button", name="Log in"))
        expect(self.account_menu()).to_be_visible()
        self.fits(self.page.get_by_role("heading", level=1))

    def back_up(self) -> str:
        """Press the button, see it work, see it done; return the new backup's id."""
        self.stack.wait_until_idle()
        before = set(self.stack.metadata("SELECT id FROM backup_history"))
        with self.stack.busy_source() as go_on:
            self.press(self.button("Back up now"))
            expect(self.page.get_by_role("progressbar").first).to_be_visible()
            self.mark()
            go_on.set()
        ((made,),) = set(self.stack.metadata("SELECT id FROM backup_history WHERE kind = 'manual'")) - before
        if self.scripts:
            expect(self.page.get_by_role("progressbar")).to_have_count(0, timeout=WORK_MS)
            self.was_not_reloaded()
            expect(self.page.get_by_role("main").locator(f'a[href*="{made}"]').first).to_be_attached()
        self.page.goto(f"/backups/{made}")
        self.wait_for(self.page.get_by_text("Completed", exact=True).first)
        self.fits(self.link("Restore…"))
        return str(made)

    def download(self, backup_id: str, folder: Path) -> None:
        """Download a backup's archive and open it."""
        self.page.goto(f"/backups/{backup_id}")
        with self.page.expect_download() as coming:
            self.press(self.link("Download"))
        name = coming.value.suggested_filename
        coming.value.save_as(folder / name)
        check_archive(folder / name, self.stack.place.backups / name)

    def preview(self, backup_id: str, word: str) -> None:
        """See in the preview how the data changed since a backup."""
        self.page.goto(f"/backups/{backup_id}")
        self.press(self.link("Restore…"))
        if not self.scripts:
            self.press(self.link("Count exactly"))
        main = self.page.get_by_role("main")
        expect(main.get_by_text("Counted row by row and file by file")).to_be_visible(timeout=WORK_MS)
        lost = self.page.get_by_role("row").filter(has_text=f"later_{word}")
        expect(lost).to_contain_text("disappears")
        expect(self.page.get_by_role("row").filter(has_text="fuel_logs")).to_contain_text("+")
        for words in ("1 come back", "1 go back to what they were", "1 disappear"):
            expect(main).to_contain_text(words)
        self.fits(self.link("Continue…"))

    def restore(self) -> None:
        """From the preview: say yes with the database's name and the password, and see it done."""
        self.press(self.link("Continue…"))
        self.fits(self.page.get_by_label("Name of the database"))
        self.page.get_by_label("Name of the database").fill("something else")
        self.page.get_by_label("Your password, again").fill(self.stack.password)
        self.press(self.button(re.compile("^ ?Restore ")))
        expect(self.page.get_by_label("Name of the database")).to_have_attribute("aria-invalid", "true")
        expect(self.page.get_by_role("alert")).to_be_visible()
        self.page.get_by_label("Name of the database").fill(self.stack.database)
        self.page.get_by_label("Your password, again").fill(self.stack.password)
        self.press(self.button(re.compile("^ ?Restore ")))
        expect(self.page).to_have_url(re.compile("/restores/.+"))
        self.mark()
        self.wait_for(self.page.get_by_role("heading", name="The restored state is live"))
        self.was_not_reloaded()
        self.fits(self.link("Undo this restore…"))

    def undo(self) -> None:
        """From a restore's page: swap the two states."""
        self.press(self.link("Undo this restore…"))
        self.fits(self.button("Swap the two states"))
        self.page.get_by_label("Your password, again").fill(self.stack.password)
        self.press(self.button("Swap the two states"))
        self.wait_for(self.page.get_by_role("heading", name=re.compile("the state before this restore is live")))

    def make_schedule(self) -> None:
        """See in words what is typed, with its next runs, and save it."""
        name = f"Nights {uuid4().hex[:6]}"
        self.go_to("Schedules")
        self.press(self.link(re.compile("New schedule")))
        self.page.get_by_label("Name", exact=True).fill(name)
        self.page.get_by_label("How often").select_option(label="By a cron expression")
        self.page.get_by_label("Cron expression").fill("not a cron")
        shown = self.page.get_by_role("region", name="What this means")
        expect(shown).to_contain_text("Correct this to see the next runs")
        self.page.get_by_label("Cron expression").fill("17 4 * * 1-5")
        expect(shown).to_contain_text("04:17")
        self.fits(shown.get_by_role("listitem").first)
        self.press(self.button("Save"))
        self.fits(self.page.get_by_role("main").get_by_text(name).first)
        saved = self.stack.metadata("SELECT cron_expression FROM backup_schedules WHERE name = %s", name)
        assert saved == [("17 4 * * 1-5",)]

    def try_quotas(self) -> None:
        """See what smaller quotas would delete, then save them."""
        self.go_to("Retention")
        expect(self.page.get_by_role("heading", name="Kept, and why")).to_be_visible()
        self.go_to("Settings")
        for category, quota in (("Hourly", "5"), ("Daily", "6"), ("Weekly", "3"), ("Monthly", "11")):
            self.page.get_by_label(category).fill(quota)
        self.press(self.button("Show what this would delete"))
        expect(self.page.get_by_role("heading", name="What this would delete")).to_be_visible()
        self.fits(self.page.get_by_text("With today’s schedules there will be"))
        self.page.get_by_label("Your password, again").fill(self.stack.password)
        self.press(self.button("Save these quotas"))
        expect(self.page.get_by_role("heading", name="Save these quotas?")).to_have_count(0)
        self.go_to("Settings")
        expect(self.page.get_by_label("Hourly")).to_have_value("5")
        columns = "keep_hourly, keep_daily, keep_weekly, keep_monthly"
        assert self.stack.metadata(f"SELECT {columns} FROM backup_settings") == [(5, 6, 3, 11)]

    def send_test_mail(self) -> None:
        """Say who is told, and have a mail arrive there."""
        recipient = f"owner-{uuid4().hex[:6]}@example.org"
        self.go_to("Settings")
        self.press(self.link("Notifications"))
        self.fits(self.page.get_by_label("Email addresses"))
        self.page.get_by_label("Email addresses").fill(recipient)
        self.page.get_by_label("Your password, again").fill(self.stack.password)
        self.press(self.button("Save"))
        expect(self.page.get_by_label("Email addresses")).to_have_value(recipient)
        self.press(self.button("Send a test"))
        expect(self.page.get_by_role("region", name="Test results")).to_contain_text("Sent")
        message = self.stack.mail_to(recipient)
        assert message["From"].endswith("backup@example.org")
        assert "test" in message["Subject"].lower()

    def log_out(self) -> None:
        """Leave; what was seen is not shown again, neither by going back nor with the old cookie."""
        old_cookies = self.page.context.cookies()
        self.page.goto("/backups/")
        self.press(self.account_menu())
        self.press(self.page.get_by_role("button", name="Log out"))
        expect(self.page.get_by_role("button", name="Log in")).to_be_visible()
        self.page.go_back()
        expect(self.page.get_by_role("button", name="Log in")).to_be_visible()
        expect(self.account_menu()).to_have_count(0)
        self.page.context.clear_cookies()
        self.page.context.add_cookies(old_cookies)
        self.page.goto("/backups/")
        expect(self.page.get_by_role("button", name="Log in")).to_be_visible()
