"""Every domain error has one status, and knows nothing of HTTP itself."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from app import errors
from app.errors import Conflict, DomainError
from app.http.errors import STATUSES, status_of

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, DomainError)]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not DomainError], ids=lambda kind: kind.__name__)
def test_every_domain_error_has_a_status(kind: type[DomainError]) -> None:
    assert any(parent in STATUSES for parent in kind.__mro__), f"app.http.errors.STATUSES lacks {kind.__name__}"


def test_a_subclass_has_the_status_of_its_parent() -> None:
    class StillRunning(Conflict):
        pass

    assert status_of(StillRunning("Wait.")) == 409


def test_domain_errors_import_neither_flask_nor_anything_else_of_http() -> None:
    tree = ast.parse(Path(errors.__file__).read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imported == {"__future__", "typing"}
