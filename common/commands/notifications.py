"""`tocsin notifications`: who was told of what, and what is to be sent again."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from typing import Annotated

import typer
from rich.text import Text

from common.client_types import Notification, NotificationFilters, RedeliveryFilters
from common.clock import utc_now
from common.commands import find, options, output
from common.commands.connect import connect
from common.commands.options import several
from common.commands.words import ago, short_id
from common.exit_status import CommandError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode="markdown", help="Who was told: list, send again."
)

_INCIDENT = "Of this incident: its id, a part of it, or the monitor whose only open one it is."


@app.command()
def ls(
    *,
    status: Annotated[list[str] | None, several("STATUS", "pending, sent, dead, suppressed")] = None,
    incident: Annotated[str | None, typer.Option(metavar="INCIDENT", help=_INCIDENT)] = None,
    channel: Annotated[str | None, typer.Option(metavar="ID", help="To this channel.")] = None,
    limit: options.Limit = 50,
    as_json: options.Json = False,
) -> None:
    """List notifications, newest first."""
    wanted: NotificationFilters = {}
    if status:
        wanted["status"] = status
    if channel:
        wanted["channel_id"] = channel
    with connect() as client:
        if incident:
            wanted["incident_id"] = find.incident(client, incident)
        found = list(islice(client.notifications(page=min(limit + 1, 500), **wanted), limit + 1))
    shown = found[:limit]
    if as_json:
        output.emit(shown)
    elif shown:
        _print_list(shown, utc_now())
    else:
        output.note("no notifications")
    if len(found) > limit:
        output.note(f"there are more than {limit}: --limit {limit * 10} shows more of them")


@app.command()
def redeliver(  # noqa: PLR0913 - the options of a command
    which: Annotated[list[str] | None, typer.Argument(metavar="NOTIFICATION", help="Ids, or parts of them.")] = None,
    *,
    dead: Annotated[
        bool, typer.Option("--dead", help="All dead ones that pass the filters, the oldest first.")
    ] = False,
    incident: Annotated[str | None, typer.Option(metavar="INCIDENT", help=f"With --dead. {_INCIDENT}")] = None,
    channel: Annotated[str | None, typer.Option(metavar="ID", help="With --dead. To this channel.")] = None,
    reason: Annotated[str | None, typer.Option(metavar="REASON", help="With --dead. For this reason.")] = None,
    as_json: options.Json = False,
) -> None:
    """Send dead notifications again. They have another 24 hours to arrive."""
    if bool(which) == dead:
        raise CommandError("say which ones, or --dead for all of them")
    if which and (incident or channel or reason):
        raise CommandError("--incident, --channel and --reason go with --dead")
    if which:
        _send_these(which, as_json=as_json)
        return
    wanted: RedeliveryFilters = {}
    if channel:
        wanted["channel_id"] = channel
    if reason:
        wanted["reason"] = reason
    with connect() as client:
        if incident:
            wanted["incident_id"] = find.incident(client, incident)
        done = client.redeliver_all(**wanted)
    if as_json:
        output.emit(done)
        return
    output.console().print(f"{done['redelivered']} are sent again")
    if done["remaining"]:
        output.note(f"{done['remaining']} more can be sent again: call once more")


def _send_these(which: list[str], *, as_json: bool) -> None:
    with connect() as client:
        chosen = list(dict.fromkeys(find.notification(client, one) for one in which))
        after = [client.redeliver(notification_id) for notification_id in chosen]
    if as_json:
        output.emit(after)
        return
    for one in after:
        output.console().print(Text.assemble(output.marked(one["status"]), f"  {one['event_type']}  {one['id']}"))


def _print_list(notifications: list[Notification], now: datetime) -> None:
    table = output.Listing(
        "status", "event", "why", "tries", "age", "channel", "id", right=("tries", "age"), wide=("why",)
    )
    for one in notifications:
        table.line(
            output.marked(one["status"]),
            output.plain(one["event_type"].removeprefix("incident.")),
            output.plain(one["reason"] or ""),
            str(one["attempts"]),
            ago(one["created_at"], now),
            Text(short_id(one["channel_id"]), "dim"),
            Text(short_id(one["id"]), "dim"),
        )
    output.console().print(table)
