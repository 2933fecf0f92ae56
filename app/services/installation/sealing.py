"""Encrypt secrets of the settings at rest, with a key derived from SECRET_KEY."""

from __future__ import annotations

import base64

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from app import current


def seal(text: str) -> str:
    """Encrypt and authenticate a secret."""
    return _box().encrypt(text.encode()).decode()


def unseal(sealed: str | None) -> str | None:
    """Decrypt what `seal` returned; None for None, or if SECRET_KEY has changed since."""
    if sealed is None:
        return None
    try:
        return _box().decrypt(sealed.encode()).decode()
    except InvalidToken:
        return None


def _box() -> Fernet:
    settings = current.settings()
    kdf = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"motovaultpro-backup sealed settings, version 1")
    return Fernet(base64.urlsafe_b64encode(kdf.derive(settings.secret_key.encode())))
