"""One target with atheris, which looks for inputs that reach new lines: TARGET SEED SECONDS DIRECTORY.

DIRECTORY is where inputs are kept, and the one that went wrong. Ends with the number of inputs.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

atheris: Any = importlib.import_module("atheris")  # which is not always there

with atheris.instrument_imports(include=["benno_common", "benno_milter", "benno_smtp"]):
    from fuzz.targets import TARGETS, Target


def _dictionary(target: Target) -> str:
    """libFuzzer's form."""
    texts = ("".join(f"\\x{octet:02x}" for octet in one[:64]) for one in target.fragments if one)
    return "".join(f'"{text}"\n' for text in texts)


def main() -> None:
    name, seed, seconds, directory = sys.argv[1:]
    (target,) = (one for one in TARGETS if one.name == name)
    root = Path(directory)
    inputs = root / "inputs"
    inputs.mkdir()
    (root / "dictionary").write_text(_dictionary(target))
    for number, example in enumerate((*target.examples, b"".join(target.fragments))):
        (inputs / str(number)).write_bytes(example)
    options = [
        f"-seed={seed}",
        f"-max_total_time={seconds}",
        f"-dict={root}/dictionary",
        f"-artifact_prefix={root}/",
        "-max_len=4096",
        "-timeout=30",
        "-print_final_stats=1",
    ]

    def check(data: bytes) -> None:  # libFuzzer takes a number for an error
        target.check(data)

    atheris.Setup([sys.argv[0], *options, str(inputs)], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
