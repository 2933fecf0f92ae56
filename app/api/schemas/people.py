"""The JSON of API tokens, admins and invitations."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from app.api.schemas.common import Output, PageOut
from app.services.inputs import Input
from app.services.people.tokens import LASTS_DAYS, MOST_DAYS, NAME_LENGTH

Scope = Literal["read", "backup", "restore", "admin"]
Password = Annotated[
    str | None, Field(max_length=1000, description="The caller's own password; required only in a browser session.")
]


class TokenIn(Input):
    """A token to create."""

    name: str = Field(min_length=1, max_length=NAME_LENGTH)
    scopes: list[Scope] = Field(min_length=1, max_length=4)
    days: int | None = Field(LASTS_DAYS, ge=1, le=MOST_DAYS, description="Days until it expires; null: never.")
    password: Password = None


class TokenOut(Output):
    """A token. `prefix` is the beginning of its secret, safe to show."""

    id: UUID
    name: str
    prefix: str
    scopes: list[Scope]
    created_by_name: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    last_used_address: str | None
    revoked_at: datetime | None


class TokenMade(TokenOut):
    """A new token with its secret, which is shown only once."""

    secret: str


class TokenPage(PageOut[TokenOut]):
    """A page of the list of tokens."""


class PasswordIn(Input):
    """What a browser session adds."""

    password: Password = None


class InvitationIn(PasswordIn):
    """Who is invited to be an admin."""

    email: str = Field(max_length=320)


class InvitationOut(Output):
    """An invitation that has not been accepted yet."""

    id: UUID
    email: str
    invited_by_name: str
    created_at: datetime
    expires_at: datetime


class InvitationMade(InvitationOut):
    """A new invitation with its link, which is shown only once; whether it was mailed, and if not, why."""

    link: str
    mailed: bool
    mail_problem: str | None


class InvitationPage(PageOut[InvitationOut]):
    """A page of the list of invitations."""


class AdminOut(Output):
    """An admin, with the number of their open sessions and working tokens."""

    id: UUID
    email: str
    created_at: datetime
    last_login_at: datetime | None
    disabled_at: datetime | None
    sessions: int
    tokens: int


class AdminPage(PageOut[AdminOut]):
    """A page of the list of admins."""


class EndedOut(Output):
    """How many sessions, tokens and invitations ended with an admin's access."""

    sessions: int
    tokens: int
    invitations: int
