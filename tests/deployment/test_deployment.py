"""README, guide and recovery sheet, typed as they stand there, against real containers."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import urllib.parse
from collections.abc import Callable

import pytest

from tests.deployment.engine import EngineError
from tests.deployment.stack import Stack, until
from tests.support.guide import README, blocks, section

# Each worker of pytest that gets one of them makes an engine and the images, which takes minutes; stacks then run at once.
pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1800)]
MakeStack = Callable[..., Stack]
PASSWORD = "pa$word:of@the/app%"


def commands(block: str) -> list[str]:
    """Return the commands of a block, without the remarks beside them."""
    return [line.partition("  #")[0].strip() for line in block.splitlines() if line.strip()]


def command_in(text: str, beginning: str) -> str:
    """Return the command in an output that begins so."""
    found = re.search(rf"{beginning}.*", text)
    assert found is not None, text
    return found[0].strip()


def write_documents(stack: Stack, owner: tuple[int, int]) -> None:
    folder = stack.documents / "sub dir"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "über.txt").write_text("hello")
    (stack.documents / "a.bin").write_bytes(os.urandom(300_000))
    (stack.documents / "a.bin").chmod(0o640)
    for path in (stack.documents, *stack.documents.rglob("*")):
        os.chown(path, *owner)


def fill(stack: Stack, rows: int = 5000) -> None:
    make = "CREATE TABLE vehicles(id bigint generated always as identity primary key, name text);"
    stack.sql(f"{make} INSERT INTO vehicles(name) SELECT md5(g::text) FROM generate_series(1, {rows}) g;")


def harm_and_restore(stack: Stack) -> None:
    """Back up, harm, restore: rows, documents, owners and modes are as before."""
    before = stack.owners()
    row = stack.backup()
    stack.sql("DELETE FROM vehicles WHERE id % 2 = 0;")
    (stack.documents / "a.bin").unlink()
    (stack.documents / "sub dir" / "über.txt").write_text("changed")
    stack.restore(row["id"])
    assert stack.sql("SELECT count(*) FROM vehicles;") == "5000"
    assert (stack.documents / "sub dir" / "über.txt").read_text() == "hello"
    assert stack.owners() == before


def started(stack: Stack) -> dict[str, str]:
    """When each container started: no two are alike."""
    return {name: stack.inspect(name, "{{.Id}} {{.State.StartedAt}}") for name in ("web", "worker", "scheduler")}


def test_a_stranger_starts_it_with_the_readme_and_the_guide(make_stack: MakeStack) -> None:
    stack = make_stack()
    # README, "Run it for real".
    up, logs = commands(blocks("", README.partition("## Run it for real")[2])[0])
    stack.typed(up)
    said = stack.typed(logs)
    stack.healthy()
    password = stack.typed(command_in(said, "docker compose exec web cat")).strip()
    assert stack.sign_in("admin@example.com", password)
    for line in commands(blocks("", section("Install"))[0]):
        said = stack.typed(line)
    assert "PROBLEM" not in said
    assert "use the same settings as this command" in said
    for service in ("web", "worker", "scheduler"):
        assert stack.inspect(service, "{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.PidsLimit}}") == "true 512"
        lines = stack.compose("logs", "--no-log-prefix", "--no-color", service).stdout.splitlines()
        assert [line for line in lines if not line.startswith("{")] == []

    stack.called_healthy()
    fill(stack)
    write_documents(stack, (10001, 10001))
    harm_and_restore(stack)
    stack.flask("backup", "verify", "--restore", stack.backup()["id"], service="worker")

    # A worker that is killed while it makes a backup: the row says so, and the next one is made.
    with stack.locked("vehicles"):
        lost = stack.start_backup()
        until("in progress", lambda: stack.api("GET", f"/{lost}")[1]["status"] == "in_progress")
        os.kill(int(stack.inspect("worker", "{{.State.Pid}}")), signal.SIGKILL)
    assert stack.ended(lost)["status"] == "failed"
    stack.healthy()
    before = stack.backup()["id"]

    # The machine restarts; later somebody asks again how to sign in.
    stack.typed("docker compose down")
    stack.typed("docker compose up -d")
    stack.healthy()
    assert stack.api("GET", f"/{before}")[1]["status"] == "completed"
    said = stack.typed(logs)
    assert stack.typed(command_in(said, "docker compose exec web cat")).strip() == password
    stack.typed(command_in(said, "docker compose exec web flask admin password"), answers="another long word\n" * 2)
    assert stack.sign_in("admin@example.com", "another long word")

    # A second stack in a folder of the same name would take over the first one, volumes and all.
    second = make_stack("two/motovaultpro-backup", port=stack.port + 1)
    with pytest.raises(EngineError):
        second.up()
    assert "COMPOSE_PROJECT_NAME" in second.compose("logs", "init").stdout
    # Compose stops the containers of that name before the first one could refuse: they come back with all they had.
    stack.up()
    stack.healthy()
    running = started(stack)
    assert stack.api("GET", f"/{before}")[0] == 200
    second.write_env(COMPOSE_PROJECT_NAME="the-other-one")
    second.up()
    second.backup()
    assert started(stack) == running
    assert stack.api("GET", f"/{before}")[0] == 200
    assert second.api("GET", f"/{before}")[0] == 404


def test_changed_settings_take_effect_or_are_refused(make_stack: MakeStack) -> None:
    stack = make_stack("changes")
    stack.up()
    fill(stack)
    assert stack.backup()["summary"]["rows"] == 5000

    # Another database, whose password is hard to write, and another key.
    for text in (f"CREATE ROLE other LOGIN CREATEDB CREATEROLE PASSWORD '{PASSWORD}'", "CREATE DATABASE other OWNER other"):
        stack.sql(text, "postgres", "postgres")
    stack.sql("CREATE TABLE vehicles(id int); INSERT INTO vehicles VALUES (1), (2), (3);", "other", "other")
    url = f"postgresql://other:{urllib.parse.quote(PASSWORD, safe='')}@postgres:5432/other"
    key = secrets.token_urlsafe(30)
    stack.write_env(BACKUP_SOURCE_URL=f"'{url}?application_name=$HOME'", BACKUP_SIGNING_KEY=key)
    stack.typed("docker compose up -d")
    ended = stack.ended(stack.start_backup())
    # Whether the worker has noticed yet or not: never is it a good backup of the old database.
    assert ended["status"] == "failed" or ended["summary"]["rows"] == 3, ended
    until("all processes use the new settings", lambda: "use the same settings" in stack.flask("doctor", check=False))
    assert stack.backup()["summary"]["rows"] == 3
    assert key in stack.flask("backup", "recovery-sheet")
    # The old archive is signed by the old key; nothing else is wrong.
    assert re.findall("^PROBLEM.*", stack.flask("doctor", check=False), re.MULTILINE) == []

    # What no process could start with is refused, and what runs goes on.
    before = started(stack)
    stack.write_env(BACKUP_SOURCE_URL="mysql://other@postgres/other")
    with pytest.raises(EngineError):
        stack.typed("docker compose up -d")
    assert "BACKUP_SOURCE_URL must look like" in stack.compose("logs", "init").stdout
    assert started(stack) == before

    # Another user is another definition of every container: Compose stops them before it asks `init`. One can ask before.
    write_documents(stack, (10001, 10001))
    stack.write_env(BACKUP_SOURCE_URL=url, BACKUP_UID="1000", BACKUP_GID="1000")
    (ask,) = set(re.findall(r"`(docker compose run --rm init)`", section("Install")))
    with pytest.raises(EngineError, match="Write BACKUP_UID=10001"):
        stack.typed(ask)
    assert started(stack) == before
    stack.write_env(BACKUP_UID=None, BACKUP_GID=None)
    stack.typed(ask)
    stack.up()

    # Several of each.
    stack.write_env(PORT=f"{stack.port}-{stack.port + 3}", PUBLIC_URL=f"http://localhost:{stack.port}")
    stack.up("--scale", "web=2", "--scale", "worker=2", "--scale", "scheduler=2")
    assert len(stack.healths()) == 8
    assert stack.backup()["summary"]["rows"] == 3


def test_documents_of_one_user_and_of_several(make_stack: MakeStack) -> None:
    one = make_stack("one-owner")
    write_documents(one, (1000, 1000))
    one.write_env(BACKUP_UID="1000", BACKUP_GID="1000")
    one.up()
    fill(one)
    harm_and_restore(one)
    one.down("-v")

    several = make_stack("several-owners")
    write_documents(several, (33, 33))
    os.chown(several.documents / "a.bin", 1000, 1001)
    os.chown(several.documents / "sub dir" / "über.txt", 1002, 33)
    (several.documents / "sub dir" / "über.txt").chmod(0o600)
    several.write_env(BACKUP_UID="0", BACKUP_GID="0")
    (override,) = [block for block in blocks("yaml", section("Install")) if "cap_add" in block]
    (several.folder / "compose.override.yaml").write_text(override + "\n")
    several.up()
    fill(several)
    harm_and_restore(several)
    assert "PROBLEM" not in several.flask("doctor", service="worker")


def test_postgresql_is_upgraded_as_the_guide_says(make_stack: MakeStack) -> None:
    stack = make_stack("upgrade")
    stack.up()
    fill(stack)
    kept = stack.backup()["id"]
    password = stack.compose("exec", "-T", "web", "cat", "/run/backup/admin_password").stdout.strip()
    (script,) = [block for block in blocks("", section("Upgrade")) if "pg_dumpall" in block]
    before, change, after = script.partition("# change the image in compose.yaml\n")
    assert change
    stack.typed(before)
    text = (stack.folder / "compose.yaml").read_text()
    assert "image: postgres:18\n" in text
    (stack.folder / "compose.yaml").write_text(text.replace("image: postgres:18\n", "image: postgres:19\n"))
    stack.typed(after)
    stack.healthy()
    assert "/var/lib/postgresql/19/" in stack.compose("exec", "-T", "postgres", "sh", "-c", "echo $PGDATA").stdout
    assert stack.sql("SELECT count(*) FROM vehicles;") == "5000"
    assert stack.api("GET", f"/{kept}")[1]["status"] == "completed"
    assert stack.sign_in("admin@example.com", password)
    stack.restore(stack.backup()["id"])
    assert "PROBLEM" not in stack.flask("doctor", check=False)


def test_the_machine_is_gone_and_the_recovery_sheet_is_all_there_is(make_stack: MakeStack) -> None:
    old = make_stack("old-machine")
    old.up()
    fill(old)
    write_documents(old, (10001, 10001))
    owners, ident = old.owners(), old.backup()["id"]
    sheet = old.flask("backup", "recovery-sheet")
    archives = list((old.folder / "data" / "backups").glob("*.tar.gz"))
    new = make_stack("new-machine", port=old.port + 1)
    for path in archives:
        (new.folder.parent / path.name).write_bytes(path.read_bytes())
    old.down("-v")
    shutil.rmtree(old.folder)

    day = sheet.partition("ON THE DAY")[2].partition("WITHOUT THIS SOFTWARE")[0]
    lines = [line.strip() for line in day.splitlines() if line.startswith("     ")]
    settings = dict(line.split("=", 1) for line in lines if re.match(r"[A-Z_]+=", line))
    assert "BACKUP_SIGNING_KEY" in settings
    new.write_env(**settings)
    typed = [line for line in lines if re.match(r"(docker|mkdir|cp) ", line)]
    for line in typed:
        places = {"ARCHIVE": str(new.folder.parent / archives[0].name)} if "ARCHIVE" in line else {}
        places |= {" ID": f" {ident}"} if " ID" in line else {}
        answers = "motovaultpro\n" if "backup restore" in line else ""
        if "exec" in line:
            new.healthy()
        said = new.typed(line, answers, places)
    assert "completed" in said or "restored" in said.lower(), said
    assert new.sql("SELECT count(*) FROM vehicles;") == "5000"
    assert (new.documents / "sub dir" / "über.txt").read_text() == "hello"
    assert new.owners() == owners
    assert "BACKUP_SIGNING_KEY: The newest" in new.flask("doctor", check=False)
