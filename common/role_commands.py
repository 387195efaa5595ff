"""Commands that run or prepare an installation. A role's command becomes that role's process."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping
from typing import Annotated

import typer
from rich.console import Console

from common import keys, log, rotation
from common.settings import child_environment, load_settings
from common.up import up as run_up


def up(
    *, verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the roles' info lines too.")] = False
) -> None:
    """Start everything on this machine, in the foreground."""
    settings = load_settings()
    log.configure("supervisor", level=settings.log_level, style=settings.log_format)
    raise typer.Exit(run_up(settings, Console(), verbose=verbose))


def _become(module: str, environment: Mapping[str, str] | None = None) -> None:
    line = [sys.executable, "-m", module]
    if environment is None:
        os.execv(sys.executable, line)  # noqa: S606 - our own module
    os.execve(sys.executable, line, environment)  # noqa: S606 - the same


def api() -> None:
    """Run the API only."""
    settings = load_settings()
    if settings.api_workers > 1 and settings.metrics_dir is None:
        # Each of its processes would show its own numbers, whichever answers; the library looks when it is imported.
        folder = tempfile.mkdtemp(prefix="tocsin-metrics-")
        _become("api.app", child_environment(settings, PROMETHEUS_MULTIPROC_DIR=folder))
    _become("api.app")


def scheduler() -> None:
    """Run a scheduler only; several may run, one leads."""
    _become("scheduler.app")


def worker() -> None:
    """Run one worker process only."""
    _become("worker.app")


def notifier() -> None:
    """Run a notifier only."""
    _become("notifier.app")


def migrate() -> None:
    """Bring the database's schema up to date, and make the first administrator if there is none."""
    _become("migrations.run")


def demo() -> None:
    """Break an endpoint and watch what happens, on the running stack or a temporary one."""
    _become("common.demo.app")


def keygen() -> None:
    """Print new values for TOCSIN_JWT_KEY and TOCSIN_ENCRYPTION_KEYS."""
    made = keys.generate()
    sys.stdout.write(f"TOCSIN_JWT_KEY={made['jwt_key']}\nTOCSIN_ENCRYPTION_KEYS={made['encryption_keys']}\n")


def rotate_keys() -> None:
    """Seal all stored secrets with the first of TOCSIN_ENCRYPTION_KEYS, so that the others can be dropped."""
    raise typer.Exit(rotation.run(load_settings()))


def settings() -> None:
    """Check the settings and print them as JSON, secrets hidden."""
    sys.stdout.write(json.dumps(json.loads(load_settings().model_dump_json(by_alias=True)), indent=2) + "\n")
