"""Where to redirect after the login."""

from urllib.parse import urlsplit


def safe_next(target: str | None, default: str) -> str:
    """Return the `next` that a browser sent if it is a path on this site, else the default.

    Browsers read a backslash as a slash and drop control characters, so targets that contain one are rejected.
    """
    if not target or not target.startswith("/") or target.startswith("//"):
        return default
    if "\\" in target or any(ord(character) < 0x21 or ord(character) == 0x7F for character in target):
        return default
    parts = urlsplit(target)
    return default if parts.scheme or parts.netloc else target
