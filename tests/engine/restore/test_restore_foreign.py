"""Archives from elsewhere: plain tar and gzip, restored in a sandbox, and owned by the live database's owner."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from app.demo.servers import EmbeddedPostgres
from app.engine.proof.check_archive import check_archive
from app.engine.restore.preview.preview import preview
from app.engine.restore.restore import FileRestore, restore, restore_from_file
from app.engine.restore.swap import undo
from tests.support.archives import KEY
from tests.support.databases import admin_connection
from tests.support.dumping import dumped, without_keys
from tests.support.hard_schema import HARD_SCHEMA
from tests.support.hostile import plain_tar
from tests.support.restoring import Live, Pristine, change_documents, documents_in, pristine

SHORT_HARD_SCHEMA = (
    HARD_SCHEMA.read_bytes()
    .replace(b"generate_series(1, 20000)", b"generate_series(1, 500)")
    # pg_dump 18 sorts large objects by their grants, which an untrusted archive does not bring.
    .replace(b"GRANT SELECT ON LARGE OBJECT 70003 TO pg_monitor;", b"")
)
_OTHER_KEY = b"another installation's signing key"


@pytest.fixture(scope="module", params=[16, 18], ids=["pg16", "pg18"])
def hard(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pristine]:
    server: EmbeddedPostgres = request.getfixturevalue(f"pg{request.param}")
    with pristine(server, tmp_path_factory.mktemp("pristine"), SHORT_HARD_SCHEMA) as made:
        yield made


@pytest.fixture
def live(hard: Pristine, tmp_path: Path) -> Iterator[Live]:
    """A live pair whose database is empty but for one table."""
    with hard.live(tmp_path) as live:
        with psycopg.connect(live.url) as connection:
            connection.execute(f"DROP OWNED BY {live.owner} CASCADE")
            connection.execute("CREATE TABLE live_only (id integer)")
        change_documents(live.documents)
        yield live


@pytest.fixture
def text(hard: Pristine) -> bytes:
    return dumped(hard.server.bin_dir, hard.server.url(hard.name))


def content_of(live: Live) -> bytes:
    """Return pg_dump's text of the live database without grants, which an untrusted archive does not bring."""
    return without_grants(dumped(live.server.bin_dir, live.url))


def without_grants(text: bytes) -> bytes:
    blocks = re.split(rb"(?=^--\n-- (?:Name|Data for Name): )", without_keys(text), flags=re.MULTILINE)
    kept = [block for block in blocks if b"; Type: ACL;" not in block and b"; Type: DEFAULT ACL;" not in block]
    return b"".join(block for block in kept if b"SCHEMA public" not in block)


def foreign_owners(live: Live) -> list[str]:
    """Return every object in the live database that does not belong to its owner."""
    with admin_connection(live.server, live.name) as connection:
        rows = connection.execute(
            "SELECT DISTINCT classid::regclass || ' ' || objid FROM pg_shdepend d JOIN pg_database b ON b.oid = d.dbid"
            " WHERE b.datname = current_database() AND deptype = 'o' AND refobjid <> %s::regrole",
            [live.owner],
        ).fetchall()
        return [str(what) for (what,) in rows]


FORMS = {
    "gnu": ({"options": ("--format=gnu",)}),
    "pax, dotted": ({"options": ("--format=pax",), "dot": True}),
    "ustar": ({"options": ("--format=ustar", "--exclude=level*")}),
    "plain sql": ({"packed": False}),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_plain_archive_is_restored_in_the_sandbox(
    hard: Pristine, live: Live, text: bytes, tmp_path: Path, form: str
) -> None:
    archive = plain_tar(tmp_path / "plain.tar.gz", text, hard.documents, **FORMS[form])  # type: ignore[arg-type]
    checked = check_archive(archive, KEY)
    assert (checked.problems, checked.ours, checked.app) == ([], False, "app")
    before = live.state()
    request = live.request(archive)

    result = restore(request)

    assert result.undo_possible
    assert content_of(live) == without_grants(text)
    assert foreign_owners(live) == []
    assert live.remains() == live.kept(request.restore_id)
    now, wanted = documents_in(live.documents), documents_in(hard.documents)
    if form == "ustar":
        wanted = {name: facts for name, facts in wanted.items() if not name.startswith("level")}
    assert {name: facts[4] for name, facts in now.items()} == {name: facts[4] for name, facts in wanted.items()}
    for name, (mode, uid, gid, mtime, _) in now.items():
        assert (mode, uid, gid) == wanted[name][:3]
        if form != "pax, dotted" and not stat.S_ISLNK(mode):
            assert mtime // 10**9 == wanted[name][3] // 10**9

    undo(live.state_dir, request.restore_id, live.source())
    assert live.state() == before


def test_pax_keeps_the_nanoseconds(hard: Pristine, live: Live, text: bytes, tmp_path: Path) -> None:
    archive = plain_tar(tmp_path / "plain.tar.gz", text, hard.documents, ("--format=posix",))

    restore(live.request(archive, scope="documents"))

    assert documents_in(live.documents) == documents_in(hard.documents)


def test_a_superusers_connection_leaves_nothing_to_the_superuser(
    hard: Pristine, live: Live, text: bytes, tmp_path: Path
) -> None:
    archive = plain_tar(tmp_path / "plain.tar.gz", text, hard.documents)

    restore(live.request(archive, url=live.admin_url))

    assert foreign_owners(live) == []
    assert content_of(live) == without_grants(text)


def test_a_trusted_one_keeps_its_grants(hard: Pristine, live: Live, text: bytes, tmp_path: Path) -> None:
    archive = plain_tar(tmp_path / "plain.tar.gz", text, hard.documents)

    looked = preview(live.request(archive, trusted=True), exact=True)
    assert looked.blockers == []
    assert any("an admin chose to trust it" in warning for warning in looked.warnings)
    restore(live.request(archive, trusted=True))

    assert dumped(live.server.bin_dir, live.url) == text
    assert foreign_owners(live) == []


def test_the_preview_names_the_code_that_it_brings(hard: Pristine, live: Live, text: bytes, tmp_path: Path) -> None:
    archive = plain_tar(tmp_path / "plain.tar.gz", text, hard.documents)

    looked = preview(live.request(archive), exact=True)

    assert (looked.ours, looked.signed, looked.trusted) == (False, False, False)
    code = "\n".join(looked.code)
    for name in ("FUNCTION public.dollar", 'TRIGGER "touch; me"', 'VIEW public."a view;"', 'RULE "rule; one"', "POLICY two"):
        assert name in code, name
    tables = {(table.schema, table.name): (table.rows_now, table.rows_backup) for table in looked.tables}
    assert tables["public", "bulk"] == (None, 500)
    assert tables["public", "live_only"] == (0, None)


def test_an_archive_of_ours_with_another_key_is_untrusted(hard: Pristine, live: Live) -> None:
    request = live.request(hard.archive, signing_key=_OTHER_KEY)
    looked = preview(request)
    assert (looked.ours, looked.signed) == (True, False)
    assert any("temporary role" in warning for warning in looked.warnings)
    wanted = without_grants(dumped(hard.server.bin_dir, hard.server.url(hard.name)))

    restore(request)

    assert content_of(live) == wanted
    assert foreign_owners(live) == []
    assert {n: f[4] for n, f in documents_in(live.documents).items()} == {
        n: f[4] for n, f in documents_in(hard.documents).items()
    }


def test_an_archive_of_ours_with_another_key_once_trusted_is_restored_whole(hard: Pristine, live: Live) -> None:
    restore(live.request(hard.archive, signing_key=_OTHER_KEY, trusted=True))

    assert dumped(live.server.bin_dir, live.url) == dumped(hard.server.bin_dir, hard.server.url(hard.name))
    assert documents_in(live.documents) == documents_in(hard.documents)


def test_the_key_of_the_recovery_sheet_makes_it_ours_on_a_fresh_machine(hard: Pristine, live: Live) -> None:
    result = restore_from_file(FileRestore(hard.archive, live.url, live.documents, KEY))

    assert result.warnings == []
    assert dumped(live.server.bin_dir, live.url) == dumped(hard.server.bin_dir, hard.server.url(hard.name))
    assert documents_in(live.documents) == documents_in(hard.documents)


def test_the_documents_folder_may_be_missing_on_a_fresh_machine(hard: Pristine, live: Live) -> None:
    fresh = live.documents.with_name("fresh")

    result = restore_from_file(FileRestore(hard.archive, live.url, fresh, KEY, scope="documents"))

    assert result.documents_before == 0
    assert documents_in(fresh) == documents_in(hard.documents)


def test_a_documents_folder_that_is_a_link_stays_one(hard: Pristine, live: Live) -> None:
    linked = live.documents.with_name("linked")
    linked.symlink_to(live.documents)

    restore_from_file(FileRestore(hard.archive, live.url, linked, KEY, scope="documents"))

    assert os.readlink(linked) == str(live.documents)
    assert documents_in(live.documents) == documents_in(hard.documents)
