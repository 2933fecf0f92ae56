"""docs/architecture.md and its kind: the places that they name are there, and the index lists every decision."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

from tests.support.guide import README, ROOT, blocks

ADRS = sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))
PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "docs/architecture.md", "docs/adr/README.md")
DOCUMENTS = [ROOT / name for name in PAGES] + ADRS
FOLDERS = ("app", "tests", "docs", "migrations", "templates", "static", ".ci", ".github")
PATH = re.compile(rf"(?:{'|'.join(map(re.escape, FOLDERS))})/[\w./-]*")
FILE = re.compile(r"\.?[\w-]+\.(?:py|toml|lock|yaml)|Makefile|Dockerfile")
OF_OTHERS = {"setup.py"}


def places(text: str) -> set[str]:
    """Return the paths and file names of this repository that a text names between backquotes, or in a diagram."""
    quoted = {word for span in re.findall(r"`([^`\n]+)`", text) for word in span.split()}
    drawn = {word for block in re.findall(r"^```(?:text|mermaid)\n(.*?)^```", text, re.M | re.S) for word in block.split()}
    words = {word.strip('",;:()[]').removesuffix("…") for word in quoted | drawn}
    named = {word for word in words if PATH.fullmatch(word) or FILE.fullmatch(word)}
    return {word for word in named - OF_OTHERS if "NNNN" not in word}


def is_there(place: str) -> bool:
    """Return whether a path is there, or a file of that name without a folder is anywhere in the code."""
    if "/" in place or (ROOT / place).exists():
        return (ROOT / place).exists()
    return any(next((ROOT / folder).rglob(place), None) for folder in FOLDERS)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_path_that_is_named_is_there(document: Path) -> None:
    missing = sorted(place for place in places(document.read_text(encoding="utf-8")) if not is_there(place))
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_function_that_is_named_with_its_file_is_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for name, path in re.findall(r"`(\w+)`\s+(?:of|in)\s+`([\w/]+\.py)`", text):
        source = (ROOT / path).read_text(encoding="utf-8")
        assert re.search(rf"^ *(?:def |class )?{name}\b", source, re.MULTILINE), f"{name} in {path}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_relative_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        if "://" not in target and not target.startswith("#"):
            assert (document.parent / target.partition("#")[0]).exists(), target


def test_what_the_readme_imports_from_the_engine_is_there() -> None:
    (script,) = blocks("python", README)
    imports = [node for node in ast.parse(script).body if isinstance(node, ast.ImportFrom)]
    ours = [(node.module, alias.name) for node in imports for alias in node.names if (node.module or "").startswith("app.")]
    assert ours
    assert all(hasattr(import_module(module or ""), name) for module, name in ours)


def test_the_rule_would_notice_a_path_or_a_file_that_is_gone() -> None:
    text = "`app/gone.py`, `ledger.py`, `no_such_file.py`, `data/backups`\n\n```text\napp/web  -->  app/nowhere\n```\n"
    found = places(text)
    assert found == {"app/gone.py", "ledger.py", "no_such_file.py", "app/web", "app/nowhere"}
    assert {place for place in found if not is_there(place)} == {"app/gone.py", "no_such_file.py", "app/nowhere"}


def test_the_index_lists_every_decision_by_its_title() -> None:
    index = (ROOT / "docs" / "adr" / "README.md").read_text(encoding="utf-8")
    titles = {path.name: path.read_text(encoding="utf-8").partition("\n")[0] for path in ADRS}
    assert all(re.fullmatch(rf"# {int(name[:4])}\. .+", title) for name, title in titles.items()), titles
    rows = re.findall(r"^\| (\d+) \| \[(.+)\]\((\d{4}-[\w-]+\.md)\) \|$", index, re.MULTILINE)
    assert {name: f"# {number}. {title}" for number, title, name in rows} == titles
    assert [int(number) for number, _, _ in rows] == sorted(int(number) for number, _, _ in rows)
