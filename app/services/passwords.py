"""Passwords: kept as argon2id hashes, checked in the same time whether or not there is an account."""

from __future__ import annotations

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from app.config import PASSWORD_LENGTH

LONGEST = 1000

_hasher = PasswordHasher()
# Compared with when the account is unknown, so that the answer takes as long as for a known one.
_nobody = _hasher.hash("nobody's password")


def hashed(password: str) -> str:
    """Given a password, return what is kept of it."""
    return _hasher.hash(password)


def matches(password_hash: str | None, password: str) -> bool:
    """Given what is kept (None: nobody's) and what was typed, return whether they belong together."""
    try:
        return _hasher.verify(password_hash or _nobody, password) and password_hash is not None
    except (VerificationError, InvalidHashError):
        return False


def is_outdated(password_hash: str) -> bool:
    """Given what is kept, return whether it was hashed with less effort than we take today."""
    return _hasher.check_needs_rehash(password_hash)


def problem(password: str, email: str) -> str | None:
    """Given a password that somebody chose and their address, return what is wrong with it, or None."""
    if len(password) < PASSWORD_LENGTH:
        return f"Use at least {PASSWORD_LENGTH} characters."
    if len(password) > LONGEST:
        return f"Use at most {LONGEST:,} characters."
    if password.strip().lower() == email.strip().lower():
        return "Choose something other than your email address."
    if len(set(password)) < 4:
        return "Use more than a few different characters."
    return None
