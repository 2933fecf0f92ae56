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
Password = Annotated[str | None, Field(max_length=1000, description="The admin's own, once more: for sessions only.")]


class TokenIn(Input):
    """A token to make."""

    name: str = Field(min_length=1, max_length=NAME_LENGTH)
    scopes: list[Scope] = Field(min_length=1, max_length=4)
    days: int | None = Field(LASTS_DAYS, ge=1, le=MOST_DAYS, description="After so many it ends; null: never by itself.")
    password: Password = None


class TokenOut(Output):
    """A token. `prefix` is the part of its secret that may be shown."""

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
    """A new token with its secret, which is shown this once."""

    secret: str


class TokenPage(PageOut[TokenOut]):
    """A page of the list of tokens."""


class PasswordIn(Input):
    """What a session adds."""

    password: Password = None


class InvitationIn(PasswordIn):
    """Who is to be an admin."""

    email: str = Field(max_length=320)


class InvitationOut(Output):
    """An invitation that was not accepted yet."""

    id: UUID
    email: str
    invited_by_name: str
    created_at: datetime
    expires_at: datetime


class InvitationMade(InvitationOut):
    """A new invitation with its link, which is shown this once; whether it went out by mail, and if not, why."""

    link: str
    mailed: bool
    mail_problem: str | None


class InvitationPage(PageOut[InvitationOut]):
    """A page of the list of invitations."""


class AdminOut(Output):
    """An admin, with how many open sessions and working tokens they have."""

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
    """What ended with an admin's access, each as a number."""

    sessions: int
    tokens: int
    invitations: int
