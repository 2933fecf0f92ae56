"""/api/openapi.json and /api/docs: the API's reference, to read and to try out.

Both require a token or a session: the document lists everything that this machine can be made to do, and nobody needs that
before they have access.
"""

from __future__ import annotations

from pathlib import Path

import flask_swagger_ui
from apiflask import APIBlueprint
from flask import Response, abort, current_app, jsonify, redirect, render_template, request, send_from_directory, url_for
from flask.typing import ResponseReturnValue

from app.api.openapi.document import document
from app.errors import Unauthenticated
from app.http.auth import check, requires

bp = APIBlueprint("api_docs", __name__, url_prefix="/api", enable_openapi=False)

SWAGGER_UI = Path(flask_swagger_ui.__file__).parent / "dist"
FILES = ("swagger-ui.css", "swagger-ui-bundle.js")


@bp.before_request
def readers_only() -> ResponseReturnValue | None:
    """Require read access; redirect browsers to the login. Raise Unauthenticated or Forbidden."""
    try:
        check()
    except Unauthenticated:
        if request.endpoint == "api_docs.page" and "Authorization" not in request.headers:
            return redirect(url_for("web.auth.login", next=request.path))
        raise
    return None


@bp.get("/openapi.json")
@requires("read")
def spec() -> Response:
    """Send the OpenAPI 3.1 document."""
    made = current_app.extensions.setdefault("openapi", {})
    if not made:
        made |= document(current_app)
    # Without a prefix the server is where the document came from, which is the default.
    return jsonify(made | ({"servers": [{"url": request.script_root}]} if request.script_root else {}))


@bp.get("/docs")
@requires("read")
def page() -> str:
    """Show the page with the document, which sends requests with the reader's session."""
    return render_template("api/docs.html")


@bp.get("/docs/<path:name>")
@requires("read")
def file(name: str) -> Response:
    """Send a file of Swagger UI from its package."""
    if name not in FILES:
        abort(404)
    return send_from_directory(SWAGGER_UI, name, max_age=3600)
