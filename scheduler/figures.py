"""The leader's look at incidents and at what waits, for our own metrics: how many, how soon seen, how soon ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from common import telemetry
from common.domain.incident import EventType, Severity, Status
from common.store import incident_figures
from common.store.engine import Database
from common.store.incident_figures import Event, Waiting

#: How often it looks.
EVERY_S = 10.0
#: An event has its id before its commit; what is younger may not be there yet.
_LAG = timedelta(seconds=10)
#: Nobody repaired what these ended.
_NOT_REPAIRED = frozenset({"paused", "deleted"})
#: Every other source sent an alert; sources are as many as there are senders.
_ORIGINS = {"monitor": "monitor", "manual": "manual"}


class Figures:
    """`step` looks once, while `leads`: two who count would count everything twice."""

    def __init__(self, database: Database, leads: Callable[[], bool], now: Callable[[], datetime]) -> None:
        self._database = database
        self._leads = leads
        self._now = now
        self._seen: str | None = None

    def step(self) -> bool:
        """Look once; whether there is more to look at."""
        if not self._leads():
            if self._seen is not None:
                # Another shows them from now on; what we showed last must not stand beside it.
                _show({}, Waiting(0, 0.0, 0, 0))
            self._seen = None
            return False
        until = self._now() - _LAG
        # What happened before this term was the last leader's to count.
        after = self._seen or incident_figures.first_id(until)
        with self._database.begin() as connection:
            found = incident_figures.open_incidents(connection)
            waiting = incident_figures.waiting(connection)
            events = incident_figures.events(connection, after, until)
            outages = [e.incident_id for e in events if e.type == EventType.OPENED and e.source == "monitor"]
            detected = incident_figures.detected_after_s(connection, outages) if outages else []
        self._seen = events[-1].id if events else after
        _show(found, waiting)
        for seconds in detected:
            telemetry.INCIDENT_DETECTION.observe(seconds)
        for event in events:
            _count(event)
        return len(events) == incident_figures.MOST_EVENTS


def _show(found: Mapping[tuple[str, str], int], waiting: Waiting) -> None:
    for severity in Severity:
        for status in (Status.OPEN, Status.ACKNOWLEDGED):
            # Those of which there are none too: they may have been there a moment ago.
            count = found.get((severity.value, status.value), 0)
            telemetry.INCIDENTS_OPEN.labels(severity.value, status.value).set(count)
    telemetry.OUTBOX_WAITING.set(waiting.events)
    telemetry.OUTBOX_AGE.set(waiting.oldest_s)
    telemetry.NOTIFICATIONS_PENDING.set(waiting.notifications)
    telemetry.CHANNELS_FAILING.set(waiting.channels_failing)


def _count(event: Event) -> None:
    if event.type == EventType.OPENED:
        telemetry.INCIDENTS_OPENED.labels(event.severity, _ORIGINS.get(event.source, "alert")).inc()
    elif event.type == EventType.ACKNOWLEDGED:
        telemetry.INCIDENT_ACKNOWLEDGEMENT.labels(event.severity).observe(max(0.0, event.after_s))
    elif event.type == EventType.RESOLVED and event.reason not in _NOT_REPAIRED:
        telemetry.INCIDENT_RESOLUTION.labels(event.severity).observe(max(0.0, event.after_s))
