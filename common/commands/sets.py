"""`tocsin plan`, `apply` and `export`: the monitors as a file says, shown before it is done."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from common.client_types import Change, Difference, Plan
from common.commands import options, output, yaml_files
from common.commands.connect import connect
from common.commands.options import several
from common.commands.words import clock, filters, pairs
from common.exit_status import CommandError, ExitStatus

File = Annotated[
    str, typer.Option("--file", "-f", metavar="FILE", help="YAML as export writes it; - reads standard input.")
]
Prune = Annotated[bool, typer.Option("--prune", help="Remove monitors with a key that are not in the file.")]
Label = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", help="The file is about the monitors with this label only; repeatable."),
]

_TO_DO = ("to create", "to change", "to remove")
_DONE = ("created", "changed", "removed")
#: Longer keys stand out.
_WIDEST = 32

_MARKS = {"create": ("+", "green"), "update": ("~", "yellow"), "delete": ("-", "red")}


def plan(
    file: File,
    *,
    prune: Prune = False,
    label: Label = None,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit status 1 when there is something to do.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Show what a file of monitors would change. Nothing is changed."""
    monitors, labels = yaml_files.read(file), pairs(label)
    with connect() as client:
        found = client.plan(monitors, labels=labels, prune=prune)
    if as_json:
        output.emit(found)
    else:
        _print(found)
    if exit_code and found["changes"]:
        raise typer.Exit(ExitStatus.NOT_WELL)


def apply(
    file: File,
    *,
    prune: Prune = False,
    label: Label = None,
    yes: options.Yes = False,
    as_json: options.Json = False,
) -> None:
    """Make the monitors as a file says, after showing what that changes.

    What is done is what was shown: if the monitors have changed in between, nothing is done (exit status 6).
    """
    monitors, labels = yaml_files.read(file), pairs(label)
    with connect() as client:
        found = client.plan(monitors, labels=labels, prune=prune)
        if not as_json:
            _print(found)
        if found["changes"]:
            output.confirm("do it?", yes=yes)
            found = client.apply(monitors, found["fingerprint"], labels=labels, prune=prune)
            output.note(f"done: {_sentence(found, _DONE)}", "green")
    if as_json:
        output.emit(found)


def export(
    *,
    file: Annotated[
        str, typer.Option("--file", "-f", metavar="FILE", help="Where to; default: standard output.")
    ] = "-",
    label: Annotated[list[str] | None, several("NAME=VALUE", "All of them count; a name alone is any value")] = None,
    as_json: options.Json = False,
) -> None:
    """Write the monitors as a file that plan and apply take: the same bytes for the same monitors.

    Only monitors with a key can be in it. Secrets are null there, which keeps what is stored when it is applied.
    """
    with connect() as client:
        document = client.export(labels=filters(label))
    text = json.dumps(document, indent=2) + "\n" if as_json else yaml_files.write({"monitors": document["monitors"]})
    if file == "-":
        sys.stdout.write(text)
    else:
        _write(file, text)
        output.note(f"{len(document['monitors'])} monitors are in {file}")
    if left_out := document["without_key"]:
        output.note(f"{len(left_out)} monitors are not in it: they have no key", "yellow")


def _write(file: str, text: str) -> None:
    try:
        Path(file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{file} cannot be written: {error.strerror}") from None


def _print(found: Plan) -> None:
    out = output.console()
    width = min(_WIDEST, max((len(change["key"]) for change in found["changes"]), default=0))
    for change in found["changes"]:
        out.print(_title(change, width))
        names = max((len(difference["field"]) for difference in change["differences"]), default=0)
        for difference in change["differences"]:
            out.print(_difference(difference, names), soft_wrap=True)
    for drift in found["drift"]:
        name = output.plain(drift["key"] or drift["name"], "bold magenta")
        said = f"  was changed in another way since the last apply, {clock(drift['updated_at'])}"
        out.print(Text.assemble(("! ", "magenta"), name, (said, "magenta")), soft_wrap=True)
    if found["changes"] or found["drift"]:
        out.print()
    out.print(Text(_sentence(found), "bold"))


def _title(change: Change, width: int) -> Text:
    mark, style = _MARKS[change["action"]]
    key = output.plain(change["key"], f"bold {style}")
    key.pad_right(max(0, width - len(key)))
    return Text.assemble((f"{mark} ", style), key, "  ", output.plain(change["name"]))


def _difference(difference: Difference, width: int) -> Text:
    line = Text.assemble("    ", output.plain(difference["field"].ljust(width), "dim"))
    line.pad_right(max(0, width + 6 - len(line)))
    line.append_text(output.plain(_shown(difference["from"]), "red")).append(" → ", "dim")
    return line.append_text(output.plain(_shown(difference["to"]), "green"))


def _shown(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def _sentence(found: Plan, words: tuple[str, str, str] = _TO_DO) -> str:
    counts = found["summary"]
    if not (counts["create"] or counts["update"] or counts["delete"]):
        return f"nothing to do: {counts['unchanged']} monitors are as the file says"
    return (
        f"{counts['create']} {words[0]}, {counts['update']} {words[1]}, {counts['delete']} {words[2]}, "
        f"{counts['unchanged']} unchanged"
    )
