"""The leader's look at where checks come from: one incident for a location that sees nothing, none per monitor.

Each look is one transaction: how the locations stand, and the incidents that open or end by it, are written together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice

from uuid_utils import uuid7

from common import log, telemetry
from common.domain.blindness import (
    Affected,
    Cause,
    Due,
    Seen,
    glimpse,
    incident_key,
    judge,
    plainly_sees,
    told,
)
from common.domain.incident import EventType, Severity, Status
from common.store import blindness, incidents, unseen
from common.store.blindness import Place
from common.store.engine import Connection, Database
from common.store.incidents import Alteration, Opening

#: Between two looks (seconds), and between two pieces of monitors that nobody may be looking at.
EVERY_S = 2.0

#: Incidents in one transaction.
BATCH = 500

_SOURCE = "tocsin"


class Lookout:
    """`step` is one look, while we lead; of two who think that they do, one waits for the other."""

    def __init__(self, database: Database, leads: Callable[[], bool], *, patience_s: float, batch: int = BATCH) -> None:
        self._database = database
        self._leads = leads
        self._patience = timedelta(seconds=patience_s)
        self._batch = batch
        self._looked_to = 0
        self._looked = False

    def step(self) -> bool:
        """Look once; whether there is more to tell at once."""
        if not self._leads():
            if self._looked:
                # Another shows them from now on; what we showed last must not stand beside it.
                telemetry.LOCATIONS_BLIND.set(0)
            self._looked = False
            return False
        self._looked = True
        with self._database.begin() as connection:
            more = self._look(connection)
        self._mark_unseen()
        return more

    def _look(self, connection: Connection) -> bool:
        now, before = blindness.hold(connection)
        after = self._judge(connection, before, now)
        for old, place in zip(before, after, strict=True):
            blindness.save(connection, place.location, place.sight)
            _report(old, place)
        blind = [place.location for place in after if place.sight.blind_since is not None]
        telemetry.LOCATIONS_BLIND.set(len(blind))
        blindness.forget(connection)
        more = [self._tell(connection, place, blind, now) for place in after]
        return any(more)

    def _judge(self, connection: Connection, places: list[Place], now: datetime) -> list[Place]:
        seen = blindness.seen(connection, now)
        doubtful = [place.location for place in places if not plainly_sees(seen.get(place.location, Seen()), now)]
        due = blindness.due(connection, doubtful, now) if doubtful else {}
        silent = [location for location in due if location not in seen]
        voted = blindness.voted(connection, silent) if silent else {}
        judged = []
        for place in places:
            location = place.location
            found = seen.get(location, Seen(judged_at=voted.get(location)))
            # Who plainly sees has something to check; how much does not matter.
            shown, cause = glimpse(found, due.get(location, Due(0 if location in doubtful else 1)), now)
            sight = judge(place.sight, shown, cause, now=now, patience=self._patience)
            judged.append(replace(place, sight=sight))
        return judged

    def _tell(self, connection: Connection, place: Place, blind: list[int], now: datetime) -> bool:
        """Open what is to be opened, end what is over; whether more of it is left."""
        known = blindness.told(connection, place.location)
        is_blind = place.sight.blind_since is not None
        if not known and not is_blind:
            return False
        concerned = blindness.affected(connection, place.location, blind) if is_blind else {}
        new = [affected for org_id, affected in concerned.items() if org_id not in known]
        over = {org_id: incident for org_id, incident in known.items() if org_id not in concerned}
        self._open(connection, place, new[: self._batch], now)
        self._end(connection, place, dict(islice(over.items(), self._batch)), now, gone=is_blind)
        return max(len(new), len(over)) > self._batch

    @staticmethod
    def _open(connection: Connection, place: Place, new: list[Affected], now: datetime) -> None:
        if new:
            opened = incidents.open_all(connection, [_opening(place, affected, now) for affected in new])
            blindness.note(connection, place.location, {org_id: id_ for (org_id, _), id_ in opened.items()})

    @staticmethod
    def _end(connection: Connection, place: Place, over: dict[str, str], now: datetime, *, gone: bool) -> None:
        if over:
            why = {"reason": "not_checked_from_there" if gone else "sees_again"}
            trace = uuid7().hex
            endings = [
                Alteration(incident, EventType.RESOLVED, now, trace, status=Status.RESOLVED, data=why)
                for incident in over.values()
            ]
            incidents.alter_all(connection, endings)
            blindness.unnote(connection, place.location, list(over))

    def _mark_unseen(self) -> None:
        """One piece of the monitors that nobody has looked at for too long; from the beginning after the last."""
        with self._database.begin() as connection:
            to = unseen.end_of(connection, self._looked_to)
            if to is None:
                self._looked_to, to = 0, unseen.end_of(connection, 0) or 0
            marked = unseen.mark(connection, self._looked_to, to)
        # States after votes, each in a transaction of its own: nothing of ours waits while it holds anything.
        with self._database.begin() as connection:
            unseen.tell(connection, marked, self._looked_to, to)
        self._looked_to = to


def _opening(place: Place, affected: Affected, now: datetime) -> Opening:
    cause = place.sight.cause or Cause.NO_RESULTS
    text = told(place.name, cause, affected, (place.sight.blind_since or now).astimezone(UTC))
    return Opening(
        org_id=affected.org_id,
        monitor_id=None,
        source=_SOURCE,
        dedup_key=incident_key(place.name),
        title=f"Location {place.name} is blind",
        severity=Severity.ERROR if affected.only_there else Severity.WARNING,
        cause={"reason": cause.value, "message": text},
        at=now,
        correlation_id=uuid7().hex,
        name=f"location {place.name}",
        description=text,
        labels={"alertname": "LocationBlind", "location": place.name},
    )


def _report(before: Place, after: Place) -> None:
    if (before.sight.blind_since is None) is (after.sight.blind_since is None):
        return
    logger = log.get_logger()
    if after.sight.blind_since is not None:
        since = str(after.sight.blind_since)
        logger.error("location_blind", location=after.name, reason=after.sight.cause, since=since)
    else:
        logger.info("location_sees", location=after.name, was_blind_since=str(before.sight.blind_since))
