"""What the host took of a virtual machine's processors: `steal` of /proc/stat, `st` of vmstat(8).

    watch = Watch()
    ...
    watch.share()       # 0.2: of the time that the processors had work for, a fifth was not there

It goes to other machines on the host, and to the host's own work for this one, its disk above all. A
rate that was measured meanwhile says less, even beside another: who needs several processors at the
same time loses more.
"""

from __future__ import annotations

from pathlib import Path

_STAT = Path("/proc/stat")


class Watch:
    """From now on. stat: /proc/stat, or what stands for it."""

    def __init__(self, stat: Path = _STAT) -> None:
        self._stat = stat
        self._busy, self._stolen = self._ticks()

    def share(self) -> float:
        """0 to 1; 0 where the kernel does not know it: on a machine that is not virtual, say."""
        busy, stolen = self._ticks()
        busy, stolen = busy - self._busy, stolen - self._stolen
        return stolen / (busy + stolen) if busy + stolen > 0 else 0.0

    def _ticks(self) -> tuple[int, int]:
        """Of all processors since the start: at work, and stolen."""
        line = self._stat.read_text().partition("\n")[0]
        user, nice, system, _, _, irq, softirq, steal, *_ = map(int, line.split()[1:])
        return user + nice + system + irq + softirq, steal
