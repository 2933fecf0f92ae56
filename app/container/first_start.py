"""Create secrets, folders and permissions, in a container that runs as root once, before all others.

The secrets are in volumes, one file each, and are read through the settings' NAME_FILE. Values in .env replace generated
ones. Passwords are never printed.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from app.config import ConfigError, read_settings
from app.engine.system.folders import all_below, open_root

# Files in the volume of secrets; settings of these names are read from them.
FILES = {
    "SECRET_KEY": "secret_key",
    "BACKUP_SIGNING_KEY": "backup_signing_key",
    "DATABASE_URL": "database_url",
    "REDIS_URL": "redis_url",
    "BACKUP_SOURCE_URL": "backup_source_url",
    "SMTP_URL": "smtp_url",
    "ADMIN_PASSWORD": "admin_password",
}
GENERATED = ("SECRET_KEY", "ADMIN_PASSWORD")
SERVERS_FILE = "servers.json"
INSTALLATION_FILE = "installation"
PASSWORD_FILE = "password"
METADATA_ROLE, SOURCE_ROLE = "motovaultpro_backup", "motovaultpro"
VALKEY = """\
# Made by `python -m app.container init`.
bind * -::*
port 6379
requirepass {password}
appendonly yes
maxmemory-policy noeviction
"""


class StartError(Exception):
    """The operator has to make a decision first. str() says which."""


@dataclass(frozen=True)
class Order:
    """The locations of everything, and the user that the other containers run as."""

    secrets: Path
    postgres: Path
    valkey: Path
    storage: Path
    documents: Path
    uid: int
    gid: int


def read_owner(text: str) -> tuple[int, int]:
    """Parse "UID:GID". Raise StartError."""
    match = re.fullmatch(r"(\d{1,10}):(\d{1,10})", text)
    if match is None:
        raise StartError(f"BACKUP_UID and BACKUP_GID must be numbers, not {text!r}. `id -u` and `id -g` print yours.")
    return int(match[1]), int(match[2])


def prepare(order: Order, environ: Mapping[str, str]) -> Iterator[str]:
    """Create what is missing, and yield lines for people. Raise StartError.

    It runs at every start, and changes nothing that exists except the owner of our own files.
    """
    try:
        # Everything that may need a decision comes first: until it is made, nothing changes.
        _check_settings(order, environ)
        _check_key(order, environ)
        _check_installation(order)
        _check_documents(order)
        yield from _storage(order)
        yield from _documents(order)
        yield from _secrets(order, environ)
    except PermissionError as error:
        raise StartError(
            f"{error.filename} can't be prepared: {error.strerror}. This step must run as root; if the folder is on a "
            f"network disk that refuses it, change its owner to {order.uid}:{order.gid} by hand."
        ) from error


def _storage(order: Order) -> Iterator[str]:
    order.storage.mkdir(parents=True, exist_ok=True)
    changed = 0
    # This runs as root in a folder of somebody else, who may replace any path with a link.
    root = open_root(order.storage)
    if (os.fstat(root.fd).st_uid, os.fstat(root.fd).st_gid) != (order.uid, order.gid):
        os.chown(root.fd, order.uid, order.gid)
        changed += 1
    for folder, name, _, info in all_below(root):
        if info is not None and (info.st_uid, info.st_gid) != (order.uid, order.gid):
            os.chown(name, order.uid, order.gid, dir_fd=folder.fd, follow_symlinks=False)
            changed += 1
    order.storage.chmod(0o700)
    if changed:
        yield f"{order.storage} now belongs to {order.uid}:{order.gid}."


def _check_settings(order: Order, environ: Mapping[str, str]) -> None:
    """Refuse settings that every other process would refuse at its start."""
    stand_in = {
        "SECRET_KEY": secrets.token_hex(32),
        "DATABASE_URL": "postgresql://m@h/m",
        "BACKUP_SOURCE_URL": "postgresql://s@h/s",
    }
    given = {name: environ[name] for name in FILES if environ.get(name)}
    rest = {"REDIS_URL": "redis://h", "BACKUP_DOCUMENTS_DIR": str(order.documents)}
    try:
        read_settings(stand_in | rest | given)
    except ConfigError as error:
        raise StartError(f"A setting in .env can't be used; nothing was changed.\n{error}") from None


def _check_documents(order: Order) -> None:
    live = order.documents
    if not live.exists() or order.uid == 0:
        return
    uid, gid = _owner(live)
    if uid != order.uid and any(live.iterdir()):
        raise StartError(
            f"The documents in {live} belong to user {uid}, group {gid}, but these containers run as {order.uid}: they "
            f"could not restore documents as that user.\nWrite BACKUP_UID={uid} and BACKUP_GID={gid} into .env, "
            "and start again."
        )


def _check_installation(order: Order) -> None:
    """Refuse a folder of archives other than the one whose keys are in the volume.

    It may belong to a second stack in a folder of the same name: Compose takes both for one project.
    """
    known, here = _read(order.secrets / INSTALLATION_FILE), _read(order.storage / f".{INSTALLATION_FILE}")
    if known and known != here:
        raise StartError(
            f"The volumes of this project belong to another folder of archives than the one mounted at {order.storage}.\n"
            "Is this a second stack, in a folder of the same name? Write COMPOSE_PROJECT_NAME=another-name and another PORT "
            "into its .env.\nDid you mean to begin with another folder of archives? Copy the file "
            f".{INSTALLATION_FILE} from the old one into it, and start again."
        )


def _documents(order: Order) -> Iterator[str]:
    live, parent = order.documents, order.documents.parent
    wanted = (order.uid, order.gid)
    if not live.exists():
        live.mkdir(mode=0o750, parents=True)
        os.chown(live, *wanted)
        yield f"{live} was created empty: put the documents there, or set BACKUP_DOCUMENTS_PARENT to the folder above them."
    elif _owner(live)[0] != order.uid and order.uid != 0:
        # It is empty: see _check_documents.
        os.chown(live, *wanted)
    if _owner(parent)[0] != order.uid and not _may_write(parent, order):
        if {path.name for path in parent.iterdir()} <= {live.name}:
            os.chown(parent, *wanted)
            yield f"{parent} now belongs to {order.uid}:{order.gid}: restores are staged there, beside the documents."
        else:
            yield (
                f"WARNING: user {order.uid} may not write to {parent} (BACKUP_DOCUMENTS_PARENT): backups work, but "
                f"documents can't be restored until it may. On the host: chown {order.uid} that folder."
            )


def _may_write(folder: Path, order: Order) -> bool:
    info = folder.stat()
    if order.uid == 0:
        return True
    if info.st_gid == order.gid:
        return bool(info.st_mode & 0o030 == 0o030)
    return bool(info.st_mode & 0o003 == 0o003)


def _check_key(order: Order, environ: Mapping[str, str]) -> None:
    first = not (order.secrets / FILES["SECRET_KEY"]).exists()
    key_is_given = environ.get("SECRET_KEY") or environ.get("BACKUP_SIGNING_KEY")
    if first and not key_is_given and any(order.storage.glob("*_backup_*.tar.gz")):
        raise StartError(
            f"There are archives in {order.storage}, but the volume of secrets is empty: it lacks the key that signed"
            " them.\n"
            "Was this stack upgraded, or its folder renamed? Then its volumes have another name: `docker compose ls -a` or "
            "`docker volume ls` shows it. Write COMPOSE_PROJECT_NAME=that-name into .env, and start again.\n"
            "Else write BACKUP_SIGNING_KEY=… into .env (the recovery sheet has it), or the old SECRET_KEY=…, and start "
            "again. Without the key: move the archives away, start, and upload them on the page; they count as foreign then."
        )


def _secrets(order: Order, environ: Mapping[str, str]) -> Iterator[str]:
    first = not (order.secrets / FILES["SECRET_KEY"]).exists()
    order.secrets.mkdir(parents=True, exist_ok=True)
    os.chown(order.secrets, order.uid, order.gid)
    order.secrets.chmod(0o700)
    passwords = _server_passwords(order)
    for name, text in _values(order, environ, passwords).items():
        _write(order.secrets / FILES[name], text, 0o400, (order.uid, order.gid))
    for folder in (order.postgres, order.valkey):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
    # Each of these volumes is mounted by a single server, whose user id we don't know.
    _write(order.postgres / PASSWORD_FILE, passwords["postgres"], 0o444)
    _write(order.valkey / "valkey.conf", VALKEY.format(password=passwords["valkey"]), 0o444)
    _write_installation(order)
    if first:
        yield "Secrets were created."
    # At each start, since the logs of the first start are lost with its container.
    email = environ.get("ADMIN_EMAIL") or "ADMIN_EMAIL"
    yield f"Sign in as {email}; this shows the password with which that admin was created:"
    yield f"  docker compose exec web cat {order.secrets / FILES['ADMIN_PASSWORD']}"
    yield "If it was changed since, or ADMIN_EMAIL and ADMIN_PASSWORD are newer than the first start, this sets another one:"
    yield f"  docker compose exec web flask admin password {email}"
    yield "Everything is ready."


def _write_installation(order: Order) -> None:
    """Record the same installation in volume and folder. A folder older than the volume keeps its name: it was moved
    here."""
    here = order.storage / f".{INSTALLATION_FILE}"
    name = _read(order.secrets / INSTALLATION_FILE) or _read(here) or secrets.token_hex(16)
    _write(order.secrets / INSTALLATION_FILE, name, 0o400)
    _write(here, name, 0o400, (order.uid, order.gid))


def _server_passwords(order: Order) -> dict[str, str]:
    path = order.secrets / SERVERS_FILE
    if path.exists():
        found: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
        return found
    made = {name: secrets.token_urlsafe(24) for name in ("postgres", "valkey", METADATA_ROLE, SOURCE_ROLE)}
    # For root only: the app has no need of the superuser's password.
    _write(path, json.dumps(made), 0o400)
    return made


def _values(order: Order, environ: Mapping[str, str], passwords: Mapping[str, str]) -> dict[str, str]:
    """Return the content of each setting's file; an empty one counts as not set."""
    values = {name: environ.get(name, "") for name in FILES}
    for name in GENERATED:
        if not values[name]:
            values[name] = _read(order.secrets / FILES[name]) or secrets.token_urlsafe(32 if name == "SECRET_KEY" else 15)
    values["DATABASE_URL"] = values["DATABASE_URL"] or _url(METADATA_ROLE, passwords)
    values["BACKUP_SOURCE_URL"] = values["BACKUP_SOURCE_URL"] or _url(SOURCE_ROLE, passwords)
    values["REDIS_URL"] = values["REDIS_URL"] or f"redis://:{quote(passwords['valkey'], safe='')}@valkey:6379/0"
    return values


def _url(role: str, passwords: Mapping[str, str]) -> str:
    return f"postgresql://{role}:{quote(passwords[role], safe='')}@postgres:5432/{role}"


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _write(path: Path, text: str, mode: int, owner: tuple[int, int] | None = None) -> None:
    """Replace the file atomically."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        if owner is not None:
            os.chown(path, *owner)
        return
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    if owner is not None:
        os.chown(temporary, *owner)
    temporary.chmod(mode)
    temporary.rename(path)


def _owner(path: Path) -> tuple[int, int]:
    info = path.lstat()
    return info.st_uid, info.st_gid
