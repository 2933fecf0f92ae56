"""The environment as settings: what is wrong is named, all of it at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.config import NAMES, SETTINGS_BY_SUBJECT, ConfigError, derive_signing_key, read_settings, read_signing_key
from app.engine.errors import SourceError, Subject

GOOD = {
    "DATABASE_URL": "postgresql://meta:meta-secret@localhost/meta",
    "REDIS_URL": "redis://:redis-secret@localhost:6379/0",
    "SECRET_KEY": "a secret key for the tests",
    "BACKUP_SOURCE_URL": "postgresql://app:s%40urce-secret@localhost/app",
    "BACKUP_DOCUMENTS_DIR": "/srv/documents",
}


def problems(**changes: str) -> list[str]:
    """Return the problems of a good environment with these changes."""
    with pytest.raises(ConfigError) as caught:
        read_settings({name: value for name, value in (GOOD | changes).items() if value})
    return caught.value.problems


def test_the_defaults_are_those_of_the_contract() -> None:
    settings = read_settings(GOOD)
    assert settings.app_name == "motovaultpro"
    assert settings.storage_dir == Path("data/backups").absolute()
    assert settings.sqlalchemy_url == "postgresql+psycopg://meta:meta-secret@localhost/meta"
    assert settings.pg_bin_dir is None
    assert settings.log_format == "console"
    assert read_settings(GOOD | {"LOG_FORMAT": "json"}).log_format == "json"
    assert problems(LOG_FORMAT="xml")[0].startswith("LOG_FORMAT ")


def test_everything_that_is_missing_is_said_at_once_and_by_name() -> None:
    with pytest.raises(ConfigError) as caught:
        read_settings({})
    assert [line.split(" ")[0] for line in caught.value.problems] == list(GOOD)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://localhost/x"),
        ("DATABASE_URL", "postgresql://localhost"),
        ("BACKUP_SOURCE_URL", "nonsense"),
        ("REDIS_URL", "http://localhost"),
        ("SECRET_KEY", "short"),
        ("BACKUP_SIGNING_KEY", "short"),
        ("BACKUP_APP_NAME", "../evil"),
        ("PG_BIN_DIR", "/nowhere/at/all"),
        ("SMTP_URL", "mail.example.com"),
        ("PUBLIC_URL", "backup.example.com"),
        ("ADMIN_EMAIL", "nobody"),
        ("ADMIN_PASSWORD", "short"),
        ("TRUSTED_PROXY_HOPS", "many"),
        ("BACKUP_UPLOAD_MAX_BYTES", "1 GB"),
        ("BACKUP_UNDO_HOURS", "0"),
    ],
)
def test_a_wrong_value_is_one_line_that_begins_with_the_setting(name: str, value: str) -> None:
    (line,) = problems(**{name: value})
    assert line.startswith(f"{name} ")
    assert "\n" not in line


def test_the_same_database_twice_is_refused_with_the_reason() -> None:
    (line,) = problems(BACKUP_SOURCE_URL=GOOD["DATABASE_URL"])
    assert "are the same database" in line


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a secret key from a file\n")
    environment = {name: value for name, value in GOOD.items() if name != "SECRET_KEY"}
    assert read_settings(environment | {"SECRET_KEY_FILE": str(secret)}).secret_key == "a secret key from a file"


def test_a_file_that_is_missing_or_doubled_is_named(tmp_path: Path) -> None:
    assert problems(ADMIN_PASSWORD_FILE=str(tmp_path / "none"))[0].startswith("ADMIN_PASSWORD_FILE can't be read")
    assert problems(SECRET_KEY_FILE="/x") == ["SECRET_KEY and SECRET_KEY_FILE are both set. Remove one of them."]


def test_no_problem_and_no_repr_holds_a_secret() -> None:
    settings = read_settings(GOOD | {"ADMIN_PASSWORD": "admin-secret"})
    text = repr(settings) + "".join(problems(BACKUP_APP_NAME="A", SMTP_URL="smtp-secret"))
    assert "secret-" not in text
    assert not any(secret in text for secret in settings.secrets())


def test_secrets_are_blotted_out_quoted_and_unquoted() -> None:
    settings = read_settings(GOOD)
    text = settings.redact("meta-secret s@urce-secret s%40urce-secret a secret key for the tests, and the rest")
    assert text == "*** *** *** ***, and the rest"


def test_users_read_the_setting_of_each_subject_that_the_engine_names() -> None:
    assert set(SETTINGS_BY_SUBJECT) == {subject.value for subject in Subject}
    assert set(SETTINGS_BY_SUBJECT.values()) <= set(NAMES)
    error = SourceError(Subject.TOOLS, f"no pg_dump; use another role in {Subject.SOURCE}")
    shown = read_settings(GOOD).redact(str(error))
    assert shown == "PG_BIN_DIR: no pg_dump; use another role in BACKUP_SOURCE_URL"


def test_the_signing_key_follows_from_the_secret_key_and_can_be_carried_over() -> None:
    derived = read_settings(GOOD)
    assert derived.signing_key_text == derive_signing_key(GOOD["SECRET_KEY"])
    moved = read_settings(GOOD | {"SECRET_KEY": "another secret key", "BACKUP_SIGNING_KEY": derived.signing_key_text})
    assert moved.signing_key == derived.signing_key
    assert read_settings(GOOD | {"SECRET_KEY": "another secret key"}).signing_key != derived.signing_key


def test_the_signing_key_is_read_where_nothing_else_is_set(tmp_path: Path) -> None:
    derived = derive_signing_key(GOOD["SECRET_KEY"]).encode()
    file = tmp_path / "key"
    file.write_text("a signing key of its own\n")
    assert read_signing_key({}) is None
    assert read_signing_key({"SECRET_KEY": GOOD["SECRET_KEY"]}) == derived == read_settings(GOOD).signing_key
    assert read_signing_key({"BACKUP_SIGNING_KEY_FILE": str(file), "SECRET_KEY": "x"}) == b"a signing key of its own"
    with pytest.raises(ConfigError, match="BACKUP_SIGNING_KEY_FILE"):
        read_signing_key({"BACKUP_SIGNING_KEY_FILE": str(tmp_path / "none")})
