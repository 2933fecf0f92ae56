"""`python -m app.container init|databases|alive`: see compose.yaml."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from app.container import alive, databases, first_start
from app.container.first_start import Order, StartError


def main() -> int:
    """Run the command and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m app.container")
    commands = parser.add_subparsers(dest="command", required=True)
    init = commands.add_parser("init", help="create folders, permissions and secrets")
    for name in ("secrets", "postgres", "valkey", "storage", "documents"):
        init.add_argument(f"--{name}", type=Path, required=True)
    init.add_argument("--owner", required=True, help="UID:GID of the other containers")
    make = commands.add_parser("databases", help="create roles and databases on the PostgreSQL of compose.yaml")
    for name in ("secrets", "postgres"):
        make.add_argument(f"--{name}", type=Path, required=True)
    make.add_argument("--host", required=True)
    process = commands.add_parser("alive", help="exit with 0 if this container's process is alive")
    process.add_argument("process", choices=sorted(alive.PROCESSES))
    options = parser.parse_args()
    try:
        if options.command == "init":
            owner = first_start.read_owner(options.owner)
            places = (options.secrets, options.postgres, options.valkey, options.storage, options.documents)
            for line in first_start.prepare(Order(*places, *owner), os.environ):
                print(line, flush=True)
        elif options.command == "databases":
            databases.make_all(options.secrets, options.postgres, options.host)
        elif not alive.is_alive(options.process):
            return 1
    except StartError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
