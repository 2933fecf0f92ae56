"""Connects the pages with the app: one blueprint `web` with a child for each feature."""

from flask import Blueprint, Flask
from flask_bootstrap import Bootstrap5

from app.extensions import login_manager
from app.web import context, filters, icons, not_kept, overview
from app.web.activity import activity
from app.web.backups import backups, contents, uploads
from app.web.people import account, admins, auth, tokens
from app.web.restores import restore_view, restores
from app.web.schedules import retention, schedules
from app.web.settings import recovery, settings


def register(app: Flask) -> None:
    """Register the pages, the template filters and what every template may use."""
    Bootstrap5(app)
    pages = Blueprint("web", __name__)
    pages.register_blueprint(auth.bp)
    for part in (backups, contents, restores, uploads, schedules, retention, settings, recovery):
        pages.register_blueprint(part.bp)
    for part in (account, activity, admins, tokens):
        pages.register_blueprint(part.bp)
    pages.add_url_rule("/", "start", overview.start)
    pages.after_request(not_kept.not_kept)
    app.register_blueprint(pages)
    login_manager.unauthorized_handler(auth.ask_to_log_in)
    filters.init_app(app)
    restore_view.init_app(app)
    app.add_template_global(icons.icon)
    app.context_processor(context.template_context)
