"""/api/admin/tokens."""

from __future__ import annotations

from uuid import UUID

from apiflask import APIBlueprint

from app.api.answers import NO_CONTENT, shown_once
from app.api.schemas.common import Paging
from app.api.schemas.people import TokenIn, TokenMade, TokenOut, TokenPage
from app.http.auth import actor, protect, requires
from app.services.people import tokens

bp = APIBlueprint("api_tokens", __name__, url_prefix="/api/admin/tokens", tag="Tokens")
protect(bp)


@bp.get("")
@requires("admin")
@bp.input(Paging, location="query")
@bp.output(TokenPage)
def list_tokens(query_data: Paging) -> TokenPage:
    """List the tokens, newest first, including revoked and expired ones."""
    return TokenPage.part_of(tokens.list_tokens(), query_data, TokenOut.model_validate)


@bp.post("")
@requires("admin")
@bp.input(TokenIn)
@bp.output(TokenMade, status_code=201, description="Created. The secret is shown only once.")
def create_token(json_data: TokenIn) -> tuple[TokenMade, int, dict[str, str]]:
    """Create a token. A browser session must send the admin's password again."""
    row, secret = tokens.create(actor(), json_data.name, json_data.scopes, json_data.password, json_data.days)
    return shown_once(TokenMade(**TokenOut.model_validate(row).model_dump(), secret=secret))


@bp.delete("/<uuid:token_id>")
@requires("admin")
@bp.output({}, status_code=204)
def revoke_token(token_id: UUID) -> tuple[str, int]:
    """Revoke a token, at once and permanently. It stays in the list."""
    tokens.revoke(actor(), token_id)
    return NO_CONTENT
