"""What must stay true of the code as a whole, whoever adds to it."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
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

ROOT = Path(__file__).resolve().parents[1]
TEST_MODULES = {"conftest", *(path.stem for path in (ROOT / "tests").rglob("test_*.py"))}


def source_files() -> list[Path]:
    """Return the files of the rooms: the embedded stack is a house of its own."""
    files = sorted((ROOT / "app").rglob("*.py"))
    return [path for path in files if path.parts[len(ROOT.parts) + 1] not in ("demo", "demo.py", "__init__.py")]


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Check the contracts of pyproject.toml over the app in a folder."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"})


def test_every_file_imports_only_from_the_layers_it_may() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout


def test_an_import_up_the_layers_breaks_a_contract(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "app", tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    planted = {
        "services/paging.py": "app.jobs.notify",
        "services/history/figures.py": "app.services.backups.backups",
        "web/icons.py": "app.api.settings",
        "engine/system/threads.py": "app.engine.storage.local",
        "engine/restore/loading/load_plan.py": "app.engine.restore.places.journal",
        "engine/errors.py": "flask",
        "models/ticks.py": "redis",
        "runs/queue.py": "flask_login",
    }
    for name, module in planted.items():
        with (tmp_path / "app" / name).open("a", encoding="utf-8") as file:
            file.write(f"\n\ndef _planted() -> None:\n    import {module}\n")
    done = lint_imports(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "0 kept" in done.stdout, done.stdout
    for name, module in planted.items():
        importer = "app." + name.removesuffix(".py").replace("/", ".")
        assert f"{importer} -> {module} (l." in done.stdout, done.stdout


# Who may look at files without asking the storage: the checkup looks at the folders and files that the settings name.
LOOKS_AT_FOLDERS = {"services/checkup/folders.py", "services/checkup/environment.py"}
# Who may name the folder: its setting, the storage that is made of it, and the sheet that prints all settings.
NAMES_THE_FOLDER = {"config.py", "services/installation/storage.py", "services/recovery/recovery_sheet.py"}
# The journals of restores lie beside the archives, and the engine's backup is given the folder.
HANDS_ON_THE_FOLDER = {"services/backups/backup_run.py", "services/installation/restore_engine.py"}
FILE_CALLS = {"open", "stat", "lstat", "unlink", "iterdir", "scandir", "listdir", "disk_usage", "read_bytes"}
READS_ARCHIVES = ("engine/archive/", "engine/verify/", "engine/proof/", "engine/restore/foreign_archive.py")


def past_the_storage(path: Path, name: str) -> Iterator[str]:
    """Yield what a file, by its path below app/, does to archives that only a storage may do."""
    in_engine = name.startswith("engine/")
    for node in ast.walk(ast.parse(path.read_text())):
        text = ast.unparse(node) if isinstance(node, ast.Attribute | ast.Call | ast.ImportFrom) else ""
        if isinstance(node, ast.Attribute) and node.attr == "storage_dir" and not in_engine:
            if name not in NAMES_THE_FOLDER:
                yield text
        elif isinstance(node, ast.Attribute) and node.attr == "folder" and "storage" in ast.unparse(node.value):
            if not in_engine and name not in HANDS_ON_THE_FOLDER:
                yield text
        elif isinstance(node, ast.ImportFrom) and (node.module or "").endswith("engine.storage.local"):
            if name != "services/installation/storage.py":
                yield text
        elif isinstance(node, ast.Call):
            owner, _, called = ast.unparse(node.func).rpartition(".")
            if owner.rstrip("()") in ("storage", "ledger.backups", "ledger.restores"):
                continue
            asked = {"open"} if name.startswith(READS_ARCHIVES) else set() if in_engine else FILE_CALLS
            if called in asked and name not in LOOKS_AT_FOLDERS:
                yield text


def test_archives_are_touched_by_the_storage_alone() -> None:
    found = []
    for path in source_files():
        name = path.relative_to(ROOT / "app").as_posix()
        if not name.startswith(("container/", "engine/storage/")):
            found += [f"{name}: {text}" for text in past_the_storage(path, name)]
    assert not found


def test_the_rule_would_notice_an_archive_that_is_opened_or_deleted_by_its_path(tmp_path: Path) -> None:
    planted = {
        "from app.engine.storage.local import LocalStorage": "services/backups/bad.py",
        "current.settings().storage_dir": "jobs/bad.py",
        "storage().folder": "services/backups/bad.py",
        "open(archive.path, 'rb')": "web/bad.py",
        "archive.path.open('rb')": "engine/verify/bad.py",
        "os.open(path, os.O_RDONLY)": "engine/archive/bad.py",
        "archive.path.unlink(missing_ok=True)": "jobs/bad.py",
        "path.stat()": "services/recovery/bad.py",
        "shutil.disk_usage(folder)": "services/monitoring/bad.py",
    }
    module = tmp_path / "bad.py"
    for code, name in planted.items():
        module.write_text(code)
        assert list(past_the_storage(module, name)) == [code]
    module.write_text("storage().open(name)\nstorage().stat(name)\nledger.backups.open(name)\n")
    assert list(past_the_storage(module, "jobs/good.py")) == []


def test_the_engine_loads_without_flask_sqlalchemy_or_redis() -> None:
    code = "import sys, app.engine; print([m for m in ('flask', 'sqlalchemy', 'redis', 'rq') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_package_api_and_manifest_have_one_version_number(app: APIFlask) -> None:
    package = read_configuration(ROOT / "pyproject.toml")["project"]["version"]
    assert {package, document(app)["info"]["version"]} == {VERSION}
    writers = [path for path in source_files() if "tool_version=" in path.read_text()]
    assert writers, "no manifest is written anywhere?"
    assert all("tool_version=VERSION," in path.read_text() for path in writers)


def imported_test_modules(text: str) -> list[str]:
    """Return the test modules and conftests that a module's text imports, in whatever way it does."""
    names = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            names += [f"{node.module or ''}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return [name for name in names if TEST_MODULES & set(name.split("."))]


def test_no_test_module_is_imported_by_another() -> None:
    """What tests share is in tests/support: two test modules that import each other can't be moved, read or run alone."""
    found = {str(path.relative_to(ROOT)): imported_test_modules(path.read_text()) for path in (ROOT / "tests").rglob("*.py")}
    assert {name: modules for name, modules in found.items() if modules} == {}


@pytest.mark.parametrize(
    "line",
    [
        "from tests.api.test_upload import Web",
        "from tests.web.conftest import EMAIL",
        "from tests.web import conftest",
        "from tests.api import test_upload as uploads",
        "import tests.api.test_upload",
        "from .test_upload import Web",
        "from . import conftest",
        "def late():\n    from tests.api.test_upload import Web",
    ],
)
def test_the_rule_would_notice_a_test_module_that_is_imported(line: str) -> None:
    assert imported_test_modules(line)
    assert imported_test_modules("from tests.support.archives import KEY\nfrom app.services import mail") == []


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
