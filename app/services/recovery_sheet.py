"""What to keep away from this machine: the signing key, the configuration, and what to do when the machine is gone."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from app.config import Settings
from app.extensions import db
from app.models import utcnow
from app.services import audit, restore_engine
from app.services.actor import Actor

FILENAME = "recovery-sheet.txt"
SHEET = """\
RECOVERY SHEET of {app}, made {now:%Y-%m-%d %H:%M} UTC
Print it or keep it in a password manager, away from this machine. Whoever has the key can forge archives.

SIGNING KEY (proves that an archive is yours; without it one restores, too, but as untrusted)
  BACKUP_SIGNING_KEY={key}

CONFIGURATION (passwords left out)
{configuration}

ON THE DAY THE MACHINE IS GONE
1. On a new machine install PostgreSQL (the old version or newer) and this software; fetch an archive from your copies.
2. Create the app's role (no superuser) and its empty database:
     CREATE ROLE {role} LOGIN CREATEDB CREATEROLE PASSWORD '...';
     CREATE DATABASE {database} OWNER {role} TEMPLATE template0;
3. Restore. Neither Redis nor the metadata database is needed; the password goes into PGPASSWORD or ~/.pgpass:
     export BACKUP_SIGNING_KEY='{key}'
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


def text(actor: Actor) -> str:
    """Given who asks, return the sheet, and note in the audit log that it was given out."""
    audit.record(actor, "recovery_sheet.downloaded", "settings")
    db.session.commit()
    return render(restore_engine.settings())


def render(settings: Settings) -> str:
    """Given the settings, return the sheet's text."""
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
    return SHEET.format(
        app=settings.app_name,
        now=utcnow(),
        key=settings.signing_key_text,
        configuration="\n".join(f"  {name}={value}" for name, value in configuration.items() if value),
        role=urlsplit(settings.source_url).username or settings.app_name,
        database=restore_engine.database_name(),
        url=without_password(settings.source_url),
        documents=settings.documents_dir,
    )


def without_password(url: str) -> str:
    """Given a URL, return it without its password, and without its query, which may hold one."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    user = f"{parts.username}@" if parts.username else ""
    return urlunsplit((parts.scheme, user + host, parts.path, "", ""))
