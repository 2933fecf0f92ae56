"""What must stay true of the code as a whole, whoever adds to it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from apiflask import APIFlask
from setuptools.config.pyprojecttoml import read_configuration

from app.api.openapi.document import document
from app.engine.version import VERSION
from app.extensions import db
from app.models import Base
from app.models.api_tokens import SCOPES
from app.processes import scheduler
from app.runs import queue
from tests.support.application import app, environment, settings

__all__ = ["app", "environment", "settings"]

ROOT = Path(__file__).resolve().parents[1]
LAYERS = {
    "web": "door", "api": "door", "cli": "door", "processes": "door", "factory": "door", "container": "door",
    "http": "http", "jobs": "jobs", "services": "services", "engine": "engine", "runs": "runs", "models": "models",
    "extensions": "ground", "config": "ground", "errors": "ground", "logs": "ground", "turns": "ground",
    "current": "ground",
}  # fmt: skip
MAY_IMPORT = {
    "door": {"door", "http", "services", "engine", "runs", "models", "ground"},
    "http": {"http", "services", "engine", "runs", "models", "ground"},
    "jobs": {"jobs", "services", "runs", "engine", "models", "ground"},
    "services": {"services", "engine", "runs", "models", "ground"},
    "runs": {"runs", "models", "ground"},
    "models": {"models"},
    "ground": {"ground", "models"},
    "engine": {"engine"},
}


def layer_of(path: Path) -> str:
    """Given a file below app/, return its room's kind."""
    name = path.relative_to(ROOT / "app").parts[0].removesuffix(".py")
    return LAYERS[name]


def imported(path: Path) -> Iterator[str]:
    """Given a file, yield the rooms of app that it imports anything from."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            first, *rest = node.module.split(".")
            if first == "app":
                yield from rest[:1] or [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            yield from (parts[1] for parts in names if parts[0] == "app" and len(parts) > 1)


def source_files() -> list[Path]:
    """Return the files of the rooms: the embedded stack is a house of its own."""
    files = sorted((ROOT / "app").rglob("*.py"))
    return [path for path in files if path.parts[len(ROOT.parts) + 1] not in ("demo", "demo.py", "__init__.py")]


def test_every_file_imports_only_from_the_rooms_it_may() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports app.{name}"
        for path in source_files()
        for name in imported(path)
        if LAYERS.get(name) not in MAY_IMPORT[layer_of(path)]
    ]
    assert not wrong


def test_the_rule_would_notice_a_service_that_imports_a_job(tmp_path: Path) -> None:
    module = tmp_path / "bad.py"
    module.write_text("from app.jobs import backup\nimport app.web.people.auth\nfrom app import ledger\n")
    assert list(imported(module)) == ["jobs", "web", "ledger"]
    assert "jobs" not in MAY_IMPORT["services"]


def test_the_configuration_is_read_by_one_function() -> None:
    asking = [path for path in source_files() if '.config["SETTINGS"]' in path.read_text()]
    names = [str(path.relative_to(ROOT / "app")) for path in asking]
    # A starting worker, and whoever checks a start, has the app in its hand.
    assert names == ["current.py", "processes/startup.py", "processes/worker.py"]


def test_the_engine_loads_without_flask_sqlalchemy_or_redis() -> None:
    import subprocess
    import sys

    code = "import sys, app.engine; print([m for m in ('flask', 'sqlalchemy', 'redis', 'rq') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_package_api_and_manifest_have_one_version_number(app: APIFlask) -> None:
    package = read_configuration(ROOT / "pyproject.toml")["project"]["version"]
    assert {package, document(app)["info"]["version"]} == {VERSION}
    writers = [path for path in source_files() if "tool_version=" in path.read_text()]
    assert writers, "no manifest is written anywhere?"
    assert all("tool_version=VERSION," in path.read_text() for path in writers)


def test_every_route_of_the_api_names_its_scope(app: APIFlask) -> None:
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith("/api/"):
            assert getattr(app.view_functions[rule.endpoint], "required_scope", None) in SCOPES, rule.rule


def test_every_queue_that_a_job_goes_to_is_served_by_the_worker() -> None:
    calls = [
        ast.unparse(node.args[0])
        for path in source_files()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("queue.enqueue")
    ]
    assert calls, "no job is enqueued anywhere?"
    served = {f"queue.{name}" for name, value in vars(queue).items() if value in queue.QUEUES}
    assert set(calls) <= served


def test_every_job_that_is_named_by_its_path_is_there() -> None:
    from rq.utils import import_attribute

    paths = {value for name, value in vars(queue).items() if name.endswith("_JOB")}
    paths |= {entry.path for entry in scheduler.ENTRIES}
    assert len(paths) >= 3
    assert paths == queue.JOBS, "the worker refuses a job that is not in queue.JOBS"
    assert all(callable(import_attribute(path)) for path in paths)


def test_the_migrations_are_numbered_in_one_line() -> None:
    script = ScriptDirectory(str(ROOT / "migrations"))
    assert len(script.get_heads()) == 1
    names = sorted(path.name for path in (ROOT / "migrations" / "versions").glob("*.py"))
    assert [name[:5] for name in names] == [f"{number:04}_" for number in range(1, len(names) + 1)]
    assert [revision.revision for revision in reversed(list(script.walk_revisions()))] == [name[:4] for name in names]


def test_the_migrations_make_exactly_the_models(app: APIFlask) -> None:
    with db.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []
