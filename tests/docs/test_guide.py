"""docs/operators-guide.md and README.md: what they tell people to type is there, and means what they say."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from uuid import uuid4

import click
import psycopg
import pytest
import yaml
from apiflask import APIFlask

from app import config
from app.demo.servers import EmbeddedPostgres
from app.services.checkup import source
from tests.support import compose
from tests.support.guide import GUIDE, README, ROOT, blocks, section

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands() -> list[str]:
    """Return every `flask` command of the documents, in blocks and in running text."""
    found: set[str] = set()
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        found |= {line.partition("#")[0].strip() for line in re.findall(r"^ *flask .+$", text, re.MULTILINE)}
        found |= {re.sub(r"^.*?(?=flask )", "", line) for line in re.findall(r"exec \w+ flask .+$", text, re.MULTILINE)}
        found |= set(re.findall(r"`(flask [^`…]+)`", text))
    return sorted(re.sub(r"\s*[>|].*$", "", line).partition("  #")[0].strip().rstrip("`") for line in found)


@pytest.mark.parametrize("line", commands())
def test_every_command_exists_and_takes_what_it_is_given(app: APIFlask, line: str) -> None:
    # [OPTIONAL] parts are tried, too; `ID` is one.
    words = [word for word in shlex.split(re.sub(r"[\[\]]", " ", line.replace("…", "all"))) if word != "flask"]
    group: click.Command = app.cli
    names = []
    while isinstance(group, click.Group) and words and words[0].rstrip(",") in group.commands:
        names.append(words.pop(0).rstrip(","))
        group = group.commands[names[-1]]
    assert names, f"there is no command {line}"
    words = [str(uuid4()) if word == "ID" else "read" if word == "S" else word.rstrip(",") for word in words]
    if words and not words[0].startswith("-") and isinstance(group, click.Group):
        pytest.fail(f"{line}: {' '.join(names)} has no command {words[0]}")
    group.make_context(
        " ".join(names), words or ["--help"] if not isinstance(group, click.Group) else [], resilient_parsing=not words
    )


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    headings = {
        re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-") for line in re.findall(r"^#+ (.+)$", text, re.M)
    }
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in headings
        elif "://" not in target and not target.startswith("images/") and not target.startswith("docs/images/"):
            assert (document.parent / target.partition("#")[0]).exists(), target


def test_settings_in_the_guide_are_settings_and_all_are_in_the_readme() -> None:
    env_files = [block for block in blocks("") if re.match(r"(BACKUP|FLASK)_\w+=", block)]
    compose_text = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    for_compose, for_machine = ([line.partition("=")[0] for line in block.splitlines()] for block in env_files)
    assert all(f"${{{name}:-" in compose_text for name in for_compose)
    assert set(for_machine) - {"FLASK_APP"} <= set(config.NAMES)
    assert set(config.REQUIRED) <= set(for_machine)
    table = README.partition("| Setting |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`([A-Z][A-Z_]+)`", table)) >= set(config.NAMES)


def test_variables_of_the_compose_file_are_explained() -> None:
    names = set(re.findall(r"\$\{(\w+):-", (ROOT / "compose.yaml").read_text(encoding="utf-8")))
    own = {"BACKUP_UID", "BACKUP_GID", "BACKUP_DOCUMENTS_PARENT", "BACKUP_DOCUMENTS_NAME", "BACKUP_IMAGE", "PORT"}
    assert names - own <= set(config.NAMES)
    assert own - {"PORT"} <= set(re.findall(r"\w+", GUIDE))


def test_yaml_in_the_guide_can_be_read_and_fits_the_compose_file() -> None:
    *overrides, scrape, alerts = (yaml.safe_load(block) for block in blocks("yaml"))
    assert len(overrides) == 2
    for override in overrides:
        assert set(override["services"]) <= set(compose.read()["services"])
    assert scrape["scrape_configs"][0]["job_name"] == "backup"
    rules = alerts["groups"][0]["rules"]
    assert len(rules) == len({rule["alert"] for rule in rules}) >= 8
    assert all(rule["expr"] for rule in rules)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_the_units_are_valid(tmp_path: Path) -> None:
    units = blocks("ini")
    names = re.findall(r"`/etc/systemd/system/([\w-]+\.service)`", GUIDE)
    assert len(units) == len(names) == 3
    for name, unit in zip(names, units, strict=True):
        # Their programs are not on this machine.
        path = tmp_path / name
        path.write_text(
            re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", unit, flags=re.MULTILINE).replace("/opt/backup", "/tmp")
        )
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True)
        told = [line for line in (done.stdout + done.stderr).splitlines() if name in line]
        assert not told, told


def test_messages_to_look_up_are_messages_of_this_software() -> None:
    sources = "\n".join(
        re.sub(r'"\s*\n\s*(?:f|r|rf)?"', "", path.read_text(encoding="utf-8"))
        for path in [*(ROOT / "app").rglob("*.py"), *(ROOT / "templates").rglob("*.html")]
    ).lower()
    table = section("Troubleshoot")
    messages = [
        message for row in re.findall(r"^\| (.+?) \| ", table, re.MULTILINE) for message in re.findall(r"`([^`]+)`", row)
    ]
    assert len(messages) > 15
    from_elsewhere = {"permission denied for table", "No space left"}
    for message in messages:
        if message not in from_elsewhere:
            for part in message.split(" … "):
                assert re.sub(r"^[A-Z_]+: ", "", part).lower() in sources, message


def test_statements_of_the_guide_give_the_rights_that_it_promises(pg18: EmbeddedPostgres) -> None:
    rights, _handed_over, recovery = blocks("sql")
    with psycopg.connect(pg18.url(), autocommit=True) as connection:
        try:
            for statement in [*recovery.split(";"), *rights.split(";")]:
                if statement.strip():
                    connection.execute(statement.encode())
            row = connection.execute(
                "SELECT rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = 'motovaultpro'"
            ).fetchone()
            assert row == (False, True, True)
            owners = connection.execute(
                "SELECT datname, pg_get_userbyid(datdba) FROM pg_database"
                " WHERE datname IN ('motovaultpro', 'motovaultpro_backup') ORDER BY 1"
            ).fetchall()
            assert owners == [("motovaultpro", "motovaultpro"), ("motovaultpro_backup", "motovaultpro_backup")]
        finally:
            for name in ("motovaultpro", "motovaultpro_backup"):
                connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
                connection.execute(f"DROP ROLE IF EXISTS {name}".encode())


def test_the_guide_gives_a_database_of_the_first_superuser_to_a_role_of_its_own(
    pg18: EmbeddedPostgres,
) -> None:
    statements = blocks("sql", section("Rights in PostgreSQL"))[1]
    with psycopg.connect(pg18.url(), autocommit=True) as connection:
        connection.execute("CREATE ROLE motovaultpro LOGIN CREATEDB CREATEROLE PASSWORD 'choose-one'")
        connection.execute("CREATE DATABASE motovaultpro TEMPLATE template0")
        try:
            with psycopg.connect(pg18.url("motovaultpro"), autocommit=True) as owner:
                for made in (
                    'CREATE SCHEMA "Odd name"',
                    "CREATE TYPE colour AS ENUM ('red')",
                    "CREATE DOMAIN positive AS int CHECK (VALUE > 0)",
                    "CREATE TYPE pair AS (a int, b int)",
                    'CREATE TABLE "Odd name".vehicles (id serial, n int GENERATED ALWAYS AS IDENTITY, c colour)',
                    "CREATE TABLE parts (id int) PARTITION BY RANGE (id)",
                    "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (1) TO (10)",
                    "CREATE SEQUENCE alone",
                    'CREATE VIEW seen AS SELECT * FROM "Odd name".vehicles',
                    "CREATE MATERIALIZED VIEW kept AS SELECT 1 AS one",
                    "CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
                    "CREATE PROCEDURE p() LANGUAGE sql AS 'SELECT 1'",
                ):
                    owner.execute(made.encode())
                assert found_by_doctor(pg18.url("motovaultpro")) == "Rights in PostgreSQL, has the statements."
                owner.execute(statements.encode())
                left = owner.execute(
                    "SELECT pg_describe_object(classid, objid, 0) FROM pg_shdepend WHERE refobjid = 'motovaultpro'::regrole"
                    " AND deptype = 'o' AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
                ).fetchall()
                assert len(left) >= 14
                others = owner.execute(
                    "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname !~ '^pg_'"
                    " AND nspname <> 'information_schema' AND pg_get_userbyid(relowner) <> 'motovaultpro'"
                ).fetchall()
                assert others == []
            url = pg18.url("motovaultpro", "motovaultpro", "choose-one")
            assert found_by_doctor(url) == ""
        finally:
            connection.execute("DROP DATABASE motovaultpro WITH (FORCE)")
            connection.execute("DROP ROLE motovaultpro")


def found_by_doctor(url: str) -> str:
    """Return the end of the doctor's advice about a role that is a superuser, or nothing."""
    environment = {"DATABASE_URL": "postgresql://m@127.0.0.1/m", "REDIS_URL": "redis://h", "SECRET_KEY": "k" * 32}
    settings = config.read_settings(environment | {"BACKUP_SOURCE_URL": url, "BACKUP_DOCUMENTS_DIR": "/tmp"})
    advice = [each.advice for each in source.look(settings) if "is a superuser" in each.text]
    return advice[0].partition("guide.md, ")[2] if advice else ""
