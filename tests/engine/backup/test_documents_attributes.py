"""What a file can have beside its content, mode, owner and time is not kept, and that is said."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from app.engine.restore.preview.preview import preview
from app.engine.restore.request import RestoreRequest
from app.engine.source.preflight import Source
from tests.support.archives import APP, KEY, backup
from tests.support.databases import SourceDatabase

ACL = bytes.fromhex("0200000001000600ffffffff02000400ff00000004000400ffffffff10000400ffffffff20000000ffffffff")
"""user::rw-, user:255:r--, group::r--, mask::r--, other::--- (linux/posix_acl_xattr.h)."""
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
"""cap_net_bind_service, effective."""


@pytest.fixture
def odd(documents_dir: Path) -> Iterator[dict[str, str]]:
    """Give documents what no backup keeps; yield their paths by what they got."""
    given = {
        "user.note": "1/invoice-0.txt", "system.posix_acl_access": "1/note-2.md", "system.posix_acl_default": "2",
        "security.capability": "2/invoice-0.txt", "user.large": "large.bin",
    }  # fmt: skip
    (documents_dir / "large.bin").write_bytes(bytes(5_000_000))
    values = {"security.capability": CAPABILITY, "system.posix_acl_access": ACL, "system.posix_acl_default": ACL}
    for name, path in list(given.items()):
        try:
            os.setxattr(documents_dir / path, name, values.get(name, b"value"))
        except OSError:  # only root may, or this filesystem has none
            del given[name]
    flagged = [documents_dir / "3" / "invoice-0.txt", documents_dir / "3" / "empty"]
    for flag, path in zip(("+i", "+a"), flagged, strict=True):
        if subprocess.run(["chattr", flag, path], capture_output=True).returncode == 0:
            given[flag] = str(path.relative_to(documents_dir))
    if not given:
        pytest.skip("this filesystem keeps no attributes")
    yield given
    subprocess.run(["chattr", "-ia", *flagged], capture_output=True)


def test_what_is_not_kept_is_said_at_the_backup_and_in_the_preview(
    small_database: SourceDatabase, documents_dir: Path, storage_dir: Path, tmp_path: Path, odd: dict[str, str]
) -> None:
    made = backup(small_database.url, documents_dir, storage_dir)

    [warning] = made.warnings
    count, _, names = warning.partition(" of the documents have extended attributes, ACLs, capabilities or flags of chattr")
    assert int(count) == len(odd)
    assert sorted(names.partition(": ")[2].removesuffix(".").split(", ")) == sorted(odd.values())

    source = Source(small_database.url, documents_dir, APP)
    request = RestoreRequest(made.path, source, tmp_path / "journals", KEY, uuid4(), "documents", disk_reserve=0)
    assert warning in preview(request).warnings


def test_labels_of_the_system_are_not_mentioned(
    small_database: SourceDatabase, documents_dir: Path, storage_dir: Path
) -> None:
    try:
        os.setxattr(documents_dir / "1" / "note-2.md", "security.selinux", b"a_label_that_the_system_gives")
    except OSError:
        pytest.skip("no such label can be set here")

    assert backup(small_database.url, documents_dir, storage_dir).warnings == []
