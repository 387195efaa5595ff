"""Tell something else that Tocsin lives, as long as the whole path proves it: when we fall silent, it raises the alarm.

One notifier at a time has the turn, by a lease that lasts until the next ping is due. Whoever finds the path stuck, or
cannot ping, gives the turn back and all look again in a moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum

from common import log, telemetry
from common.domain.egress import EgressMode, EgressRules
from common.http.engine import HttpEngine
from common.http.exchange import HttpExchange, HttpRequest
from common.http.resolver import Resolver
from common.http.wiring import USER_AGENT
from common.store import leases, vitals
from common.store.engine import Database

#: How often we look whether the turn is free, and how long before the next ping is due it is given away.
LOOK_EVERY_S = 2.0
_DEADLINE_S = 10.0
_MAX_ANSWER_BYTES = 64 * 1024

_LEASE = "deadman"


class Ping(StrEnum):
    """What came of a turn; `WITHHELD` when the path did not prove alive."""

    SENT = "sent"
    REFUSED = "refused"
    FAILED = "failed"
    WITHHELD = "withheld"


class DeadMan:
    """`ping` says that we live; `interval_s` is how often it should be heard."""

    def __init__(
        self,
        database: Database,
        ping: Callable[[], Ping],
        now: Callable[[], datetime],
        *,
        holder: str,
        interval_s: float,
    ) -> None:
        self._database = database
        self._ping = ping
        self._now = now
        self._holder = holder
        self._turn_s = max(interval_s - LOOK_EVERY_S, interval_s / 2)
        self._said: object = None

    def step(self) -> bool:
        """Take the turn if it is free, look at the path, ping; False, for the next look is a moment away."""
        with self._database.begin() as connection:
            grant = leases.acquire(connection, _LEASE, self._holder, ttl_s=self._turn_s)
            if grant is None:
                return False
            stuck = vitals.stuck(connection, self._now())
        outcome = Ping.WITHHELD if stuck else self._ping()
        telemetry.DEADMAN_PINGS.labels(outcome.value).inc()
        self._say(outcome, sorted(stuck))
        if outcome is not Ping.SENT:
            with self._database.begin() as connection:
                leases.release(connection, _LEASE, self._holder, epoch=grant.epoch, dispatched_to_ms=0)
        return False

    def _say(self, outcome: Ping, stuck: list[vitals.Stuck]) -> None:
        """Once per change."""
        if self._said == (outcome, stuck):
            return
        if outcome is not Ping.SENT:
            log.get_logger().warning("deadman_silent", outcome=outcome.value, stuck=[part.value for part in stuck])
        elif self._said is not None:
            log.get_logger().info("deadman_heard_again")
        self._said = (outcome, stuck)


def pinger(url: str, dns_servers: tuple[str, ...], loop: asyncio.AbstractEventLoop) -> Callable[[], Ping]:
    """A ping of this URL, sent on this loop. The operator chose it, so it may lie in their own network."""
    engine = HttpEngine(Resolver(dns_servers), EgressRules(EgressMode.INTERNAL), user_agent=USER_AGENT, max_handles=2)

    def ping() -> Ping:
        request = HttpRequest(
            "GET", url, timeout_s=_DEADLINE_S, follow_redirects=False, max_body_bytes=_MAX_ANSWER_BYTES
        )
        return _judge(asyncio.run_coroutine_threadsafe(engine.send(request), loop).result(_DEADLINE_S + 5))

    return ping


def _judge(exchange: HttpExchange) -> Ping:
    # As with deliveries, a status counts even when the rest of the answer broke off.
    if exchange.status >= 200:
        return Ping.SENT if exchange.status < 300 else Ping.REFUSED
    return Ping.FAILED
