"""One deployment of compose.yaml in a clone of the project, used as an operator would."""

from __future__ import annotations

import errno
import http.cookiejar
import json
import os
import pty
import re
import select
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tests.deployment.base_images import ROOT
from tests.deployment.engine import Engine, EngineError

T = TypeVar("T")
SERVICES = ("web", "worker", "scheduler", "postgres", "valkey")
# Several stacks share two cores here.
PATIENCE_SECONDS = 240.0


def clone(folder: Path) -> Path:
    """Copy what git knows of the project, and what is new in the work tree, as a checkout under a strict umask has it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    )
    for name in listed.stdout.decode().split("\0"):
        source, target = ROOT / name, folder / name
        if name and source.is_file():
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
            target.chmod(0o700 if source.stat().st_mode & 0o100 else 0o600)
    return folder


def until(what: str, test: Callable[[], T], seconds: float = PATIENCE_SECONDS, pause: float = 1.0) -> T:
    """Wait until the test returns something true. Raise AssertionError with what it last said."""
    end = time.monotonic() + seconds
    last: object = None
    while True:
        try:
            if last := test():
                return last  # type: ignore[return-value]
        except (OSError, EngineError, ValueError, KeyError, IndexError) as error:
            last = error
        assert time.monotonic() < end, f"{what}: not within {seconds:.0f} s; last: {last!r}"
        time.sleep(pause)


class Stack:
    """A stack in a folder of its own, on a port of its own."""

    def __init__(self, engine: Engine, folder: Path, port: int) -> None:
        self.engine, self.folder, self.port = engine, clone(folder), port
        self.environ: dict[str, str] = {"PORT": str(port)}
        self.write_env()
        self._token = ""

    def write_env(self, **changes: str | None) -> None:
        """Change settings in .env, as with an editor; None takes a line away."""
        self.environ |= {name: value for name, value in changes.items() if value is not None}
        for name in [name for name, value in changes.items() if value is None]:
            self.environ.pop(name, None)
        lines = [f"{name}={value}\n" for name, value in self.environ.items()]
        (self.folder / ".env").write_text("".join(lines), encoding="utf-8")

    # -- commands -----------------------------------------------------------------------------------------------

    def compose(self, *arguments: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run `docker compose` here. Raise EngineError where it fails."""
        return self.engine.docker("compose", *arguments, check=check, cwd=self.folder, **options)

    def flask(self, *arguments: str, service: str = "web", check: bool = True) -> str:
        """Run a `flask` command in a container and return what it prints."""
        return self.compose("exec", "-T", service, "flask", *arguments, check=check).stdout

    def typed(self, script: str, answers: str = "", places: Mapping[str, str] | None = None) -> str:
        """Type lines of the documents into a shell on a terminal and return what it shows. Raise EngineError on failure.

        `places` maps words of the documents to what stands for them here.
        """
        for word, here in (places or {}).items():
            assert word in script, f"the documents no longer say {word}"
            script = script.replace(word, here)
        ours, theirs = pty.openpty()
        shell = subprocess.Popen(
            ["bash", "-eo", "pipefail", "-c", script],
            cwd=self.folder, env=self.engine.environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        # A prompt for a password throws away what was typed before it: each answer waits for its prompt.
        waiting = answers.splitlines(keepends=True)
        shown, end = b"", time.monotonic() + 300
        while time.monotonic() < end:
            if not select.select([ours], [], [], 1)[0]:
                if shell.poll() is not None:
                    break
                continue
            try:
                block = os.read(ours, 65536)
            except OSError as error:
                if error.errno == errno.EIO:
                    break
                raise
            shown += block
            if waiting and shown.rstrip(b" ").endswith(b":"):
                os.write(ours, waiting.pop(0).encode())
        if shell.poll() is None and time.monotonic() > end:
            shell.kill()
        code = shell.wait()
        os.close(ours)
        text = shown.decode(errors="replace").replace("\r\n", "\n")
        if code:
            raise EngineError(f"{script} -> {code}: {text[-3000:]}")
        return text

    def up(self, *arguments: str) -> None:
        """`docker compose up -d`, and wait until all of it is healthy."""
        self.compose("up", "-d", *arguments)
        self.healthy()

    def healthy(self) -> None:
        """Wait until every process is at work and the pages find nothing wrong but what no backup has said yet.

        Asks as the health checks do, but without their pauses of up to a minute.
        """
        for service in ("web", "worker", "scheduler"):
            ask = ["exec", "-T", service, "python", "-m", "app.container", "alive", service]
            until(f"{service} at work", lambda ask=ask: self.compose(*ask, check=False).returncode == 0)
        until("healthz", lambda: not [each for each in self.checks() if not each["ok"] and each["name"] != "last_backup"])

    def called_healthy(self) -> None:
        """Wait until Docker calls every container healthy."""
        until("all containers healthy", lambda: set(self.healths().values()) == {"healthy"})

    def healths(self) -> dict[str, str]:
        rows = [json.loads(line) for line in self.compose("ps", "--format", "json").stdout.splitlines()]
        return {row["Name"]: row["Health"] or row["State"] for row in rows}

    def checks(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.http("GET", "/healthz")[1])["checks"]
        return found

    def container(self, service: str) -> str:
        """The id of a service's (first) container."""
        return self.compose("ps", "-q", service).stdout.split()[0]

    def inspect(self, service: str, template: str) -> str:
        return self.engine.docker("inspect", "-f", template, self.container(service)).stdout.strip()

    def down(self, *arguments: str) -> None:
        self.compose("down", "--remove-orphans", "-t", "5", *arguments)

    def sql(self, text: str, database: str = "motovaultpro", role: str = "motovaultpro") -> str:
        """Execute statements in the stack's own PostgreSQL, as the app's role would, and return the rows."""
        psql = ["exec", "-T", "postgres", "psql", "-U", "postgres", "-d", database, "-qAtX", "-v", "ON_ERROR_STOP=1"]
        return self.compose(*psql, input=f"SET ROLE {role};\n{text}").stdout.strip()

    @contextmanager
    def locked(self, table: str) -> Iterator[None]:
        """Keep a table locked, so that a backup waits for it."""
        text = f"SET ROLE motovaultpro; BEGIN; LOCK TABLE {table}; SELECT 'locked'; SELECT pg_sleep(600);"
        psql = ["docker", "compose", "exec", "-T", "postgres", "psql", "-U", "postgres", "-d", "motovaultpro", "-qAtX"]
        holder = subprocess.Popen(
            psql, cwd=self.folder, env=self.engine.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.write(text)
        holder.stdin.close()
        try:
            assert holder.stdout.readline() == "locked\n"
            yield
        finally:
            others = "FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()"
            self.sql(f"SELECT pg_terminate_backend(pid) {others};", role="postgres")
            holder.wait(30)
            holder.stdout.close()

    # -- over HTTP ----------------------------------------------------------------------------------------------

    def http(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Ask the web container, and return status and body."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body, dict(headers or {}), method=method)

        def ask() -> tuple[int, bytes]:
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return answer.status, answer.read()
            except urllib.error.HTTPError as error:
                return error.code, error.read()

        return self.engine.inside(ask)

    def api(self, method: str, path: str = "", data: object = None) -> tuple[int, Any]:
        """Ask the API with a token of all scopes."""
        if not self._token:
            scopes = [word for scope in ("read", "backup", "restore", "admin") for word in ("--scope", scope)]
            self._token = self.flask("token", "create", "--name", f"test {time.time():.0f}", *scopes).split()[-1]
        headers = {"Authorization": f"Bearer {self._token}"}
        body = None if data is None else json.dumps(data).encode()
        status, text = self.http(
            method, f"/api/admin/backups{path}", body, headers | ({"Content-Type": "application/json"} if body else {})
        )
        return status, json.loads(text)

    def sign_in(self, email: str, password: str) -> bool:
        """Sign in on the page as a browser does; return whether it worked."""
        base = f"http://127.0.0.1:{self.port}"

        def try_it() -> bool:
            opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
            page = opener.open(f"{base}/login", timeout=60).read().decode()
            field = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page)
            assert field is not None
            form = urllib.parse.urlencode({"csrf_token": field[1], "email": email, "password": password}).encode()
            request = urllib.request.Request(f"{base}/login", form, {"Referer": f"{base}/login"})
            return "/login" not in opener.open(request, timeout=60).url

        return self.engine.inside(try_it)

    # -- backups ------------------------------------------------------------------------------------------------

    def start_backup(self) -> str:
        status, answer = self.api("POST")
        assert status == 202, answer
        ident: str = answer["id"]
        return ident

    def ended(self, ident: str) -> dict[str, Any]:
        """Wait for a backup's end and return it."""

        def look() -> Any:
            row = self.api("GET", f"/{ident}")[1]
            return row if row["status"] not in ("queued", "in_progress") else None

        row: dict[str, Any] = until("the backup's end", look)
        return row

    def backup(self) -> dict[str, Any]:
        """Make a backup, which must be completed, and return it."""
        row = self.ended(self.start_backup())
        assert row["status"] == "completed", row
        return row

    def restore(self, ident: str) -> None:
        """Restore a backup, which must be completed."""
        status, answer = self.api("POST", f"/{ident}/restore", {"confirm": "motovaultpro", "scope": "all"})
        assert status == 202, answer

        def look() -> Any:
            rows = self.api("GET", "/restores?page_size=20")[1]["items"]
            row = next(row for row in rows if row["id"] == answer["id"])
            return row if row["status"] not in ("queued", "in_progress") else None

        row = until("the restore's end", look)
        assert row["status"] == "completed", row

    @property
    def documents(self) -> Path:
        return self.folder / "data" / "app" / "documents"

    def owners(self) -> dict[str, tuple[int, int, int]]:
        """Owner, group and mode of everything below the documents."""
        paths = [self.documents, *sorted(self.documents.rglob("*"))]
        return {
            str(path.relative_to(self.documents)): (path.lstat().st_uid, path.lstat().st_gid, path.lstat().st_mode)
            for path in paths
        }
