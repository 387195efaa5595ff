"""What a write does to monitors, one or ten thousand: settings, votes, incidents and the scheduler's hint together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from api import heartbeats_secrets
from api.context import caller, request_id, services
from common import log
from common.store import incidents, monitor_sets, monitors, votes
from common.store.engine import Connection
from common.store.incidents import Deed
from common.store.monitor_sets import NewMonitor, Rewrite
from common.store.monitors import MonitorSettings
from common.vault import SecretUnreadable

#: Settings that decide what a check finds: after a change, what was counted before says nothing any more.
_PROBED = ("type", "target", "options", "secrets", "assertions")


@dataclass(frozen=True, slots=True)
class Rewriting:
    """A locked monitor's row, its settings as they are, and as they are to be."""

    row: Mapping[str, Any]
    before: MonitorSettings
    wanted: MonitorSettings

    @property
    def check_now(self) -> bool:
        """Who resumes or changes the interval wants to see a check now, not in a while."""
        return self.wanted.interval_s != self.before.interval_s or self.resumed

    @property
    def paused(self) -> bool:
        """Whether it is checked no more."""
        return self.before.enabled and not self.wanted.enabled

    @property
    def resumed(self) -> bool:
        """Whether it is checked again."""
        return self.wanted.enabled and not self.before.enabled

    @property
    def probed_otherwise(self) -> bool:
        """Whether its checks find something else from now on."""
        return any(getattr(self.wanted, name) != getattr(self.before, name) for name in _PROBED)

    @property
    def number(self) -> int:
        """Its monitor_no."""
        number: int = self.row["monitor_no"]
        return number

    @property
    def version(self) -> int:
        """The config_version that it gets."""
        version: int = self.row["config_version"] + 1
        return version


def add(connection: Connection, wanted: Mapping[str, MonitorSettings]) -> set[str]:
    """Store new monitors, {id: settings}, with their pending states; the ids of those whose key was not taken."""
    org_id = caller().org_id
    rows = [NewMonitor(id_, settings, seal(id_, settings)) for id_, settings in wanted.items()]
    numbers = monitor_sets.add(connection, org_id=org_id, monitors=rows)
    if numbers:
        votes.create(connection, {number: wanted[id_].location_ids for id_, number in numbers.items()})
        heartbeats_secrets.make(connection, numbers, wanted)
        monitors.notify(connection)
    return set(numbers)


def rewrite(connection: Connection, rewritings: Sequence[Rewriting]) -> None:
    """Give locked monitors new settings; those that have them already stay as they are."""
    changed = [one for one in rewritings if one.wanted != one.before]
    if not changed:
        return
    monitor_sets.change(connection, org_id=caller().org_id, rewrites=[_rewrite(one) for one in changed])
    votes.lock(connection, [one.number for one in changed])
    moved = [one for one in changed if one.wanted.location_ids != one.before.location_ids]
    if moved:
        votes.set_locations(connection, {one.number: (one.wanted.location_ids, one.version) for one in moved})
    resumed = [one.number for one in changed if one.resumed]
    if resumed:
        votes.rest(connection, resumed, resting=False)
    paused = {one.number: one.version for one in changed if one.paused}
    if paused:
        _close(connection, paused, "paused", "The monitor was paused.")
    heartbeats_secrets.make(
        connection,
        {one.row["id"]: one.number for one in changed if one.wanted.type != one.before.type},
        {one.row["id"]: one.wanted for one in changed},
    )
    reset = {one.number: one.version for one in changed if one.probed_otherwise and not one.paused}
    if reset:
        votes.reset(connection, reset)
    monitors.notify(connection)


def delete(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Delete locked monitors and resolve their incidents."""
    monitor_sets.delete(connection, org_id=caller().org_id, ids=[row["id"] for row in rows])
    floors = {row["monitor_no"]: row["config_version"] + 1 for row in rows}
    _close(connection, floors, "deleted", "The monitor was deleted.")
    monitors.notify(connection)


def open_secrets(row: Mapping[str, Any]) -> dict[str, str]:
    """A stored monitor's secrets in plain text, by path; none where their key is gone: they have to be sent again."""
    if row["secrets"] is None:
        return {}
    try:
        secrets: dict[str, str] = services().vault.open(_owner(row["id"]), row["secrets"])
    except SecretUnreadable as error:
        log.get_logger().error("monitor_secrets_unreadable", monitor_id=row["id"], error=error.message)
        return {}
    return secrets


def seal(monitor_id: str, settings: MonitorSettings) -> str | None:
    """Its secrets as they are stored, None without any."""
    return services().vault.seal(_owner(monitor_id), dict(settings.secrets)) if settings.secrets else None


def _rewrite(one: Rewriting) -> Rewrite:
    kept = one.wanted.secrets == one.before.secrets
    sealed = one.row["secrets"] if kept else seal(one.row["id"], one.wanted)
    return Rewrite(one.row["id"], one.wanted, sealed, one.check_now)


def _close(connection: Connection, floors: Mapping[int, int], reason: str, message: str) -> None:
    incidents.close_for_monitors(
        connection,
        floors,
        cause={"reason": reason, "message": message},
        deed=Deed(caller().actor, monitors.now(connection), request_id()),
    )


def _owner(monitor_id: str) -> str:
    return f"monitor:{caller().org_id}:{monitor_id}"
