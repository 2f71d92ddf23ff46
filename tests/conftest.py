"""For all tests: the programs that they start have their memory as the units set it."""

from __future__ import annotations

import os

from bench.setting import MEMORY

os.environ.update(MEMORY)
