"""The application for gunicorn and for the `flask` command."""

import gc
import os
import sys

from app import create_app
from app.cli import doctor, without_settings
from app.config import ConfigError
from app.processes.startup import check_start
from app.services.installation import settings_watch
from app.services.monitoring import health

# Gunicorn takes this exit code as "can't boot" and stops, instead of starting the worker again for ever.
CANNOT_BOOT = 3

ON_COMMAND_LINE = os.environ.get("FLASK_RUN_FROM_CLI") == "true"

try:
    # A restore from a file is for the day when the settings are gone, too.
    app = without_settings.application() if ON_COMMAND_LINE and without_settings.wanted(sys.argv) else create_app()
    # The commands check for themselves: `flask doctor` and `flask db upgrade` have to run where this would stop.
    if not ON_COMMAND_LINE:
        check_start(app)
        health.begins(app)
        settings_watch.watch_in_background(app.config["SETTINGS"], app.extensions["redis"])
        # What the app consists of lives as long as the process: looking it through at each collection made pages that plan
        # over thousands of backups three times as slow.
        gc.freeze()
except ConfigError as error:
    if ON_COMMAND_LINE and doctor.wanted(sys.argv):
        raise SystemExit(doctor.report_settings(error.problems, sys.argv)) from None
    print(error, file=sys.stderr)
    raise SystemExit(CANNOT_BOOT) from None
