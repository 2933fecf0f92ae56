"""What the demo checks and writes before it starts anything."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from app.demo.__main__ import place_from_environment
from app.demo.config import Place, load_or_make_secrets, process_environment, write_environment_file
from app.demo.processes import StackError
from app.demo.stack import check_web_port, lock_folder


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path / "data", 18000)
    made.make_folders()
    return made


def test_secrets_are_kept_for_the_second_start_in_a_private_file(place: Place) -> None:
    first = load_or_make_secrets(place)
    assert place.secrets_file.stat().st_mode & 0o777 == 0o600
    assert load_or_make_secrets(place) == first
    assert len(set(vars(first).values())) == len(vars(first))


def test_missing_secrets_of_a_filled_folder_are_named(place: Place) -> None:
    (place.postgres / "cluster").mkdir(parents=True)
    with pytest.raises(StackError, match=r"secrets\.json is missing"):
        load_or_make_secrets(place)


def test_broken_secrets_are_named(place: Place) -> None:
    place.secrets_file.write_text("{}")
    with pytest.raises(StackError, match=r"secrets\.json can't be read"):
        load_or_make_secrets(place)


def test_folders_are_private(place: Place) -> None:
    for folder in (place.documents, place.backups, place.logs, place.valkey):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_second_demo_on_a_folder_is_refused_with_the_first_ones_process(place: Place) -> None:
    descriptor = lock_folder(place)
    try:
        with pytest.raises(StackError, match=f"already runs on {place.data_dir} .process {os.getpid()}"):
            lock_folder(place)
    finally:
        os.close(descriptor)
    os.close(lock_folder(place))


def test_taken_port_is_refused_with_an_alternative() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StackError, match=rf"Port {port} .*make demo PORT="):
            check_web_port(port)


@pytest.mark.parametrize("port", ["abc", "0", "70000", "-1"])
def test_impossible_port_is_refused(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    monkeypatch.setenv("PORT", port)
    with pytest.raises(StackError, match="PORT must be a number from 1 to 65535"):
        place_from_environment()


def test_data_dir_that_is_a_file_ends_in_one_plain_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    environment = os.environ | {"DATA_DIR": str(tmp_path / "file"), "PORT": "18000"}
    done = subprocess.run([sys.executable, "-m", "app.demo"], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"DATA_DIR {tmp_path / 'file'} can't be used" in done.stderr


def test_outer_settings_do_not_reach_the_demos_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL_FILE", "SECRET_KEY", "PGHOST", "FLASK_DEBUG", "GUNICORN_CMD_ARGS"):
        monkeypatch.setenv(name, "outer")
    monkeypatch.setenv("SMTP_URL", "smtp://mail.example.org")
    environment = process_environment({"SECRET_KEY": "ours"})
    assert "outer" not in environment.values()
    assert environment["SECRET_KEY"] == "ours"
    assert environment["SMTP_URL"] == "smtp://mail.example.org"


def test_environment_file_is_private_and_read_by_a_shell(place: Place) -> None:
    write_environment_file(place, {"SECRET_KEY": "it's $HOME; `id`"})
    assert place.environment_file.stat().st_mode & 0o777 == 0o600
    script = f'. "{place.environment_file}" && printf %s "$SECRET_KEY"'
    assert subprocess.run(["sh", "-c", script], capture_output=True, text=True).stdout == "it's $HOME; `id`"
