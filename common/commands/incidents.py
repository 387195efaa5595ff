"""`tocsin incidents`: what is wrong, and what people do about it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from itertools import islice
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.text import Text

from common.client import Client
from common.client_types import Event, Incident, IncidentFilters
from common.clock import utc_now
from common.commands import find, options, output
from common.commands.connect import connect
from common.commands.options import several
from common.commands.words import ago, clock, filters, seconds_of, short_id, span
from common.exit_status import CommandError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="What is wrong: list, show, take, comment, end.",
)

_WHICH = "Its id, a part of it, or the monitor whose only open incident it is."
Which = Annotated[str, typer.Argument(metavar="INCIDENT", help=_WHICH)]
Several = Annotated[list[str], typer.Argument(metavar="INCIDENT", help=_WHICH)]


@app.command()
def ls(  # noqa: PLR0913 - the options of a command
    *,
    everything: Annotated[bool, typer.Option("--all", "-a", help="The resolved ones too.")] = False,
    status: Annotated[list[str] | None, several("STATUS", "open, acknowledged, resolved")] = None,
    severity: Annotated[list[str] | None, several("SEVERITY", "critical, error, warning, info")] = None,
    priority: Annotated[list[str] | None, several("PRIORITY", "P1, P2, P3")] = None,
    label: Annotated[list[str] | None, several("NAME=VALUE", "All of them count")] = None,
    monitor: Annotated[str | None, typer.Option(metavar="MONITOR", help="Of this one: id, key or name.")] = None,
    search: options.Search = None,
    limit: options.Limit = 50,
    as_json: options.Json = False,
) -> None:
    """List the incidents that are not resolved, newest first."""
    wanted: IncidentFilters = {}
    if status or not everything:
        wanted["status"] = status or ["open", "acknowledged"]
    if severity:
        wanted["severity"] = severity
    if priority:
        wanted["priority"] = [one.upper() for one in priority]
    if label:
        wanted["label"] = filters(label)
    if search:
        wanted["q"] = search
    with connect() as client:
        if monitor:
            wanted["monitor_id"] = find.monitor(client, monitor)[0]
        found = list(islice(client.incidents(page=min(limit + 1, 500), **wanted), limit + 1))
    shown = found[:limit]
    if as_json:
        output.emit(shown)
    elif shown:
        _print_list(shown, utc_now())
    else:
        output.note("no incidents" if everything or status else "nothing is wrong: no open incidents", "green")
    if len(found) > limit:
        output.note(f"there are more than {limit}: --limit {limit * 10} shows more of them")


@app.command()
def show(which: Which, *, as_json: options.Json = False) -> None:
    """Show an incident and its timeline."""
    with connect() as client:
        incident = client.incident(find.incident(client, which))
        events = list(client.incident_events(incident["id"]))
    if as_json:
        output.emit({**incident, "events": events})
    else:
        output.console().print(_portrait(incident, events, utc_now()))


@app.command()
def ack(
    which: Several,
    *,
    lasting: Annotated[
        str, typer.Option("--for", metavar="TIME", help="Open again after 30m, 2h, 1d … unless resolved by then.")
    ] = "",
    comment: options.Comment = "",
    as_json: options.Json = False,
) -> None:
    """Take incidents: others see that somebody is at it."""
    duration_s = seconds_of(lasting) if lasting else None
    _each(which, lambda client, id_: client.acknowledge(id_, duration_s=duration_s, comment=comment), as_json=as_json)


@app.command()
def resolve(which: Several, *, comment: options.Comment = "", as_json: options.Json = False) -> None:
    """End incidents. Who was told of the beginning is told of the end."""
    _each(which, lambda client, id_: client.resolve(id_, comment=comment), as_json=as_json)


@app.command()
def comment(
    which: Which,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What there is to say.")],
    *,
    as_json: options.Json = False,
) -> None:
    """Add to an incident's timeline. Nobody is notified."""
    if not text.strip():
        raise CommandError("a comment needs some text")
    with connect() as client:
        event = client.comment(find.incident(client, which), text)
    if as_json:
        output.emit(event)
    else:
        output.console().print("commented")


def _each(which: list[str], act: Callable[[Client, str], Incident], *, as_json: bool) -> None:
    with connect() as client:
        # All are known before anything is done to one.
        chosen = list(dict.fromkeys(find.incident(client, one) for one in which))
        after = [act(client, incident_id) for incident_id in chosen]
    if as_json:
        output.emit(after)
        return
    for incident in after:
        output.console().print(Text.assemble(output.marked(incident["status"]), "  ", output.plain(incident["title"])))


def _print_list(incidents: list[Incident], now: datetime) -> None:
    table = output.Listing("status", "prio", "title", "since", "who", "told", "id", right=("since",), wide=("title",))
    for one in incidents:
        over = one["status"] == "resolved"
        table.line(
            output.marked(one["status"]),
            output.plain(one["priority"], output.STYLES.get(one["severity"], "")),
            output.plain(one["title"]),
            span(one["duration_seconds"]) if over else ago(one["opened_at"], now),
            output.plain(one["assignee_name"] or "-", "" if one["assignee_name"] else "dim"),
            _told(one),
            Text(short_id(one["id"]), "dim"),
        )
    output.console().print(table)


def _told(incident: Incident) -> Text:
    """How its notifications stand: sent, on their way, dead."""
    counts = incident["deliveries"]
    told = Text(f"{counts['sent']}", "green" if counts["sent"] else "dim")
    if counts["pending"]:
        told.append(f" +{counts['pending']}", "yellow")
    if counts["dead"]:
        told.append(f" ✖{counts['dead']}", "bold red")
    return told


def _portrait(incident: Incident, events: list[Event], now: datetime) -> Group:
    head = Text.assemble(output.marked(incident["status"]), "  ", output.plain(incident["title"], "bold"))
    parts: list[Any] = [head, Text(), output.pairs(_facts(incident, now))]
    if incident["description"]:
        parts += [Text(), output.lines(incident["description"])]
    timeline = output.Listing("when", "what", "who", "")
    for event in events:
        timeline.line(
            Text(clock(event["at"]), "dim"),
            output.plain(event["type"].replace("_", " "), _STYLES.get(event["type"], "")),
            output.plain(event["actor_name"] or event["actor"].partition(":")[0]),
            output.plain(_said(event)),
        )
    timeline.columns[-1].no_wrap = False
    return Group(*parts, Text(), timeline)


_STYLES = {"opened": "bold red", "escalated": "bold red", "acknowledged": "yellow", "resolved": "green"}


def _facts(incident: Incident, now: datetime) -> list[tuple[str, Text]]:
    over = incident["resolved_at"]
    lasted = f"{clock(incident['opened_at'])}, " + (
        f"lasted {span(incident['duration_seconds'])}" if over else f"{ago(incident['opened_at'], now)} ago"
    )
    cause = "  ".join(str(incident["cause"].get(name) or "") for name in ("reason", "message")).strip()
    expires = incident["acknowledgement_expires_at"]
    counts = incident["deliveries"]
    facts = [
        ("id", incident["id"]),
        ("severity", f"{incident['severity']}, {incident['priority']}"),
        ("opened", lasted),
        ("cause", cause),
        ("monitor", incident["monitor_name"] or ""),
        ("source", "" if incident["monitor_id"] else incident["source"]),
        ("assigned to", incident["assignee_name"] or ""),
        ("taken until", clock(expires) if expires else ""),
        ("labels", "  ".join(f"{name}={value}" for name, value in incident["labels"].items())),
        ("notifications", ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none"),
    ]
    return [(name, output.plain(value)) for name, value in facts if value]


def _said(event: Event) -> str:
    """What an entry holds that people want to read."""
    data = event["data"]
    words = [data.get(name) for name in ("body", "comment", "message", "reason")]
    return next((str(word) for word in words if isinstance(word, str) and word), "")
