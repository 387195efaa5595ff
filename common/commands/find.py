"""What people call a thing, and which one they mean: a whole id, its beginning or end, a key, a name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from common.client import Client
from common.client_errors import Missing
from common.client_types import Incident, Monitor, Notification
from common.commands.words import short_id
from common.exit_status import CommandError, ExitStatus, clean

_FULL = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: Shorter ones would be a lucky guess.
_PART = re.compile(r"[0-9a-f-]{4,35}")

#: Among so many of the newest that are over, a part of an id is looked for.
RECENT = 2_000

#: The longest name, and the longest search.
_MAX_CHARS = 200

_OPEN = ["open", "acknowledged"]
#: So many are named when several are meant.
_NAMED = 4


def monitor(client: Client, which: str) -> tuple[str, str]:
    """A monitor's id and name, by its id, a part of that, its key, or its name. Raises CommandError."""
    text = which.lower()
    if _FULL.fullmatch(text):
        try:
            return text, client.monitor(text)["name"]
        except Missing:
            raise _nothing("monitor", which, "monitors ls") from None
    fields = ["id", "key", "name"]
    # Looked for by its words; what has none is not looked for.
    is_text = len(which) <= _MAX_CHARS and any(character.isalnum() for character in which)
    named = list(client.monitors(fields=fields, q=which)) if is_text else []
    for found in ([one for one in named if one["key"] == which], [one for one in named if one["name"] == which]):
        if found:
            return _only_monitor(which, found)
    found = [one for one in named if one["name"].lower() == text]
    if not found and _PART.fullmatch(text):
        found = [one for one in client.monitors(fields=fields) if _is_part(text, one["id"])]
    return _only_monitor(which, found)


def incident(client: Client, which: str) -> str:
    """An incident's id, by it, a part of it, or the monitor whose only open one it is. Raises CommandError."""
    text = which.lower()
    if _FULL.fullmatch(text):
        return text
    if _PART.fullmatch(text):
        found = [one for one in _incidents(client) if _is_part(text, one["id"])]
        if found:
            return _only("incident", which, [(one["id"], one["title"]) for one in found])
    try:
        monitor_id, _ = monitor(client, which)
    except CommandError as error:
        if error.status is not ExitStatus.NOT_FOUND:
            raise
        raise _nothing("incident", which, "incidents ls") from None
    found = list(client.incidents(status=_OPEN, monitor_id=monitor_id))
    return _only("open incident", which, [(one["id"], one["title"]) for one in found])


def notification(client: Client, which: str) -> str:
    """A notification's id, by it or a part of it. Raises CommandError."""
    text = which.lower()
    if _FULL.fullmatch(text):
        return text
    rows: Iterable[Notification] = islice(client.notifications(), RECENT) if _PART.fullmatch(text) else ()
    found = [(one["id"], one["event_type"]) for one in rows if _is_part(text, one["id"])]
    return _only("notification", which, found)


def maintenance(client: Client, which: str) -> tuple[str, str]:
    """A maintenance window's id and name, by its id, a part of that, or its name. Raises CommandError."""
    text = which.lower()
    rows = list(islice(client.maintenance(), RECENT))
    found = [(one["id"], one["name"]) for one in rows if one["id"] == text or one["name"] == which]
    if not found and _PART.fullmatch(text):
        found = [(one["id"], one["name"]) for one in rows if _is_part(text, one["id"])]
    if not found:
        raise _nothing("maintenance", which, "maintenance ls")
    chosen = _only("maintenance", which, found)
    return chosen, dict(found)[chosen]


def _incidents(client: Client) -> Iterator[Incident]:
    yield from client.incidents(status=_OPEN)
    yield from islice(client.incidents(status=["resolved"]), RECENT)


def _is_part(text: str, full: str) -> bool:
    return full.startswith(text) or full.endswith(text)


def _only_monitor(which: str, found: Sequence[Monitor]) -> tuple[str, str]:
    chosen = _only("monitor", which, [(one["id"], one["key"] or one["name"]) for one in found])
    return chosen, next(one["name"] for one in found if one["id"] == chosen)


def _only(kind: str, which: str, found: Sequence[tuple[str, str]]) -> str:
    if not found:
        raise _nothing(kind, which, f"{kind.rpartition(' ')[2]}s ls")
    if len(found) > 1:
        names = ", ".join(f"{short_id(id_)} ({clean(name)})" for id_, name in found[:_NAMED])
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        raise CommandError(f"{which!r} may be {names}{more}: say which, by more of its id")
    return found[0][0]


def _nothing(kind: str, which: str, where: str) -> CommandError:
    return CommandError(f"there is no {kind} {which!r}: see `tocsin {where}`", ExitStatus.NOT_FOUND)
