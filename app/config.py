"""Read the environment once into a frozen `Settings`. All problems are collected, each named by its setting."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

NAMES = (
    "DATABASE_URL",
    "REDIS_URL",
    "SECRET_KEY",
    "BACKUP_SIGNING_KEY",
    "BACKUP_SOURCE_URL",
    "BACKUP_DOCUMENTS_DIR",
    "BACKUP_STORAGE_DIR",
    "BACKUP_APP_NAME",
    "PG_BIN_DIR",
    "SMTP_URL",
    "MAIL_FROM",
    "PUBLIC_URL",
    "ADMIN_EMAIL",
    "ADMIN_PASSWORD",
    "TRUSTED_PROXY_HOPS",
    "BACKUP_UPLOAD_MAX_BYTES",
    "BACKUP_UNDO_HOURS",
    "METRICS_ALLOW",
    "LOG_FORMAT",
    "RATE_LIMIT_FACTOR",
)
SETTINGS_BY_SUBJECT = {
    "[source]": "BACKUP_SOURCE_URL",
    "[documents]": "BACKUP_DOCUMENTS_DIR",
    "[storage]": "BACKUP_STORAGE_DIR",
    "[tools]": "PG_BIN_DIR",
}
"""The marks in the engine's messages (app.engine.errors.Subject), and the settings that they stand for."""

REQUIRED = ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "BACKUP_SOURCE_URL", "BACKUP_DOCUMENTS_DIR")
SECRET_LENGTH = 16
LOG_FORMATS = ("console", "json")
PASSWORD_LENGTH = 10


class ConfigError(Exception):
    """The settings are invalid. `problems` has one line for each, beginning with the setting's name."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class Settings:
    """The settings from the environment. Secrets are left out of its repr."""

    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    secret_key: str = field(repr=False)
    signing_key_text: str = field(repr=False)
    source_url: str = field(repr=False)
    documents_dir: Path
    storage_dir: Path = Path("data/backups")
    app_name: str = "motovaultpro"
    pg_bin_dir: Path | None = None
    smtp_url: str | None = field(default=None, repr=False)
    mail_from: str | None = None
    public_url: str | None = None
    admin_email: str | None = None
    admin_password: str | None = field(default=None, repr=False)
    trusted_proxy_hops: int = 0
    upload_max_bytes: int | None = None
    undo_hours: int = 24
    metrics_allow: tuple[str, ...] = ()
    log_format: str = "console"
    rate_limit_factor: float = 1.0
    # The content of each NAME_FILE when it was read: name to (path, value).
    files: Mapping[str, tuple[Path, str]] = field(default_factory=dict, repr=False, compare=False)

    def changed_files(self) -> dict[str, str]:
        """Return the settings whose NAME_FILE has changed since it was read, with their new values.

        A file that can't be read counts as unchanged: no process could restart with it, so none should exit.
        """
        now = {name: _now_in(path, value) for name, (path, value) in self.files.items()}
        return {name: value for name, value in now.items() if value != self.files[name][1]}

    @property
    def signing_key(self) -> bytes:
        """The key of the archives' HMAC: the bytes of BACKUP_SIGNING_KEY's text."""
        return self.signing_key_text.encode()

    @property
    def sqlalchemy_url(self) -> str:
        """DATABASE_URL with psycopg 3 as its driver."""
        return re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql+psycopg://", self.database_url)

    @property
    def metadata_dsn(self) -> str:
        """DATABASE_URL in libpq's form."""
        return re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql://", self.database_url)

    @property
    def https(self) -> bool:
        """Whether browsers reach the pages by HTTPS."""
        return (self.public_url or "").startswith("https://")

    def secrets(self) -> list[str]:
        """Return every value that must not appear in a log, an error or a page, longest first."""
        urls = [self.database_url, self.redis_url, self.source_url, self.smtp_url or ""]
        passwords = [unquote(urlsplit(url).password or "") for url in urls]
        quoted = [urlsplit(url).password or "" for url in urls]
        found = {self.secret_key, self.signing_key_text, self.admin_password or "", *passwords, *quoted}
        return sorted((secret for secret in found if len(secret) >= 4), key=len, reverse=True)

    def redact(self, text: str) -> str:
        """Make a text fit for users and logs: no secret in it, and the settings by their names."""
        for secret in self.secrets():
            text = text.replace(secret, "***")
        return name_settings(text)


def name_settings(text: str) -> str:
    """Replace the subjects that a message of the engine names by the settings which configure them."""
    for subject, setting in SETTINGS_BY_SUBJECT.items():
        text = text.replace(subject, setting)
    return text


def derive_signing_key(secret_key: str) -> str:
    """Derive the signing key from SECRET_KEY, as 64 hexadecimal digits."""
    kdf = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"motovaultpro-backup archive signing key, version 1")
    return kdf.derive(secret_key.encode()).hex()


def read_signing_key(environ: Mapping[str, str] | None = None) -> bytes | None:
    """Return the archives' signing key from BACKUP_SIGNING_KEY or SECRET_KEY alone, or None if neither is set. Raise
    ConfigError if a key's file can't be read."""
    values, problems = _read_values(os.environ if environ is None else environ)
    problems = [problem for problem in problems if problem.startswith(("SECRET_KEY", "BACKUP_SIGNING_KEY"))]
    if problems:
        raise ConfigError(problems)
    text = values.get("BACKUP_SIGNING_KEY")
    if text is None and "SECRET_KEY" in values:
        text = derive_signing_key(values["SECRET_KEY"])
    return text.encode() if text is not None else None


def read_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from an environment (default: the process's own).

    Raise ConfigError with one line per problem, all of them at once.
    """
    environ = os.environ if environ is None else environ
    values, problems = _read_values(environ)
    # Remember empty files, too: they may be filled later.
    files = {name: (Path(path), values.get(name, "")) for name in NAMES if (path := environ.get(f"{name}_FILE"))}
    problems += [f"{name} is missing. Set it, or {name}_FILE." for name in REQUIRED if not values.get(name)]
    problems += _check_urls(values)
    problems += _check_rest(values)
    if problems:
        raise ConfigError(problems)
    return Settings(
        database_url=values["DATABASE_URL"],
        redis_url=values["REDIS_URL"],
        secret_key=values["SECRET_KEY"],
        signing_key_text=values.get("BACKUP_SIGNING_KEY") or derive_signing_key(values["SECRET_KEY"]),
        source_url=values["BACKUP_SOURCE_URL"],
        documents_dir=Path(values["BACKUP_DOCUMENTS_DIR"]).absolute(),
        storage_dir=Path(values.get("BACKUP_STORAGE_DIR", "data/backups")).absolute(),
        app_name=values.get("BACKUP_APP_NAME", "motovaultpro"),
        pg_bin_dir=Path(values["PG_BIN_DIR"]).absolute() if "PG_BIN_DIR" in values else None,
        smtp_url=values.get("SMTP_URL"),
        mail_from=values.get("MAIL_FROM"),
        public_url=values.get("PUBLIC_URL"),
        admin_email=values.get("ADMIN_EMAIL"),
        admin_password=values.get("ADMIN_PASSWORD"),
        trusted_proxy_hops=int(values.get("TRUSTED_PROXY_HOPS", "0")),
        upload_max_bytes=int(values["BACKUP_UPLOAD_MAX_BYTES"]) if "BACKUP_UPLOAD_MAX_BYTES" in values else None,
        undo_hours=int(values.get("BACKUP_UNDO_HOURS", "24")),
        metrics_allow=tuple(values.get("METRICS_ALLOW", "").replace(",", " ").split()),
        log_format=values.get("LOG_FORMAT", "console"),
        rate_limit_factor=float(values.get("RATE_LIMIT_FACTOR", "1")),
        files=files,
    )


def _read_values(environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    values: dict[str, str] = {}
    problems: list[str] = []
    for name in NAMES:
        file_name = environ.get(f"{name}_FILE", "")
        if environ.get(name):
            values[name] = environ[name]
            if file_name:
                problems.append(f"{name} and {name}_FILE are both set. Remove one of them.")
        elif file_name:
            try:
                values[name] = _file_value(Path(file_name))
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
                problems.append(f"{name}_FILE can't be read: {file_name}: {reason}.")
    return {name: value for name, value in values.items() if value}, problems


def _file_value(path: Path) -> str:
    return path.read_text(encoding="utf-8").rstrip("\r\n")


def _now_in(path: Path, otherwise: str) -> str:
    try:
        return _file_value(path)
    except (OSError, UnicodeDecodeError):
        return otherwise


def _check_urls(values: dict[str, str]) -> list[str]:
    problems = []
    for name in ("DATABASE_URL", "BACKUP_SOURCE_URL"):
        if name in values and not _is_postgresql_url(values[name]):
            problems.append(f"{name} must look like postgresql://user:password@host:5432/database.")
    if "REDIS_URL" in values and not re.match(r"^(rediss?|unix)://", values["REDIS_URL"]):
        problems.append("REDIS_URL must begin with redis://, rediss:// or unix://.")
    if "SMTP_URL" in values and not re.match(r"^smtps?://[^/]", values["SMTP_URL"]):
        problems.append("SMTP_URL must look like smtp://user:password@host:587 (or smtps://).")
    if "PUBLIC_URL" in values and not re.match(r"^https?://[^/]", values["PUBLIC_URL"]):
        problems.append("PUBLIC_URL must begin with http:// or https://, as in the browser's address bar.")
    same = values.get("DATABASE_URL") and values.get("DATABASE_URL") == values.get("BACKUP_SOURCE_URL")
    return problems + ([SAME_DATABASE] if same else [])


SAME_DATABASE = (
    "DATABASE_URL and BACKUP_SOURCE_URL are the same database. "
    "Use a separate database for the backup history, or a restore would overwrite it."
)


def _is_postgresql_url(url: str) -> bool:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return False
    return parsed.drivername.split("+")[0] in ("postgresql", "postgres") and bool(parsed.database)


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _check_rest(values: dict[str, str]) -> list[str]:  # noqa: C901 - one line a setting
    problems = []
    for name in ("SECRET_KEY", "BACKUP_SIGNING_KEY"):
        if name in values and len(values[name]) < SECRET_LENGTH:
            problems.append(f"{name} is too short: use at least {SECRET_LENGTH} random characters.")
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,49}", values.get("BACKUP_APP_NAME", "a")):
        problems.append("BACKUP_APP_NAME may contain only lower-case letters, digits, '-' and '_', at most 50 of them.")
    if "PG_BIN_DIR" in values and not Path(values["PG_BIN_DIR"]).is_dir():
        problems.append("PG_BIN_DIR is not a directory. Point it at the directory that contains pg_dump, or leave it out.")
    if "ADMIN_EMAIL" in values and "@" not in values["ADMIN_EMAIL"]:
        problems.append("ADMIN_EMAIL is not an email address.")
    if "ADMIN_PASSWORD" in values and len(values["ADMIN_PASSWORD"]) < PASSWORD_LENGTH:
        problems.append(f"ADMIN_PASSWORD is too short: use at least {PASSWORD_LENGTH} characters.")
    if not values.get("TRUSTED_PROXY_HOPS", "0").isdigit():
        problems.append("TRUSTED_PROXY_HOPS must be the number of reverse proxies in front of the web process.")
    if not values.get("BACKUP_UPLOAD_MAX_BYTES", "1").isdigit():
        problems.append("BACKUP_UPLOAD_MAX_BYTES must be a number of bytes; leave it out to be limited only by the disk.")
    for network in values.get("METRICS_ALLOW", "").replace(",", " ").split():
        if not _is_network(network):
            problems.append(f"METRICS_ALLOW must name addresses or networks such as 10.0.0.0/8, not {network!r}.")
    if not re.fullmatch(r"\d{1,4}(\.\d{1,3})?", values.get("RATE_LIMIT_FACTOR", "1")):
        problems.append("RATE_LIMIT_FACTOR must be a number such as 2.5: it multiplies the limits; 0 removes them.")
    if values.get("LOG_FORMAT", "console") not in LOG_FORMATS:
        problems.append("LOG_FORMAT must be console (lines for people) or json (one object per line).")
    if not re.fullmatch(r"[1-9]\d{0,4}", values.get("BACKUP_UNDO_HOURS", "24")):
        problems.append("BACKUP_UNDO_HOURS must be the number of hours, from 1, for which a restore can be undone.")
    return problems
