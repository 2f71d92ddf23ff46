"""The C programs of bench/, compiled as `bench/run` compiles them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable

import pytest

from bench.setting import ROOT, SOURCES

Compile = Callable[[str], str]


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """The path of a program, by its name."""
    if not shutil.which("gcc"):
        pytest.skip("no gcc: install gcc and libc6-dev")
    directory = tmp_path_factory.mktemp("programs")

    def compile_once(name: str) -> str:
        target = directory / name
        if not target.exists():
            script = (ROOT / "bench" / "run").read_text()
            (words,) = re.findall(rf"^compile {name} (.*)$", script, re.MULTILINE)
            options = ["-O2", "-Wall", "-Wextra", "-Werror", "-std=gnu11"]
            command = ["gcc", *options, "-o", str(target), *words.split()]
            subprocess.run(command, cwd=SOURCES, check=True)
        return str(target)

    return compile_once
