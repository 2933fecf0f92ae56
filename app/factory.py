"""Build the application."""

from __future__ import annotations

from pathlib import Path

from apiflask import APIFlask
from flask import Response
from flask_talisman import Talisman
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from werkzeug.middleware.proxy_fix import ProxyFix

from app import logs
from app.api import register as api
from app.cli import register as cli
from app.config import Settings, read_settings
from app.extensions import csrf, db, login_manager, migrate
from app.http import errors, limits
from app.http.request import Request, read_small_body, redirect_to_this_host
from app.runs import transfer_locks
from app.services.people import sessions
from app.web import register as web

ROOT = Path(__file__).resolve().parent.parent
CONTENT_SECURITY_POLICY = {
    "default-src": "'self'",
    "img-src": ["'self'", "data:"],
    "object-src": "'none'",
    "base-uri": "'none'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}
OWN_HEADERS = ("Content-Security-Policy", "Referrer-Policy")


class Policies(Talisman):
    """The security headers of every response. A response with its own keeps it: a document from an archive is sandboxed, and
    the page behind an invitation's link has its own referrer policy.

    Checked against flask-talisman 1.1.0: _set_response_headers.
    """

    def _set_response_headers(self, response: Response) -> Response:
        own = {name: response.headers[name] for name in OWN_HEADERS if name in response.headers}
        changed: Response = super()._set_response_headers(response)
        changed.headers.update(own)
        return changed


def build(settings: Settings | None = None) -> APIFlask:
    """Build the application from settings (default: the environment's). Raise ConfigError. Connect to nothing."""
    settings = settings or read_settings()
    logs.configure(settings)
    app = APIFlask(
        "app",
        title="MotoVaultPro Backup",
        json_errors=False,
        enable_openapi=False,
        static_folder=str(ROOT / "static"),
        template_folder=str(ROOT / "templates"),
    )
    app.request_class = Request
    app.config.update(_flask_config(settings))
    # One retry finds a restarted server; more would only make pages slow while Redis is down.
    retry = Retry(NoBackoff(), 1)
    app.extensions["transfer_locks"] = transfer_locks.TransferLocks(settings.metadata_dsn)
    app.extensions["redis"] = Redis.from_url(settings.redis_url, socket_connect_timeout=3, socket_timeout=5, retry=retry)
    if settings.trusted_proxy_hops:
        hops = settings.trusted_proxy_hops
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)  # type: ignore[method-assign]
    db.init_app(app)
    migrate.init_app(app, db, directory=str(ROOT / "migrations"))
    csrf.init_app(app)
    login_manager.init_app(app)
    login_manager.user_loader(sessions.find)
    login_manager.login_view = "web.auth.login"
    Policies(
        app,
        force_https=False,
        content_security_policy=CONTENT_SECURITY_POLICY,
        session_cookie_secure=settings.https,
        strict_transport_security=settings.https,
        frame_options="DENY",
    )
    logs.register(app)
    app.before_request(read_small_body)
    app.after_request(redirect_to_this_host)
    limits.init_app(app, settings)
    errors.register(app)
    api.register(app)
    web.register(app)
    cli.register(app)
    return app


def _flask_config(settings: Settings) -> dict[str, object]:
    return {
        "SETTINGS": settings,
        "SECRET_KEY": settings.secret_key,
        "SQLALCHEMY_DATABASE_URI": settings.sqlalchemy_url,
        "SQLALCHEMY_ENGINE_OPTIONS": {
            "pool_pre_ping": True,
            # Rows must survive a power cut, even if the server or the role has synchronous_commit switched off.
            "connect_args": {"connect_timeout": 5, "options": "-c timezone=UTC -c synchronous_commit=on"},
        },
        # Browsers refuse a cookie with this prefix unless it came over HTTPS and for this very host.
        "SESSION_COOKIE_NAME": "__Host-session" if settings.https else "session",
        "SESSION_COOKIE_SECURE": settings.https,
        "SESSION_COOKIE_HTTPONLY": True,
        "SESSION_COOKIE_SAMESITE": "Lax",
        "PERMANENT_SESSION_LIFETIME": sessions.LONGEST,
        "WTF_CSRF_TIME_LIMIT": None,
        "MAX_FORM_MEMORY_SIZE": 500_000,
        "MAX_CONTENT_LENGTH": 1_000_000,
        "BOOTSTRAP_SERVE_LOCAL": True,
        "JSON_SORT_KEYS": False,
    }
