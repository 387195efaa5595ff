"""`tocsin maintenance`: times in which monitors may fail without anybody being told."""

from __future__ import annotations

import re
from itertools import islice
from typing import Annotated, Any

import typer
from rich.text import Text

from common.client_types import Maintenance
from common.commands import find, options, output
from common.commands.connect import connect
from common.commands.options import several
from common.commands.words import clock, seconds_of, short_id, span
from common.exit_status import CommandError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="Maintenance windows: list, add, end, remove.",
)

Which = Annotated[list[str], typer.Argument(metavar="MAINTENANCE", help="Ids, parts of them, or names.")]

_MATCHER = re.compile(r"\s*([^=!~\s]+)\s*(=~|!~|!=|=)(.*)", re.DOTALL)


@app.command()
def ls(
    *,
    state: Annotated[list[str] | None, several("STATE", "pending, active, ended; default: not ended")] = None,
    limit: options.Limit = 50,
    as_json: options.Json = False,
) -> None:
    """List maintenance windows, newest first."""
    with connect() as client:
        wanted = state or ["active", "pending"]
        found = list(islice(client.maintenance(state=wanted, page=min(limit + 1, 500)), limit + 1))
    shown = found[:limit]
    if as_json:
        output.emit(shown)
    elif shown:
        _print_list(shown)
    else:
        output.note("no maintenance")
    if len(found) > limit:
        output.note(f"there are more than {limit}: --limit {limit * 10} shows more of them")


@app.command()
def add(  # noqa: PLR0913 - the options of a command
    name: Annotated[str, typer.Argument(metavar="NAME", help="What is done.")],
    *,
    lasts: Annotated[str, typer.Option("--for", metavar="DURATION", help="How long: 30m, 2h, 1d12h.")],
    monitor: Annotated[list[str] | None, several("MONITOR", "Of this monitor: id, key, or name")] = None,
    match: Annotated[
        list[str] | None, several("LABEL=VALUE", "Of all whose labels match: =, !=, =~, !~; all must hold")
    ] = None,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="Once, from 2026-11-21T22:00+01:00 on; default: now.")
    ] = None,
    days: Annotated[
        str | None, typer.Option(metavar="DAYS", help="Every week on these days: mon,thu; with --time.")
    ] = None,
    time: Annotated[str | None, typer.Option(metavar="HH:MM", help="When on those days.")] = None,
    cron: Annotated[str | None, typer.Option(metavar="EXPRESSION", help="Whenever '0 2 * * sat' says.")] = None,
    zone: Annotated[
        str | None, typer.Option(metavar="ZONE", help="Of --time and --cron: Europe/Berlin; default: UTC.")
    ] = None,
    until_healthy: Annotated[
        bool, typer.Option("--until-healthy", help="End early, once something was wrong and all is up again.")
    ] = False,
    comment: Annotated[str, typer.Option("--comment", "-m", metavar="TEXT", help="What there is to say.")] = "",
    as_json: options.Json = False,
) -> None:
    """Let monitors fail without anybody being told; what is still wrong at the end is announced then."""
    if not monitor and not match:
        raise CommandError("say what it covers: --monitor or --match")
    body: dict[str, Any] = {
        "name": name,
        **_when(at, days, time, cron, zone),
        "duration_seconds": seconds_of(lasts),
        "matchers": [_matcher(text) for text in match or ()],
        "until_healthy": until_healthy,
        "comment": comment,
    }
    with connect() as client:
        body["monitor_ids"] = [find.monitor(client, one)[0] for one in monitor or ()]
        made = client.create_maintenance(body)
    if as_json:
        output.emit(made)
        return
    output.console().print(
        Text.assemble("added ", output.plain(made["name"], "bold"), f"  {made['id']}  ", _next(made))
    )


@app.command()
def end(which: Which, *, as_json: options.Json = False) -> None:
    """End what is on, now. What repeats comes again as planned."""
    with connect() as client:
        chosen = [find.maintenance(client, one) for one in which]
        after = [client.end_maintenance(id_) for id_, _ in dict.fromkeys(chosen)]
    if as_json:
        output.emit(after)
        return
    for one in after:
        output.console().print(Text.assemble("ended ", output.plain(one["name"], "bold"), "  ", _next(one)))


@app.command()
def rm(which: Which, *, yes: options.Yes = False, as_json: options.Json = False) -> None:
    """Remove windows. One that is on ends now."""
    with connect() as client:
        chosen = list(dict.fromkeys(find.maintenance(client, one) for one in which))
        output.confirm(f"remove {', '.join(name for _, name in chosen)}?", yes=yes)
        for id_, name in chosen:
            client.delete_maintenance(id_)
            if not as_json:
                output.console().print(Text.assemble("removed ", output.plain(name, "bold")))
    if as_json:
        output.emit([{"id": id_, "name": name} for id_, name in chosen])


def _when(at: str | None, days: str | None, time: str | None, cron: str | None, zone: str | None) -> dict[str, Any]:
    if sum(given is not None for given in (at, days, cron)) > 1:
        raise CommandError("give one of --at, --days and --cron")
    if (days is None) is not (time is None):
        raise CommandError("--days and --time go together")
    if zone is not None and days is None and cron is None:
        raise CommandError("--zone goes with --days or --cron")
    common = {} if zone is None else {"time_zone": zone}
    if days is not None:
        names = [day.strip().lower() for day in days.split(",")]
        return {"type": "weekly", "days": names, "time": time, **common}
    if cron is not None:
        return {"type": "cron", "cron": cron, **common}
    return {"type": "once", **({} if at is None else {"starts_at": at})}


def _matcher(text: str) -> dict[str, str]:
    found = _MATCHER.fullmatch(text)
    if found is None:
        raise CommandError(f"{text!r} is no matcher: write label=value, label!=value, label=~regex or label!~regex")
    label, op, value = found.groups()
    return {"label": label, "op": op, "value": value}


def _next(one: Maintenance) -> Text:
    occurrence = one["occurrence"]
    if occurrence is None:
        return Text("does not come again", "dim")
    word = "on until" if one["state"] == "active" else "comes"
    return Text(f"{word} {clock(occurrence['ends_at' if one['state'] == 'active' else 'starts_at'])}", "dim")


def _print_list(windows: list[Maintenance]) -> None:
    table = output.Listing("state", "name", "covers", "when", "next", "id", wide=("name", "covers"))
    for one in windows:
        table.line(
            output.marked(one["state"]),
            output.plain(one["name"]),
            output.plain(_covers(one), "dim"),
            output.plain(_rhythm(one)),
            _next(one),
            Text(short_id(one["id"]), "dim"),
        )
    output.console().print(table)


def _covers(one: Maintenance) -> str:
    said = [f"{item['label']}{item['op']}{item['value']}" for item in one["matchers"]]
    count = len(one["monitor_ids"])
    return ", ".join([*said, *([f"{count} named"] if count else [])])


def _rhythm(one: Maintenance) -> str:
    if one["type"] == "once":
        return "once"
    when = f"{','.join(one['days'] or ())} {one['time']}" if one["type"] == "weekly" else str(one["cron"])
    return f"{when} {one['time_zone']} for {span(one['duration_seconds'] or 0)}"
