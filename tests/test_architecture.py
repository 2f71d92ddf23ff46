"""The arrows between the parts, and what may stand where. The design says why."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = {
    ".".join(path.relative_to(root).with_suffix("").parts): path
    for root in (ROOT / "common", ROOT / "milter", ROOT / "milter2smtp", ROOT / "smtp_receiver")
    for path in sorted(root.rglob("*.py"))
}
MODULES = sorted(SOURCES)

# May import neither asyncio nor anything that touches the system.
SANS_IO = {
    "benno_common.envelope",
    "benno_common.mailfile",
    "benno_common.oldfile",
    "benno_common.networks",
    "benno_common.path",
    "benno_common.section",
    "benno_common.seldom",
    "benno_common.xtext",
    "benno_milter.asking",
    "benno_milter.event",
    "benno_milter.finding",
    "benno_milter.header",
    "benno_milter.judgement",
    "benno_milter.message",
    "benno_milter.postfix",
    "benno_milter.route",
    "benno_milter.protocol",
    "benno_milter.wire",
    "benno_milter2smtp.content",
    "benno_milter2smtp.offer",
    "benno_milter2smtp.outcome",
    "benno_milter2smtp.plan",
    "benno_milter2smtp.reply",
    "benno_milter2smtp.transaction",
    "benno_smtp.authentication",
    "benno_smtp.command",
    "benno_smtp.guard",
    "benno_smtp.limits",
    "benno_smtp.transfer",
}
IO = {
    "asyncio",
    "fcntl",
    "io",
    "logging",
    "os",
    "pathlib",
    "select",
    "shutil",
    "socket",
    "threading",
    "time",
}

# The one module that may import a library.
IMPORTERS = {
    "aiosmtpd": "benno_smtp.connection",
    "bcrypt": "benno_smtp.credentials",
    "cryptography": "benno_smtp.keystore",
    "aiosmtplib": "benno_milter2smtp.greeting",
    "purepythonmilter": "benno_milter.protocol",
    "tomllib": "benno_common.config",
    "tomli": "benno_common.config",
}

# Names of calls that make a change of the disk durable or visible.
DURABLE = {"fsync", "fdatasync", "link", "rename", "renames", "replace", "symlink", "syncfs", "move"}


def _tree(module: str) -> ast.Module:
    return ast.parse(SOURCES[module].read_text())


def _imports(module: str) -> Iterator[str]:
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            assert node.module
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _calls(module: str) -> Iterator[str]:
    """`os.link` as link, also where it was imported; the strings' own replace is not meant."""
    yield from (
        name.rpartition(".")[2] for name in _imports(module) if name.startswith(("os.", "shutil."))
    )
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            if node.func.attr != "replace" or (isinstance(owner, ast.Name) and owner.id == "os"):
                yield node.func.attr


def _strings(module: str) -> Iterator[str]:
    """String and bytes constants that are no docstrings."""
    tree = _tree(module)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in docstrings:
            if isinstance(node.value, bytes):
                yield node.value.decode("latin-1")
            elif isinstance(node.value, str):
                yield node.value


def test_all_parts_are_looked_at() -> None:
    assert {"benno_common.mailfile", "benno_common.durable.committer", "benno_milter.wire"} <= set(
        MODULES
    )
    assert set(MODULES) >= SANS_IO
    assert set(IMPORTERS.values()) <= set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_components_do_not_import_each_other(module: str) -> None:
    own = module.partition(".")[0]
    ours = {name.partition(".")[0] for name in _imports(module) if name.startswith("benno_")}
    assert ours <= {own, "benno_common"}


@pytest.mark.parametrize("module", sorted(SANS_IO))
def test_sans_io(module: str) -> None:
    assert not IO & {name.partition(".")[0] for name in _imports(module)}


@pytest.mark.parametrize("module", MODULES)
def test_one_importer_a_library(module: str) -> None:
    for library, importer in IMPORTERS.items():
        imported = any(name.partition(".")[0] == library for name in _imports(module))
        assert imported <= (module == importer), f"{module} imports {library}"


@pytest.mark.parametrize("module", [name for name in MODULES if ".durable" in name])
def test_durability_knows_no_asyncio(module: str) -> None:
    assert "asyncio" not in set(_imports(module))


@pytest.mark.parametrize("module", [name for name in MODULES if ".durable" not in name])
def test_only_durable_syncs_links_and_renames(module: str) -> None:
    assert not DURABLE & set(_calls(module))


@pytest.mark.parametrize("module", [name for name in MODULES if name != "benno_common.mailfile"])
def test_only_mailfile_knows_the_header_names(module: str) -> None:
    assert not [text for text in _strings(module) if "x-real-" in text.lower()]


@pytest.mark.parametrize("module", MODULES)
def test_readable(module: str) -> None:
    """Files stay within 250 lines, functions within 50, and each file says what it is."""
    tree = _tree(module)
    assert ast.get_docstring(tree), f"{module} has no docstring"
    assert len(SOURCES[module].read_text().splitlines()) <= 250
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert (node.end_lineno or 0) - node.lineno < 50, f"{module}.{node.name}"


def test_the_rules_see_what_they_forbid() -> None:
    """Each of them finds something where it is allowed, so that none passes by looking at nothing."""
    assert "purepythonmilter" in {name.partition(".")[0] for name in _imports("benno_milter.protocol")}
    assert {"fdatasync", "link"} <= set(_calls("benno_common.durable.draft"))
    assert "fsync" in set(_calls("benno_common.durable.directory"))
    assert any("X-REAL-" in text for text in _strings("benno_common.mailfile"))
    assert "asyncio" in set(_imports("benno_common.maildrop"))
