"""The JSON of the health checks."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from app.api.schemas.common import Output


class CheckOut(Output):
    """One health check."""

    name: str
    ok: bool
    detail: str


class HealthOut(BaseModel):
    """Whether all checks pass, and each check."""

    status: Literal["ok", "degraded"]
    checks: list[CheckOut]
