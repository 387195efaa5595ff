"""Machines whose clocks are wrong: one process at a time, 90 seconds fast or slow, and stepping while it runs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.chaos.faults.site import Impossible, Site

_SOURCE = Path(__file__).with_name("wrong_clock.c")
_SKEW_S = 90


def skew(site: Site) -> None:
    """Restart one process with a wrong clock, let it step once, restart it with the right one."""
    library, fleet = _library(site.world.kept), site.world.fleet
    living = fleet.living()
    if not living:
        return
    name = site.chance.choice(living)
    first_s = site.chance.choice((-1, 1)) * _SKEW_S
    clock = site.world.kept / f"{name}.clock"
    clock.write_text(f"{first_s}\n")
    fleet.environ(name, LD_PRELOAD=str(library), CHAOS_CLOCK=str(clock))
    with site.during("clock-skew", name, f"{first_s:+d} s, then {-first_s:+d} s"):
        fleet.terminate(name)
        site.sleep(max(4.0, site.span()))
        clock.write_text(f"{-first_s}\n")
        site.sleep(site.span())
        fleet.environ(name, LD_PRELOAD=None, CHAOS_CLOCK=None)
        fleet.terminate(name)


def _library(folder: Path) -> Path:
    """The shim, compiled once for each run."""
    library = folder / "wrong_clock.so"
    if library.exists():
        return library
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise Impossible("a wrong clock needs a C compiler")
    command = (compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(_SOURCE))
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise Impossible(f"a wrong clock needs a C compiler that works: {done.stderr.strip()[:200]}")
    return library
