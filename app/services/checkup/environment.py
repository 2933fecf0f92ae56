"""Check the settings themselves, without contacting any server."""

from __future__ import annotations

import ipaddress
import os
import platform
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from app.config import NAMES, Settings
from app.services.checkup.findings import Finding, fine, problem, warning
from app.services.people.guessable import is_hopeless_key

GOOD_SECRET_LENGTH = 32
FEWEST_DIFFERENT_CHARACTERS = 10
NEW_SECRET = "Create one: python3 -c 'import secrets; print(secrets.token_hex(32))'"
# Ours, but not meant for people to set.
INTERNAL = {"BACKUP_WORKER_PARENT", "BACKUP_UID", "BACKUP_GID"}
EVERYBODY_PREFIX = 8


def look(settings: Settings, environ: Mapping[str, str] | None = None) -> Iterator[Finding]:
    """Yield the findings; `environment` is where the settings come from (default: the process's own)."""
    environ = os.environ if environ is None else environ
    yield fine("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}.")
    yield from _secrets(settings, environ)
    yield from _public_url(settings)
    yield from _mail(settings)
    yield from _metrics(settings)
    yield from _unknown(environ)
    yield from _files(environ)


def _secrets(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    names = {"SECRET_KEY": settings.secret_key}
    signing_key_is_set = environ.get("BACKUP_SIGNING_KEY") or environ.get("BACKUP_SIGNING_KEY_FILE")
    if signing_key_is_set:
        names["BACKUP_SIGNING_KEY"] = settings.signing_key_text
    for name, secret in names.items():
        if is_hopeless_key(secret):
            yield problem(
                name,
                "Anybody can guess it, and could then sign archives that count as yours.",
                f"{NEW_SECRET} First download the recovery sheet: with another SECRET_KEY, older archives count as foreign "
                "unless BACKUP_SIGNING_KEY is set to the key on the sheet, and channels have to be entered again.",
            )
        elif is_weak(secret):
            yield warning(
                name, "It looks guessable: it is short, or consists of few different characters or known words.", NEW_SECRET
            )
        else:
            yield fine(name, "It is long and looks random.")
    if not signing_key_is_set:
        yield fine(
            "BACKUP_SIGNING_KEY",
            "It is derived from SECRET_KEY. Keep the recovery sheet: with another SECRET_KEY the archives count as foreign.",
        )


def is_weak(secret: str) -> bool:
    """Return whether somebody might guess a secret."""
    known = re.search(r"change.?me|secret|password|example|12345|qwerty|motovault", secret, re.IGNORECASE)
    return len(secret) < GOOD_SECRET_LENGTH or len(set(secret)) < FEWEST_DIFFERENT_CHARACTERS or bool(known)


def _public_url(settings: Settings) -> Iterator[Finding]:
    if settings.public_url is None:
        yield warning(
            "PUBLIC_URL",
            "It is not set, so mails can't link to the pages.",
            "Set it to the address that people open in the browser, e.g. https://backup.example.org.",
        )
        return
    host = urlsplit(settings.public_url).hostname or ""
    if settings.https:
        yield fine("PUBLIC_URL", "Browsers use HTTPS; cookies are sent over nothing else.")
        if settings.trusted_proxy_hops == 0:
            yield warning(
                "TRUSTED_PROXY_HOPS",
                "It is 0, but HTTPS means that a proxy stands in front: the log and the limit on wrong passwords see the "
                "proxy's address instead of the clients'.",
                "Set it to the number of proxies (1), and let them set X-Forwarded-For, -Proto and -Host.",
            )
    elif host in ("localhost", "::1") or host.startswith("127."):
        yield fine("PUBLIC_URL", "Only this machine reaches the pages, by HTTP.")
    else:
        yield warning(
            "PUBLIC_URL",
            f"Passwords travel to {host} in plain text: it begins with http://.",
            "Put a reverse proxy with a certificate in front, and write https:// here.",
        )


def _mail(settings: Settings) -> Iterator[Finding]:
    if settings.smtp_url is None and settings.mail_from:
        yield warning("MAIL_FROM", "It is set, but SMTP_URL is not: no mail is sent.", "Set SMTP_URL.")
    if settings.smtp_url and not settings.mail_from and "@" not in (urlsplit(settings.smtp_url).username or ""):
        yield warning("MAIL_FROM", "It is not set; many mail servers refuse a made-up sender.", "Set the sender's address.")


def _metrics(settings: Settings) -> Iterator[Finding]:
    wide = [text for text in settings.metrics_allow if ipaddress.ip_network(text, strict=False).prefixlen < EVERYBODY_PREFIX]
    if wide:
        yield warning("METRICS_ALLOW", f"{', '.join(wide)} covers nearly everybody.", "Name the address of Prometheus only.")


def _unknown(environ: Mapping[str, str]) -> Iterator[Finding]:
    known = {*NAMES, *INTERNAL}
    for name in sorted(environ):
        base = name.removesuffix("_FILE")
        if base.startswith(("BACKUP_", "SMTP_", "METRICS_")) and base not in known and environ[name]:
            yield warning(
                name, "There is no such setting, so it has no effect.", "See the list in README.md for the right name."
            )


def _files(environ: Mapping[str, str]) -> Iterator[Finding]:
    for name in NAMES:
        path = environ.get(f"{name}_FILE")
        if not path:
            continue
        try:
            mode = Path(path).stat().st_mode
        except OSError as error:
            yield problem(f"{name}_FILE", f"{path} can't be read: {error.strerror}.", "Correct the path or the permissions.")
            continue
        if mode & stat.S_IROTH:
            yield warning(f"{name}_FILE", f"Everybody on this machine may read {path}.", f"chmod 600 {path}")
