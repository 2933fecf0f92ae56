"""Uploads through a real web server: connections that are dropped, a killed server, large archives."""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.engine.storage.local import LocalStorage
from app.services.backups import backups
from app.services.recovery import backup_recovery
from tests.support.application import wait_for
from tests.support.foreign_archives import check_all
from tests.support.web_server import Web

URL = "/api/admin/backups/upload"
Token = Callable[..., dict[str, str]]
MEMORY_BYTES = 60_000_000


def begin(web: Web, headers: dict[str, str], length: int, first: bytes) -> http.client.HTTPConnection:
    """Begin an upload of so many bytes, send the first of them and return the connection."""
    connection = web.connection()
    connection.putrequest("POST", URL)
    for name, value in {**headers, "Content-Type": "application/gzip", "Content-Length": str(length)}.items():
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(first)
    return connection


def test_a_dropped_connection_leaves_nothing_behind(web: Web, token: Token, storage_dir: Path) -> None:
    connection = begin(web, token("backup"), 50_000_000, b"\x1f\x8b" + b"x" * 3_000_000)
    wait_for(lambda: LocalStorage(storage_dir).partials(), 10)
    connection.close()
    wait_for(lambda: list(storage_dir.iterdir()) == [], 10)
    assert backups.list_backups().total == 0


def test_a_web_process_killed_during_an_upload_leaves_a_file_that_the_tick_removes(
    web: Web, token: Token, storage_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.services.recovery.backup_recovery.FOREIGN_PARTIAL_SECONDS", 0.5)
    connection = begin(web, token("backup"), 50_000_000, b"\x1f\x8b" + b"x" * 3_000_000)
    wait_for(lambda: LocalStorage(storage_dir).partials(), 10)
    time.sleep(1)
    backup_recovery.reconcile()
    assert len(LocalStorage(storage_dir).partials()) == 1, "it is under way"
    web.kill()
    wait_for(lambda: (backup_recovery.reconcile(), LocalStorage(storage_dir).partials())[1] == [], 20)
    connection.close()
    assert backups.list_backups().total == 0


def test_a_body_of_unknown_length_is_taken(web: Web, token: Token, storage_dir: Path) -> None:
    connection = web.connection()
    connection.request("POST", URL, iter([b"not ", b"an archive"]), {**token("backup"), "Content-Type": "application/gzip"})
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["size_bytes"]) == (202, 14)
    check_all()
    assert list(storage_dir.iterdir()) == []


@pytest.mark.heavy
@pytest.mark.parametrize("multipart", [False, True], ids=["raw", "multipart"])
def test_a_gigabyte_goes_through_in_constant_memory(web: Web, token: Token, storage_dir: Path, multipart: bool) -> None:
    size, part = 1 << 30, os.urandom(1 << 20)
    head = b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="a.tar.gz"\r\n\r\n' if multipart else b""
    tail = b"\r\n--xyz--\r\n" if multipart else b""
    kind = "multipart/form-data; boundary=xyz" if multipart else "application/gzip"
    before, most = web.memory(), 0

    def body() -> Iterator[bytes]:
        nonlocal most
        yield head
        for number in range(size // len(part)):
            yield part
            if number % 64 == 0:
                most = max(most, web.memory())
        yield tail

    connection = web.connection()
    length = str(size + len(head) + len(tail))
    connection.request("POST", URL, body(), {**token("backup"), "Content-Type": kind, "Content-Length": length})
    answer = connection.getresponse()
    assert answer.status == 202, "random bytes are no archive, but all of them were taken"
    assert most - before < MEMORY_BYTES
    check_all()
    assert list(storage_dir.iterdir()) == []
