"""Libraries of C that are put into one process by LD_PRELOAD, compiled once for each run."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from tests.chaos.faults.site import Impossible, InVain, Site

_SOURCES = Path(__file__).parent
_BACK_WITHIN_S = 30.0


def shim(folder: Path, name: str) -> Path:
    """The library from `name`.c. Raises Impossible without a compiler."""
    library = folder / f"{name}.so"
    if library.exists():
        return library
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise Impossible(f"{name} needs a C compiler")
    command = (compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(_SOURCES / f"{name}.c"), "-ldl")
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise Impossible(f"{name} needs a C compiler that works: {done.stderr.strip()[:200]}")
    return library


def restart_with(site: Site, process: str, library: Path, **variables: str) -> None:
    """SIGTERM, and wait until it works again, with the library. Raises InVain when it does not."""
    fleet = site.world.fleet
    fleet.environ(process, LD_PRELOAD=str(library), **variables)
    before, starts = fleet.pid(process), fleet.starts(process)
    fleet.terminate(process)
    end = time.monotonic() + _BACK_WITHIN_S
    while time.monotonic() < end and not site.over.is_set():
        if fleet.is_ready_again(process, before, starts) and fleet.has_loaded(process, library):
            return
        site.sleep(0.1)
    raise InVain(f"{process} did not come back with {library.name}")


def without(site: Site, process: str, **variables: None) -> None:
    """The next start is without it again."""
    site.world.fleet.environ(process, LD_PRELOAD=None, **variables)
