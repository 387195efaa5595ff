"""Processes that die, stand still, or are restarted: at any moment, and at the worst ones."""

from __future__ import annotations

import time
from collections.abc import Callable

from common.broker import HEARTBEAT_TIMEOUT_MS
from scheduler.lease import LeaseTimes
from tests.chaos.faults.site import InVain, Site
from tests.chaos.fleet import PROCESSES
from tests.chaos.wounded import FAILPOINTS

_BACK_WITHIN_S = 30.0
#: Silences of a run end at the latest after so many times their own length (tests/chaos/signals.py).
_CYCLE = 2.6


def kill(site: Site, role: str = "") -> None:
    """SIGKILL at any moment."""
    name = _somebody(site, role)
    if not site.world.fleet.kill(name):
        raise InVain(f"{name} has just ended")
    site.moment("kill", name)


def fall(site: Site, kind: str = "") -> None:
    """SIGKILL at a failpoint; in vain when nobody comes by in time."""
    fleet = site.world.fleet
    choices = [(name, point) for name in fleet.living() for point in FAILPOINTS[name.split("-")[0]] if kind in point]
    if not choices:
        raise InVain("nobody runs")
    name, point = site.chance.choice(choices)
    # Not always the first to come by: what follows in the same transaction or message is another case.
    fleet.arm(name, point, site.chance.choice((1.0, 0.3)))
    with site.during("failpoint", name, point):
        for _ in site.until(min(site.world.plan.longest_s, 6.0), every_s=0.05):
            if not fleet.armed(name):
                return
        if fleet.disarm(name):
            raise InVain(f"{name} did not come by {point}")


def fall_together(site: Site, loop: str, hurry: Callable[[Site], None] | None = None) -> None:
    """SIGKILL of whichever notifier comes by a commit of this loop first, the other may follow; `hurry` helps it on."""
    fleet, point = site.world.fleet, site.chance.choice((f"before_commit@{loop}", f"after_commit@{loop}"))
    names = fleet.living("notifier")
    with site.during("failpoint", "notifier", point):
        for name in names:
            fleet.arm(name, point, 1.0)
        try:
            if hurry is not None:
                hurry(site)
            for _ in site.until(site.world.plan.silence_s * _CYCLE, every_s=0.05):
                if not all(fleet.armed(name) for name in names):
                    break
        finally:
            waiting = [fleet.disarm(name) for name in names]
        if all(waiting):
            raise InVain(f"no notifier came by {point}")


def remind_now(site: Site) -> None:
    """What would be brought to mind in a minute is due now."""
    with site.world.database() as connection:
        connection.execute("UPDATE reminders SET due_at = now() WHERE due_at > now()")


def freeze(site: Site, role: str = "") -> None:
    """SIGSTOP for longer than a heartbeat's patience, then SIGCONT: it goes on with what others have taken over."""
    name = _somebody(site, role)
    seconds = site.chance.uniform(1.05, 2.0) * HEARTBEAT_TIMEOUT_MS / 1000
    _freeze(site, "freeze", name, seconds)


def freeze_leader(site: Site) -> None:
    """The leader stands still for longer than its lease: for a moment after that there are two."""
    seconds = LeaseTimes().ttl_s + site.chance.uniform(1.0, 4.0)
    _freeze(site, "freeze-leader", _leader(site), seconds)


def kill_leader(site: Site) -> None:
    """The leader dies."""
    name = _leader(site)
    if not site.world.fleet.kill(name):
        raise InVain(f"{name} has just ended")
    site.moment("kill-leader", name)


def rolling_restart(site: Site) -> None:
    """SIGTERM to one process after the other, as an upgrade does."""
    fleet, came_back = site.world.fleet, 0
    for name in PROCESSES:
        before, starts = fleet.pid(name), fleet.starts(name)
        if before is None or site.over.is_set():
            continue
        with site.during("restart", name):
            fleet.terminate(name)
            end = time.monotonic() + _BACK_WITHIN_S
            while not (back := fleet.is_ready_again(name, before, starts)):
                if time.monotonic() > end or site.over.is_set():
                    break
                site.sleep(0.1)
        came_back += back
        site.sleep(0.5)
    if not came_back:
        raise InVain("nobody came back")


def leader(site: Site) -> str | None:
    """Which process leads, by the lease's holder and what the schedulers have logged."""
    with site.world.database() as connection:
        row = connection.execute("SELECT holder FROM leases").fetchone()
    if row is None:
        return None
    for name in site.world.fleet.living("scheduler"):
        text = site.world.fleet.log(name).read_text(errors="replace")
        started = [line for line in text.splitlines() if '"scheduler_started"' in line]
        if started and row[0] in started[-1]:
            return name
    return None


def _freeze(site: Site, fault: str, name: str, seconds: float) -> None:
    fleet = site.world.fleet
    if not fleet.freeze(name):
        raise InVain(f"{name} has just ended")
    with site.during(fault, name, f"{seconds:.1f} s"):
        site.sleep(seconds)
        fleet.thaw(name)


def _somebody(site: Site, role: str) -> str:
    living = site.world.fleet.living(role)
    if not living:
        raise InVain(f"no {role or 'process'} runs")
    return site.chance.choice(living)


def _leader(site: Site) -> str:
    name = leader(site)
    if name is None:
        raise InVain("nobody leads")
    return name
