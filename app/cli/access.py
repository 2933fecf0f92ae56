"""`flask admin`, `flask token` and `flask audit`."""

from __future__ import annotations

import sys
from uuid import UUID

import click
from flask.cli import AppGroup

from app.cli.common import actor, checked, stop
from app.config import PASSWORD_LENGTH
from app.models.api_tokens import SCOPES
from app.services.audit import audit_chain
from app.services.people import admins, invitations, tokens

admin = AppGroup("admin", help="The people who may sign in.")
audit = AppGroup("audit", help="The log of who changed what.")
token = AppGroup("token", help="Keys for the JSON API.")


@admin.command("create")
@click.argument("email")
@checked
def create_admin(email: str) -> None:
    """Create an admin. Prompts for the password, or reads the first line of a pipe."""
    made = admins.create(actor(), email, chosen_password())
    click.echo(f"{made.email} can sign in now.")


@admin.command("password")
@click.argument("email")
@checked
def set_password(email: str) -> None:
    """Set a new password for an admin, and end their sessions. Prompts for it, or reads the first line of a pipe."""
    found = admins.find(email)
    ended = admins.set_password(actor(), found.email, chosen_password())
    click.echo(f"{found.email} has a new password. Sessions that ended: {ended}.")
    if found.disabled_at is not None:
        click.echo(f"The account is disabled: `flask admin enable {found.email}` lets them log in.", err=True)


@admin.command("unlock")
@click.argument("email")
@checked
def unlock_admin(email: str) -> None:
    """Reset the count of wrong passwords of an account: its admin can sign in at once, from anywhere."""
    found = admins.unlock(actor(), email)
    click.echo(f"{found.email} can sign in again at once.")
    if found.disabled_at is not None:
        click.echo(f"The account is disabled: `flask admin enable {found.email}` lets them sign in.", err=True)


@admin.command("list")
@checked
def list_admins() -> None:
    """List the admins and the open invitations."""
    for person in admins.list_admins():
        login = f"{person.last_login_at:%Y-%m-%d %H:%M} UTC" if person.last_login_at else "never"
        state = "disabled" if person.disabled_at else "enabled"
        figures = f"last login {login}, {person.sessions} sessions, {person.tokens} tokens"
        click.echo(f"{person.email}  {state}  {figures}")
    for row in invitations.list_invitations():
        click.echo(f"{row.email}  invited by {row.invited_by_name}, until {row.expires_at:%Y-%m-%d %H:%M} UTC")


@admin.command("invite")
@click.argument("email")
@checked
def invite_admin(email: str) -> None:
    """Invite an admin and print the link, once; also mail it if SMTP_URL is set."""
    made = invitations.invite(actor(), email)
    if made.mailed:
        click.echo(f"The link was mailed to {made.invitation.email}.", err=True)
    elif made.mail_problem:
        click.echo(f"The mail was not sent: {made.mail_problem}", err=True)
    click.echo(f"It works once, until {made.invitation.expires_at:%Y-%m-%d %H:%M} UTC:", err=True)
    click.echo(made.link)


@admin.command("disable")
@click.argument("email")
@checked
def disable_admin(email: str) -> None:
    """End an admin's access at once: sessions, and tokens for good."""
    found = admins.find(email)
    ended = admins.disable(actor(), found.id)
    click.echo(f"{found.email} is disabled. Ended: {ended.sessions} sessions, {ended.tokens} tokens.")


@admin.command("enable")
@click.argument("email")
@checked
def enable_admin(email: str) -> None:
    """Let a disabled admin log in again."""
    found = admins.enable(actor(), admins.find(email).id)
    click.echo(f"{found.email} can log in again.")


@admin.command("remove")
@click.argument("email")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@checked
def remove_admin(email: str, yes: bool) -> None:
    """Delete an admin's account for good. The audit log keeps what they did."""
    found = admins.find(email)
    address = found.email
    if not yes:
        click.confirm(f"Remove {address} for good, with their sessions and tokens?", abort=True)
    ended = admins.remove(actor(), found.id)
    click.echo(f"{address} is removed. Ended: {ended.sessions} sessions, {ended.tokens} tokens.")


@token.command("create")
@click.option("--name", required=True, help="What it is for.")
@click.option("--scope", "scopes", multiple=True, required=True, help=f"One of {', '.join(SCOPES)}; may be repeated.")
@click.option(
    "--days",
    type=click.IntRange(0, tokens.MOST_DAYS),
    default=tokens.LASTS_DAYS,
    show_default=True,
    help="0: it never expires.",
)
@checked
def create_token(name: str, scopes: tuple[str, ...], days: int) -> None:
    """Create an API token and print it, once: only its hash is stored."""
    made, secret = tokens.create(actor(), name, scopes, days=days or None)
    end = f"until {made.expires_at:%Y-%m-%d %H:%M} UTC" if made.expires_at else "until it is revoked"
    click.echo(f"Token '{made.name}' with {', '.join(made.scopes)}, {end}. It is shown only this once:", err=True)
    click.echo(secret)


@token.command("list")
@checked
def list_tokens() -> None:
    """List the tokens that work."""
    for row in tokens.list_tokens():
        if row.revoked_at is None:
            end = f"{'ends' if tokens.works(row) else 'ended'} {row.expires_at:%Y-%m-%d}" if row.expires_at else "never ends"
            used = f"last used {row.last_used_at:%Y-%m-%d %H:%M} UTC" if row.last_used_at else "never used"
            click.echo(
                f"{row.id}  {row.prefix}…  {row.name}  {', '.join(row.scopes)}  {used}, {end}, made by {row.created_by_name}"
            )


@token.command("revoke")
@click.argument("token_id", type=click.UUID)
@checked
def revoke_token(token_id: UUID) -> None:
    """Revoke a token by the id that `flask token list` shows."""
    click.echo(f"Token '{tokens.revoke(actor(), token_id).name}' is revoked.")


@audit.command("verify")
@click.option(
    "--head", help="An entry that must be in the log, as POSITION:HASH, from the worker's output or an earlier run."
)
@checked
def verify_audit(head: str | None) -> None:
    """Check the whole audit log for entries that were changed, added or removed. Exits with 1 if there are any."""
    position, _, chain_hash = (head or "").partition(":")
    if head and not (position.isdigit() and chain_hash):
        raise click.BadParameter("Give it as POSITION:HASH.", param_hint="--head")
    found = audit_chain.verify(audit_chain.Head(int(position), chain_hash) if head else None)
    if found.problem is not None:
        stop(found.problem)
    click.echo(f"{found.entries} entries are as they were written. {found.unsealed} wait for the next tick.")
    click.echo(f"The last entry, to be kept elsewhere: {found.head}")


def chosen_password() -> str:
    """Prompt twice for a new password at a terminal, else read the first line of the pipe."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    question = f"Password (at least {PASSWORD_LENGTH} characters)"
    chosen: str = click.prompt(question, hide_input=True, confirmation_prompt=True)
    return chosen
