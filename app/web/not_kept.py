"""Keeps browsers from storing pages: after logging out, the back button shows none of them."""

from flask import Response


def not_kept(response: Response) -> Response:
    """Mark a page as not to be stored."""
    if response.mimetype == "text/html":
        response.cache_control.no_store = True
    return response
