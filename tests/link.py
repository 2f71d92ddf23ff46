"""A network of their own for programs that talk over loopback, whose link can be cut."""

from __future__ import annotations

import os
import subprocess

from waiting import wait_for


class Network:
    """A network namespace with a loopback, as long as we live. wrapper: starts a program there."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            ["unshare", "--net", "cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        ours, theirs = (f"/proc/{pid}/ns/net" for pid in (os.getpid(), self._holder.pid))
        wait_for(lambda: os.readlink(ours) != os.readlink(theirs), "a network namespace")
        self.wrapper = ("nsenter", f"--net={theirs}")
        self.run("ip", "link", "set", "lo", "up")
        self.run("nft", "add table inet soak")
        self.run("nft", "add chain inet soak arriving { type filter hook input priority 0; }")

    def cut(self) -> None:
        """What is sent is dropped, and nobody is told."""
        self.run("nft", "add rule inet soak arriving ip protocol tcp drop")

    def mend(self) -> None:
        self.run("nft", "flush chain inet soak arriving")

    def run(self, *command: str) -> None:
        subprocess.run([*self.wrapper, *command], check=True)

    def close(self) -> None:
        assert self._holder.stdin
        self._holder.stdin.close()
        self._holder.wait()
