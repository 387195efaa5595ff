"""What streams say: every event of an organization's incidents once, in order; monitors that changed, once a second.

A stream has a position, the number of the last event that it was given. Those at the same position are given the same
page, so that however many come back at once after a restart, their organization's events are read once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from api.incident_documents import merged
from api.monitor_documents import state_document
from api.replies import as_json
from api.stream_access import INCIDENTS, MONITORS, allowed_now
from api.streams import Stream, Streams
from common.clock import monotonic_s, utc_now
from common.store import incidents_read, stream
from common.store.engine import Database
from common.store.stream import Change, Snapshot

#: Events that are read at once, and what one turn puts before a client (bytes).
PAGE = 100
PAGE_BYTES = 256 * 1024
#: Monitors in one message; of more, clients read the list.
MOST_MONITORS = 200
MONITORS_EVERY_S = 1.0
#: How often it is asked whether the holders of all streams still may.
RECHECK_S = 1.0
#: More seldom where asking takes long: its pauses are so many times as long.
_RECHECK_PAUSES = 20

#: Whoever begins has read nothing yet, or missed what was not for an event's number to tell.
_READ_ANEW = {"monitors": {}, "more": True}
_MOST_DIGITS = 19


@dataclass(frozen=True, slots=True)
class Page:
    """Events as they are sent; `last` is the number of the last one."""

    data: bytes
    last: int


class StreamFeed:
    """Feeds all streams of a process. `tenants` acts as one organization at a time, `overview` sees all of them."""

    def __init__(
        self,
        streams: Streams,
        tenants: Database,
        overview: Database,
        *,
        monotonic: Callable[[], float] = monotonic_s,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._streams = streams
        self._tenants = tenants
        self._overview = overview
        self._monotonic = monotonic
        self._now = now
        self._seen: Snapshot | None = None
        self._told: dict[str, str] = {}
        self._monitors_at_s = 0.0
        self._recheck_at_s = 0.0
        self._suspects: set[str] = set()

    def step(self) -> bool:
        """Look once; whether somebody is still behind."""
        open_now = self._streams.all()
        if not open_now:
            self._seen, self._suspects = None, set()
            return False
        self._end_what_is_over(open_now)
        # Before anybody is told to read the list: what changes after that is told.
        if self._seen is None or self._monotonic() >= self._monitors_at_s:
            self._monitors(open_now)
        behind = self._events([one for one in open_now if not one.ending])
        self._streams.flush()
        return behind

    def _end_what_is_over(self, streams: Sequence[Stream]) -> None:
        now_s, wall_s = self._monotonic(), self._now().timestamp()
        for one in streams:
            if one.access.expires_s is not None and one.access.expires_s <= wall_s:
                self._streams.end(one, "expired")
        if now_s < self._recheck_at_s:
            return
        with self._tenants.begin() as connection:
            allowed = allowed_now(connection, {one.access.credential for one in streams})
        self._recheck_at_s = now_s + max(RECHECK_S, _RECHECK_PAUSES * (self._monotonic() - now_s))
        for one in streams:
            may = allowed.get(one.access.credential, frozenset())
            if INCIDENTS not in may or (one.access.monitors and MONITORS not in may):
                self._streams.end(one, "revoked")

    def _events(self, streams: Sequence[Stream]) -> bool:
        with self._overview.begin() as connection:
            heads = stream.heads(connection, list({one.access.org_id for one in streams}))
        together: dict[tuple[str, int], list[Stream]] = defaultdict(list)
        for one in streams:
            head = heads.get(one.access.org_id)
            if head is None:
                self._streams.end(one, "revoked")
                continue
            position = self._begin(one, head) if one.position is None else one.position
            if position < head and one.hungry:
                together[one.access.org_id, position].append(one)
        behind = False
        # Whoever's events could not be read comes last, so that they are in nobody else's way.
        for (org_id, position), members in sorted(together.items(), key=lambda item: item[0][0] in self._suspects):
            self._suspects.add(org_id)
            page = self._page(org_id, position) or Page(b"", heads[org_id])
            self._suspects.discard(org_id)
            for one in members:
                self._streams.send(one, page.data)
                one.position = page.last
            behind = behind or page.last < heads[org_id]
        return behind

    def _begin(self, one: Stream, head: int) -> int:
        """Where a new stream goes on, and tell it so."""
        after, lost = self._place(one, head)
        data = _frame(after, "reset", {"reason": lost}) if lost else b"id: %d\n\n" % after
        if one.access.monitors:
            data += _frame(None, "monitors", _READ_ANEW)
        self._streams.send(one, data)
        one.position = after
        return after

    def _place(self, one: Stream, head: int) -> tuple[int, str]:
        """(number of the last event that is not to be sent, why what was asked for cannot be had)."""
        asked = one.asked
        if not asked:
            return head, ""
        if not (asked.isascii() and asked.isdigit() and len(asked) <= _MOST_DIGITS and int(asked) <= head):
            return head, "unknown"
        if int(asked) == head:
            return head, ""
        with self._tenants.begin(one.access.org_id) as connection:
            there = stream.resumable(connection, org_id=one.access.org_id, after=int(asked))
        return (int(asked), "") if there else (head, "expired")

    def _page(self, org_id: str, after: int) -> Page | None:
        with self._tenants.begin(org_id) as connection:
            events = stream.events(connection, org_id=org_id, after=after, limit=PAGE)
            ids = list({event["incident_id"] for event in events})
            rows = incidents_read.these(connection, org_id=org_id, ids=ids)
        incidents = {row.id: merged(row.document, row.standing) for row in rows}
        data, last = bytearray(), None
        for event in events:
            if len(data) >= PAGE_BYTES:
                break
            data += _frame(event["seq"], "incident", _event_document(event, incidents[event["incident_id"]]))
            last = event["seq"]
        return None if last is None else Page(bytes(data), last)

    def _monitors(self, streams: Sequence[Stream]) -> None:
        listening: dict[str, list[Stream]] = defaultdict(list)
        for one in streams:
            if one.access.monitors and one.position is not None and not one.ending:
                listening[one.access.org_id].append(one)
        with self._overview.begin() as connection:
            seen = stream.snapshot(connection)
            found: dict[str, list[Change]] = {}
            if self._seen is not None and listening:
                found = stream.changed(connection, list(listening), since=self._seen, limit=MOST_MONITORS)
        self._seen = seen
        self._monitors_at_s = self._monotonic() + MONITORS_EVERY_S
        told, self._told = self._told, {one.id: one.mark for changes in found.values() for one in changes}
        for org_id, members in listening.items():
            changes = found.get(org_id, [])
            # What was committed between the snapshot and the reading is read again, once.
            fresh = [change for change in changes if told.get(change.id) != change.mark]
            self._tell(members, _monitors_document(fresh, more=len(changes) > MOST_MONITORS))

    def _tell(self, members: Sequence[Stream], document: dict[str, Any] | None) -> None:
        """Whoever is behind misses this, and reads the list when there is room again."""
        data = None if document is None else _frame(None, "monitors", document)
        anew = _frame(None, "monitors", _READ_ANEW)
        for one in members:
            if not one.hungry:
                one.missed = one.missed or data is not None
            elif one.missed:
                one.missed = False
                self._streams.send(one, anew)
            elif data is not None:
                self._streams.send(one, data)


def _frame(number: int | None, event: str, document: dict[str, Any]) -> bytes:
    """One message; JSON holds no line break."""
    head = "" if number is None else f"id: {number}\n"
    return f"{head}event: {event}\ndata: {as_json(document)}\n\n".encode()


def _event_document(event: dict[str, Any], incident: dict[str, Any]) -> dict[str, Any]:
    names = ("id", "type", "at", "actor", "actor_name", "data", "seq")
    return {"event": {name: event[name] for name in names}, "incident": incident}


def _monitors_document(changes: Sequence[Change], *, more: bool) -> dict[str, Any] | None:
    if not changes and not more:
        return None
    shown = changes[:MOST_MONITORS]
    return {
        "monitors": {
            change.id: None if change.deleted else {**state_document(change.row), "incident_id": change.incident_id}
            for change in shown
        },
        "more": more or len(shown) < len(changes),
    }
