"""Uploading by the page's form."""

from __future__ import annotations

import io

from werkzeug.test import TestResponse

from tests.support.browser import Browser
from tests.support.foreign_archives import check_all

PAGE = "/backups/upload"


def upload(admin: Browser, content: bytes, headers: dict[str, str] | None = None) -> TestResponse:
    """Send an archive by the page's form and return the answer."""
    form = admin.get(PAGE).select("form", enctype="multipart/form-data")[0]
    return admin.open(
        "POST",
        form.get("action", ""),
        headers=headers,
        data={"archive": (io.BytesIO(content), "elsewhere.tar.gz")},
        content_type="multipart/form-data",
    )


def uploaded(admin: Browser, content: bytes) -> str:
    """Upload an archive, have it checked, and return the path of the backup's page."""
    answer = upload(admin, content)
    assert answer.status_code == 303, answer.text
    check_all()
    return answer.location or ""
