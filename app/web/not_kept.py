"""Pages are not kept by the browser: after logging out, its back button shows nothing of them."""

from flask import Response


def not_kept(response: Response) -> Response:
    """Given an answer, return it; a page is marked as one that is not to be stored."""
    if response.mimetype == "text/html":
        response.cache_control.no_store = True
    return response
