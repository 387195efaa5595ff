"""CPU time and memory of every role, as the kernel counts them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import psutil

_MB = 1_000_000


@dataclass(frozen=True, slots=True)
class CpuReading:
    """CPU seconds used so far: by role, by the kernel's interrupts, and by everybody on the machine (both included).

    The kernel handles much of the loopback traffic in interrupts, which it charges to nobody.
    """

    roles: Mapping[str, float]
    interrupts: float
    machine: float


def read_cpu(pids: Mapping[str, int]) -> CpuReading:
    """CPU seconds by role; children count to their parent, those that have ended too."""
    busy = psutil.cpu_times()
    roles = {name: _cpu_seconds(pid) for name, pid in {**pids, "bench": os.getpid()}.items()}
    interrupts = busy.irq + busy.softirq
    return CpuReading(roles, interrupts, busy.user + busy.system + busy.nice + interrupts)


def _cpu_seconds(pid: int) -> float:
    process = psutil.Process(pid)
    times = process.cpu_times()
    total = times.user + times.system
    if pid != os.getpid():  # our own children are the roles
        # PostgreSQL's backends come and go: what has ended is in the postmaster's account.
        total += times.children_user + times.children_system
        total += sum(_children_cpu(process))
    return float(total)


def _children_cpu(process: psutil.Process) -> Iterator[float]:
    for child in process.children(recursive=True):
        try:
            times = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        yield times.user + times.system


@dataclass(slots=True)
class MemoryPeaks:
    """The most memory that each role was seen to use (MB): resident for most, proportional for PostgreSQL.

    PostgreSQL's processes share their buffers: their resident sizes would count them once per backend.
    """

    peaks_mb: dict[str, float] = field(default_factory=dict)

    def look(self, pids: Mapping[str, int], *, postgres: bool) -> None:
        """Look once; PostgreSQL only if asked, since the kernel takes milliseconds for it."""
        for name, pid in pids.items():
            if name != "postgres":
                self._note(name, psutil.Process(pid).memory_info().rss)
            elif postgres:
                self._note(name, _proportional(psutil.Process(pid)))

    def _note(self, name: str, size: int) -> None:
        self.peaks_mb[name] = max(self.peaks_mb.get(name, 0.0), size / _MB)


def _proportional(process: psutil.Process) -> int:
    total = 0
    for member in (process, *process.children(recursive=True)):
        try:
            total += member.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total
