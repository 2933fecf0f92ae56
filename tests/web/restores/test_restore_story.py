"""From the backup's page to the undo, with a real worker."""

from __future__ import annotations

from pathlib import Path

from apiflask import APIFlask

from app.services.restores import restores
from tests.support.application import PASSWORD
from tests.support.browser import Browser
from tests.support.databases import SourceDatabase
from tests.support.live_state import change_everything, ended, live_state
from tests.support.restore_pages import own_backup


def test_an_admin_previews_confirms_watches_and_undoes(
    app: APIFlask, admin: Browser, worker: object, source_db: SourceDatabase, documents_dir: Path
) -> None:
    backup = own_backup(app)
    before = live_state(source_db, documents_dir)
    change_everything(source_db, documents_dir)
    changed = live_state(source_db, documents_dir)

    preview = admin.get(f"/backups/{backup.id}/restore?exact=1")
    assert "vehicles 10 1,000 +990" in preview.text
    assert "1 come back" in preview.text
    assert "1 go back to what they were" in preview.text
    assert "1 disappear" in preview.text
    following = preview.select("a", href=f"/backups/{backup.id}/restore/confirm?scope=all")[0].get("href", "")
    path = admin.submit(following, following, confirm=source_db.name, password=PASSWORD).location or ""
    running = restores.status()
    assert running is not None
    assert admin.get(f"{path}/partial", fragment=True).text
    row = ended(running)
    assert (row.status, row.error) == ("completed", None)
    assert live_state(source_db, documents_dir) == before

    result = admin.get(path)
    assert "The restored state is live" in result.text
    assert "Safety backupcompleted" in result.text
    assert "data-live" not in result.html
    assert "at the speed of the last restores" in admin.get(f"/backups/{backup.id}/restore").text

    admin.submit(f"{path}/undo", f"{path}/undo", 422)
    assert live_state(source_db, documents_dir) == before
    admin.submit(f"{path}/undo", f"{path}/undo", password=PASSWORD)
    assert live_state(source_db, documents_dir) == changed
    assert "the state before this restore is live" in admin.get(path).text
    admin.submit(f"{path}/undo", f"{path}/undo", password=PASSWORD)
    assert live_state(source_db, documents_dir) == before
    assert "The restored state is live" in admin.get(path).text
