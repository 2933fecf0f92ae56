"""/metrics, for Prometheus."""

from __future__ import annotations

import ipaddress

from apiflask import APIBlueprint, FileSchema
from flask import Response, request
from prometheus_client import CONTENT_TYPE_LATEST

from app import current
from app.http.auth import check, requires
from app.services.monitoring import metrics

bp = APIBlueprint("metrics", __name__, tag="Health")


@bp.get("/metrics")
@requires("read")
@bp.output(FileSchema(type="string"), content_type="text/plain", description="The metrics, in Prometheus' text format.")
@bp.doc(operation_id="metrics")
def show() -> Response:
    """Send the metrics, to addresses in METRICS_ALLOW, tokens and admins."""
    if not _is_allowed():
        check()
    return Response(metrics.text(), content_type=CONTENT_TYPE_LATEST)


def _is_allowed() -> bool:
    settings = current.settings()
    try:
        address = ipaddress.ip_address(request.remote_addr or "")
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return any(mapped in ipaddress.ip_network(network, strict=False) for network in settings.metrics_allow)
