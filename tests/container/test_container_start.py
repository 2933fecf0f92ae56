"""The first start in containers: secrets, folders, owners, databases. The owner is whoever runs the tests."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

import psycopg
import pytest

from app.config import derive_signing_key, read_settings
from app.container import databases
from app.container.first_start import FILES, Order, StartError, prepare, read_owner
from app.container.slim import needed
from app.demo.servers import EmbeddedPostgres

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: folders that belong to others")


@pytest.fixture
def order(tmp_path: Path) -> Order:
    """An order for a machine where nothing is there yet."""
    names = ("secrets", "postgres", "valkey", "backups", "app/documents")
    return Order(*(tmp_path / name for name in names), os.geteuid(), os.getegid())


def start(order: Order, environ: Mapping[str, str] | None = None) -> str:
    return "\n".join(prepare(order, environ or {}))


def secret(order: Order, name: str) -> str:
    return (order.secrets / FILES[name]).read_text()


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_the_first_start_makes_what_is_missing_and_prints_no_secret(order: Order) -> None:
    said = start(order, {"ADMIN_EMAIL": "me@example.com"})
    assert "Sign in as me@example.com" in said
    assert f"docker compose exec web cat {order.secrets}/admin_password" in said
    assert order.documents.is_dir()
    assert stat.S_IMODE(order.storage.stat().st_mode) == 0o700
    assert not any(text and text in said for text in contents(order.secrets).values())
    assert {stat.S_IMODE(path.stat().st_mode) for path in order.secrets.iterdir()} == {0o400}
    settings = read_settings(
        {f"{name}_FILE": str(order.secrets / file) for name, file in FILES.items()} | {"BACKUP_DOCUMENTS_DIR": "/documents"}
    )
    assert settings.source_url.startswith("postgresql://motovaultpro:")
    assert settings.signing_key_text == derive_signing_key(secret(order, "SECRET_KEY"))
    assert f"requirepass {settings.redis_url.split(':')[2].split('@')[0]}\n" in (order.valkey / "valkey.conf").read_text()


def test_every_start_says_how_to_sign_in(order: Order) -> None:
    start(order)
    said = start(order, {"ADMIN_EMAIL": "me@example.com"})
    assert "Sign in as me@example.com" in said
    assert "docker compose exec web flask admin password me@example.com" in said


def test_settings_that_no_process_could_start_with_are_refused_before_anything_changes(order: Order) -> None:
    start(order)
    before = contents(order.secrets)
    with pytest.raises(StartError, match="BACKUP_SOURCE_URL must look like"):
        start(order, {"BACKUP_SOURCE_URL": "mysql://app@db/app", "SMTP_URL": "smtp://mail.example.org"})
    assert contents(order.secrets) == before


def test_a_second_stack_that_compose_takes_for_the_first_is_stopped(order: Order, tmp_path: Path) -> None:
    start(order)
    before = contents(order.secrets)
    servers, owner = (order.secrets, order.postgres, order.valkey), (order.uid, order.gid)
    second = Order(*servers, tmp_path / "b", tmp_path / "d/documents", *owner)
    second.storage.mkdir()
    with pytest.raises(StartError, match="COMPOSE_PROJECT_NAME"):
        start(second)
    assert contents(order.secrets) == before
    assert list(second.storage.iterdir()) == []
    # The folder of archives was moved, as the message says.
    order.storage.rename(tmp_path / "moved")
    moved = Order(*servers, tmp_path / "moved", order.documents, *owner)
    start(moved)
    # The machine is gone, and its volumes: the folder goes with the new ones.
    new = Order(*(tmp_path / name for name in ("s", "p", "v")), tmp_path / "moved", order.documents, *owner)
    start(new)
    assert (new.secrets / "installation").read_text() == before["installation"]


@AS_ROOT
def test_documents_of_several_owners_are_taken_by_root_whoever_owns_their_folder(order: Order) -> None:
    order.documents.mkdir(parents=True)
    (order.documents / "invoice.pdf").touch()
    os.chown(order.documents, 1234, 1235)
    os.chown(order.documents / "invoice.pdf", 33, 33)
    root = Order(order.secrets, order.postgres, order.valkey, order.storage, order.documents, 0, 0)
    start(root)
    assert (order.documents.stat().st_uid, (order.documents / "invoice.pdf").stat().st_uid) == (1234, 33)


def test_a_second_start_changes_nothing(order: Order) -> None:
    start(order)
    before = contents(order.secrets)
    (order.documents / "invoice.pdf").write_bytes(b"pdf")
    assert "Secrets were created" not in start(order)
    assert contents(order.secrets) == before
    assert (order.documents / "invoice.pdf").read_bytes() == b"pdf"


def test_what_env_gives_replaces_what_was_made_and_goes_with_it(order: Order) -> None:
    start(order)
    generated = secret(order, "SECRET_KEY")
    start(order, {"BACKUP_SOURCE_URL": "postgresql://mine@db/app", "SMTP_URL": "smtp://mail", "SECRET_KEY": "k" * 40})
    assert secret(order, "BACKUP_SOURCE_URL") == "postgresql://mine@db/app"
    assert secret(order, "SECRET_KEY") == "k" * 40 != generated
    start(order)
    assert secret(order, "SMTP_URL") == ""
    assert secret(order, "BACKUP_SOURCE_URL").startswith("postgresql://motovaultpro:")
    assert secret(order, "SECRET_KEY") == "k" * 40, "a key that is in use is not thrown away"


def test_archives_without_their_key_stop_the_start_until_it_is_given(order: Order) -> None:
    order.storage.mkdir()
    (order.storage / "motovaultpro_backup_20260101_000000.tar.gz").write_bytes(b"archive")
    with pytest.raises(StartError, match="BACKUP_SIGNING_KEY"):
        start(order)
    assert not (order.secrets / FILES["SECRET_KEY"]).exists()
    start(order, {"BACKUP_SIGNING_KEY": "s" * 64})
    assert secret(order, "BACKUP_SIGNING_KEY") == "s" * 64


@AS_ROOT
def test_documents_of_another_user_stop_the_start_with_the_lines_to_write(order: Order) -> None:
    order.documents.mkdir(parents=True)
    (order.documents / "invoice.pdf").touch()
    os.chown(order.documents, 1234, 1235)
    stranger = Order(order.secrets, order.postgres, order.valkey, order.storage, order.documents, 10001, 10001)
    with pytest.raises(StartError, match="BACKUP_UID=1234 and BACKUP_GID=1235"):
        start(stranger)
    assert order.documents.stat().st_uid == 1234
    # Nothing was changed under the feet of what runs.
    assert not order.storage.exists()
    assert not order.secrets.exists()
    start(Order(order.secrets, order.postgres, order.valkey, order.storage, order.documents, 1234, 1235))


@AS_ROOT
def test_folders_that_docker_made_as_root_get_their_owner(order: Order) -> None:
    order.documents.parent.mkdir()
    order.storage.mkdir()
    (order.storage / "motovaultpro_backup_20260101_000000.tar.gz").write_bytes(b"archive")
    stranger = Order(order.secrets, order.postgres, order.valkey, order.storage, order.documents, 10001, 10002)
    start(stranger, {"SECRET_KEY": "k" * 40})
    folders = [order.storage, *order.storage.iterdir(), order.documents, order.documents.parent, order.secrets]
    assert {(path.stat().st_uid, path.stat().st_gid) for path in folders} == {(10001, 10002)}
    assert (order.secrets / "servers.json").stat().st_uid == 0


@AS_ROOT
def test_a_shared_folder_above_the_documents_is_left_alone_and_named(order: Order) -> None:
    order.documents.mkdir(parents=True)
    os.chown(order.documents, 10001, 10001)
    (order.documents.parent / "something-else").mkdir()
    said = start(Order(order.secrets, order.postgres, order.valkey, order.storage, order.documents, 10001, 10001))
    assert f"WARNING: user 10001 may not write to {order.documents.parent}" in said
    assert order.documents.parent.stat().st_uid == 0


def test_an_owner_that_is_no_number_is_refused() -> None:
    assert read_owner("1000:100") == (1000, 100)
    with pytest.raises(StartError, match="BACKUP_UID"):
        read_owner("me:me")


def test_databases_are_made_once_and_owned_by_roles_that_are_no_superusers(order: Order, pg18: EmbeddedPostgres) -> None:
    address = f"127.0.0.1:{pg18.port}"
    given = {
        "DATABASE_URL": f"postgresql://first_meta:m%40ta@{address}/first_meta",
        "BACKUP_SOURCE_URL": f"postgresql://first_app:word@{address}/first_app_data",
    }
    start(order, given)
    password = order.postgres / "password"
    password.chmod(0o600)
    password.write_text(pg18.password)
    try:
        for _ in range(2):
            databases.make_all(order.secrets, order.postgres, "127.0.0.1")
        with psycopg.connect(given["DATABASE_URL"]) as connection:
            row = connection.execute("SELECT rolsuper, rolcreatedb FROM pg_roles WHERE rolname = current_user").fetchone()
            assert row == (False, False)
        with psycopg.connect(given["BACKUP_SOURCE_URL"]) as connection:
            row = connection.execute("SELECT rolsuper, rolcreatedb FROM pg_roles WHERE rolname = current_user").fetchone()
            assert row == (False, True)
            connection.execute("CREATE TABLE public.vehicles (id int)")
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            psycopg.connect(given["DATABASE_URL"].removesuffix("first_meta") + "first_app_data")
    finally:
        with psycopg.connect(pg18.url(), autocommit=True) as connection:
            for name in ("first_meta", "first_app_data"):
                connection.execute(f"DROP DATABASE IF EXISTS {name}")
            for name in ("first_meta", "first_app"):
                connection.execute(f"DROP ROLE IF EXISTS {name}")


def test_databases_elsewhere_are_left_to_their_owner(order: Order, pg18: EmbeddedPostgres) -> None:
    start(order, {"DATABASE_URL": "postgresql://a@db.example/a", "BACKUP_SOURCE_URL": "postgresql://b@db.example/b"})
    databases.make_all(order.secrets, order.postgres, "127.0.0.1")


def test_the_image_keeps_what_the_app_imports_and_leaves_out_what_tests_need() -> None:
    kept = needed(["flask", "psycopg[binary]", "rq-scheduler"])
    assert {"flask", "werkzeug", "psycopg", "psycopg-binary", "rq", "redis"} <= kept
    assert not {"pytest", "playwright", "mypy"} & kept
