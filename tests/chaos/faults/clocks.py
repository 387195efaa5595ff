"""Machines whose clocks are wrong: one process at a time, 90 seconds fast or slow, and stepping while it runs."""

from __future__ import annotations

from tests.chaos.faults.shims import restart_with, shim, without
from tests.chaos.faults.site import InVain, Site

_SKEW_S = 90


def skew(site: Site) -> None:
    """Restart one process with a wrong clock, let it step once, restart it with the right one."""
    library, fleet = shim(site.world.kept, "wrong_clock"), site.world.fleet
    living = fleet.living()
    if not living:
        raise InVain("nobody runs")
    name = site.chance.choice(living)
    first_s = site.chance.choice((-1, 1)) * _SKEW_S
    clock = site.world.kept / f"{name}.clock"
    clock.write_text(f"{first_s}\n")
    with site.during("clock-skew", name, f"{first_s:+d} s, then {-first_s:+d} s"):
        try:
            restart_with(site, name, library, CHAOS_CLOCK=str(clock))
            site.sleep(max(4.0, site.span()))
            clock.write_text(f"{-first_s}\n")
            site.sleep(site.span())
        finally:
            without(site, name, CHAOS_CLOCK=None)
            fleet.terminate(name)
