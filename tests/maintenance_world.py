"""A world with monitors that fail and recover, in maintenance windows and under parents; its notifiers' loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from psycopg.types.json import Jsonb

from common.clock import to_ms
from common.domain.health import Health, State
from common.domain.incident import EventType, Severity, Status
from common.domain.maintenance import Once, Schedule, occurrence
from common.store import incidents, locations, maintenance, maintenance_cover, routing_versions, votes
from common.store import maintenance_turns as turns
from common.store.incidents import Alteration, Opening
from common.store.maintenance import WindowConfig
from notifier.cooldowns import CooldownEnds
from notifier.maintenance import Maintenance
from notifier.parents import Parents
from tests.routing_world import Matcher, RoutingWorld, _documents

#: As matching.Match has them.
MAINTENANCE, PARENT_DOWN = ("suppressed", "maintenance"), ("suppressed", "parent_down")
PENDING, SENT, NOT_ANNOUNCED = ("pending", None), ("sent", None), ("suppressed", "not_announced")


class MaintenanceWorld(RoutingWorld):
    """Times are seconds from the world's beginning, as everywhere in it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        with self.owner.begin() as connection:
            self.location = locations.ensure(connection, "local")

    # Monitors -------------------------------------------------------------------------------------------------------

    def monitors(
        self, count: int = 1, *, parent: str | None = None, labels: Mapping[str, str] | None = None,
        interval_s: int = 10, name: str = "Shop", recovery_threshold: int = 1,
    ) -> list[str]:  # fmt: skip
        """Monitors that are up and were just checked; their ids."""
        rows = self.run(
            "INSERT INTO monitors (id, org_id, name, type, target, interval_s, timeout_s, failure_threshold,"
            " recovery_threshold, retry_interval_s, severity, labels, location_ids, check_from, parent_id)"
            " SELECT gen_random_uuid(), %(org)s, %(name)s, 'http', 'http://t', %(every)s, 1, 1, %(recovery)s, 5,"
            " 'error', %(labels)s, ARRAY[%(location)s]::smallint[], %(at)s, %(parent)s::uuid"
            " FROM generate_series(1, %(count)s)"
            " RETURNING id::text, monitor_no",
            org=self.org_id, name=name, every=interval_s, labels=Jsonb(dict(labels or {})), location=self.location,
            at=self.began, parent=parent, count=count, recovery=recovery_threshold,
        )  # fmt: skip
        numbers = [row[1] for row in rows]
        with self.owner.begin() as connection:
            connection.exec_driver_sql(
                "INSERT INTO monitor_states (monitor_no, org_id, health, since)"
                " SELECT no, %(org)s, 1, %(at)s FROM unnest(%(numbers)s::int[]) AS u(no)",
                {"org": self.org_id, "numbers": numbers, "at": self.time(-3600)},
            )
            connection.exec_driver_sql(
                "INSERT INTO votes (monitor_no, location, health, last_slot, last_verdict)"
                " SELECT no, %(location)s, 1, %(at)s, 1 FROM unnest(%(numbers)s::int[]) AS u(no)",
                {"location": self.location, "numbers": numbers, "at": self.time(-1)},
            )
        return [row[0] for row in rows]

    def monitor(self, **how: Any) -> str:
        return self.monitors(1, **how)[0]

    def numbers(self, monitors: Sequence[str]) -> dict[str, int]:
        rows = self.run("SELECT id::text, monitor_no FROM monitors WHERE id = ANY(%(ids)s::uuid[])", ids=list(monitors))
        return {row[0]: row[1] for row in rows}

    def check(self, monitor: str, at: float, verdict: int) -> None:
        """A check says this, without changing anything else."""
        self.run(
            "UPDATE votes SET last_slot = %(at)s, last_verdict = %(verdict)s WHERE monitor_no ="
            " (SELECT monitor_no FROM monitors WHERE id = %(id)s)",
            at=self.time(at), verdict=verdict, id=monitor,
        )  # fmt: skip

    def fail(self, *monitors: str, at: float = 0, health: Health = Health.DOWN) -> list[str]:
        """Their checks find these out of order, all in one transaction; the incidents that open."""
        numbers = self.numbers(monitors)
        openings = [
            Opening(self.org_id, id_, "monitor", f"monitor:{id_}", "Shop is down", Severity.ERROR,
                    {"reason": "timeout"}, self.time(at), "a" * 32)
            for id_ in monitors
        ]  # fmt: skip
        at_ms = to_ms(self.time(at))
        with self.worker.begin() as connection:
            votes.lock_states(connection, sorted(numbers.values()))
            opened = incidents.open_all(connection, openings)
            votes.save_states(
                connection,
                [
                    votes.StateUpdate(
                        numbers[one.monitor_id or ""], State(health, health), opened[one.org_id, one.dedup_key],
                        None, at_ms,
                    )
                    for one in openings
                ],
            )  # fmt: skip
            connection.exec_driver_sql(
                "UPDATE votes SET last_slot = %(at)s, last_verdict = %(verdict)s, health = %(verdict)s"
                " WHERE monitor_no = ANY(%(numbers)s)",
                {"at": self.time(at), "verdict": int(health), "numbers": list(numbers.values())},
            )
        return [opened[one.org_id, one.dedup_key] for one in openings]

    def recover(self, monitor: str, incident: str, at: float) -> None:
        """Its check finds it well: the incident is resolved."""
        number = self.numbers([monitor])[monitor]
        with self.worker.begin() as connection:
            incidents.alter_all(
                connection,
                [Alteration(incident, EventType.RESOLVED, self.time(at), "b" * 32, status=Status.RESOLVED)],
            )
            up = State(Health.UP)
            votes.save_states(connection, [votes.StateUpdate(number, up, None, None, to_ms(self.time(at)))])
        self.check(monitor, at - 0.5, 1)

    # Windows --------------------------------------------------------------------------------------------------------

    def window(
        self, *matchers: Matcher, monitors: Sequence[str] = (), starts: float = 0, ends: float = 60, at: float = 0,
        schedule: Schedule | None = None, until_healthy: bool = False, healthy_for_s: int = 0,
    ) -> str:  # fmt: skip
        """A window, made as the API makes it; its id."""
        id_, now = str(uuid4()), self.time(at)
        schedule = schedule or Once(self.time(starts), self.time(ends))
        config = WindowConfig(
            "Upgrade", "", schedule, list(monitors), _documents(matchers), until_healthy, healthy_for_s,
            occurrence(schedule, now),
        )  # fmt: skip
        with self.owner.begin() as connection:
            routing_versions.move(connection, self.org_id)
            maintenance.add(connection, config, now, org_id=self.org_id, window_id=id_, created_by="user:x")
            window = maintenance_cover.hold(connection, id_)
            if window is not None and window.begins_at <= now:
                maintenance_cover.cover(connection, window, now)
        return id_

    def end_window(self, window: str, at: float) -> None:
        """Ended by hand, as the API does it."""
        with self.owner.begin() as connection:
            routing_versions.move(connection, self.org_id)
            turns.end_early(connection, turns.Due(window, self.org_id), self.time(at))

    def change_window(self, window: str, *matchers: Matcher, starts: float, ends: float, at: float) -> None:
        """Other times, other monitors: one that is not on before and after, as the API does it."""
        now, schedule = self.time(at), Once(self.time(starts), self.time(ends))
        config = WindowConfig(
            "Upgrade", "", schedule, [], _documents(matchers), False, 0, occurrence(schedule, now)
        )  # fmt: skip
        with self.owner.begin() as connection:
            routing_versions.move(connection, self.org_id)
            held = maintenance_cover.hold(connection, window)
            assert held is not None
            maintenance_cover.cut(connection, held, now)
            maintenance.change(connection, config, now, org_id=self.org_id, window_id=window)
            held = maintenance_cover.hold(connection, window)
            assert held is not None
            maintenance_cover.cover(connection, held, now)

    def delete_window(self, window: str, at: float) -> None:
        with self.owner.begin() as connection:
            routing_versions.move(connection, self.org_id)
            held = maintenance_cover.hold(connection, window)
            assert held is not None
            maintenance_cover.cut(connection, held, self.time(at))
            maintenance.delete(connection, window)

    def spans(self, window: str | None = None) -> dict[str, list[tuple[float, float]]]:
        """{monitor: its spans (from, to)}."""
        rows = self.run(
            "SELECT m.id::text, s.begins_at, s.ends_at FROM maintenance_spans s JOIN monitors m USING (monitor_no)"
            " WHERE %(window)s::uuid IS NULL OR s.window_id = %(window)s::uuid ORDER BY s.begins_at",
            window=window,
        )
        found: dict[str, list[tuple[float, float]]] = {}
        for id_, begin, end in rows:
            found.setdefault(id_, []).append((self._seconds(begin), self._seconds(end)))
        return found

    def shown(self) -> set[str]:
        """Monitors whose state shows maintenance."""
        rows = self.run(
            "SELECT m.id::text FROM monitor_states s JOIN monitors m USING (monitor_no) WHERE s.maintenance"
        )
        return {row[0] for row in rows}

    # The notifier's loops -------------------------------------------------------------------------------------------

    def turn(self, at: float) -> None:
        """Windows begin, end, follow, at this time."""
        step = Maintenance(self.worker, lambda: self.time(at)).step
        for _ in range(50):
            if not step():
                return
        raise AssertionError("no end of work")

    def look(self, at: float) -> list[str]:
        """All that the notifier's loops find at this time, relays first; the ids that were hinted."""
        hinted = self.relay_at(at)
        self.turn(at)
        parents = Parents(self.worker, lambda: self.time(at)).step
        ends = CooldownEnds(self.worker, hinted.extend, lambda: self.time(at)).step
        for step in (parents, ends):
            for _ in range(100):
                if not step():
                    break
            else:
                raise AssertionError("no end of work")
        return hinted + self.end_silences_at(at)

    def timeline(self, incident: str) -> list[tuple[str, Any]]:
        rows = self.run(
            "SELECT type, data FROM incident_events WHERE incident_id = %(id)s ORDER BY version", id=incident
        )
        return [(row[0], row[1]) for row in rows]

    def _seconds(self, moment: datetime) -> float:
        return round((moment - self.began) / timedelta(seconds=1), 3)
