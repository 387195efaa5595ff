"""Claim messages, send them, settle them: nothing is sent without a lease, and no transaction is open meanwhile.

All sends run on one event loop, each as a task of its own. The database is reached through two threads, one that
claims and one that settles (notifier/settle.py). A channel has a limited number of sends under way, so that a receiver
that hangs holds up itself only.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime

from common import log, telemetry
from common.channels.base import NO_SECRETS, Channel, Context, Destination, Unsendable
from common.clock import monotonic_s
from common.domain.delivery import SEND_DEADLINE_S, Attempt, Decision, Outcome, Poison, Standing, after_attempt
from common.domain.matching import LedgerStatus
from common.store import bundles, notifications
from common.store.engine import Connection, Database
from common.store.notifications import Claimed, Limits
from common.store.route_books import RouteBooks
from common.store.settlements import Settlement
from common.vault import SecretUnreadable, Vault
from notifier.messages import build, sort_out
from notifier.settle import Settler
from notifier.silenced import hold_back
from notifier.spans import DeliverySpans

#: Sends under way: in this process, and at one channel.
MAX_SENDS = 256
MAX_SENDS_PER_CHANNEL = 10

#: A channel keeps the deadline itself; this is for one that does not.
_GRACE_S = 1.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What delivering needs. `wake` says that the ledger is worth another look; `books` may be the relay's."""

    database: Database
    settler: Settler
    vault: Vault
    channels: Mapping[str, Channel]
    context: Context
    wake: Callable[[], None]
    books: RouteBooks = field(default_factory=RouteBooks)
    spans: DeliverySpans | None = None


class Deliverer:
    """Delivers on the event loop that calls it. `max_sends` and `per_channel` limit what is under way."""

    def __init__(self, parts: Parts, *, max_sends: int = MAX_SENDS, per_channel: int = MAX_SENDS_PER_CHANNEL) -> None:
        self._parts = parts
        self._now = parts.context.now
        self._max_sends = max_sends
        self._per_channel = per_channel
        # One thread: two claims at the same time would both see the same room at a channel.
        self._claiming = ThreadPoolExecutor(1, thread_name_prefix="claim")
        self._busy: Counter[str] = Counter()
        self._busy_lock = threading.Lock()
        self._tasks: set[asyncio.Task[bool]] = set()
        self._closed = False
        # The last channel that a look has covered; the next one goes on behind it.
        self._looked_to = notifications.FIRST

    async def deliver(self, ids: Sequence[str] | None = None) -> int:
        """Claim what is due (of these ids, or of all) as far as there is room, and start sending; how many.

        Returns when they are claimed, not when they are sent: whoever brought a hint need not wait.
        """
        loop = asyncio.get_running_loop()
        claims = await loop.run_in_executor(self._claiming, self.claim, ids)
        for claim in claims:
            task = loop.create_task(self._carry(claim))
            self._tasks.add(task)
            task.add_done_callback(functools.partial(self._finished, claim.channel_id))
        return len(claims)

    async def drain(self, timeout_s: float) -> int:
        """Claim nothing more and wait for what is under way; how many sends are not over in time."""
        self._closed = True
        end = monotonic_s() + timeout_s
        # A claim may be at work right now: its sends belong to what is under way.
        turn = asyncio.get_running_loop().run_in_executor(self._claiming, lambda: None)
        await asyncio.wait((turn,), timeout=timeout_s)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=max(0.0, end - monotonic_s()))
        return len(self._tasks)

    def claim(self, ids: Sequence[str] | None) -> list[Claimed]:
        """Lease notifications; the channels they go to are busier from here on."""
        with self._busy_lock:
            limits = Limits(self._per_channel, self._max_sends - self._busy.total(), dict(self._busy))
        if self._closed or limits.limit <= 0 or self._parts.settler.in_trouble:
            return []
        now = self._now()
        with self._parts.database.begin() as connection:
            claimed = self._claim(connection, ids, limits, now)
            claims = hold_back(connection, claimed, self._parts.books, now)
        if len(claims) < len(claimed):
            self._parts.wake()  # there is room for others
        with self._busy_lock:
            self._busy.update(claim.channel_id for claim in claims)
        return claims

    def _claim(self, connection: Connection, ids: Sequence[str] | None, limits: Limits, now: datetime) -> list[Claimed]:
        if ids is not None:
            claims = bundles.claim_bundles(connection, bundles.channels_of(connection, ids), limits, now)
            return claims + notifications.claim_named(connection, ids, limits.after(claims), now)
        channels = notifications.waiting_channels(connection, after=self._looked_to)
        self._looked_to = channels[-1] if channels else notifications.FIRST
        claims = bundles.claim_trials(connection, limits, now)
        claims += bundles.claim_bundles(connection, channels, limits.after(claims), now)
        return claims + notifications.claim_due(connection, channels, limits.after(claims), now)

    async def settle(self, settlement: Settlement) -> bool:
        """Settle an attempt and report it; whether more can be claimed."""
        settled = await self._parts.settler.settle(settlement)
        ours = settlement.claim.id in settled.ours
        _report(settlement, ours=ours)
        if self._parts.spans is not None:
            self._parts.spans.settled(settlement, ours=ours)
        return settled.more

    async def send(self, claim: Claimed) -> Attempt:
        """Make one attempt. Raises Unsendable when there is nothing that could be sent."""
        channel = self._parts.channels.get(claim.channel_type)
        if channel is None:
            raise Unsendable(Poison.CHANNEL_TYPE_UNKNOWN, f"this version knows no channel of type {claim.channel_type}")
        destination = Destination(claim.channel_id, claim.channel_config, self._open(claim))
        return await channel.send(build(claim.together), destination, self._parts.context)

    async def _carry(self, claim: Claimed) -> bool:
        sound, spoilt = sort_out(claim)
        for one in spoilt:
            # What can never be told must not hold back what leaves with it.
            attempt = Attempt(Outcome.REJECTED, error="no usable snapshot", poison=Poison.MESSAGE_INVALID)
            await self._conclude(one, attempt, 0.0)
        if sound is None:
            return True
        started = monotonic_s()
        attempt = await self._attempt(sound)
        duration_s = monotonic_s() - started
        telemetry.DELIVERY_DURATION.labels(claim.channel_type).observe(duration_s)
        return await self._conclude(sound, attempt, duration_s)

    async def _conclude(self, claim: Claimed, attempt: Attempt, duration_s: float) -> bool:
        now = self._now()
        decision = after_attempt(attempt, Standing(claim.first_attempt_at, claim.failures, claim.failing_since), now)
        return await self.settle(Settlement(claim, attempt, decision, duration_s * 1000, now))

    async def _attempt(self, claim: Claimed) -> Attempt:
        """One attempt, whatever a channel does: it may hang, and it may be wrong."""
        sending = asyncio.ensure_future(self.send(claim))
        done, _ = await asyncio.wait((sending,), timeout=SEND_DEADLINE_S + _GRACE_S)
        if not done:
            sending.cancel()
            return Attempt(Outcome.UNKNOWN, error=f"timeout: no end within {SEND_DEADLINE_S:g} s")
        error = sending.exception()
        if error is None:
            return sending.result()
        if isinstance(error, Unsendable):
            return Attempt(Outcome.REJECTED, error=error.message, poison=error.poison)
        # A bug of ours. It may have struck after sending; in any case it is tried again, as if the channel had failed.
        telemetry.LOOP_ERRORS.labels("deliver").inc()
        log.get_logger().error("delivery_broke", notification_id=claim.id, exc_info=error)
        return Attempt(Outcome.UNKNOWN, error=f"internal: {type(error).__name__}")

    def _open(self, claim: Claimed) -> Mapping[str, object]:
        if claim.channel_secrets is None:
            return NO_SECRETS
        try:
            secrets = self._parts.vault.open(f"channel:{claim.org_id}:{claim.channel_id}", claim.channel_secrets)
        except SecretUnreadable as error:
            raise Unsendable(Poison.SECRET_UNREADABLE, error.message) from None
        return secrets if isinstance(secrets, Mapping) else NO_SECRETS

    def _finished(self, channel_id: str, task: asyncio.Task[bool]) -> None:
        self._tasks.discard(task)
        with self._busy_lock:
            self._busy[channel_id] -= 1
            if self._busy[channel_id] <= 0:
                del self._busy[channel_id]
        # Room first, then the call to fill it.
        if not task.cancelled() and task.exception() is None and task.result():
            self._parts.wake()


_EVENTS: Mapping[LedgerStatus, str] = {
    LedgerStatus.SENT: "notification_sent",
    LedgerStatus.PENDING: "notification_failed",
    LedgerStatus.DEAD: "notification_dead",
}


def _report(settlement: Settlement, *, ours: bool) -> None:
    """A line per notification, so that each incident's story can be followed."""
    for claim in settlement.claim.together:
        _report_one(claim, settlement, ours=ours)


def _report_one(claim: Claimed, settlement: Settlement, *, ours: bool) -> None:
    attempt, decision = settlement.attempt, settlement.decision
    latency_s = (settlement.at - claim.event_at).total_seconds()
    logger = log.get_logger().bind(
        correlation_id=claim.correlation_id,
        incident_id=claim.incident_id,
        notification_id=claim.id,
        channel_id=claim.channel_id,
        channel_type=claim.channel_type,
        attempt=claim.number,
        status_code=attempt.status_code,
        duration_ms=round(settlement.duration_ms, 1),
    )
    if claim.message_id is not None:
        logger = logger.bind(message_id=claim.message_id)
    if not ours:
        # Our lease ran out and somebody else has (or had) the notification: theirs is the word that counts.
        logger.warning("notification_lease_lost", outcome=attempt.outcome.value)
        return
    telemetry.NOTIFICATIONS.labels(claim.channel_type, _label(decision)).inc()
    if decision.status is LedgerStatus.SENT:
        telemetry.DELIVERY_LATENCY.observe(max(0.0, latency_s))
        logger.info(_EVENTS[decision.status], outcome=attempt.outcome.value, latency_s=round(latency_s, 3))
        return
    say = logger.error if decision.status is LedgerStatus.DEAD else logger.warning
    say(
        _EVENTS[decision.status],
        outcome=attempt.outcome.value,
        reason=decision.reason.value,
        error=attempt.error,
        latency_s=round(latency_s, 3),
        next_attempt_at=None if decision.next_attempt_at is None else decision.next_attempt_at.isoformat(),
    )


def _label(decision: Decision) -> str:
    return "failed" if decision.status is LedgerStatus.PENDING else decision.status.value
