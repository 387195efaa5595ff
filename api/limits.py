"""Rate limits: how often a person, a key or an address may ask, counted in Redis for all API processes together.

While Redis is away each process counts for itself, so the limits are looser and never open. A look at Redis takes
one round trip and at most 0.1 s; flask-limiter asks a dead one again after 1, 2, 4 … 32 s.
"""

from __future__ import annotations

import ipaddress
import threading
from dataclasses import dataclass
from hashlib import sha256
from math import ceil

import redis
from flask import Flask, Response, current_app, g, request
from flask_limiter import Limiter, RateLimitExceeded
from limits.storage import RedisStorage
from redis.backoff import NoBackoff
from redis.retry import Retry

from api.context import caller
from common.clock import utc_now
from common.domain.errors import Throttled
from common.settings import Settings

WINDOW_S = 60
_NAME = "tocsin-limits"
_SCHEME = "tocsin+redis"
_TIMEOUT_S = 0.1
#: A user of IPv6 has all of a /64 to themselves.
_IPV6_PREFIX = 64

#: The policies and their settings; what counts for which is the route's (api/routing.py).
WRITES, AUTH, ALERTS, READS, PINGS = "default", "auth", "alerts", "reads", "pings"
_SETTINGS = {
    WRITES: "rate_limit_writes",
    AUTH: "rate_limit_auth",
    ALERTS: "rate_limit_alerts",
    READS: "rate_limit_reads",
    PINGS: "rate_limit_pings",
}


@dataclass(frozen=True, slots=True)
class _Count:
    """What is being counted: whose requests, by which policy."""

    policy: str
    amount: int
    key: str


@dataclass(frozen=True, slots=True)
class _Standing:
    """Where a caller stands after a count."""

    count: _Count
    remaining: int
    reset_s: int


class _Limits:
    """flask-limiter with one limit, whose amount, key and name are those of the count that is being made."""

    def __init__(self, app: Flask, settings: Settings) -> None:
        self._amounts = {policy: getattr(settings, name) for policy, name in _SETTINGS.items()}
        self._limiter = Limiter(
            lambda: _counting().key,
            app=app,
            strategy="fixed-window",
            storage_uri=f"{_SCHEME}://",
            storage_options={"connection_pool": _pool(settings)},  # type: ignore[dict-item]
            in_memory_fallback_enabled=True,
            headers_enabled=False,
            key_prefix="tocsin",
            # Only what is being counted is limited: its own look at every request must find nothing.
            request_identifier=lambda: count.policy if (count := g.get("counting")) else "",
        )
        limit = self._limiter.shared_limit(
            lambda: f"{_counting().amount} per {WINDOW_S} second", lambda _endpoint: _counting().policy
        )
        self._hit = limit(_pass)

    def count(self, policy: str, key: str) -> None:
        """Count one request. Raises Throttled."""
        amount = self._amounts[policy]
        if not amount:
            return
        g.counting = _Count(policy, amount, key)
        try:
            self._hit()
        except RateLimitExceeded:
            standing = self._note()
            raise Throttled(
                f"More than {amount} requests in {WINDOW_S} s; the next one is taken in {standing.reset_s} s.",
                retry_after_s=standing.reset_s,
            ) from None
        else:
            self._note()
        finally:
            g.counting = None

    def _note(self) -> _Standing:
        """Where the caller stands now; the answer tells of the tightest limit."""
        current = self._limiter.current_limit
        assert current is not None
        reset_s = max(1, ceil(current.window.reset_time - utc_now().timestamp()))
        standing = _Standing(_counting(), current.remaining, min(reset_s, WINDOW_S))
        tightest: _Standing | None = g.get("standing")
        if tightest is None or standing.remaining <= tightest.remaining:
            g.standing = standing
        return standing


class OneTripStorage(RedisStorage):
    """Counts and tells the window's end in one round trip, where limits' own storage needs three."""

    STORAGE_SCHEME = [_SCHEME]  # noqa: RUF012 - as limits declares it

    _COUNT = b"""
    local count = redis.call('INCRBY', KEYS[1], ARGV[2])
    local left = redis.call('PTTL', KEYS[1])
    if left < 0 then
      left = ARGV[1] * 1000
      redis.call('PEXPIRE', KEYS[1], left)
    end
    return {count, left}
    """

    def initialize_storage(self, _uri: str) -> None:
        """Prepare the script; nothing connects."""
        super().initialize_storage(_uri)
        self._count = self.get_connection().register_script(self._COUNT)
        self._last = threading.local()

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count; what this thread asks next is where that left it."""
        count, left_ms = self._count([self.prefixed_key(key)], [expiry, amount])
        self._last.seen = (key, int(count), utc_now().timestamp() + int(left_ms) / 1000)
        return int(count)

    def get(self, key: str) -> int:
        """How many were counted."""
        seen = getattr(self._last, "seen", None)
        return int(seen[1]) if seen and seen[0] == key else super().get(key)

    def get_expiry(self, key: str) -> float:
        """When the window ends."""
        seen = getattr(self._last, "seen", None)
        return float(seen[2]) if seen and seen[0] == key else super().get_expiry(key)


def limit_requests(app: Flask, settings: Settings) -> None:
    """Give an app its limits, and its answers the headers that tell of them."""
    app.extensions[_NAME] = _Limits(app, settings)
    app.after_request(_tell)


def count_address(policy: str) -> None:
    """Count a request by where it comes from. Raises Throttled."""
    _limits().count(policy, _address())


def count_caller(policy: str) -> None:
    """Count a request by who makes it. Raises Throttled. The operator's alerts are those of all organizations."""
    me = caller()
    if policy != ALERTS or me.org_id:
        _limits().count(policy, me.actor)


def count_account(email: str) -> None:
    """Count an attempt on somebody's account, wherever it comes from. Raises Throttled."""
    _limits().count(AUTH, f"account:{sha256(email.strip().lower().encode()).hexdigest()[:32]}")


def _address() -> str:
    text = request.remote_addr or "unknown"
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return f"address:{text[:100]}"
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        if mapped is None:
            return f"address:{ipaddress.ip_network((int(address), _IPV6_PREFIX), strict=False)}"
        address = mapped
    return f"address:{address}"


def _tell(response: Response) -> Response:
    standing: _Standing | None = g.get("standing")
    if standing is not None:
        count = standing.count
        response.headers["RateLimit-Policy"] = f'"{count.policy}";q={count.amount};w={WINDOW_S}'
        response.headers["RateLimit"] = f'"{count.policy}";r={standing.remaining};t={standing.reset_s}'
    return response


def _limits() -> _Limits:
    limits: _Limits = current_app.extensions[_NAME]
    return limits


def _counting() -> _Count:
    counting: _Count = g.counting
    return counting


def _pass() -> None:
    """What is limited: nothing but the counting."""


def _pool(settings: Settings) -> redis.ConnectionPool:
    assert settings.redis_url is not None  # required before the app is made
    return redis.ConnectionPool.from_url(
        settings.redis_url.get_secret_value(),
        socket_timeout=_TIMEOUT_S,
        socket_connect_timeout=_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )
