"""Documents packed by helper processes: the same archive as without them, and an honest end when one of them is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from app.engine.archive.reader import open_archive
from app.engine.backup import packers
from app.engine.backup.backup import BackupResult, make_backup
from app.engine.backup.packer_process import LONGEST_READ
from app.engine.errors import EngineError
from app.engine.source.documents import Document, walk
from app.engine.verify.verify import verify_archive
from tests.support.archives import KEY, backup, leftovers, picture, request_for
from tests.support.databases import SourceDatabase


@pytest.fixture(autouse=True)
def _always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packers, "WORTH_HELPERS", 0)


@pytest.fixture
def many(documents_dir: Path) -> Path:
    """A tree with all kinds of entries, of some hundred batches' worth of names."""
    for user in range(40):
        folder = documents_dir / f"{user:03d}" / "ünder" / "neath"
        folder.mkdir(parents=True)
        for number in range(12):
            body = os.urandom(3000 * number) if number % 2 else b"oil filter, brake pads\n" * (150 * number)
            (folder / f"{number}.bin").write_bytes(body)
        (folder / "link").symlink_to("0.bin")
        (folder / "empty").touch()
    Path(os.fsdecode(os.fsencode(documents_dir) + b"/not utf-8 \xff\xfe")).write_bytes(b"x" * 5000)
    return documents_dir


@pytest.fixture
def helped(many: Path) -> Iterator[packers.Packers]:
    """Two helpers at work on that folder."""
    with packers.packers(many, 1, 2, 3, uuid4()) as found:
        assert found is not None
        yield found


def _documents_of(result: BackupResult) -> bytes:
    """Return the archive's bytes from its first document to the end of the index."""
    part = result.manifest.documents
    with open_archive(result.path, KEY) as reader:
        return reader.read(part.first_member, reader.manifest_offset - part.first_member)


def _helpers() -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # gone, or dead and not buried yet
            if "packer_process" in " ".join(child.cmdline()):
                found.append(child)
    return found


def _entry(root: Path, name: str) -> Document:
    return next(found for found in walk(root) if isinstance(found, Document) and found.path.endswith(name))


def test_helpers_write_the_very_bytes_that_one_process_writes(
    small_database: SourceDatabase, many: Path, storage_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with_helpers = backup(small_database.url, many, storage_dir)
    monkeypatch.setattr(packers, "WORTH_HELPERS", 1 << 60)
    alone = backup(small_database.url, many, storage_dir)
    assert _documents_of(with_helpers) == _documents_of(alone)
    assert with_helpers.warnings == alone.warnings == []
    assert verify_archive(with_helpers.path, KEY).problems == []
    subprocess.run(["tar", "xzf", with_helpers.path, "-C", tmp_path], check=True)
    assert picture(tmp_path / "documents") == picture(many)


def test_a_document_that_vanishes_becomes_a_link_or_grows_is_told_about_and_the_others_are_there(
    many: Path, helped: packers.Packers, tmp_path: Path
) -> None:
    gone, linked, kept, grown = (_entry(many, f"{user:03d}/ünder/neath/3.bin") for user in range(4))
    (many / gone.path).unlink()
    secret = tmp_path / "outside" / "neath"
    secret.mkdir(parents=True)
    (secret / "3.bin").write_bytes(b"a secret")
    (many / "001" / "ünder").rename(tmp_path / "away")
    (many / "001" / "ünder").symlink_to(secret.parent)
    found = helped.pack([gone, linked, kept])
    assert found is not None
    assert found.member is not None
    assert [line.size for line in found.batch.lines] == [kept.size]
    assert ["vanished" in found.batch.warnings[0], "became a link" in found.batch.warnings[1]] == [True, True]
    assert b"a secret" not in bytes(found.member)
    found.give_back()
    os.truncate(many / grown.path, LONGEST_READ + 1)
    assert helped.pack([kept, grown]) is None


def test_a_batch_that_does_not_fit_is_left_to_the_sender_and_its_slot_is_free_again(
    many: Path, helped: packers.Packers, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [found for found in walk(many) if isinstance(found, Document)]
    monkeypatch.setattr(packers, "SLOT_BYTES", 2000)
    for _ in range(5):
        assert helped.pack(entries) is None


@pytest.mark.parametrize("killed", ["one helper", "all helpers"])
def test_a_lost_helper_fails_the_backup_and_leaves_nothing(
    killed: str, small_database: SourceDatabase, many: Path, storage_dir: Path
) -> None:
    def progress(phase: str, done: int, total: int | None) -> None:
        if phase == "documents" and not told:
            told.append(phase)
            while len(_helpers()) < 2:
                time.sleep(0.01)
            for helper in _helpers()[1 if killed == "one helper" else 0 :]:
                helper.kill()

    told: list[str] = []
    with pytest.raises(EngineError, match=r"helper process .* was lost"):
        make_backup(request_for(small_database.url, many, storage_dir), progress)
    assert list(storage_dir.iterdir()) == leftovers(storage_dir) == []
    assert _helpers() == []


def test_what_could_not_be_sent_to_a_lost_helper_leaves_no_buffer_behind_for_the_collector() -> None:
    program = (
        "import gc, mmap, socket; from multiprocessing.connection import Connection\n"
        "from app.engine.backup.packers import Packers\n"
        "class Gone:\n"
        "    messages = staticmethod(lambda: '')\n"
        "mine, its = socket.socketpair(); its.close()\n"
        "packers = Packers(Gone(), [Connection(mine.detach())], mmap.mmap(-1, 4096), 1)\n"
        "kept = []\n"
        "def lose():\n"
        "    try:\n"
        "        packers.pack([])\n"
        "    except Exception as error:\n"
        "        kept = [error]\n"  # a cycle: the error, its traceback, this frame
        "        raise\n"
        "try:\n"
        "    lose()\n"
        "except Exception as error:\n"
        "    print(error)\n"
        "gc.collect()\n"
    )
    # Before Python 3.13, only its development mode reports what a finalizer can't do.
    command = [sys.executable, "-X", "dev", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert "was lost" in done.stdout
    assert "BufferError" not in done.stderr


def test_helpers_die_with_the_process_that_they_help(many: Path) -> None:
    program = (
        "import sys, time, uuid; from pathlib import Path\n"
        "from app.engine.backup import packers; packers.WORTH_HELPERS = 0\n"
        "from app.engine.source.documents import walk\n"
        "with packers.packers(Path(sys.argv[1]), 1, 3, 3, uuid.uuid4()) as found:\n"
        "    found.pack(list(walk(Path(sys.argv[1])))[:5]); print('ready', flush=True); time.sleep(100)\n"
    )
    command = [sys.executable, "-c", program, str(many)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        helpers = psutil.Process(process.pid).children(recursive=True)
        assert len(helpers) == 3
        process.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(helpers, timeout=10)
    assert not [helper for helper in alive if helper.status() != psutil.STATUS_ZOMBIE]


def test_no_helpers_where_they_can_not_be_started(
    small_database: SourceDatabase, many: Path, storage_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    result = backup(small_database.url, many, storage_dir)
    assert verify_archive(result.path, KEY).problems == []
    files = [path for path in many.rglob("*") if path.is_file() and not path.is_symlink()]
    assert result.manifest.documents.files == len(files)
