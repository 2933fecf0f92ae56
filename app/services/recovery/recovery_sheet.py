"""What to keep away from this machine: the signing key, the configuration, and what to do when the machine is gone."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from app import current
from app.config import Settings
from app.extensions import db
from app.models import utcnow
from app.services.audit import audit
from app.services.audit.actor import Actor
from app.services.installation import restore_engine

FILENAME = "recovery-sheet.txt"
# As compose.yaml has them.
COMPOSE_SECRETS = Path("/run/backup")
COMPOSE_POSTGRES = "postgres"
SHEET = """\
RECOVERY SHEET of {app}, made {now:%Y-%m-%d %H:%M} UTC
Print it or keep it in a password manager, away from this machine. Whoever has the key can forge archives.

SIGNING KEY (proves that an archive is yours; without it one restores, too, but as untrusted)
  BACKUP_SIGNING_KEY={key}

CONFIGURATION (passwords left out)
{configuration}

{day}
"""
ON_A_MACHINE = """\
ON THE DAY THE MACHINE IS GONE
1. On a new machine install PostgreSQL (the old version or newer) and this software; fetch an archive from your copies.
2. Create the app's role (no superuser) and its empty database:
     CREATE ROLE {role} LOGIN CREATEDB CREATEROLE PASSWORD '...';
     CREATE DATABASE {database} OWNER {role} TEMPLATE template0;
3. Restore. Neither Redis nor the metadata database is needed; the password goes into PGPASSWORD or ~/.pgpass:
     export BACKUP_SIGNING_KEY='{key}'
     mkdir -p {documents}
     flask backup restore --file ARCHIVE --to {url} --documents {documents}
4. Start the app and look. Then set this software up as above, with the same BACKUP_SIGNING_KEY, put the archives into
   BACKUP_STORAGE_DIR and run:
     flask db upgrade
     flask backup rescan

WITHOUT THIS SOFTWARE
  tar xzf ARCHIVE
  zcat database/{app}.sql.gz | psql -v ON_ERROR_STOP=1 -d {database}      (only an archive that you trust)
  and move documents/ to {documents}
"""
# Paths and hosts are those inside the containers, so these steps differ.
IN_COMPOSE = """\
ON THE DAY THE MACHINE IS GONE
1. On a new machine install Docker and put this software into a folder; fetch the archives from your copies. Type the rest in
   that folder.
2. Write into .env beside compose.yaml, with the other settings that you had there:
     BACKUP_SIGNING_KEY={key}
     BACKUP_APP_NAME={app}
     BACKUP_UID={uid}
     BACKUP_GID={gid}
{elsewhere}3. Put the archives into place, start, and let it find them:
     mkdir -p data/backups
     cp ARCHIVE data/backups/
     docker compose up -d
     docker compose exec worker flask backup rescan
     docker compose exec worker flask backup list
4. Restore. It asks for the name of the database, {database}:
     docker compose exec worker flask backup restore ID --wait
5. Start the app and look. `docker compose logs init` says how to sign in; the admin is a new one.

WITHOUT THIS SOFTWARE
  tar xzf ARCHIVE
  zcat database/{app}.sql.gz | psql -v ON_ERROR_STOP=1 -d {database}      (only an archive that you trust)
  and move documents/ to where the app has its documents
"""
ELSEWHERE = """\
   The app's database is not in this stack's own PostgreSQL. Create its role (no superuser) and the empty database there,
     CREATE ROLE {role} LOGIN CREATEDB CREATEROLE PASSWORD '...';
     CREATE DATABASE {database} OWNER {role} TEMPLATE template0;
   and write its address with the password into .env, too:  BACKUP_SOURCE_URL={url}
"""


def text(actor: Actor) -> str:
    """Return the sheet, and record in the audit log that the actor got it."""
    audit.record(actor, "recovery_sheet.downloaded", "settings")
    db.session.commit()
    return render(current.settings())


def render(settings: Settings) -> str:
    """Return the sheet's text."""
    configuration = {
        "BACKUP_APP_NAME": settings.app_name,
        "BACKUP_SOURCE_URL": without_password(settings.source_url),
        "BACKUP_DOCUMENTS_DIR": str(settings.documents_dir),
        "BACKUP_STORAGE_DIR": str(settings.storage_dir),
        "DATABASE_URL": without_password(settings.database_url),
        "REDIS_URL": without_password(settings.redis_url),
        "PG_BIN_DIR": str(settings.pg_bin_dir) if settings.pg_bin_dir else None,
        "SMTP_URL": without_password(settings.smtp_url) if settings.smtp_url else None,
        "MAIL_FROM": settings.mail_from,
        "PUBLIC_URL": settings.public_url,
        "ADMIN_EMAIL": settings.admin_email,
    }
    words = {
        "app": settings.app_name,
        "now": utcnow(),
        "key": settings.signing_key_text,
        "configuration": "\n".join(f"  {name}={value}" for name, value in configuration.items() if value),
        "role": urlsplit(settings.source_url).username or settings.app_name,
        "database": restore_engine.database_name(),
        "url": without_password(settings.source_url),
        "documents": settings.documents_dir,
        "uid": os.getuid(),
        "gid": os.getgid(),
    }
    if _in_compose(settings):
        own = urlsplit(settings.source_url).hostname == COMPOSE_POSTGRES
        words["day"] = IN_COMPOSE.format(**words, elsewhere="" if own else ELSEWHERE.format(**words))
    else:
        words["day"] = ON_A_MACHINE.format(**words)
    return SHEET.format(**words)


def _in_compose(settings: Settings) -> bool:
    path = settings.files.get("BACKUP_SIGNING_KEY", (None, ""))[0]
    return path is not None and path.parent == COMPOSE_SECRETS


def without_password(url: str) -> str:
    """Remove a URL's password, and its query, which may hold one."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    user = f"{parts.username}@" if parts.username else ""
    return urlunsplit((parts.scheme, user + host, parts.path, "", ""))
