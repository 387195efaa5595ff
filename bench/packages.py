"""Programs of others that a benchmark needs: found, or installed from Debian's packages where we may."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable

_INSTALL_WITHIN_S = 300


def find(program: str, package: str, say: Callable[[str], None]) -> str | None:
    """Where a program is; as root on Debian its package is installed. None when it cannot be had."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])
    found = shutil.which(program, path=path)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        say(f"installing {package}")
        # Runlevel 1: the package's own service is not started.
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        for command in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", package]):
            try:
                subprocess.run(
                    ["apt-get", *command], env=env, check=True, capture_output=True, timeout=_INSTALL_WITHIN_S
                )
            except (subprocess.SubprocessError, OSError):
                return None
        found = shutil.which(program, path=path)
    return found
