"""SIGKILL before a system call, as `injection.into()` takes it, for every call that was traced."""

from __future__ import annotations


def kills(calls: list[str]) -> list[str]:
    """One fault for each moment; of many equal calls in a row, for the first and the last."""
    faults = []
    for number, call in enumerate(calls):
        before, after = calls[number - 1 : number], calls[number + 1 : number + 2]
        if before != [call] or after != [call]:
            faults.append(f"{call}:signal=KILL:when={calls[: number + 1].count(call)}")
    return faults


def is_within(expected: list[str], calls: list[str]) -> bool:
    """Whether the expected calls were made in this order, whatever was in between."""
    left = iter(calls)
    return all(call in left for call in expected)
