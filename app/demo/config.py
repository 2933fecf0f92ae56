"""The demo's locations, secrets, and the environment of its processes."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from app.demo.processes import StackError, private_folder

APP_NAME = "motovaultpro"
METADATA_NAME = "motovaultpro_backup"
ADMIN_EMAIL = "admin@example.org"
# Settings that the demo provides itself, and others that would change how its processes reach their servers.
OWN_SETTINGS = {
    "DATABASE_URL",
    "REDIS_URL",
    "SECRET_KEY",
    "BACKUP_SIGNING_KEY",
    "BACKUP_SOURCE_URL",
    "BACKUP_DOCUMENTS_DIR",
    "BACKUP_STORAGE_DIR",
    "BACKUP_APP_NAME",
    "PUBLIC_URL",
    "ADMIN_EMAIL",
    "ADMIN_PASSWORD",
}
FOREIGN_PREFIXES = ("PG", "FLASK_", "GUNICORN_")


@dataclass(frozen=True)
class Place:
    """The demo's folder and port, with the names of everything below the folder."""

    data_dir: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def postgres(self) -> Path:
        return self.data_dir / "postgres"

    @property
    def valkey(self) -> Path:
        return self.data_dir / "valkey"

    @property
    def documents(self) -> Path:
        # One level down: a restore swaps this folder with one beside it.
        return self.data_dir / "app" / "documents"

    @property
    def backups(self) -> Path:
        return self.data_dir / "backups"

    @property
    def logs(self) -> Path:
        return self.data_dir / "logs"

    @property
    def secrets_file(self) -> Path:
        return self.data_dir / "secrets.json"

    @property
    def environment_file(self) -> Path:
        return self.data_dir / "demo.env"

    def make_folders(self) -> None:
        """Create missing folders. Raise StackError if that is not permitted."""
        try:
            if not self.data_dir.exists():
                # When run as root, PostgreSQL's own user must be able to traverse it; every folder inside is private.
                self.data_dir.mkdir(parents=True)
                self.data_dir.chmod(0o711 if os.geteuid() == 0 else 0o700)
            for folder in (self.valkey, self.documents.parent, self.documents, self.backups, self.logs):
                private_folder(folder)
        except OSError as error:
            raise StackError(
                f"DATA_DIR {self.data_dir} can't be used ({error.strerror}: {error.filename}): choose another folder."
            ) from None


@dataclass(frozen=True)
class Secrets:
    """The generated keys and passwords, the same at every start with the same folder."""

    secret_key: str
    admin_password: str
    postgres_password: str
    app_password: str
    metadata_password: str
    valkey_password: str
    admin_email: str = ADMIN_EMAIL


def write_private(path: Path, text: str) -> None:
    """Replace the file's content atomically, with mode 0600."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    temporary.rename(path)


def load_or_make_secrets(place: Place) -> Secrets:
    """Return a place's secrets, creating them at the first start. Raise StackError if they can't be read."""
    path = place.secrets_file
    try:
        return Secrets(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        if (place.postgres / "cluster").exists():
            raise StackError(f"{path} is missing, so nobody can log in: remove {place.data_dir} to start over.") from None
    except (OSError, ValueError, TypeError) as error:
        raise StackError(f"{path} can't be read ({error}): restore it, or remove {place.data_dir}.") from None
    made = Secrets(
        secret_key=secrets.token_hex(32),
        admin_password=secrets.token_urlsafe(12),
        postgres_password=secrets.token_urlsafe(24),
        app_password=secrets.token_urlsafe(24),
        metadata_password=secrets.token_urlsafe(24),
        valkey_password=secrets.token_urlsafe(24),
    )
    write_private(path, json.dumps(vars(made), indent=2) + "\n")
    return made


def given_admin(environ: Mapping[str, str]) -> dict[str, str]:
    """Return ADMIN_EMAIL and ADMIN_PASSWORD, or the content of their files, as fields of Secrets. Raise StackError."""
    found = {}
    for name in ("ADMIN_EMAIL", "ADMIN_PASSWORD"):
        value = environ.get(name, "")
        if path := environ.get(f"{name}_FILE"):
            try:
                value = value or Path(path).read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                raise StackError(f"{name}_FILE can't be read: {error}") from None
        if value:
            found[name.lower()] = value
    return found


def process_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the demo's processes: ours, without conflicting settings."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.removesuffix("_FILE") not in OWN_SETTINGS and not name.startswith(FOREIGN_PREFIXES)
    }
    return kept | dict(settings) | {"TZ": "UTC", "PYTHONUNBUFFERED": "1"}


def write_environment_file(place: Place, settings: Mapping[str, str]) -> None:
    """Write the settings for a shell, so that `flask` commands can be used beside the demo."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in settings.items()]
    flask = Path(sys.executable).with_name("flask")
    head = f"# Usage:  .  {place.environment_file} && {flask} backup list"
    write_private(place.environment_file, "\n".join([head, *lines]) + "\n")
