"""Archives that were cut short anywhere are refused before anything changes."""

from __future__ import annotations

import gzip
import random
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.demo.servers import EmbeddedPostgres
from app.engine.archive.gzip_members import FOOTER_SIZE, footer
from app.engine.archive.reader import open_archive
from app.engine.errors import EngineError
from app.engine.proof.check_archive import check_archive
from app.engine.proof.check_process import check_foreign
from app.engine.restore.foreign_archive import Limits
from app.engine.restore.restore import restore
from tests.support.archives import KEY
from tests.support.dumping import dumped
from tests.support.hard_schema import HARD_SCHEMA
from tests.support.hostile import dump_member, entry, folder, tar_bytes, write_archive
from tests.support.restoring import Live, Pristine, pristine

COMPLETE = b"-- PostgreSQL database dump complete\n"
SHORT_HARD_SCHEMA = HARD_SCHEMA.read_bytes().replace(b"generate_series(1, 20000)", b"generate_series(1, 200)")
many_or_few = pytest.mark.parametrize("count", [12, pytest.param(200, marks=pytest.mark.heavy)])


@pytest.fixture(scope="module")
def hard(pg18: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pristine]:
    with pristine(pg18, tmp_path_factory.mktemp("pristine"), SHORT_HARD_SCHEMA) as made:
        yield made


@pytest.fixture(scope="module")
def text(hard: Pristine) -> bytes:
    return dumped(hard.server.bin_dir, hard.server.url(hard.name))


@pytest.fixture
def live(hard: Pristine, tmp_path: Path) -> Iterator[Live]:
    """A live pair; after the test it must be as it was, with nothing beside it."""
    with hard.live(tmp_path) as live:
        before = live.state()
        yield live
        assert live.state() == before
        assert live.remains() == []


@pytest.fixture
def refused(live: Live, tmp_path: Path) -> Callable[[bytes], None]:
    """Check that neither the restore nor an upload accepts an archive's bytes."""
    path = tmp_path / "cut.tar.gz"

    def check(data: bytes) -> None:
        path.write_bytes(data)
        # Not check_archive, which starts a process each time.
        assert not check_foreign(path, None, Limits()).ok
        with pytest.raises(EngineError):
            restore(live.request(path))

    return check


def archive_of(dump: bytes) -> bytes:
    """Return an intact archive with this content of its .sql.gz."""
    members = [entry("database/app.sql.gz", dump), folder("documents/"), entry("documents/a.txt", b"content" * 99)]
    return gzip.compress(tar_bytes(members), 1)


def test_the_whole_one_is_taken(live: Live, text: bytes, tmp_path: Path) -> None:
    """Or the tests below would prove nothing."""
    path = write_archive(tmp_path / "whole.tar.gz", [dump_member(text), folder("documents/")])
    assert check_archive(path, KEY).problems == []


@many_or_few
def test_a_dump_cut_at_random_bytes(refused: Callable[[bytes], None], text: bytes, count: int) -> None:
    chance = random.Random(5)
    last = text.rindex(COMPLETE) + len(COMPLETE)
    for _ in range(count):
        refused(archive_of(gzip.compress(text[: chance.randrange(last)], 1)))


def test_a_dump_cut_behind_what_imitates_its_end(refused: Callable[[bytes], None], text: bytes) -> None:
    """A comment on a table of the hard schema holds pg_dump's very last lines."""
    first = text.index(COMPLETE)
    assert first < text.rindex(COMPLETE)
    for match in list(re.finditer(rb";\n", text[first : first + 3000])):
        refused(archive_of(gzip.compress(text[: first + match.end()], 1)))


@many_or_few
def test_a_dump_cut_at_borders_of_statements(refused: Callable[[bytes], None], text: bytes, count: int) -> None:
    borders = [match.end() for match in re.finditer(rb";\n\n|\n\\\.\n|FROM stdin;\n", text[: text.rindex(COMPLETE)])]
    assert len(borders) > 200
    for border in random.Random(6).sample(borders, count):
        refused(archive_of(gzip.compress(text[:border], 1)))


@many_or_few
def test_a_dump_whose_gzip_file_is_cut(refused: Callable[[bytes], None], text: bytes, count: int) -> None:
    packed = gzip.compress(text, 6)
    chance = random.Random(7)
    for cut in [0, 1, len(packed) - 1, len(packed) - 8, *(chance.randrange(len(packed)) for _ in range(count))]:
        refused(archive_of(packed[:cut]))


@many_or_few
def test_a_plain_archive_that_is_cut(refused: Callable[[bytes], None], text: bytes, count: int) -> None:
    whole = archive_of(gzip.compress(text, 6))
    chance = random.Random(8)
    for cut in [0, 1, len(whole) - 1, len(whole) - 8, *(chance.randrange(len(whole)) for _ in range(count))]:
        refused(whole[:cut])


def test_a_plain_archive_whose_last_bytes_are_changed(refused: Callable[[bytes], None], text: bytes) -> None:
    """The documents have no checksum but that of the gzip file, which comes last."""
    whole = bytearray(archive_of(gzip.compress(text, 6)))
    whole[-6] ^= 1
    refused(bytes(whole))


@many_or_few
def test_an_archive_of_ours_that_is_cut(refused: Callable[[bytes], None], hard: Pristine, count: int) -> None:
    whole = hard.archive.read_bytes()
    chance = random.Random(9)
    for cut in [0, 1, len(whole) - 1, *(chance.randrange(len(whole)) for _ in range(count))]:
        refused(whole[:cut])


def test_an_archive_of_ours_that_lost_its_footer(refused: Callable[[bytes], None], hard: Pristine) -> None:
    """Without it the rest is a whole tar.gz, and must not come in as one from elsewhere."""
    whole = hard.archive.read_bytes()
    with open_archive(hard.archive) as reader:
        manifest_at, index_at = reader.manifest_offset, reader.manifest.documents.index_offset
    for cut in (len(whole) - FOOTER_SIZE, manifest_at, index_at, len(whole) - 200, len(whole) - 5000):
        refused(whole[:cut])
    for end in (b"\0", b"\0" * 512, footer(0, 0), gzip.compress(b"")):
        refused(whole[:-FOOTER_SIZE] + end)
        refused(whole + end)


def test_an_archive_of_ours_that_was_packed_again_is_one_from_elsewhere(hard: Pristine, tmp_path: Path) -> None:
    folder_of_all, again = tmp_path / "unpacked", tmp_path / "again.tar.gz"
    folder_of_all.mkdir()
    subprocess.run(["tar", "xzf", hard.archive, "-C", folder_of_all], check=True)
    for order in (["manifest.json", "database", "documents"], ["database", "documents", "manifest.json"]):
        subprocess.run(["tar", "czf", again, "-C", folder_of_all, *order], check=True)
        found = check_archive(again, KEY)
        assert (found.ok, found.ours, found.problems) == (True, False, [])


def test_an_archive_of_ours_with_a_changed_byte(live: Live, hard: Pristine, tmp_path: Path) -> None:
    path = tmp_path / "changed.tar.gz"
    whole = hard.archive.read_bytes()
    chance = random.Random(10)
    for _ in range(20):
        data = bytearray(whole)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        with pytest.raises(EngineError):
            restore(live.request(path))
