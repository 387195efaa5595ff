"""`tocsin check`: one probe now, through the API, from where the workers stand."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Group
from rich.text import Text

from common.client_types import Probe
from common.commands import options, output, phases
from common.commands.connect import connect
from common.commands.targets import options_of
from common.commands.words import milliseconds
from common.exit_status import ExitStatus


def check(  # noqa: PLR0913 - the options of a command
    target: options.Target,
    *,
    kind: options.Kind = None,
    timeout: options.Timeout = None,
    method: options.Method = None,
    header: options.Header = None,
    status: options.Status = None,
    contains: options.Contains = None,
    slower_than: options.SlowerThan = None,
    location: Annotated[
        str | None, typer.Option(metavar="NAME", help="From there; default: the server's own location.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Probe a target once, now, and see where the time goes. Exit status 1 unless it is up.

    It is a worker that asks, not this machine: what counts is what monitors would see.
    """
    body: dict[str, Any] = options_of(
        target, kind=kind, method=method, header=header, status=status, contains=contains, slower_than=slower_than
    )
    if timeout is not None:
        body["timeout_seconds"] = timeout
    if location is not None:
        body["location"] = location
    with connect() as client:
        found = client.probe(body)
    if as_json:
        output.emit(found)
    else:
        output.console().print(_picture(target, found))
    if found["verdict"] != "up":
        raise typer.Exit(ExitStatus.NOT_WELL)


def _picture(target: str, found: Probe) -> Group:
    head = Text.assemble(output.marked(found["verdict"]), "  ", output.plain(target, "bold"))
    if found["status_code"]:
        head.append(f"  {found['status_code']}")
    head.append(f"  {milliseconds(found['latency_ms'])}")
    head.append(f"  from {found['location']}", "dim")
    parts: list[Any] = [head]
    said = Text.assemble(output.plain(found["reason"] or "", "bold"), "  ", output.plain(found["message"] or ""))
    if said.plain.strip():
        parts.append(said)
    if phases.known(found["phases"]):
        parts += [Text(), phases.picture(found["phases"])]
    return Group(*parts)
