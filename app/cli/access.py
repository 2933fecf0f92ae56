"""`flask admin` and `flask token`."""

from __future__ import annotations

import click
from flask.cli import AppGroup

from app.cli.common import actor, checked
from app.config import PASSWORD_LENGTH
from app.models.api_tokens import SCOPES
from app.services import admins, tokens

admin = AppGroup("admin", help="The people who may sign in.")
token = AppGroup("token", help="Keys for the JSON API.")


@admin.command("create")
@click.argument("email")
@checked
def create_admin(email: str) -> None:
    """Make an admin. Asks for the password, or takes the first line of a pipe."""
    stdin = click.get_text_stream("stdin")
    if stdin.isatty():
        password = click.prompt(
            f"Password (at least {PASSWORD_LENGTH} characters)", hide_input=True, confirmation_prompt=True
        )
    else:
        password = stdin.readline().rstrip("\r\n")
    made = admins.create(actor(), email, password)
    click.echo(f"{made.email} can sign in now.")


@token.command("create")
@click.option("--name", required=True, help="What it is for.")
@click.option("--scope", "scopes", multiple=True, required=True, help=f"One of {', '.join(SCOPES)}; may be repeated.")
@checked
def create_token(name: str, scopes: tuple[str, ...]) -> None:
    """Make an API token and print it, once: only its hash is kept."""
    made, secret = tokens.create(actor(), name, scopes)
    click.echo(f"Token '{made.name}' with {', '.join(made.scopes)}. It is shown only this once:", err=True)
    click.echo(secret)
