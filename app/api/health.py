"""Health, for monitors: no login, no secrets."""

from __future__ import annotations

from typing import Any

from apiflask import APIBlueprint
from sqlalchemy.exc import SQLAlchemyError

from app.api.schemas.health import CheckOut, HealthOut
from app.http.auth import caller
from app.services.monitoring import health

bp = APIBlueprint("health", __name__, tag="Health")
UNREADY: dict[int | str, Any] = {
    503: {
        "description": "One of them cannot be reached.",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/HealthOut"}}},
    }
}


@bp.get("/healthz")
@bp.output(HealthOut)
def healthz() -> HealthOut:
    """Report the health checks, always with 200; `status` says whether all of them pass.

    Only admins and tokens get details: anonymous clients get texts without names or paths.
    """
    found = health.checks()
    return _out(found if _is_known() else [health.for_strangers(check) for check in found])


@bp.get("/readyz")
@bp.output(HealthOut)
@bp.doc(responses=UNREADY)
def readyz() -> tuple[HealthOut, int]:
    """Report whether PostgreSQL and Redis can be reached: 503 if one cannot."""
    found = _out(health.ready())
    return found, 200 if found.status == "ok" else 503


def _is_known() -> bool:
    try:
        return caller() is not None
    except SQLAlchemyError:
        return False


def _out(checks: list[health.Check]) -> HealthOut:
    fine = all(check.ok for check in checks)
    return HealthOut(status="ok" if fine else "degraded", checks=[CheckOut.model_validate(check) for check in checks])
