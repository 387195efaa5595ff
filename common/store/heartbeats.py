"""Heartbeats as whoever judges them sees them: locked, with what came in, and what becomes of both.

Lock order: heartbeats before votes, states and incidents; the API never waits for a heartbeat while it holds those.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.clock import from_ms, to_ms
from common.domain.accounting import Span
from common.domain.checks import Reason, Verdict
from common.domain.health import Health
from common.domain.heartbeat_schedules import Tally
from common.domain.heartbeats import Ping, PingKind, Standing
from common.store.arrays import integers
from common.store.engine import Connection

#: The newest pings of a monitor that are kept.
RING = 100
#: What of a ping's body stands in the message of its result.
_LINE_CHARS = 200

# Those with something in the inbox, the oldest first, and those that are due; one that somebody else judges is theirs.
_CLAIM = """
WITH wanted AS (
  SELECT monitor_no FROM (SELECT monitor_no FROM ping_inbox ORDER BY id LIMIT %(limit)s) i
  UNION
  SELECT monitor_no FROM (SELECT monitor_no FROM heartbeats WHERE look_at <= now() ORDER BY look_at LIMIT %(limit)s) d
)
SELECT h.monitor_no, h.pings, h.armed, h.version, h.watched_from, h.heard_at, h.trouble, h.message, h.code,
       h.latency_ms, h.event_at, h.looked_to, h.expected_at, h.deadline_at, h.runs, h.successes,
       h.counted_from, m.check_from, m.deleted_at IS NOT NULL
  FROM wanted JOIN heartbeats h USING (monitor_no) JOIN monitors m USING (monitor_no)
 ORDER BY h.monitor_no LIMIT %(limit)s FOR UPDATE OF h SKIP LOCKED
"""

# Of each the oldest, so that none is behind another's. A range of one number: only ping_inbox_of is in this order.
_INBOX = """
SELECT i.id, i.monitor_no, i.kind, i.at, i.exit_code, i.latency_ms, i.rid::text, i.body, i.source
  FROM unnest(%(monitors)s::int[]) AS m(no) CROSS JOIN LATERAL (
       SELECT * FROM ping_inbox p WHERE p.monitor_no BETWEEN m.no AND m.no
        ORDER BY p.monitor_no, p.id LIMIT %(limit)s) i
 ORDER BY i.monitor_no, i.id
"""
_SETTLED = """
SELECT monitor_no FROM votes WHERE monitor_no = ANY(%(monitors)s::int[])
   AND health = %(up)s AND last_verdict = %(is_up)s
"""

# The newest spells without an API; older ones are no longer asked for.
_NOW = "SELECT extract(epoch FROM clock_timestamp())::float8"
_HEARING = "SELECT extract(epoch FROM until)::float8 FROM hearing"
_DEAF = "SELECT from_at, until_at FROM deaf_spells ORDER BY from_at DESC LIMIT 200"

_SAVE = """
UPDATE heartbeats h
   SET look_at = u.look_at, pings = u.pings, armed = u.armed, version = u.version, watched_from = u.watched_from,
       heard_at = u.heard_at, trouble = u.trouble, message = u.message, code = u.code, latency_ms = u.latency_ms,
       event_at = u.event_at, looked_to = u.looked_to, expected_at = u.expected_at, deadline_at = u.deadline_at,
       runs = u.runs, successes = u.successes, counted_from = u.counted_from
  FROM json_to_recordset(%(rows)s::json) AS u(
       monitor_no int, look_at timestamptz, pings bigint, armed boolean, version int, watched_from timestamptz,
       heard_at timestamptz, trouble smallint, message text, code smallint, latency_ms real, event_at timestamptz,
       looked_to timestamptz, expected_at timestamptz, deadline_at timestamptz, runs jsonb,
       successes bigint[], counted_from timestamptz)
 WHERE h.monitor_no = u.monitor_no
"""

# What is not watched now waits for a note of the next change.
_REST = """
UPDATE heartbeats h SET look_at = 'infinity', pings = h.pings + u.came
  FROM unnest(%(monitors)s::int[], %(counts)s::int[]) AS u(monitor_no, came) WHERE h.monitor_no = u.monitor_no
"""

# In place of those that came a ring before.
_KEEP = """
INSERT INTO pings (monitor_no, place, n, at, kind, exit_code, duration_ms, rid, source, body)
SELECT u.monitor_no, u.n %% %(ring)s, u.n, u.at, u.kind, u.exit_code, u.duration_ms, u.rid, u.source, u.body
  FROM json_to_recordset(%(rows)s::json) AS u(
       monitor_no int, n bigint, at timestamptz, kind smallint, exit_code smallint, duration_ms bigint, rid uuid,
       source text, body text)
    ON CONFLICT (monitor_no, place) DO UPDATE
   SET n = EXCLUDED.n, at = EXCLUDED.at, kind = EXCLUDED.kind, exit_code = EXCLUDED.exit_code,
       duration_ms = EXCLUDED.duration_ms, rid = EXCLUDED.rid, source = EXCLUDED.source, body = EXCLUDED.body
"""
_CLEAR = "DELETE FROM ping_inbox WHERE id = ANY(%(ids)s::bigint[])"
# Nobody can ask for what a deleted monitor was told, and its secret has to go.
_FORGET_PINGS = "DELETE FROM pings WHERE monitor_no = ANY(%(monitors)s::int[])"
_FORGET = "DELETE FROM heartbeats WHERE monitor_no = ANY(%(monitors)s::int[])"
# Notes of monitors that are no heartbeats, or none any more: nobody will judge them.
_SWEEP = """
DELETE FROM ping_inbox i
 WHERE i.at < now() - interval '10 seconds'
   AND NOT EXISTS (SELECT 1 FROM heartbeats h WHERE h.monitor_no = i.monitor_no)
"""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A locked heartbeat. `gone`: its monitor is deleted."""

    monitor_no: int
    pings: int
    standing: Standing
    check_from_ms: int
    gone: bool


@dataclass(frozen=True, slots=True)
class Received:
    """A ping in the inbox, with what only its reader wants."""

    id: int
    monitor_no: int
    ping: Ping
    body: str
    source: str


@dataclass(frozen=True, slots=True)
class Inbox:
    """What came, in order of time; `cut`: monitors with more than that, and the time of their newest that is here."""

    received: list[Received]
    cut: dict[int, int]


@dataclass(frozen=True, slots=True)
class Hearing:
    """Up to when is judged, the last sign of an API, and the spells without one, in order."""

    now_ms: int
    heard_to_ms: int
    deaf: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Saved:
    """A locked heartbeat as it goes on."""

    monitor_no: int
    pings: int
    standing: Standing
    look_at_ms: int


@dataclass(frozen=True, slots=True)
class Kept:
    """A ping as it is kept: the monitor's `n`th."""

    received: Received
    n: int
    duration_ms: int | None


def claim(connection: Connection, *, limit: int) -> list[Claimed]:
    """Heartbeats with something to judge, locked until the transaction ends; none that somebody else holds."""
    return [_claimed(row) for row in connection.exec_driver_sql(_CLAIM, {"limit": limit})]


def inbox(connection: Connection, monitors: Sequence[int], *, limit: int) -> Inbox:
    """What came for these, of each at most `limit`."""
    read: dict[int, list[Any]] = {}
    cut: dict[int, int] = {}
    for row in connection.exec_driver_sql(_INBOX, {"monitors": integers(monitors), "limit": limit + 1}):
        of_one = read.setdefault(row[1], [])
        if len(of_one) < limit:
            of_one.append(row)
        else:
            cut[row[1]] = to_ms(max(each[3] for each in of_one))
    # In the order of their time: two API processes may number theirs the other way round.
    rows = sorted((row for of_one in read.values() for row in of_one), key=lambda row: (row[3], row[0]))
    return Inbox([_received(row) for row in rows], cut)


def settled(connection: Connection, monitors: Sequence[int]) -> set[int]:
    """Which of these are up already by their vote."""
    rows = connection.exec_driver_sql(
        _SETTLED, {"monitors": integers(monitors), "up": int(Health.UP), "is_up": int(Verdict.UP)}
    )
    return {row[0] for row in rows}


def now_ms(connection: Connection) -> int:
    """The database's time. Asked before the inbox is read: what is judged up to then has come."""
    return int(connection.exec_driver_sql(_NOW).scalar_one() * 1000)


def hearing(connection: Connection, now_ms: int) -> Hearing:
    """When there was an API to hear. Asked after the inbox was read: a ping's spell is written down before the ping."""
    heard_to_s = connection.exec_driver_sql(_HEARING).scalar_one()
    spells = [(to_ms(row[0]), to_ms(row[1])) for row in connection.exec_driver_sql(_DEAF)]
    return Hearing(now_ms, int(heard_to_s * 1000), tuple(reversed(spells)))


def save(connection: Connection, saved: Sequence[Saved]) -> None:
    """Write down how locked heartbeats go on."""
    if not saved:
        return
    rows = [_row(one) for one in saved]
    connection.exec_driver_sql(_SAVE, {"rows": json.dumps(rows)})


def rest(connection: Connection, counts: Mapping[int, int]) -> None:
    """Look no more at locked heartbeats that are not watched: {monitor_no: pings that came all the same}."""
    if not counts:
        return
    connection.exec_driver_sql(_REST, {"monitors": integers(counts.keys()), "counts": integers(counts.values())})


def keep(connection: Connection, kept: Sequence[Kept]) -> None:
    """Keep pings of locked heartbeats; of each the newest."""
    if not kept:
        return
    places = {(one.received.monitor_no, one.n % RING): one for one in kept}
    rows = [
        {
            "monitor_no": one.received.monitor_no,
            "n": one.n,
            "at": from_ms(one.received.ping.at_ms).isoformat(),
            "kind": int(one.received.ping.kind),
            "exit_code": one.received.ping.exit_code,
            "duration_ms": one.duration_ms,
            "rid": one.received.ping.rid,
            "source": one.received.source,
            "body": one.received.body,
        }
        for one in places.values()
    ]
    connection.exec_driver_sql(_KEEP, {"rows": json.dumps(rows), "ring": RING})


def clear(connection: Connection, ids: Sequence[int]) -> None:
    """Take out of the inbox what was judged."""
    if not ids:
        return
    connection.exec_driver_sql(_CLEAR, {"ids": integers(ids)})


def forget(connection: Connection, monitors: Sequence[int]) -> None:
    """Forget locked heartbeats whose monitors are deleted, with their pings."""
    if not monitors:
        return
    for statement in (_FORGET_PINGS, _FORGET):
        connection.exec_driver_sql(statement, {"monitors": integers(monitors)})


def sweep(connection: Connection) -> int:
    """Take out what nobody will judge; how many."""
    return int(connection.exec_driver_sql(_SWEEP).rowcount)


def _claimed(row: Any) -> Claimed:
    return Claimed(
        monitor_no=row[0],
        pings=row[1],
        check_from_ms=to_ms(row[17]),
        gone=row[18],
        standing=Standing(
            armed=row[2],
            version=row[3],
            watched_from_ms=to_ms(row[4]),
            heard_ms=None if row[5] is None else to_ms(row[5]),
            trouble=Reason(row[6]),
            message=row[7],
            code=row[8],
            latency_ms=row[9],
            event_ms=to_ms(row[10]),
            looked_to_ms=to_ms(row[11]),
            expected_ms=None if row[12] is None else to_ms(row[12]),
            deadline_ms=None if row[13] is None else to_ms(row[13]),
            runs=tuple(sorted(row[14].items(), key=lambda run: run[1])),
            tally=Tally(tuple(row[15]), None if row[16] is None else to_ms(row[16])),
        ),
    )


def _received(row: Any) -> Received:
    ping = Ping(PingKind(row[2]), to_ms(row[3]), row[4], row[5], row[6], _first_line(row[7]))
    return Received(row[0], row[1], ping, row[7], row[8])


def _first_line(body: str) -> str:
    return next((line.strip()[:_LINE_CHARS] for line in body[:2_000].splitlines() if line.strip()), "")


def _row(saved: Saved) -> dict[str, Any]:
    standing = saved.standing
    return {
        "monitor_no": saved.monitor_no,
        "look_at": _moment(saved.look_at_ms),
        "pings": saved.pings,
        "armed": standing.armed,
        "version": standing.version,
        "watched_from": _moment(standing.watched_from_ms),
        "heard_at": _moment(standing.heard_ms),
        "trouble": int(standing.trouble),
        "message": standing.message,
        "code": standing.code,
        "latency_ms": standing.latency_ms,
        "event_at": _moment(standing.event_ms),
        "looked_to": _moment(standing.looked_to_ms),
        "expected_at": _moment(standing.expected_ms),
        "deadline_at": _moment(standing.deadline_ms),
        "runs": dict(standing.runs),
        "successes": standing.tally.successes,
        "counted_from": _moment(standing.tally.since_ms),
    }


def _moment(at_ms: int | None) -> str | None:
    return None if at_ms is None else from_ms(at_ms).isoformat()
