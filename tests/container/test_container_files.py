"""Dockerfile and compose.yaml, held against what is really there: settings, commands, folders."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from apiflask import APIFlask

from app import config
from app.container.alive import PROCESSES
from app.container.first_start import FILES
from tests.support import compose

APP_SERVICES = ("init", "migrate", "web", "worker", "scheduler")
STAY = ("web", "worker", "scheduler", "postgres", "valkey")


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The services, with nothing set in .env."""
    found: dict[str, Any] = compose.read()["services"]
    return found


def target(volume: str) -> str:
    return volume.split(":")[1]


def test_every_name_in_the_environment_is_a_setting_and_none_is_forgotten(services: dict[str, Any]) -> None:
    for service in APP_SERVICES:
        names = {name.removesuffix("_FILE") for name in services[service]["environment"]}
        assert names <= set(config.NAMES), service
    assert {name.removesuffix("_FILE") for name in services["web"]["environment"]} == set(config.NAMES)


def test_secrets_are_read_from_the_files_that_the_first_start_makes(services: dict[str, Any]) -> None:
    for service in ("web", "worker", "scheduler", "migrate"):
        environment = services[service]["environment"]
        files = {name.removesuffix("_FILE"): path for name, path in environment.items() if name.endswith("_FILE")}
        assert files == {name: f"/run/backup/{file}" for name, file in FILES.items()}
        assert not set(FILES) & set(environment)
    assert set(FILES) <= set(services["init"]["environment"])


def test_an_empty_env_file_leaves_settings_that_can_be_read(services: dict[str, Any], tmp_path: Path) -> None:
    for name, file in FILES.items():
        (tmp_path / file).write_text(
            {"DATABASE_URL": "postgresql://m:x@postgres/m", "BACKUP_SOURCE_URL": "postgresql://s:x@postgres/s"}.get(name, "")
            or {"REDIS_URL": "redis://valkey:6379/0", "SECRET_KEY": "k" * 40, "ADMIN_PASSWORD": "p" * 12}.get(name, "")
        )
    environment = services["web"]["environment"]
    moved = {name: value.replace("/run/backup/", f"{tmp_path}/") for name, value in environment.items()}
    settings = config.read_settings(moved)
    assert settings.public_url == "http://localhost:8000"
    assert settings.smtp_url is None
    assert str(settings.storage_dir) == "/app/data/backups"


def test_commands_of_the_services_exist(app: APIFlask, services: dict[str, Any]) -> None:
    for service in ("worker", "scheduler"):
        program, command = services[service]["command"]
        assert program == "flask"
        assert command in app.cli.commands
    assert services["init"]["command"][:4] == ["python", "-m", "app.container", "init"]
    assert services["migrate"]["command"][2].endswith("&& flask db upgrade")
    assert compose.image_command()[:2] == ["gunicorn", "wsgi:app"]
    for service in ("web", "worker", "scheduler"):
        assert services[service]["healthcheck"]["test"][1:] == ["python", "-m", "app.container", "alive", service]
        assert service in PROCESSES


def test_archives_and_the_folder_above_the_documents_are_mounted(services: dict[str, Any]) -> None:
    for service in ("init", "web", "worker", "scheduler"):
        assert "./data/backups:/app/data/backups" in services[service]["volumes"]
        places = {target(volume) for volume in services[service]["volumes"]}
        documents = Path(services["web"]["environment"]["BACKUP_DOCUMENTS_DIR"])
        assert str(documents.parent) in places
        assert str(documents) not in places, "a mount point can't be exchanged by renaming it"
    arguments = services["init"]["command"]
    for option, name in (("--storage", "BACKUP_STORAGE_DIR"), ("--documents", "BACKUP_DOCUMENTS_DIR")):
        assert arguments[arguments.index(option) + 1] == services["web"]["environment"][name]


def test_another_folder_of_documents_reaches_every_service() -> None:
    given = {"BACKUP_DOCUMENTS_PARENT": "/srv/app", "BACKUP_DOCUMENTS_NAME": "uploads", "BACKUP_UID": "1000"}
    services = compose.read(given)["services"]
    assert "/srv/app:/app/data/app" in services["worker"]["volumes"]
    assert services["worker"]["environment"]["BACKUP_DOCUMENTS_DIR"] == "/app/data/app/uploads"
    assert "/app/data/app/uploads" in services["init"]["command"]
    assert services["worker"]["user"] == "1000:10001"
    assert services["init"]["command"][-1] == "1000:10001"


def test_named_volumes_are_declared_and_used(services: dict[str, Any]) -> None:
    used = {volume.split(":")[0] for service in services.values() for volume in service["volumes"]}
    assert {name for name in used if not name.startswith(("./", "/"))} == set(compose.read()["volumes"])


def test_only_the_first_start_is_root_and_no_port_is_open_to_the_network(services: dict[str, Any]) -> None:
    users = {name: services[name]["user"].split(":")[0] for name in APP_SERVICES}
    assert {name for name, user in users.items() if user == "0"} == {"init"}
    assert services["init"]["restart"] == "no"
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:8000:8000"]
    assert all(services[name]["cap_drop"] == ["ALL"] for name in APP_SERVICES)


def test_services_that_stay_start_again_are_watched_and_end_in_peace(services: dict[str, Any]) -> None:
    for name in STAY:
        service = services[name]
        assert service["restart"] == "unless-stopped", name
        assert service["healthcheck"]["test"], name
        assert service["stop_grace_period"], name
        assert service["logging"]["options"]["max-size"], name
    assert all(services[name]["init"] is True for name in ("web", "worker", "scheduler"))


def test_tables_are_made_before_anything_else_starts(services: dict[str, Any]) -> None:
    for name in ("web", "worker", "scheduler"):
        needs = services[name]["depends_on"]
        assert needs["migrate"]["condition"] == "service_completed_successfully"
        assert needs["valkey"]["condition"] == "service_healthy"
    assert services["migrate"]["depends_on"]["init"]["condition"] == "service_completed_successfully"
    assert services["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"


def test_what_the_image_copies_is_there_and_is_not_left_out(tmp_path: Path) -> None:
    (tmp_path / "image").mkdir()
    compose.copied_into_image(tmp_path / "image")
    kept = {line[1:] for line in (compose.ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    sources = {source for copied, _ in compose.copies() for source in copied}
    assert sources <= kept
    assert kept <= sources | {"requirements.lock", "requirements-build.lock"}
    assert not (tmp_path / "image" / "app" / "demo").exists()
    assert (tmp_path / "image" / "templates" / "layout.html").exists()


def test_the_image_installs_by_hashes_and_does_not_run_as_root() -> None:
    text = (compose.ROOT / "Dockerfile").read_text()
    assert "--no-deps --require-hashes -r requirements.lock" in text
    assert re.findall(r"^USER (\S+)$", text, re.MULTILINE) == ["10001:10001"]
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"python:3.12-slim"}
