"""/api/admin/admins."""

from __future__ import annotations

from uuid import UUID

from apiflask import APIBlueprint

from app.api.answers import NO_CONTENT, shown_once
from app.api.schemas.common import Paging
from app.api.schemas.people import (
    AdminOut,
    AdminPage,
    EndedOut,
    InvitationIn,
    InvitationMade,
    InvitationOut,
    InvitationPage,
    PasswordIn,
)
from app.http.auth import actor, protect, requires
from app.http.request import pages_address
from app.services.people import admins, invitations

bp = APIBlueprint("api_admins", __name__, url_prefix="/api/admin/admins", tag="Admins")
protect(bp)


@bp.get("")
@requires("admin")
@bp.input(Paging, location="query")
@bp.output(AdminPage)
def list_admins(query_data: Paging) -> AdminPage:
    """List the admins, starting with those who may sign in."""
    return AdminPage.part_of(admins.list_admins(), query_data, AdminOut.model_validate)


@bp.get("/<uuid:admin_id>")
@requires("admin")
@bp.output(AdminOut)
def get_admin(admin_id: UUID) -> AdminOut:
    """Show one admin."""
    return AdminOut.model_validate(admins.view(admin_id))


@bp.post("/<uuid:admin_id>/disable")
@requires("admin")
@bp.input(PasswordIn)
@bp.output(EndedOut)
@bp.doc(responses=[409])
def disable_admin(admin_id: UUID, json_data: PasswordIn) -> EndedOut:
    """Disable an admin at once: ends their sessions, revokes their tokens and withdraws their invitations.

    409 for the last admin who can sign in, and for yourself. A browser session must send the caller's password again.
    """
    return EndedOut.model_validate(admins.disable(actor(), admin_id, json_data.password))


@bp.post("/<uuid:admin_id>/enable")
@requires("admin")
@bp.input(PasswordIn)
@bp.output(AdminOut)
def enable_admin(admin_id: UUID, json_data: PasswordIn) -> AdminOut:
    """Let a disabled admin sign in again, with their old password. Revoked tokens stay revoked."""
    admins.enable(actor(), admin_id, json_data.password)
    return AdminOut.model_validate(admins.view(admin_id))


@bp.post("/<uuid:admin_id>/remove")
@requires("admin")
@bp.input(PasswordIn)
@bp.output(EndedOut)
@bp.doc(responses=[409])
def remove_admin(admin_id: UUID, json_data: PasswordIn) -> EndedOut:
    """Delete an admin's account permanently, with everything that disabling ends. The audit log keeps their entries."""
    return EndedOut.model_validate(admins.remove(actor(), admin_id, json_data.password))


@bp.get("/invitations")
@requires("admin")
@bp.input(Paging, location="query")
@bp.output(InvitationPage)
def list_invitations(query_data: Paging) -> InvitationPage:
    """List the invitations that can still be accepted, newest first."""
    return InvitationPage.part_of(invitations.list_invitations(), query_data, InvitationOut.model_validate)


@bp.post("/invitations")
@requires("admin")
@bp.input(InvitationIn)
@bp.output(InvitationMade, status_code=201, description="Created. The link is shown only once.")
def invite_admin(json_data: InvitationIn) -> tuple[InvitationMade, int, dict[str, str]]:
    """Invite an admin, who chooses a password at the link. It works once, for three days.

    The link is mailed if SMTP_URL is set. An older invitation to the same address is withdrawn.
    """
    made = invitations.invite(actor(), json_data.email, json_data.password, pages_address())
    shown = InvitationOut.model_validate(made.invitation).model_dump()
    return shown_once(InvitationMade(**shown, link=made.link, mailed=made.mailed, mail_problem=made.mail_problem))


@bp.delete("/invitations/<uuid:invitation_id>")
@requires("admin")
@bp.output({}, status_code=204)
def withdraw_invitation(invitation_id: UUID) -> tuple[str, int]:
    """Withdraw an invitation: its link stops working."""
    invitations.withdraw(actor(), invitation_id)
    return NO_CONTENT
