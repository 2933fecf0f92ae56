"""The Makefile's own recipe, with the pip that other machines have: old ones and the newest."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]

# None: the pip that this Python brings. 22.3 came with Python 3.11.0, 23.2 with 3.12.0.
OLD_AND_NEW = ("22.3", "23.0", "23.2", "newest", None)


def pythons() -> dict[str, Path]:
    """Return the Pythons of this machine that are supported, by version: this one, and those beside it (pyenv)."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    found = {here: Path(sys.base_prefix) / "bin" / f"python{here}"}
    for version in ("3.11", "3.12", "3.13"):
        beside = sorted(Path(sys.base_prefix).parent.glob(f"{version}.*/bin/python{version}"))
        if version not in found and beside:
            found[version] = beside[-1]
    return found


def cases() -> list[tuple[str, str | None]]:
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    return [(here, pip) for pip in OLD_AND_NEW] + [(version, None) for version in sorted(pythons()) if version != here]


def python_with(pip: str | None, python: Path, folder: Path) -> Path:
    """Write a Python whose virtual environments have this pip, as if it had come with it."""
    wanted = "--upgrade pip" if pip == "newest" else f"pip=={pip}"
    install = f'"$3/bin/python" -m pip install --quiet --disable-pip-version-check {wanted}' if pip else ":"
    script = folder / "python"
    script.write_text(f'#!/bin/sh\nset -e\n"{python}" "$@"\n[ "$1 $2" != "-m venv" ] || {install}\n')
    script.chmod(0o755)
    return script


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all of them, without what was built here at other times."""
    return tmp_path_factory.mktemp("pip-cache")


@pytest.mark.parametrize(("version", "pip"), cases(), ids=lambda value: str(value or "its own"))
def test_make_install_works_and_its_packages_fit_together(
    version: str, pip: str | None, tmp_path: Path, cache: Path
) -> None:
    for name in ("Makefile", "requirements.lock", "requirements-build.lock"):
        shutil.copy(ROOT / name, tmp_path)
    python = python_with(pip, pythons()[version], tmp_path)
    # Bytecode is not what is in question, and takes as long as the rest.
    environment = {**os.environ, "PIP_NO_COMPILE": "1", "PIP_CACHE_DIR": str(cache)}
    done = subprocess.run(
        ["make", f"PYTHON={python}", "install"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=800
    )
    assert done.returncode == 0, done.stdout + done.stderr
    inside = str(tmp_path / ".venv" / "bin" / "python")
    told = subprocess.run([inside, "-m", "pip", "--version"], capture_output=True, text=True, check=True).stdout
    assert pip in (None, "newest") or told.startswith(f"pip {pip}")
    checked = subprocess.run([inside, "-m", "pip", "check"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    code = "import importlib.metadata as m; print(m.distribution('crontab').read_text('WHEEL'), m.version('setuptools'))"
    built = subprocess.run([inside, "-c", code], capture_output=True, text=True, check=True).stdout
    locked = (ROOT / "requirements-build.lock").read_text().partition("setuptools==")[2].split()[0]
    assert f"setuptools ({locked})" in built, built
    again = subprocess.run(["make", f"PYTHON={python}", "install"], cwd=tmp_path, capture_output=True, text=True)
    assert (again.returncode, "Installing" in again.stdout) == (0, False), "there is nothing more to do"
