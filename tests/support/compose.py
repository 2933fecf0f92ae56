"""compose.yaml, read as Compose reads it: YAML with merge keys, and `${NAME:-default}` filled in."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
_VARIABLE = re.compile(r"\$\$|\$\{(\w+):-((?:[^${}]|\$\{[^{}]*\})*)\}")


def interpolated(text: str, environ: Mapping[str, str]) -> str:
    """Return a value with its variables filled in from .env. Defaults may contain variables, too."""

    def fill(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return environ.get(match[1]) or interpolated(match[2], environ)

    return _VARIABLE.sub(fill, text)


def read(environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the file's content for an .env (default: empty)."""

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: walk(each) for key, each in value.items()}
        if isinstance(value, list):
            return [walk(each) for each in value]
        return interpolated(value, environ or {}) if isinstance(value, str) else value

    loaded: dict[str, Any] = walk(yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8")))
    return loaded


def moved(value: str, places: Mapping[str, Path]) -> str:
    """Replace the containers' folders in a value by those on this machine."""
    for inside in sorted(places, key=len, reverse=True):
        value = value.replace(inside, str(places[inside]))
    return value


def copied_into_image(target: Path) -> None:
    """Copy to an empty folder what the Dockerfile's last stage gets, without what .dockerignore leaves out."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    left_out = [line for line in lines if line and not line.startswith(("#", "!", "*"))]
    for sources, place in copies():
        for source in sources:
            origin = ROOT / source
            if origin.is_file():
                shutil.copy(origin, target / place)
                continue
            shutil.copytree(
                origin,
                target / place,
                ignore=lambda folder, names: [
                    name
                    for name in names
                    if name == "__pycache__" or str((Path(folder) / name).relative_to(ROOT)) in left_out
                ],
            )


def copies() -> list[tuple[list[str], str]]:
    """Return what the Dockerfile's last stage copies from the project: (sources, target)."""
    last = (ROOT / "Dockerfile").read_text(encoding="utf-8").rpartition("\nFROM ")[2]
    found = re.findall(r"^COPY (?!--from)(.+)$", last, re.MULTILINE)
    return [(line.split()[:-1], line.split()[-1]) for line in found]


def image_command() -> list[str]:
    """Return the Dockerfile's CMD."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    command: list[str] = json.loads(re.findall(r"^CMD (.+)$", text, re.MULTILINE)[-1])
    return command
