"""What the programs ask of glibc's memory is said in four places, and is the same in all of them."""

from __future__ import annotations

import re
from pathlib import Path

from bench.setting import environment

ROOT = Path(__file__).parent.parent
PLACES = (
    "milter/benno-milter.service",
    "smtp_receiver/benno-smtp.service",
    "cron/benno-export2archive",
)


def test_the_same_everywhere() -> None:
    found = [dict(re.findall(r"(MALLOC_\w+)=(\d+)", (ROOT / place).read_text())) for place in PLACES]
    measured = {name: value for name, value in environment().items() if name.startswith("MALLOC_")}
    assert found == [measured] * len(PLACES)
    assert len(measured) == 2
