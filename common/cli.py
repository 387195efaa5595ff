"""The `tocsin` command. A role's command becomes that role's process; nothing of a service is imported here."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console

from common import keys, log, platform_commands, rotation, user_commands
from common.domain.errors import SettingsError, StackError
from common.seed.command import seed
from common.settings import load_settings
from common.up import up as run_up

app = typer.Typer(
    name="tocsin",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Health monitoring and incident alerting that can prove no alert is lost and none is doubled.",
)

app.add_typer(platform_commands.app, name="platform-key")
app.add_typer(user_commands.app, name="user")
app.command()(seed)

#: Exit status for a wrong setting or a stack that cannot run.
EXIT_UNUSABLE = 2


@app.command()
def up(
    *, verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the roles' info lines too.")] = False
) -> None:
    """Start everything on this machine, in the foreground."""

    def run() -> int:
        settings = load_settings()
        log.configure("supervisor", level=settings.log_level, style=settings.log_format)
        return run_up(settings, Console(), verbose=verbose)

    raise typer.Exit(_guarded("up", run))


def _become(module: str) -> None:
    os.execv(sys.executable, [sys.executable, "-m", module])  # noqa: S606 - our own module


@app.command()
def api() -> None:
    """Run the API only."""
    _become("api.app")


@app.command()
def scheduler() -> None:
    """Run a scheduler only; several may run, one leads."""
    _become("scheduler.app")


@app.command()
def worker() -> None:
    """Run one worker process only."""
    _become("worker.app")


@app.command()
def notifier() -> None:
    """Run a notifier only."""
    _become("notifier.app")


@app.command()
def migrate() -> None:
    """Bring the database's schema up to date, and make the first administrator if there is none."""
    _become("migrations.run")


@app.command()
def demo() -> None:
    """Break an endpoint and watch what happens, on the running stack or a temporary one."""
    _become("common.demo.app")


@app.command()
def keygen() -> None:
    """Print new values for TOCSIN_JWT_KEY and TOCSIN_ENCRYPTION_KEYS."""
    made = keys.generate()
    sys.stdout.write(f"TOCSIN_JWT_KEY={made['jwt_key']}\nTOCSIN_ENCRYPTION_KEYS={made['encryption_keys']}\n")


@app.command()
def rotate_keys() -> None:
    """Seal all stored secrets with the first of TOCSIN_ENCRYPTION_KEYS, so that the others can be dropped."""
    raise typer.Exit(_guarded("rotate-keys", lambda: rotation.run(load_settings())))


@app.command()
def settings() -> None:
    """Check the settings and print them as JSON, secrets hidden."""

    def run() -> int:
        sys.stdout.write(json.dumps(json.loads(load_settings().model_dump_json(by_alias=True)), indent=2) + "\n")
        return 0

    raise typer.Exit(_guarded("settings", run))


def _guarded(command: str, run: Callable[[], int]) -> int:
    """One line and status 2 for what the operator has to mend."""
    try:
        return run()
    except (SettingsError, StackError) as error:
        sys.stderr.write(f"tocsin {command}: {error.message}\n")
        return EXIT_UNUSABLE


def main() -> None:
    """The console script."""
    app()


if __name__ == "__main__":
    main()
