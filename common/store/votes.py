"""Votes and states: the hot rows that every check reads and rewrites, under optimistic locking.

Lock order everywhere: votes (by monitor_no, location), then monitor_states (by monitor_no), then incidents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.clock import from_ms, to_ms
from common.domain.checks import Reason, Verdict
from common.domain.health import Health, State, Vote
from common.store.arrays import integers, reals
from common.store.engine import Connection

VoteKey = tuple[int, int]
"""(monitor_no, location)"""


@dataclass(frozen=True, slots=True)
class StoredVote:
    """A vote as it was read. `config_floor`: results of an older configuration do not count; `state`: the monitor's.

    Pending for a flapping monitor, so that no vote agrees with it: every check asks whether it has calmed down.
    """

    vote: Vote
    version: int
    config_floor: int
    slow: bool
    state: Health


@dataclass(frozen=True, slots=True)
class VoteUpdate:
    """A judged vote on its way back; it wins only if the row still has `version`.

    `last_verdict` None: nothing that is newer than what it knows has been seen.
    """

    key: VoteKey
    version: int
    vote: Vote
    slow: bool
    last_verdict: Verdict | None


@dataclass(frozen=True, slots=True)
class MonitorFacts:
    """What a transition needs to know of its monitor."""

    monitor_no: int
    monitor_id: str
    org_id: str
    name: str
    severity: str
    state: State
    open_incident: str | None
    last_resolved: str | None
    since_ms: int = 0


#: By number; calling an enum for every row of every flush costs several times as much.
_HEALTHS = {health.value: health for health in Health}
_REASONS = {reason.value: reason for reason in Reason}

_COLUMNS = (
    "v.monitor_no, v.location, v.version, v.config_floor, v.slow, v.health, v.last_slot, v.not_up, v.down, v.up,"
    " v.not_down, v.confirm_at, v.reason, v.latency_ms, v.observed_at, CASE WHEN s.flapping THEN 0 ELSE s.health END"
)

# The votes that a batch of results speaks to, without a lock.
_READ = f"""
SELECT {_COLUMNS}
  FROM unnest(%(monitors)s::int[], %(locations)s::smallint[]) AS u(monitor_no, location)
  JOIN votes v USING (monitor_no, location) JOIN monitor_states s USING (monitor_no)
"""

# Lock the rows whose version is still the one that was read, in one order for all writers; a row that another
# writer holds right now is skipped: that writer will change its version anyway.
_COMMIT = """
WITH judged AS (
  SELECT u.*, to_timestamp(slot_ms / 1000.0::float8) AS last_slot,
         to_timestamp(confirm_ms / 1000.0::float8) AS confirm_at,
         to_timestamp(observed_ms / 1000.0::float8) AS observed_at
    FROM unnest(
      %(monitors)s::int[], %(locations)s::smallint[], %(versions)s::int[], %(slots)s::bigint[],
      %(healths)s::smallint[], %(not_ups)s::smallint[], %(downs)s::smallint[], %(ups)s::smallint[],
      %(not_downs)s::smallint[], %(confirms)s::bigint[], %(reasons)s::smallint[], %(latencies)s::real[],
      %(observeds)s::bigint[], %(slows)s::int[]::bool[], %(verdicts)s::smallint[]
    ) AS u(monitor_no, location, version, slot_ms, health, not_up, down, up, not_down, confirm_ms, reason,
           latency_ms, observed_ms, slow, last_verdict)
), locked AS (
  SELECT v.monitor_no, v.location
    FROM votes v JOIN judged u USING (monitor_no, location)
   WHERE v.version = u.version
   ORDER BY v.monitor_no, v.location
     FOR UPDATE OF v SKIP LOCKED
)
UPDATE votes v
   SET version = v.version + 1, last_slot = u.last_slot, health = u.health, not_up = u.not_up, down = u.down,
       up = u.up, not_down = u.not_down, confirm_at = u.confirm_at, reason = u.reason, latency_ms = u.latency_ms,
       observed_at = u.observed_at, slow = u.slow, last_verdict = coalesce(u.last_verdict, v.last_verdict)
  FROM judged u JOIN locked USING (monitor_no, location)
 WHERE v.monitor_no = u.monitor_no AND v.location = u.location AND v.version = u.version
RETURNING v.monitor_no, v.location
"""

# The states of monitors whose votes changed, locked in one order, with what an incident says about the monitor.
_LOCK_STATES = """
SELECT s.monitor_no, m.id::text, m.org_id::text, m.name, m.severity, s.health, s.incident_worst,
       s.open_incident::text, s.last_resolved::text, s.since, s.flapping, s.turns
  FROM monitor_states s JOIN monitors m USING (monitor_no)
 WHERE s.monitor_no = ANY(%(monitors)s)
 ORDER BY s.monitor_no
   FOR UPDATE OF s
"""

# All votes of some monitors, for the quorum; read after the states are locked, so no other writer can conclude.
_ALL_OF = f"""
SELECT {_COLUMNS} FROM votes v JOIN monitor_states s USING (monitor_no) WHERE v.monitor_no = ANY(%(monitors)s)
"""

# The new states of monitors; `since` moves only when the health does.
_SAVE_STATES = """
UPDATE monitor_states s
   SET version = s.version + 1, health = u.health, incident_worst = u.worst, open_incident = u.open_incident,
       last_resolved = u.last_resolved, since = CASE WHEN s.health = u.health THEN s.since ELSE u.at END,
       flapping = u.flapping, turns = u.turns::bigint[]
  FROM unnest(%(monitors)s::int[], %(healths)s::smallint[], %(worsts)s::smallint[], %(incidents)s::uuid[],
              %(resolved)s::uuid[], %(ats)s::timestamptz[], %(flapping)s::bool[], %(turns)s::text[])
       AS u(monitor_no, health, worst, open_incident, last_resolved, at, flapping, turns)
 WHERE s.monitor_no = u.monitor_no
"""

# New monitors start with one pending vote per location (no verdict yet: -1) and a pending state.
_CREATE_STATES = """
INSERT INTO monitor_states (monitor_no, org_id, resting)
SELECT monitor_no, org_id, NOT enabled FROM monitors WHERE monitor_no = ANY(%(monitors)s)
"""
_CREATE_VOTES = """
INSERT INTO votes (monitor_no, location, config_floor, last_verdict)
SELECT u.monitor_no, u.location, u.config_floor, -1
  FROM unnest(%(monitors)s::int[], %(locations)s::smallint[], %(floors)s::int[])
       AS u(monitor_no, location, config_floor)
    ON CONFLICT (monitor_no, location) DO NOTHING
"""
_DROP_OTHER_VOTES = """
DELETE FROM votes v WHERE v.monitor_no = ANY(%(monitors)s::int[]) AND NOT EXISTS (
  SELECT 1 FROM unnest(%(monitors)s::int[], %(locations)s::smallint[]) AS u(monitor_no, location)
   WHERE u.monitor_no = v.monitor_no AND u.location = v.location)
"""

_LOCK_VOTES = "SELECT 1 FROM votes WHERE monitor_no = ANY(%(monitors)s) ORDER BY monitor_no, location FOR UPDATE"

# Start over: the configuration changed, or the monitor was paused or deleted.
_RESET_VOTES = """
UPDATE votes v SET version = v.version + 1, config_floor = u.config_floor, health = 0, not_up = 0, down = 0, up = 0,
                   not_down = 0, confirm_at = NULL, slow = false
  FROM unnest(%(monitors)s::int[], %(floors)s::int[]) AS u(monitor_no, config_floor)
 WHERE v.monitor_no = u.monitor_no
"""

# Whether monitors are paused or deleted, so that they do not count among the pending ones.
_REST = """
UPDATE monitor_states SET resting = %(resting)s WHERE monitor_no = ANY(%(monitors)s) AND resting <> %(resting)s
"""

# After a resolve by hand the failing votes have to fail for a whole threshold again.
_RELEASE_VOTES = """
UPDATE votes SET version = version + 1, health = %(released)s, not_up = 0, down = 0, up = 0, not_down = 0,
                 confirm_at = NULL
 WHERE monitor_no = %(monitor_no)s AND health IN (%(degraded)s, %(down)s)
"""


def read(connection: Connection, keys: Sequence[VoteKey]) -> dict[VoteKey, StoredVote]:
    """The votes of these keys; a key without a row (monitor or location removed) is absent."""
    rows = connection.exec_driver_sql(
        _READ, {"monitors": integers(k[0] for k in keys), "locations": integers(k[1] for k in keys)}
    )
    return {(row[0], row[1]): _stored(row) for row in rows}


def commit(connection: Connection, updates: Sequence[VoteUpdate]) -> set[VoteKey]:
    """Write judged votes; the keys that won. A key that is missing lost the race and has to be judged again."""
    rows = connection.exec_driver_sql(
        _COMMIT,
        {
            "monitors": integers(u.key[0] for u in updates),
            "locations": integers(u.key[1] for u in updates),
            "versions": integers(u.version for u in updates),
            "slots": integers(u.vote.last_slot_ms for u in updates),
            "healths": integers(int(u.vote.health) for u in updates),
            "not_ups": integers(u.vote.not_up for u in updates),
            "downs": integers(u.vote.down for u in updates),
            "ups": integers(u.vote.up for u in updates),
            "not_downs": integers(u.vote.not_down for u in updates),
            "confirms": integers(u.vote.confirm_at_ms for u in updates),
            "reasons": integers(int(u.vote.reason) for u in updates),
            "latencies": reals(u.vote.latency_ms for u in updates),
            "observeds": integers(u.vote.observed_ms for u in updates),
            "slows": integers(int(u.slow) for u in updates),
            "verdicts": integers(None if u.last_verdict is None else int(u.last_verdict) for u in updates),
        },
    )
    return {(row[0], row[1]) for row in rows}


def lock_states(connection: Connection, monitors: Sequence[int]) -> dict[int, MonitorFacts]:
    """The states of these monitors, locked until the transaction ends."""
    rows = connection.exec_driver_sql(_LOCK_STATES, {"monitors": list(monitors)})
    return {
        row[0]: MonitorFacts(
            monitor_no=row[0],
            monitor_id=row[1],
            org_id=row[2],
            name=row[3],
            severity=row[4],
            state=State(Health(row[5]), None if row[6] is None else Health(row[6]), row[10], tuple(row[11])),
            open_incident=row[7],
            last_resolved=row[8],
            since_ms=to_ms(row[9]),
        )
        for row in rows
    }


def all_of(connection: Connection, monitors: Sequence[int]) -> dict[int, list[Vote]]:
    """All locations' votes of these monitors."""
    votes: dict[int, list[Vote]] = {}
    for row in connection.exec_driver_sql(_ALL_OF, {"monitors": list(monitors)}):
        votes.setdefault(row[0], []).append(_stored(row).vote)
    return votes


@dataclass(frozen=True, slots=True)
class StateUpdate:
    """A monitor's new state; `at_ms` is when it began, should the health differ from before."""

    monitor_no: int
    state: State
    open_incident: str | None
    last_resolved: str | None
    at_ms: int


def save_states(connection: Connection, updates: Sequence[StateUpdate]) -> None:
    """Write the states of monitors that `lock_states` locked."""
    connection.exec_driver_sql(
        _SAVE_STATES,
        {
            "monitors": [u.monitor_no for u in updates],
            "healths": [int(u.state.health) for u in updates],
            "worsts": [None if u.state.incident_worst is None else int(u.state.incident_worst) for u in updates],
            "incidents": [u.open_incident for u in updates],
            "resolved": [u.last_resolved for u in updates],
            "ats": [from_ms(u.at_ms) for u in updates],
            "flapping": [u.state.flapping for u in updates],
            "turns": [integers(u.state.turns) for u in updates],
        },
    )


def create(connection: Connection, locations: Mapping[int, Sequence[int]]) -> None:
    """The states and votes of new monitors: {monitor_no: its locations}."""
    connection.exec_driver_sql(_CREATE_STATES, {"monitors": list(locations)})
    connection.exec_driver_sql(_CREATE_VOTES, _pairs({number: (where, 0) for number, where in locations.items()}))


def set_locations(connection: Connection, wanted: Mapping[int, tuple[Sequence[int], int]]) -> None:
    """Make the votes of monitors exactly those of their locations: {monitor_no: (locations, config_floor)}."""
    parameters = _pairs(wanted)
    connection.exec_driver_sql(_DROP_OTHER_VOTES, parameters)
    connection.exec_driver_sql(_CREATE_VOTES, parameters)


def lock(connection: Connection, monitors: Sequence[int]) -> None:
    """Lock all votes of these monitors against the writers; always before `lock_states`."""
    connection.exec_driver_sql(_LOCK_VOTES, {"monitors": list(monitors)})


def reset(connection: Connection, floors: Mapping[int, int]) -> None:
    """Forget what was counted; results of configurations below the monitor's floor will not vote any more."""
    connection.exec_driver_sql(_RESET_VOTES, {"monitors": integers(floors.keys()), "floors": integers(floors.values())})


def rest(connection: Connection, monitors: Sequence[int], *, resting: bool) -> None:
    """Note that monitors were paused or deleted, or that they are checked again; their votes are locked."""
    connection.exec_driver_sql(_REST, {"monitors": list(monitors), "resting": resting})


def release(connection: Connection, *, monitor_no: int) -> None:
    """Make failing votes count from the start, after their incident was resolved by hand."""
    connection.exec_driver_sql(
        _RELEASE_VOTES,
        {
            "monitor_no": monitor_no,
            "released": int(Health.RELEASED),
            "degraded": int(Health.DEGRADED),
            "down": int(Health.DOWN),
        },
    )


def _stored(row: Any) -> StoredVote:
    return StoredVote(
        vote=Vote(
            health=_HEALTHS[row[5]],
            last_slot_ms=to_ms(row[6]),
            not_up=row[7],
            down=row[8],
            up=row[9],
            not_down=row[10],
            confirm_at_ms=None if row[11] is None else to_ms(row[11]),
            reason=_REASONS[row[12]],
            latency_ms=row[13],
            observed_ms=to_ms(row[14]),
        ),
        version=row[2],
        config_floor=row[3],
        slow=row[4],
        state=Health(row[15]),
    )


def _pairs(wanted: Mapping[int, tuple[Sequence[int], int]]) -> dict[str, Any]:
    rows = [(number, location, floor) for number, (where, floor) in wanted.items() for location in where]
    return {
        "monitors": integers(row[0] for row in rows),
        "locations": integers(row[1] for row in rows),
        "floors": integers(row[2] for row in rows),
    }
