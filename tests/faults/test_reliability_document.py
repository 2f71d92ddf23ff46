"""docs/reliability.md names tests and commands: they must be there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "docs" / "reliability.md").read_text()
NAMED = sorted(set(re.findall(r"`([a-z_0-9]+/)?(test_\w+)::(\w+)`", TEXT)))
FILES = {path.stem: path for path in (ROOT / "tests").rglob("test_*.py")}


def test_it_names_tests() -> None:
    assert len(NAMED) > 80


@pytest.mark.parametrize(
    ("directory", "file", "name"), NAMED, ids=["::".join(one[1:]) for one in NAMED]
)
def test_a_test_that_it_names(directory: str, file: str, name: str) -> None:
    path = FILES.get(file)
    assert path, f"there is no tests/{directory}{file}.py"
    assert path.parent == ROOT / "tests" / directory
    tree = ast.parse(path.read_text())
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    classes = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert name in functions | classes, f"there is no {name} in {path.name}"


def test_each_row_of_the_table_names_one() -> None:
    (table,) = re.findall(r"## What can go wrong\n(.*?)\n## ", TEXT, re.DOTALL)
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 30
    assert [row for row in rows if "::" not in row] == []
