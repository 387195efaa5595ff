"""Claim what leaves together: groups, what a cap counts or held back, and the trials of failing channels.

Each channel's row is locked while its messages are put together, so that no two notifiers make two of one group or
count the same cap. Which notifications are one message is decided by common.domain.bundling; here they are read, leased
under one token a message, and the cap's count is written. From a failing channel one message is tried when its time has
come; trials rotate over incidents, because a failed one becomes due later than the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from uuid_utils import uuid7

from common.domain.bundling import Bundle, Cap, Waiting, fresh, retried
from common.domain.delivery import TRIAL
from common.store.engine import Connection
from common.store.notifications import CLAIMABLE, CLAIMED, LEASED, PENDING_IN_ORDER, Claimed, Limits, lease

#: Notifications of one channel that are looked at to find what leaves next.
_WINDOW = 1000

_FREE = "n.status = 'pending' AND (n.leased_until IS NULL OR n.leased_until <= %(now)s)"
_DUE = f"n.next_attempt_at <= %(now)s AND {_FREE}"
# What somebody has asked to be sent again has no first attempt: it is as if it had never been tried.
_TRIED_IN = "COALESCE(n.message_id, CASE WHEN n.first_attempt_at IS NOT NULL THEN n.id END)"

_CAP_OPEN = """
(c.cap_started_at IS NULL OR c.cap_used < c.cap_count
 OR c.cap_started_at + c.cap_window_s * interval '1 second' <= %(now)s)
"""
_CAP = "c.cap_count, c.cap_window_s, c.cap_started_at, c.cap_used"

# Something is due that the plain claims leave to us.
_HAS_BUNDLES = f"""
CASE WHEN c.cap_count IS NULL THEN
  EXISTS (SELECT 1 FROM notifications n WHERE n.channel_id = c.id AND n.group_key IS NOT NULL AND {_DUE})
  OR EXISTS (SELECT 1 FROM notifications n WHERE n.channel_id = c.id AND n.message_id IS NOT NULL AND {_DUE})
ELSE
  EXISTS (SELECT 1 FROM notifications n WHERE n.channel_id = c.id AND {_DUE}
             AND (n.first_attempt_at IS NOT NULL OR {_CAP_OPEN}))
END
"""

# Healthy channels with bundles, locked; one that another notifier (or the API) holds is left to later.
_LOOK = f"""
SELECT c.id::text, {_CAP} FROM channels c
 WHERE c.id = ANY(%(channels)s::uuid[]) AND c.id <> ALL(%(full)s::uuid[])
   AND c.enabled AND c.deleted_at IS NULL AND c.failures = 0 AND {_HAS_BUNDLES}
 ORDER BY random() LIMIT %(limit)s
   FOR NO KEY UPDATE SKIP LOCKED
"""
_CHANNELS_OF = "SELECT DISTINCT channel_id::text FROM notifications WHERE id = ANY(%(ids)s::uuid[])"

# Failing channels whose time has come, locked, each with the notification that was tried longest ago. At a capped one
# as many messages as the cap lets go are tried in turn, no more: all that was tried leaves at once when it is well.
_LOOK_FAILING = f"""
WITH ready AS (
  SELECT c.* FROM channels c
   WHERE c.failures > 0 AND c.enabled AND c.deleted_at IS NULL AND (c.retry_at IS NULL OR c.retry_at <= %(now)s)
   LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED
)
SELECT c.id::text, {_CAP}, trial.* FROM ready c CROSS JOIN LATERAL (
  SELECT n.id::text, n.no, n.incident_id::text, n.group_key, {_TRIED_IN}::text, n.next_attempt_at, 0
    FROM notifications n
   WHERE n.channel_id = c.id AND {CLAIMABLE}
     AND (c.cap_count IS NULL OR n.first_attempt_at IS NOT NULL OR ({_CAP_OPEN} AND c.cap_count > (
           SELECT count(DISTINCT COALESCE(t.message_id, t.id)) FROM notifications t
            WHERE t.channel_id = c.id AND t.status = 'pending' AND t.first_attempt_at IS NOT NULL)))
   ORDER BY n.next_attempt_at, n.no LIMIT 1
) trial
"""

# How many are older, by the index notifications_in_order alone.
_WAITING_ROW = f"""
n.id::text, n.no, n.incident_id::text, n.group_key, {_TRIED_IN}::text, n.next_attempt_at,
(SELECT count(*) FROM notifications o
  WHERE (o.incident_id, o.channel_id, o.no) >= (n.incident_id, n.channel_id, 0)
    AND (o.incident_id, o.channel_id, o.no) < (n.incident_id, n.channel_id, n.no) AND {PENDING_IN_ORDER})
"""

# What is due at these channels, in order; of those without a cap only what is grouped or was tried together.
_READ = f"""
SELECT w.channel_id::text, {_WAITING_ROW}
  FROM unnest(%(channels)s::uuid[], %(capped)s::bool[]) AS w(channel_id, capped) CROSS JOIN LATERAL (
    SELECT * FROM notifications n
     WHERE n.channel_id = w.channel_id AND (w.capped OR n.group_key IS NOT NULL OR n.message_id IS NOT NULL) AND {_DUE}
     ORDER BY n.no LIMIT %(window)s
  ) n
"""

# All notifications of messages that were tried, however many look past the window.
_READ_MESSAGES = f"""
SELECT n.channel_id::text, {_WAITING_ROW}
  FROM unnest(%(channels)s::uuid[], %(messages)s::uuid[]) AS u(channel_id, message_id)
  JOIN notifications n ON n.channel_id = u.channel_id AND n.message_id = u.message_id AND n.status = 'pending'
"""

# Lease whole messages: one of which any notification is somebody else's is left alone.
_TAKE = f"""
WITH wanted AS (
  SELECT * FROM unnest(%(ids)s::uuid[], %(tokens)s::uuid[], %(messages)s::uuid[]) AS w(id, token, message_id)
), held AS (
  SELECT n.id FROM notifications n WHERE n.id = ANY(%(ids)s::uuid[]) AND {_FREE} FOR UPDATE SKIP LOCKED
), whole AS (
  SELECT w.token FROM wanted w LEFT JOIN held h ON h.id = w.id GROUP BY w.token HAVING count(*) = count(h.id)
)
UPDATE notifications n SET lease_token = w.token, message_id = w.message_id, {LEASED}
  FROM wanted w JOIN whole ON whole.token = w.token, channels c, incident_events e
 WHERE n.id = w.id AND c.id = n.channel_id AND e.id = n.event_id
RETURNING {CLAIMED}
"""

# What leaves counts; a channel on trial is left alone by others meanwhile.
_COUNT = """
UPDATE channels c SET cap_started_at = u.started_at, cap_used = u.used, retry_at = COALESCE(u.retry_at, c.retry_at)
  FROM unnest(%(channels)s::uuid[], %(starts)s::timestamptz[], %(used)s::int[], %(retries)s::timestamptz[])
       AS u(id, started_at, used, retry_at)
 WHERE c.id = u.id
"""


@dataclass(frozen=True, slots=True)
class _Locked:
    """A channel whose row is ours until the transaction ends. `trial` is set while it fails."""

    id: str
    cap: Cap | None
    trial: Waiting | None = None


@dataclass(frozen=True, slots=True)
class _Chosen:
    """A message to lease. `is_new` when it was never tried: then the cap counts it."""

    channel: _Locked
    bundle: Bundle
    token: str
    message_id: str | None
    is_new: bool


def channels_of(connection: Connection, ids: Sequence[str]) -> list[str]:
    """The channels of these notifications."""
    return [row[0] for row in connection.exec_driver_sql(_CHANNELS_OF, {"ids": list(ids)})]


def claim_bundles(connection: Connection, looked_at: Sequence[str], limits: Limits, now: datetime) -> list[Claimed]:
    """Claim messages at those of these channels that are healthy."""
    full = [channel for channel, busy in limits.busy.items() if busy >= limits.per_channel]
    rows = connection.exec_driver_sql(
        _LOOK, {"now": now, "channels": list(looked_at), "full": full, "limit": limits.limit}
    )
    channels = [_Locked(row[0], _cap(row[1:5])) for row in rows]
    waiting = _read(connection, channels, now)
    chosen: list[_Chosen] = []
    for channel in channels:
        room = limits.per_channel - limits.busy.get(channel.id, 0)
        here = waiting.get(channel.id, [])
        allowed = None if channel.cap is None else channel.cap.allows([w for w in here if w.tried_in is None], now)
        found = [_again(channel, bundle) for bundle in retried(here)]
        found += [_anew(channel, bundle) for bundle in fresh(here, allowed)]
        chosen += found[:room]
    return _take(connection, chosen[: limits.limit], now)


def claim_trials(connection: Connection, limits: Limits, now: datetime) -> list[Claimed]:
    """Claim one message of each failing channel that may be tried again."""
    rows = connection.exec_driver_sql(_LOOK_FAILING, {"now": now, "limit": limits.limit})
    channels = [_Locked(row[0], _cap(row[1:5]), Waiting(*row[5:])) for row in rows]
    crowded = [channel for channel in channels if channel.trial is not None and not _alone(channel, channel.trial)]
    waiting = _read(connection, crowded, now)
    chosen = [_trial(channel, waiting.get(channel.id, [])) for channel in channels]
    return _take(connection, [message for message in chosen if message is not None], now)


def _alone(channel: _Locked, trial: Waiting) -> bool:
    """Whether a trial leaves on its own, whatever else waits."""
    if trial.tried_in is not None:
        return trial.tried_in == trial.id
    return trial.group_key is None and channel.cap is None


def _trial(channel: _Locked, here: Sequence[Waiting]) -> _Chosen | None:
    trial = channel.trial
    if trial is None:
        return None
    if _alone(channel, trial):
        return _again(channel, (trial,)) if trial.tried_in is not None else _anew(channel, (trial,))
    if trial.tried_in is not None:
        same = [waiting for waiting in here if waiting.tried_in == trial.tried_in]
        return next((_again(channel, bundle) for bundle in retried(same)), None)
    # At a capped channel what waits leaves together anyway when it is well again.
    bundles = fresh(here, None if channel.cap is None else 1)
    return next((_anew(channel, bundle) for bundle in bundles if channel.cap or trial in bundle), None)


def _again(channel: _Locked, bundle: Bundle) -> _Chosen:
    first = bundle[0]
    return _Chosen(channel, bundle, str(uuid4()), None if first.tried_in == first.id else first.tried_in, is_new=False)


def _anew(channel: _Locked, bundle: Bundle) -> _Chosen:
    # One on its own has the id of its notification.
    return _Chosen(channel, bundle, str(uuid4()), str(uuid7()) if len(bundle) > 1 else None, is_new=True)


def _read(connection: Connection, channels: Sequence[_Locked], now: datetime) -> Mapping[str, list[Waiting]]:
    """What is due at these channels; messages that were tried are complete, even beyond the window."""
    if not channels:
        return {}
    rows = connection.exec_driver_sql(
        _READ,
        {
            "channels": [channel.id for channel in channels],
            "capped": [channel.cap is not None for channel in channels],
            "window": _WINDOW,
            "now": now,
        },
    )
    pairs = [(row[0], Waiting(*row[1:])) for row in rows]
    pairs += [(channel.id, channel.trial) for channel in channels if channel.trial is not None]
    messages = {(id_, w.tried_in) for id_, w in pairs if w.tried_in is not None and w.tried_in != w.id}
    complete = _read_messages(connection, sorted(messages))
    found: dict[str, dict[str, Waiting]] = {}
    for id_, waiting in [*pairs, *complete]:
        found.setdefault(id_, {})[waiting.id] = waiting
    return {id_: list(rows.values()) for id_, rows in found.items()}


def _read_messages(connection: Connection, messages: Sequence[tuple[str, str]]) -> list[tuple[str, Waiting]]:
    if not messages:
        return []
    rows = connection.exec_driver_sql(
        _READ_MESSAGES, {"channels": [m[0] for m in messages], "messages": [m[1] for m in messages]}
    )
    return [(row[0], Waiting(*row[1:])) for row in rows]


def _take(connection: Connection, chosen: Sequence[_Chosen], now: datetime) -> list[Claimed]:
    if not chosen:
        return []
    rows = connection.exec_driver_sql(
        _TAKE,
        {
            **lease(now),
            "ids": [waiting.id for message in chosen for waiting in message.bundle],
            "tokens": [message.token for message in chosen for _ in message.bundle],
            "messages": [message.message_id for message in chosen for _ in message.bundle],
        },
    )
    claims = {claim.id: claim for claim in (Claimed(*row) for row in rows)}
    ours = [message for message in chosen if message.bundle[0].id in claims]
    _count(connection, ours, now)
    return [_together([claims[waiting.id] for waiting in message.bundle]) for message in ours]


def _together(claims: Sequence[Claimed]) -> Claimed:
    return replace(claims[0], others=tuple(claims[1:])) if len(claims) > 1 else claims[0]


def _count(connection: Connection, taken: Iterable[_Chosen], now: datetime) -> None:
    channels: dict[str, _Locked] = {}
    for message in taken:
        channel = channels.setdefault(message.channel.id, message.channel)
        if channel.cap is not None and message.is_new:
            channels[channel.id] = replace(channel, cap=channel.cap.after(1, now))
    changed = [channel for channel in channels.values() if channel.cap is not None or channel.trial is not None]
    if not changed:
        return
    connection.exec_driver_sql(
        _COUNT,
        {
            "channels": [channel.id for channel in changed],
            "starts": [channel.cap.started_at if channel.cap else None for channel in changed],
            "used": [channel.cap.used if channel.cap else 0 for channel in changed],
            "retries": [None if channel.trial is None else now + TRIAL for channel in changed],
        },
    )


def _cap(row: Sequence[Any]) -> Cap | None:
    count, window_s, started_at, used = row
    return None if count is None else Cap(count, timedelta(seconds=window_s), started_at, used)
