"""Alerts of any form, once they are read: into the caller's organization, or into all that a platform's concern."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from threading import Event
from typing import TypeVar

from api.context import caller, request_id, services
from common import log, telemetry
from common.domain.alerts import (
    MAX_KEY_CHARS,
    PLATFORM_KEYS,
    Alert,
    AlertStatus,
    Outcome,
    Run,
    in_rounds,
    overall,
)
from common.domain.errors import Contended
from common.process import start_loop
from common.store import alert_ends, monitors
from common.store import alerts as stored
from common.store.alerts import Offer
from common.store.engine import Connection, Database
from common.store.incidents import Deed

T = TypeVar("T")

#: Incidents of one transaction: enough for its commit to weigh little, few enough to hold nobody up.
CHUNK = 2_000
#: Batches that meet in the same rows give way to each other; one of them then does it again.
_TRIES = 5


def take_in(alerts: Sequence[Alert], what: str) -> Counter[Outcome]:
    """Take a batch in; how many alerts came to what. `what` names the input in the metrics.

    A transaction is a round's chunk: whoever gets no answer sends the batch again, and what was taken is known.
    """
    if _is_operator():
        alerts = [replace(alert, dedup_key=platform_key(alert.dedup_key)) for alert in alerts]
        _prolong([alert for alert in alerts if alert.lifetime is not None])
    outcomes: list[list[Outcome]] = [[] for _ in alerts]
    for runs in in_rounds(alerts):
        offers = _offers(alerts, runs)
        for start in range(0, len(offers), CHUNK):
            chunk = offers[start : start + CHUNK]
            for offer, outcome in zip(chunk, _take(alerts, chunk), strict=True):
                outcomes[offer.place].append(outcome)
    tally = Counter(overall(of_alert) for of_alert in outcomes)
    for outcome, count in tally.items():
        telemetry.ALERTS.labels(what, outcome.value).inc(count)
    telemetry.ALERT_OFFERS.inc(sum(map(len, outcomes)))
    log.get_logger().info("alerts_taken_in", input=what, **{outcome.value: count for outcome, count in tally.items()})
    return tally


def acknowledge(key: str) -> int:
    """Acknowledge what is open under this key of the caller's; how many incidents that changed."""
    org_id = caller().org_id or None
    key = platform_key(key) if _is_operator() else key
    return _in_transaction(
        lambda connection: stored.acknowledge(connection, org_id=org_id, key=key, deed=_deed(connection))
    )


def platform_key(key: str) -> str:
    """A platform's key, apart from those of the organizations' own alerts; one too long is shortened to a hash."""
    marked = PLATFORM_KEYS + key
    return marked if len(marked) <= MAX_KEY_CHARS else PLATFORM_KEYS + sha256(key.encode()).hexdigest()


def watch(database: Database, stop: Event) -> None:
    """Note now and then that alerts can come in: what is not repeated ends only while they can."""

    def note() -> bool:
        with database.begin() as connection:
            alert_ends.note_intake(connection)
        return False

    start_loop("alert_intake", note, stop, idle_s=alert_ends.INTAKE_EVERY_S)


def _prolong(alerts: Sequence[Alert]) -> None:
    """What a platform's alerts have opened lasts on, whatever its organizations' routes say by now."""
    if alerts:
        _in_transaction(lambda connection: stored.prolong_anywhere(connection, alerts, _deed(connection)))


def _is_operator() -> bool:
    return not caller().org_id


def _offers(alerts: Sequence[Alert], runs: Sequence[Run]) -> list[Offer]:
    """Who is to get which alert, an organization's together."""
    if not _is_operator():
        return [Offer(caller().org_id, place) for run in runs for place in run.places]
    platform = services().platform
    offers = [
        Offer(org_id, place)
        for run in runs
        if run.status is AlertStatus.FIRING
        for place in run.places
        for org_id in platform.concerned(alerts[place].matched)
    ]
    # An end goes to all who have the problem, whatever their routes say by now.
    ending = {run.dedup_key: run.places for run in runs if run.status is AlertStatus.RESOLVED}
    if ending:
        with platform.database.begin() as connection:
            waiting = stored.open_anywhere(connection, list(ending))
        offers += [Offer(org, place) for key, orgs in waiting.items() for place in ending[key] for org in orgs]
    return offers


def _take(alerts: Sequence[Alert], offers: Sequence[Offer]) -> list[Outcome]:
    return _in_transaction(lambda connection: stored.take(connection, alerts, offers, _deed(connection)))


def _in_transaction(act: Callable[[Connection], T]) -> T:
    """Do it as the caller's organization, or as the role that sees them all; again when others got in between."""
    database = services().platform.database if _is_operator() else services().database
    for _ in range(_TRIES - 1):
        try:
            with database.begin(caller().org_id) as connection:
                return act(connection)
        except Contended:
            continue
    with database.begin(caller().org_id) as connection:
        return act(connection)


def _deed(connection: Connection) -> Deed:
    return Deed(caller().actor, monitors.now(connection), request_id())
