"""`make demo` itself, from the first start to the last child's end."""

from __future__ import annotations

import hashlib
import http.cookiejar
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tarfile
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from app.demo.servers import free_port
from tests.support.processes import SESSION_VARIABLE, processes_with, wait_until

pytestmark = pytest.mark.heavy

READY_LINE = "Ctrl-C stops everything"


class Demo:
    """A running demo; everything it starts carries its mark."""

    def __init__(self, data_dir: Path, **settings: str) -> None:
        self.mark = secrets.token_hex(8)
        self.port = free_port()
        self.data_dir = data_dir
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environment = kept | {"DATA_DIR": str(data_dir), "PORT": str(self.port), SESSION_VARIABLE: self.mark} | settings
        self.output = data_dir.with_name(f"output-{self.mark}.txt")
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app.demo"],
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def said(self) -> str:
        return self.output.read_text()

    def wait_ready(self) -> Demo:
        wait_until(lambda: READY_LINE in self.said() or self.process.poll() is not None, 150)
        assert READY_LINE in self.said(), self.said()
        return self

    def processes(self) -> list[psutil.Process]:
        return processes_with(SESSION_VARIABLE, self.mark)

    def running(self, word: str) -> list[psutil.Process]:
        return [process for process in self.processes() if word in " ".join(process.cmdline())]

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        return self.process.wait(90)


@pytest.fixture
def demos() -> Iterator[list[Demo]]:
    """What a test puts in here does not outlive it, whatever fails."""
    started: list[Demo] = []
    yield started
    for demo in started:
        if demo.process.poll() is None:
            demo.process.kill()
            demo.process.wait()
        wait_until(lambda demo=demo: not demo.processes(), 20)
        for process in demo.processes():
            process.kill()


def listed_backups(demo: Demo) -> list[str]:
    """Log in on a demo's page with what it printed; return the file names of its completed backups."""
    email, password = re.search(r"log in as\s+(\S+)", demo.said()), re.search(r"password\s+(\S+)", demo.said())
    assert email is not None
    assert password is not None
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
    with browser.open(f"{demo.url}/", timeout=20) as answer:
        login_url, page = answer.url, answer.read().decode()
    token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page)
    assert token is not None, page
    fields = {"email": email[1], "password": password[1], "csrf_token": token[1]}
    request = urllib.request.Request(login_url, urllib.parse.urlencode(fields).encode(), {"Referer": login_url})
    with browser.open(request, timeout=20) as answer:
        assert answer.status == 200
    with browser.open(f"{demo.url}/api/admin/backups?status=completed", timeout=20) as answer:
        return [item["filename"] for item in json.load(answer)["items"]]


def complaints(demo: Demo) -> list[str]:
    """Return what /healthz finds wrong."""
    with urllib.request.urlopen(f"{demo.url}/healthz", timeout=20) as answer:
        return [check["detail"] for check in json.load(answer)["checks"] if not check["ok"]]


def archives(data_dir: Path) -> dict[str, str]:
    folder = data_dir / "backups"
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.tar.gz")}


def test_demo_starts_backs_up_ends_and_finds_its_data_again(tmp_path: Path, demos: list[Demo]) -> None:
    data_dir = tmp_path / "data"
    given = {"ADMIN_EMAIL": "me@example.com", "ADMIN_PASSWORD": "a-first-long-password"}
    demos.append(first := Demo(data_dir, **given).wait_ready())
    assert "Sample data created." in first.said()
    assert re.search(r"log in as +me@example.com\n +password +a-first-long-password\n", first.said())
    (name, digest), *others = archives(data_dir).items()
    assert not others
    assert re.fullmatch(r"motovaultpro_backup_\d{8}_\d{6}\.tar\.gz", name)
    assert listed_backups(first) == [name]
    assert complaints(first) == [], "the first page of a new demo shows no banner"

    second = Demo(data_dir)
    demos.append(second)
    assert second.process.wait(60) == 1
    assert f"A demo already runs on {data_dir} (process {first.process.pid})" in second.said()

    assert first.end(signal.SIGINT) == 0
    assert first.processes() == []
    assert not (data_dir / "postgres" / "cluster" / "postmaster.pid").exists()

    demos.append(again := Demo(data_dir, ADMIN_PASSWORD="a-second-long-password").wait_ready())
    assert re.search(r"log in as +me@example.com\n +password +a-second-long-password\n", again.said())
    assert "Sample data found." in again.said()
    assert "first backup" not in again.said()
    assert archives(data_dir) == {name: digest}
    assert listed_backups(again) == [name]
    assert again.end(signal.SIGTERM) == 0
    assert again.processes() == []

    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    if shutil.which("tar") is None:
        pytest.skip("there is no tar to unpack the archive with")
    subprocess.run(["tar", "xzf", str(data_dir / "backups" / name), "-C", str(unpacked)], check=True)
    entries = {path.name for path in unpacked.iterdir()}
    assert entries == {"manifest.json", "database", "documents", "documents.index.jsonl"}
    live = data_dir / "app" / "documents"
    files = [path.relative_to(live) for path in live.rglob("*") if path.is_file()]
    assert len(files) >= 300
    assert all((unpacked / "documents" / path).read_bytes() == (live / path).read_bytes() for path in files)
    with tarfile.open(data_dir / "backups" / name) as archive:
        assert "database/motovaultpro.sql.gz" in archive.getnames()


def test_killed_demo_leaves_nothing_running_and_starts_again(tmp_path: Path, demos: list[Demo]) -> None:
    data_dir = tmp_path / "data"
    demos.append(killed := Demo(data_dir).wait_ready())
    assert killed.running("postgres")
    assert killed.running("valkey-server")
    killed.end(signal.SIGKILL)
    assert wait_until(lambda: not killed.processes(), 30), [p.cmdline() for p in killed.processes()]

    demos.append(again := Demo(data_dir).wait_ready())
    assert "Sample data found." in again.said()
    assert again.end(signal.SIGINT) == 0
    assert again.processes() == []


def test_lost_processes_are_reported_and_started_again(tmp_path: Path, demos: list[Demo]) -> None:
    demos.append(demo := Demo(tmp_path / "data").wait_ready())
    for word, report in (
        ("flask scheduler", "The scheduler ended with code -9"),
        ("valkey-server", "Valkey runs again."),
        ("pginstall18/bin/postgres", "PostgreSQL runs again."),
    ):
        (lost, *_) = demo.running(word)
        lost.kill()
        assert wait_until(lambda report=report: report in demo.said(), 20), demo.said()
        assert wait_until(lambda word=word, lost=lost: any(p.pid != lost.pid for p in demo.running(word)), 60)
    assert len(listed_backups(demo)) == 1
    assert demo.end(signal.SIGINT) == 0
    assert demo.processes() == []
