"""`python -m tests.support.short_times …` is `flask …` with the times of locks shortened: LOCK_TTL in seconds."""

from __future__ import annotations

import os
import sys

from app.runs import schedule_locks


def main() -> None:
    from flask.cli import main as flask

    schedule_locks.TTL_SECONDS = float(os.environ["LOCK_TTL"])
    sys.argv[0] = "flask"
    flask()


if __name__ == "__main__":
    main()
