"""The commands in docs/archive-format.md are run as they stand there: they are what is left when this program is not."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from app.demo.servers import EmbeddedPostgres
from app.engine.archive.reader import open_archive
from tests.support.archives import KEY, Archive, picture
from tests.support.databases import drop_database, psql

PAGE = Path(__file__).resolve().parents[3] / "docs" / "archive-format.md"
TOOLS = ("bash", "jq", "tar", "zcat", "dd", "od", "sha256sum")
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the page is about GNU's tools"),
    pytest.mark.skipif(not all(map(shutil.which, TOOLS)), reason=f"needs {', '.join(TOOLS)}"),
]


@pytest.fixture
def environment(pg18: EmbeddedPostgres, small_archive: Archive) -> dict[str, str]:
    """Which archive, and how psql and createdb find the server. The database `restored` is dropped afterwards."""
    parts = urlsplit(pg18.url("postgres"))
    return {
        "PATH": f"{pg18.bin_dir}:{os.environ['PATH']}",
        "PGHOST": parts.hostname or "",
        "PGPORT": str(parts.port),
        "PGUSER": unquote(parts.username or ""),
        "PGPASSWORD": unquote(parts.password or ""),
        "ARCHIVE": str(small_archive.path),
    }


def _blocks() -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def _block(word: str) -> str:
    [found] = [block for block in _blocks() if word in block]
    return found


def _run(script: str, environment: dict[str, str], folder: Path) -> list[str]:
    done = subprocess.run(
        ["bash", "-eu", "-c", f'A="$ARCHIVE"\n{script}'],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_archive_is_tested_extracted_and_restored(
    environment: dict[str, str], tmp_path: Path, pg18: EmbeddedPostgres, small_archive: Archive
) -> None:
    assert _run(_block("tar tzf").splitlines()[1], environment, tmp_path) == ["manifest.json"]
    try:
        _run(_block("createdb"), environment, tmp_path)
        assert picture(tmp_path / "documents") == picture(small_archive.documents)
        assert psql(pg18.bin_dir, pg18.url("restored"), "SELECT count(*) FROM vehicles").strip() == "500"
        psql(pg18.bin_dir, pg18.url("restored"), "TRUNCATE vehicles")
        _run(_block("> manifest.json"), environment, tmp_path)
        listed = [line.split("\t") for line in _run(_block("@tsv"), environment, tmp_path)]
        offset, length, rows, statement = next(fields for fields in listed if "vehicles" in fields[3])
        script = re.sub("OFFSET=.*", f"OFFSET={offset} LENGTH={length} STATEMENT='{statement}'", _block("dd if="))
        assert _run(script, environment, tmp_path) == [rows, f"COPY {rows}"]
        assert psql(pg18.bin_dir, pg18.url("restored"), "SELECT max(id) FROM vehicles").strip() == "500"
    finally:
        drop_database(pg18, "restored")
    assert _run(_block("sha256sum --check"), environment, tmp_path) == []


def test_the_manifest_is_cut_out_as_tar_extracts_it(
    environment: dict[str, str], tmp_path: Path, small_archive: Archive
) -> None:
    _run(_block("> manifest.json"), environment, tmp_path)
    with open_archive(small_archive.path) as reader:
        assert (tmp_path / "manifest.json").read_bytes() == reader.manifest_text


def test_one_document_is_cut_out(environment: dict[str, str], tmp_path: Path, small_archive: Archive) -> None:
    with open_archive(small_archive.path) as reader:
        lines = [json.loads(line) for line in reader.index_lines()]
    for line in lines:
        if line["kind"] == "file" and line["size"]:
            place = "MEMBER={member} SKIP={skip} SIZE={size}".format(**line)
            script = re.sub("MEMBER=.*", place, _block("MEMBER="))
            assert _run(script, environment, tmp_path) == [f"{line['sha256']}  -"]


def test_hash_and_signature_are_checked(environment: dict[str, str], tmp_path: Path) -> None:
    _run(_block("> manifest.json"), environment, tmp_path)
    computed, stated = _run(_block(".header_bytes manifest.json"), environment, tmp_path)
    assert computed == f"{stated}  -"
    for key, ours in ((KEY, True), (b"another key", False)):
        (tmp_path / "signing-key.txt").write_bytes(key + b"\n")
        assert _run(_block("signing-key.txt"), environment, tmp_path) == ["undamaged: True", f"ours: {ours}"]


def test_every_command_of_the_page_is_tried_here() -> None:
    words = ("tar tzf", "createdb", "> manifest.json", "@tsv", "dd if=", "MEMBER=", "sha256sum --check")
    tried = {_block(word) for word in (*words, ".header_bytes manifest.json", "signing-key.txt")}
    assert set(_blocks()) == tried
