"""What a run is asked for, and how a run that cannot go on says so."""

from __future__ import annotations

from dataclasses import dataclass


class BenchError(Exception):
    """The run cannot go on; the message is for people."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One run: the load, how long it is measured, and what serves as target (nginx, asyncio or auto)."""

    monitors: int
    interval_s: int
    seconds: int
    warmup_s: int
    workers: int
    target: str
    failure_threshold: int = 2
    #: So many of the monitors watch a path of their own that can be made to fail.
    flaky: int = 0
    notifier: bool = False
    #: Results of the past, where the scenario makes some.
    results: int = 0
    #: Whom the workers ask for names, where targets have some (TOCSIN_DNS_SERVERS).
    dns_servers: str = ""
