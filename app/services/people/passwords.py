"""Passwords: stored as argon2id hashes, and checked in the same time whether or not the account exists."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from app import turns
from app.config import PASSWORD_LENGTH
from app.errors import Throttled
from app.services.people.guessable import is_common_password

LONGEST = 1000

# OWASP's Password Storage Cheat Sheet: 19 MiB, two passes, one lane. Hashes with other parameters still verify, and are
# renewed at the next sign-in.
MEMORY_KIB = 19 * 1024
_hasher = PasswordHasher(time_cost=2, memory_cost=MEMORY_KIB, parallelism=1)
# Compared against if the account is unknown, so that the answer takes as long as for a known one.
_nobody = _hasher.hash("nobody's password")
# Passwords of strangers are hashed one at a time in each process; admins who are signed in, or use a device that signed in
# before, have a queue of their own. Old hashes take 64 MiB each.
_strangers, _admins = threading.BoundedSemaphore(1), threading.BoundedSemaphore(1)
LINE_SECONDS = 10.0


def hashed(password: str) -> str:
    """Return the hash to store for a password."""
    with _in_line(_admins):
        return _hasher.hash(password)


def matches(password_hash: str | None, password: str, known: bool = False) -> bool:
    """Return whether a password matches a hash; None stands for an unknown account and takes as long.

    `known`: whoever typed it has already proved to be an admin. Raise Throttled for a stranger if too many others
    are signing in at this moment.
    """
    with _in_line(_admins if known else _strangers, None if known else LINE_SECONDS):
        try:
            return _hasher.verify(password_hash or _nobody, password) and password_hash is not None
        except (VerificationError, InvalidHashError, UnicodeEncodeError):
            # Invalid Unicode was never hashed.
            return False


@contextmanager
def _in_line(line: threading.BoundedSemaphore, seconds: float | None = None) -> Iterator[None]:
    with turns.waiting():
        came_up = line.acquire(timeout=seconds)
    if not came_up:
        raise Throttled("Too many people are signing in at this moment. Try again in a few seconds.", 5)
    try:
        yield
    finally:
        line.release()


def is_outdated(password_hash: str) -> bool:
    """Return whether a hash was made with weaker parameters than today's."""
    return _hasher.check_needs_rehash(password_hash)


def problem(password: str, email: str) -> str | None:
    """Return what is wrong with a chosen password for that email address, or None."""
    if len(password) < PASSWORD_LENGTH:
        return f"Use at least {PASSWORD_LENGTH} characters."
    if len(password) > LONGEST:
        return f"Use at most {LONGEST:,} characters."
    if any("\ud800" <= letter <= "\udfff" for letter in password):
        # A command line or an environment may contain bytes that are not UTF-8.
        return "Use only characters that are valid Unicode (UTF-8)."
    if password.strip().lower() == email.strip().lower():
        return "Choose something other than your email address."
    if len(set(password)) < 4:
        return "Use more than a few different characters."
    if is_common_password(password, email):
        return "This is one of the first passwords that an attacker would try. Use a few unrelated words."
    return None
