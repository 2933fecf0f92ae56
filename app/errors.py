"""What can go wrong for a caller, as types. app.http.errors turns them into answers, app.cli.errors into exit codes."""

from __future__ import annotations

from typing import Any


class DomainError(Exception):
    """A refusal that the caller can understand. `detail`, which is also str(), says what happened and what to do.

    `extra` has facts for programs, such as the `id` of the conflicting run.
    """

    def __init__(self, detail: str, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra = extra


class InvalidRequest(DomainError):
    """The request cannot be read at all."""


class NotFound(DomainError):
    """The thing does not exist."""


class Conflict(DomainError):
    """The current state does not allow it. `extra` may have the `id` of the conflicting run."""


class Unauthenticated(DomainError):
    """Nobody is signed in, and no valid token was sent."""


class InvalidCredentials(Unauthenticated):
    """The email or the password is wrong; the message does not say which."""


class Forbidden(DomainError):
    """The caller is known, but is not allowed to do this."""


class InvalidInput(DomainError):
    """The input breaks a rule. `fields` maps each field's name to the message to show beside it."""

    def __init__(self, fields: dict[str, str], detail: str | None = None) -> None:
        text = "; ".join(f"{name}: {message}" for name, message in fields.items())
        super().__init__(detail or f"Please correct: {text}", errors=fields)
        self.fields = fields


class TooLarge(DomainError):
    """The content sent exceeds a size limit."""


class UnknownType(DomainError):
    """The content sent is of a type that is not accepted here."""


class NotEnoughSpace(DomainError):
    """There is not enough free disk space."""


class Throttled(DomainError):
    """Too many attempts. `retry_after` is the number of seconds to wait."""

    def __init__(self, detail: str, retry_after: int) -> None:
        super().__init__(detail, retry_after=retry_after)
        self.retry_after = retry_after


class Unavailable(DomainError):
    """A server that we depend on cannot be reached."""
