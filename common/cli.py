"""The `tocsin` command: what there is, imported when it is asked for, and how every failure ends.

A command's module is named here and imported only to run it, so that `tocsin --help` and the commands that only talk
to an API start at once. Nothing of a service is imported anywhere below.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException
from typer.main import get_command

from common.domain.errors import TocsinError
from common.exit_status import ExitStatus, one_line, status_of

_WATCH = "Your monitors and incidents"
_RUN = "Run Tocsin"
_OPERATE = "Operate it"


class Place(NamedTuple):
    """Where a command is (a function, or an app of several), and what the overview says of it, under which heading."""

    module: str
    attribute: str
    help: str
    panel: str


#: All commands, in the order of the overview.
COMMANDS: Mapping[str, Place] = {
    "login": Place("common.commands.access", "login", "Log in to an installation and remember it.", _WATCH),
    "logout": Place("common.commands.access", "logout", "End the session and forget it.", _WATCH),
    "whoami": Place("common.commands.access", "whoami", "Who you are, where, and what you may do.", _WATCH),
    "monitors": Place("common.commands.monitors", "app", "What is watched: list, add, show, pause, remove.", _WATCH),
    "check": Place("common.commands.check", "check", "Probe a URL once, now, and see where the time goes.", _WATCH),
    "incidents": Place("common.commands.incidents", "app", "What is wrong: list, show, take, comment, end.", _WATCH),
    "notifications": Place("common.commands.notifications", "app", "Who was told: list, send again.", _WATCH),
    "maintenance": Place("common.commands.maintenance", "app", "Planned work: list, add, end, remove.", _WATCH),
    "plan": Place("common.commands.sets", "plan", "Show what a file of monitors would change.", _WATCH),
    "apply": Place("common.commands.sets", "apply", "Make the monitors as a file says.", _WATCH),
    "export": Place("common.commands.sets", "export", "Write the monitors as a file that apply takes.", _WATCH),
    "up": Place("common.role_commands", "up", "Start everything on this machine, in the foreground.", _RUN),
    "demo": Place("common.role_commands", "demo", "Break an endpoint and watch what happens.", _RUN),
    "api": Place("common.role_commands", "api", "Run the API only.", _RUN),
    "scheduler": Place("common.role_commands", "scheduler", "Run a scheduler only; several may run.", _RUN),
    "worker": Place("common.role_commands", "worker", "Run one worker process only.", _RUN),
    "notifier": Place("common.role_commands", "notifier", "Run a notifier only.", _RUN),
    "migrate": Place("common.role_commands", "migrate", "Bring the database's schema up to date.", _RUN),
    "settings": Place("common.role_commands", "settings", "Check the settings and print them.", _OPERATE),
    "keygen": Place("common.role_commands", "keygen", "Make new keys for the settings.", _OPERATE),
    "rotate-keys": Place(
        "common.role_commands", "rotate_keys", "Seal all stored secrets with the first key.", _OPERATE
    ),
    "backup": Place("common.backups", "backup", "Write the whole database to a file.", _OPERATE),
    "restore": Place("common.backups", "restore", "Fill an empty database from a backup.", _OPERATE),
    "user": Place("common.user_commands", "app", "People: made, listed, disabled, helped.", _OPERATE),
    "platform-key": Place("common.platform_commands", "app", "The operator's keys.", _OPERATE),
    "seed": Place("common.seed.command", "seed", "Fill an installation with made data.", _OPERATE),
}


class Catalog(TyperGroup):
    """The commands of the table: shown as they stand there, imported to be run."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]  # noqa: ARG002
        """All names, in the table's order."""
        return list(COMMANDS)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]  # noqa: ARG002
        """What the overview shows of a command."""
        place = COMMANDS.get(cmd_name)
        return None if place is None else TyperCommand(cmd_name, help=place.help, rich_help_panel=place.panel)

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:  # type: ignore[override]
        """The command itself."""
        self.commands = {name: self.get_command(ctx, name) for name in COMMANDS}  # for "did you mean"
        name, shown, rest = super().resolve_command(ctx, args)
        return name, shown if name is None else load(name), rest


def load(name: str) -> Any:
    """A command, ready to run."""
    place = COMMANDS[name]
    found = getattr(import_module(place.module), place.attribute)
    if not isinstance(found, typer.Typer):
        single = typer.Typer(add_completion=False, rich_markup_mode="markdown")
        single.command(name)(found)
        found = single
    command = get_command(found)
    command.name = name
    return command


app = typer.Typer(name="tocsin", cls=Catalog, no_args_is_help=True, add_completion=False)


@app.callback(
    epilog="Exit statuses: 0 all is well, 1 what was asked about is not, 2 usage, 3 not found, 4 not let in, "
    "5 no answer, 6 the plan is stale, 7 refused as things are."
)
def _tocsin() -> None:
    """Health monitoring and incident alerting that can prove no alert is lost and none is doubled."""


def run(words: Sequence[str]) -> int:
    """Run a command line; its exit status. Every failure is one line on standard error."""
    try:
        status = get_command(app).main(list(words), prog_name="tocsin", standalone_mode=False)
    except TyperException as error:
        return _usage(error)
    except typer.Abort:
        return ExitStatus.INTERRUPTED
    except TocsinError as error:
        sys.stderr.write(f"{_spoken(words)}: {one_line(error)}\n")
        return status_of(error)
    if status == ExitStatus.INTERRUPTED:
        sys.stderr.write("\n")  # below what was typed
    return status if isinstance(status, int) else ExitStatus.OK


def _usage(error: TyperException) -> int:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "tocsin"
    if text := error.format_message():  # without one, help was printed instead
        sys.stderr.write(f"{path}: {' '.join(text.split()).rstrip('.')}; see {path} --help\n")
    return ExitStatus.USAGE


def _spoken(words: Sequence[str]) -> str:
    """The command as it was called, without its arguments."""
    first, second = [*words, "", ""][:2]
    grouped = first in COMMANDS and COMMANDS[first].attribute == "app" and second and not second.startswith("-")
    return f"tocsin {first} {second}" if grouped else f"tocsin {first}"


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
