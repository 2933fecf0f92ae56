"""What programs rely on in the OpenAPI document: everything but its prose and examples.

`python -m tests.support.openapi_shape` renews tests/api/openapi_shape.json after an intended change of the API.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from app import create_app
from app.api.openapi.document import document
from app.config import read_settings

FILE = Path(__file__).resolve().parents[1] / "api" / "openapi_shape.json"
PROSE = ("description", "summary", "example", "examples")
# Below these, every key is the name of a field or of a schema.
NAMES = ("properties", "schemas")


def shape(part: Any, *, of_names: bool = False) -> Any:
    """Leave prose and examples out of a part of the document."""
    if isinstance(part, dict):
        return {
            key: shape(value, of_names=key in NAMES and not of_names)
            for key, value in part.items()
            if of_names or key not in PROSE
        }
    return [shape(item) for item in part] if isinstance(part, list) else part


def _renew() -> None:
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/metadata",
            "REDIS_URL": "redis://127.0.0.1:1/0",
            "SECRET_KEY": "only for the document",
            "BACKUP_SOURCE_URL": "postgresql://nobody@127.0.0.1:1/source",
            "BACKUP_DOCUMENTS_DIR": folder,
            "BACKUP_STORAGE_DIR": folder,
        }
        found = shape(document(create_app(read_settings(environment))))
    FILE.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    _renew()
