"""A world with routes and silences, made as the API makes them: the organization's routing_version moves with each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from psycopg.types.json import Jsonb

from common.clock import utc_now
from common.domain.incident import EventType, Severity
from common.store import incidents
from common.store.incidents import Alteration, Opening
from notifier.cooldowns import CooldownEnds
from notifier.relay import Relay
from notifier.silences import SilenceEnds
from tests.world import World

Matcher = tuple[str, str, str]
"""(label, op, value)"""


class RoutingWorld(World):
    """Times are seconds from the world's beginning; its relay and its silences live at the time they are told."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.began = utc_now()
        self.hinted: list[str] = []

    def time(self, seconds: float) -> datetime:
        return self.began + timedelta(seconds=seconds)

    # What people set up ---------------------------------------------------------------------------------------------

    def route(
        self, *channels: str, match: Mapping[str, str] | None = None, matchers: Sequence[Matcher] = (), **columns: Any
    ) -> str:  # fmt: skip
        """A route behind the others; its id. `columns` are those of its table."""
        id_ = str(uuid4())
        columns = {
            "id": id_, "org_id": self.org_id, "name": "route", "position": self._count("routes"),
            "match": Jsonb(dict(match or {})), "matchers": Jsonb(_documents(matchers)), "channel_ids": list(channels),
            **columns,
        }  # fmt: skip
        values = ", ".join(f"%({name})s" + ("::uuid[]" if name == "channel_ids" else "") for name in columns)
        self.change_rules(f"INSERT INTO routes ({', '.join(columns)}) VALUES ({values})", **columns)
        return id_

    def silence(self, *matchers: Matcher, starts: float = -3600, ends: float = 3600) -> str:
        id_ = str(uuid4())
        self.change_rules(
            "INSERT INTO silences (id, org_id, matchers, created_by, starts_at, ends_at)"
            " VALUES (%(id)s, %(org)s, %(matchers)s, 'user:x', %(starts)s, %(ends)s)",
            id=id_, org=self.org_id, matchers=Jsonb(_documents(matchers)), starts=self.time(starts),
            ends=self.time(ends),
        )  # fmt: skip
        return id_

    def change_rules(self, sql: str, **values: Any) -> None:
        """A change of routes, silences or channels, with the version moved in the same transaction."""
        with self.owner.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE organizations SET routing_version = routing_version + 1 WHERE id = %(o)s", {"o": self.org_id}
            )
            connection.exec_driver_sql(sql, values)

    def disable(self, channel: str) -> None:
        self.change_rules("UPDATE channels SET enabled = false WHERE id = %(id)s", id=channel)

    def enable(self, channel: str) -> None:
        self.change_rules("UPDATE channels SET enabled = true WHERE id = %(id)s", id=channel)

    # What happens ---------------------------------------------------------------------------------------------------

    def happen(
        self, severity: Severity = Severity.ERROR, *, source: str = "test", name: str = "Shop", key: str = "",
        labels: Mapping[str, str] | None = None,
    ) -> str:  # fmt: skip
        """An incident opens; its id."""
        opening = Opening(
            self.org_id, None, source, key or uuid4().hex, f"{name} is down", severity, {"reason": "timeout"},
            utc_now(), "a" * 32, name=name, labels=dict(labels or {}),
        )  # fmt: skip
        with self.worker.begin() as connection:
            incidents.open_all(connection, [opening])
        return opening.id

    def worsen(self, incident: str, severity: Severity = Severity.CRITICAL) -> None:
        with self.worker.begin() as connection:
            incidents.alter_all(
                connection, [Alteration(incident, EventType.ESCALATED, utc_now(), "b" * 32, severity=severity)]
            )

    def remind(self, incident: str, route: str) -> None:
        with self.worker.begin() as connection:
            incidents.alter_all(
                connection, [Alteration(incident, EventType.REMINDER, utc_now(), "b" * 32, data={"route_id": route})]
            )

    def relay_at(self, seconds: float = 0) -> list[str]:
        """Relay all there is, at this time; the ids that were hinted."""
        hinted: list[str] = []
        relay = Relay(self.worker, hinted.extend, lambda: self.time(seconds))
        while relay.step():
            pass
        return hinted

    def end_silences_at(self, seconds: float) -> list[str]:
        """Settle what is over at this time; the ids that were hinted."""
        hinted: list[str] = []
        ends = SilenceEnds(self.worker, hinted.extend, lambda: self.time(seconds))
        while ends.step():
            pass
        return hinted

    def end_cooldowns_at(self, seconds: float) -> list[str]:
        """Look at what cooldowns hold back and that is due at this time; the ids that were hinted."""
        hinted: list[str] = []
        ends = CooldownEnds(self.worker, hinted.extend, lambda: self.time(seconds))
        while ends.step():
            pass
        return hinted

    def tell(self, channel: str | None = None, *, at: float = 0, **changes: Any) -> None:
        """What is pending (at one channel) is sent, or as `changes` say."""
        values = {"status": "sent", "sent_at": self.time(at), "attempts": 1, **changes}
        self.run(
            f"UPDATE notifications SET {', '.join(f'{name} = %({name})s' for name in values)}"
            " WHERE status = 'pending' AND (%(channel)s::uuid IS NULL OR channel_id = %(channel)s::uuid)",
            channel=channel, **values,
        )  # fmt: skip

    # What is written ------------------------------------------------------------------------------------------------

    def rows(self, incident: str | None = None) -> list[tuple[str, str, str, str | None]]:
        """(event type, channel, status, reason), in order."""
        rows = self.run(
            "SELECT event_type, channel_id::text, status, reason FROM notifications"
            " WHERE %(incident)s::uuid IS NULL OR incident_id = %(incident)s::uuid ORDER BY no",
            incident=incident,
        )
        return [tuple(row) for row in rows]

    def outcome(self, event: str, incident: str | None = None) -> dict[str, tuple[str, str | None]]:
        """{channel: (status, reason)} of one kind of event."""
        return {row[1]: (row[2], row[3]) for row in self.rows(incident) if row[0] == event}

    def dues(self, event: str | None = None) -> list[float]:
        """When the pending rows leave, in order."""
        rows = self.run(
            "SELECT next_attempt_at FROM notifications"
            " WHERE status = 'pending' AND (%(event)s::text IS NULL OR event_type = %(event)s) ORDER BY no",
            event=event,
        )
        return [round((row[0] - self.began).total_seconds(), 3) for row in rows]

    def column(self, name: str) -> list[Any]:
        """One column of the ledger, in order."""
        return [row[0] for row in self.run(f"SELECT {name}::text FROM notifications ORDER BY no")]

    def settled(self, silence: str) -> bool:
        return bool(self.run("SELECT settled_at IS NOT NULL FROM silences WHERE id = %(id)s", id=silence)[0][0])

    def _count(self, table: str) -> int:
        return int(self.run(f"SELECT count(*) FROM {table}")[0][0])


def _documents(matchers: Sequence[Matcher]) -> list[dict[str, str]]:
    return [{"label": label, "op": op, "value": value} for label, op, value in matchers]
