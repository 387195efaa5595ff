"""`tocsin monitors`: what is watched."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from rich.console import Group
from rich.text import Text

from common.client import Client
from common.client_types import Monitor, MonitorFilters, Result
from common.clock import utc_now
from common.commands import find, options, output, phases
from common.commands.connect import connect
from common.commands.options import several
from common.commands.targets import heartbeat_of, options_of
from common.commands.words import ago, clock, filters, milliseconds, pairs, short_id, span
from common.exit_status import CommandError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="What is watched: list, add, show, pause, remove.",
)

Which = Annotated[str, typer.Argument(metavar="MONITOR", help="Its id, a part of it, its key, or its name.")]
Several = Annotated[list[str], typer.Argument(metavar="MONITOR", help="Ids, parts of them, keys, or names.")]

#: So many of a monitor's last results are drawn.
_STRIP = 60


@app.command()
def ls(  # noqa: PLR0913 - the options of a command
    *,
    state: Annotated[
        list[str] | None, several("STATE", "up, degraded, down, unknown, pending, paused, maintenance")
    ] = None,
    label: Annotated[list[str] | None, several("NAME=VALUE", "All of them count; a name alone is any value")] = None,
    kind: Annotated[list[str] | None, typer.Option("--type", metavar="TYPE", help="http, tcp, …; repeatable.")] = None,
    search: options.Search = None,
    sort: Annotated[
        str | None, typer.Option(metavar="ORDER", help="name, -name, state (worst first), created_at; default: newest.")
    ] = None,
    limit: options.Limit = 100,
    as_json: options.Json = False,
) -> None:
    """List monitors with their state."""
    wanted: MonitorFilters = {}
    if state:
        wanted["state"] = state
    if label:
        wanted["label"] = filters(label)
    if kind:
        wanted["type"] = kind
    if search:
        wanted["q"] = search
    if sort:
        wanted["sort"] = sort
    with connect() as client:
        found = list(islice(client.monitors(page=min(limit + 1, 500), **wanted), limit + 1))
    shown = found[:limit]
    if as_json:
        output.emit(shown)
    elif not shown:
        output.note("no monitors" + (" pass these filters" if wanted else ": `tocsin monitors add https://…` adds one"))
    else:
        _print_list(shown, utc_now())
    if len(found) > limit:
        output.note(f"there are more than {limit}: --limit {limit * 10} shows more of them")


@app.command()
def add(  # noqa: PLR0913 - the options of a command
    target: Annotated[
        str | None, typer.Argument(metavar="TARGET", help="https://host/path, or host:port; none for a heartbeat.")
    ] = None,
    *,
    name: Annotated[str | None, typer.Option(metavar="TEXT", help="Default: the target.")] = None,
    key: Annotated[str | None, typer.Option(metavar="KEY", help="For programs and files: unique, for good.")] = None,
    kind: options.Kind = None,
    interval: Annotated[int | None, typer.Option(metavar="SECONDS", help="Between checks; default 30.")] = None,
    timeout: options.Timeout = None,
    failures: Annotated[
        int | None, typer.Option(metavar="COUNT", help="Failed checks in a row that make it down; default 2.")
    ] = None,
    severity: Annotated[
        str | None, typer.Option(metavar="SEVERITY", help="critical, error, warning, info; default error.")
    ] = None,
    label: Annotated[list[str] | None, several("NAME=VALUE", "What routes and lists go by")] = None,
    location: Annotated[list[str] | None, several("NAME", "From where; default: the server's own location")] = None,
    method: options.Method = None,
    header: options.Header = None,
    status: options.Status = None,
    contains: options.Contains = None,
    slower_than: options.SlowerThan = None,
    grace: Annotated[int | None, typer.Option(metavar="SECONDS", help="Heartbeat: how late a ping may come.")] = None,
    cron: Annotated[str | None, typer.Option(metavar="'M H D M W'", help="Heartbeat: when a ping is due.")] = None,
    timezone: Annotated[str | None, typer.Option(metavar="ZONE", help="Heartbeat: the time zone of --cron.")] = None,
    period: Annotated[
        int | None, typer.Option(metavar="SECONDS", help="Heartbeat: a ping in any such time; default: --interval.")
    ] = None,
    at_least: Annotated[
        int | None, typer.Option(metavar="COUNT", help="Heartbeat: so many successes in any --period.")
    ] = None,
    tolerate_failures: Annotated[
        bool, typer.Option("--tolerate-failures", help="Heartbeat: a failure only is no success.")
    ] = False,
    paused: Annotated[bool, typer.Option("--paused", help="Do not check it yet.")] = False,
    as_json: options.Json = False,
) -> None:
    """Watch something new. Its first check follows at once; a heartbeat waits for its first ping."""
    if kind == "heartbeat":
        body = heartbeat_of(
            target, name, grace_seconds=grace, cron=cron, timezone=timezone, period_seconds=period, at_least=at_least,
            tolerate_failures=tolerate_failures or None,
        )  # fmt: skip
    elif target is None:
        raise CommandError("say what to watch: https://host/path or host:port")
    else:
        body = options_of(
            target, kind=kind, method=method, header=header, status=status, contains=contains, slower_than=slower_than
        )
    given = {
        "key": key,
        "interval_seconds": interval,
        "timeout_seconds": timeout,
        "failure_threshold": failures,
        "severity": severity,
        "locations": location or None,
        "labels": pairs(label) or None,
        "enabled": False if paused else None,
    }
    body |= {"name": name or _name_of(target or "")} | {
        field: value for field, value in given.items() if value is not None
    }
    with connect() as client:
        made = client.create_monitor(body)
        ping_url = client.heartbeat(made["id"])["ping_url"] if made["type"] == "heartbeat" else None
    if as_json:
        output.emit(made)
    else:
        output.console().print(
            Text.assemble(
                "added ", output.plain(made["name"], "bold"), f"  {made['id']}", ("  paused" if paused else "")
            )
        )
        if ping_url is not None:
            output.console().print(Text.assemble("ping it at ", output.plain(ping_url)))


@app.command()
def show(which: Which, *, as_json: options.Json = False) -> None:
    """Show a monitor, where its last check spent its time, and its last results."""
    with connect() as client:
        monitor_id, _ = find.monitor(client, which)
        monitor = client.monitor(monitor_id)
        results = [] if as_json else list(islice(client.results(monitor_id, page=_STRIP), _STRIP))
    if as_json:
        output.emit(monitor)
    else:
        output.console().print(_portrait(monitor, results, utc_now()))


@app.command()
def pause(which: Several, *, as_json: options.Json = False) -> None:
    """Check these no more until they are resumed; their open incidents are resolved."""
    _switch(which, on=False, as_json=as_json)


@app.command()
def resume(which: Several, *, as_json: options.Json = False) -> None:
    """Check these again, beginning now."""
    _switch(which, on=True, as_json=as_json)


@app.command()
def rm(
    which: Several,
    *,
    yes: options.Yes = False,
    as_json: options.Json = False,
) -> None:
    """Remove monitors. Their incidents and results stay until their time is over."""
    with connect() as client:
        chosen = _chosen(client, which)
        output.confirm(f"remove {', '.join(name for _, name in chosen)}?", yes=yes)
        for monitor_id, name in chosen:
            client.delete_monitor(monitor_id)
            if not as_json:
                output.console().print(Text.assemble("removed ", output.plain(name, "bold")))
    if as_json:
        output.emit([{"id": monitor_id, "name": name} for monitor_id, name in chosen])


def _switch(which: list[str], *, on: bool, as_json: bool) -> None:
    with connect() as client:
        chosen = _chosen(client, which)
        act = client.resume_monitor if on else client.pause_monitor
        after = [act(monitor_id) for monitor_id, _ in chosen]
    if as_json:
        output.emit(after)
        return
    for monitor in after:
        output.console().print(Text.assemble("resumed " if on else "paused ", output.plain(monitor["name"], "bold")))


def _chosen(client: Client, which: list[str]) -> list[tuple[str, str]]:
    """All of them before anything is done to one, each once."""
    return list(dict.fromkeys(find.monitor(client, one) for one in which))


def _name_of(target: str) -> str:
    parts = urlsplit(target)
    return f"{parts.netloc}{parts.path}".rstrip("/")[:200] if parts.scheme in ("http", "https") else target[:200]


def _print_list(monitors: list[Monitor], now: datetime) -> None:
    table = output.Listing(
        "state", "name", "target", "latency", "for", "id", right=("latency", "for"), wide=("name", "target")
    )
    for one in monitors:
        state = one["state"]
        table.line(
            output.marked(state["status"]),
            output.plain(one["name"]),
            output.plain(one["target"], "dim"),
            milliseconds(state["latency_ms"]),
            ago(state["since"], now),
            Text(short_id(one["id"]), "dim"),
        )
    output.console().print(table)


def _portrait(monitor: Monitor, results: list[Result], now: datetime) -> Group:
    state = monitor["state"]
    head = Text.assemble(output.marked(state["status"]), "  ", output.plain(monitor["name"], "bold"))
    head.append(f"  for {ago(state['since'], now)}", "dim")
    parts: list[Any] = [head, Text(), output.pairs(_facts(monitor))]
    if results:
        last = results[0]
        parts += [Text(), Text.assemble(("last check ", "dim"), clock(last["scheduled_at"]), "  ", *_outcome(last))]
        if phases.known(last["phases"]):
            parts.append(phases.picture(last["phases"]))
        parts += [Text(), _strip(results)]
    return Group(*parts)


def _facts(monitor: Monitor) -> list[tuple[str, Text]]:
    labels = "  ".join(f"{name}={value}" for name, value in monitor["labels"].items())
    facts = [
        ("id", monitor["id"]),
        ("key", monitor["key"] or ""),
        ("target", monitor["target"]),
        (
            "checked",
            f"every {span(monitor['interval_seconds'])} from {', '.join(monitor['locations'])} by {monitor['type']}",
        ),
        (
            "down after",
            f"{monitor['failure_threshold']} failed in a row, at most {monitor['timeout_seconds']:g} s each",
        ),
        ("severity", monitor["severity"]),
        ("labels", labels),
    ]
    return [(name, output.plain(value)) for name, value in facts if value]


def _outcome(result: Result) -> list[Text]:
    said = [output.marked(result["verdict"]), Text("  "), Text(milliseconds(result["latency_ms"]))]
    for name, style in (("reason", "bold"), ("message", "")):
        if text := result[name]:  # type: ignore[literal-required]
            said += [Text("  "), output.plain(text, style)]
    return said


def _strip(results: list[Result]) -> Text:
    """The last results, oldest first, a mark each."""
    strip = Text()
    for result in reversed(results):
        strip.append("▇", output.STYLES.get(result["verdict"], ""))
    strip.append(f"  the last {len(results)}", "dim")
    return strip
