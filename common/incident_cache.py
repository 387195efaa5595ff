"""Incidents as they were last read, in Redis for five minutes; only ever a shortcut.

An entry counts for the version that it was read at and no other, and PostgreSQL says which one that is now (see
docs/decisions/0015-a-cache-that-asks-for-the-version.md). So whoever changes an incident has made its entry worthless
by the commit, and nothing here has to arrive anywhere. `forget` only tidies up.

Without Redis everything is a miss: a call takes 0.1 s at most, and after one in vain nobody tries for a while.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from common.clock import monotonic_s
from common.redis_breaker import RedisBreaker

T = TypeVar("T")

TTL_S = 300

#: Connecting and asking: together a call's longest time.
_CONNECT_S = 0.05
_ANSWER_S = 0.05

#: How long nobody tries after a call that found Redis away.
PAUSE_S = 5.0

#: The first part is the entries' form: a version of ours that keeps more in them has other keys.
_KEY = "tocsin:incident:1:{org_id}:{incident_id}"


class IncidentCache:
    """Incidents by organization and id."""

    def __init__(self, redis_url: str, *, monotonic: Callable[[], float] = monotonic_s) -> None:
        self._client = redis.Redis.from_url(
            redis_url, retry=Retry(NoBackoff(), 0), socket_timeout=_ANSWER_S, socket_connect_timeout=_CONNECT_S
        )
        self._breaker = RedisBreaker("incident_cache", pause_s=PAUSE_S, monotonic=monotonic)

    def get(self, org_id: str, incident_id: str) -> dict[str, Any] | None:
        """The incident as it was at its "version", None when it is not there."""
        return _content(self._ask(lambda: self._client.get(_key(org_id, incident_id))))

    def put(self, org_id: str, incident_id: str, content: dict[str, Any]) -> None:
        """Keep an incident as it was read in a transaction that could see nothing uncommitted but its own."""
        text = json.dumps(content, separators=(",", ":"))
        self._ask(lambda: self._client.set(_key(org_id, incident_id), text, ex=TTL_S))

    def forget(self, org_id: str, incident_ids: Iterable[str]) -> None:
        """Drop incidents that have changed."""
        keys = [_key(org_id, incident_id) for incident_id in incident_ids]
        if keys:
            self._ask(lambda: self._client.delete(*keys))

    def close(self) -> None:
        """Close every connection."""
        self._client.close()

    def _ask(self, call: Callable[[], T]) -> T | None:
        try:
            return self._breaker.attempt(call)
        except redis.RedisError:
            return None


def _key(org_id: str, incident_id: str) -> str:
    return _KEY.format(org_id=org_id, incident_id=incident_id)


def _content(text: Any) -> dict[str, Any] | None:
    """What an entry holds; anybody may have written there."""
    try:
        content = json.loads(text) if text is not None else None
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) and isinstance(content.get("version"), int) else None
