"""A notifier's process: the product's Relay, Hints, Sweeper, Deliverer, Settler and webhook channel.

What belongs to an event loop in the product (one task per send) is followed with events: claim, send, judge, settle.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from datetime import datetime
from typing import Any

from common.broker import NOTIFY_QUEUE
from common.channels.base import Context, Unsendable
from common.channels.webhook import WebhookChannel
from common.clock import DatabaseClock, from_ms
from common.domain.delivery import Attempt, Outcome, Standing, after_attempt
from common.domain.errors import Contended, Unavailable
from common.http.exchange import HttpExchange, HttpRequest
from common.store.engine import now_s
from common.store.incidents import OUTBOX_CHANNEL
from common.store.notifications import Claimed
from common.store.settlements import Settlement
from common.vault import Vault
from notifier.deliver import Deliverer, Parts
from notifier.hints import Hints
from notifier.relay import Relay
from notifier.settle import Settler
from notifier.sweeper import Sweeper
from tests.simulation.bus import Bus, Client, Envelope
from tests.simulation.database import Database, Server
from tests.simulation.engine import Simulator
from tests.simulation.process import Process
from tests.simulation.sinks import Sinks

_LOOK_EVERY_S = 1.0
_BACKOFF_S = 0.5
_TOLERATED_S = 1.5

#: How long a claim lasts here: shortened so that a schedule sees one end, still longer than any send.
LEASE_S = 10.0


class _Out:
    """The way out: a request is awaited by the product's channel and answered by an event."""

    async def send(self, request: HttpRequest) -> HttpExchange:
        return await _Sending(request)


class _Sending:
    def __init__(self, request: HttpRequest) -> None:
        self.request = request

    def __await__(self) -> Generator[HttpRequest, HttpExchange, HttpExchange]:
        return (yield self.request)


class _Over:
    """A task that has ended, as `Deliverer._finished` looks at it."""

    def __init__(self, *, more: bool) -> None:
        self._more = more

    def cancelled(self) -> bool:
        return False

    def exception(self) -> None:
        return None

    def result(self) -> bool:
        return self._more


class NotifierProcess(Process):
    """Relays, claims, sends, settles."""

    def __init__(self, sim: Simulator, name: str, server: Server, bus: Bus, sinks: Sinks, vault: Vault) -> None:
        super().__init__(sim, name)
        self.server = server
        self.bus = bus
        self.sinks = sinks
        self.vault = vault
        self.ready = False
        self.on_settled: Callable[[Settlement, bool, float], None] = lambda _settlement, _ours, _age_s: None
        bus.consumers.setdefault(NOTIFY_QUEUE, []).append(self)
        server.listeners.setdefault(OUTBOX_CHANNEL, []).append(lambda _payload: self._heard())

    def boot(self) -> None:
        self.clock = clock = self.new_clock()
        database = Database(self.server, self)

        def now() -> datetime:
            return from_ms(clock.now_ms())

        self.now = now
        self.settler = Settler(database, now)
        self.sweeper = Sweeper(database, clock, now, monotonic=self.monotonic)
        self.deliverer = Deliverer(
            Parts(
                database=database,
                settler=self.settler,
                vault=self.vault,
                channels={"webhook": WebhookChannel()},
                context=Context(_Out(), now, "http://tocsin.test"),
                wake=self.wake,
            )
        )
        self.hints = Hints(Client(self.bus, self), self.wake, now)
        self.relay = Relay(database, self.hints.give, now)
        self._claimed_at: dict[str, float] = {}
        self._woken = False
        self._relaying = False
        self.ready = False
        self._begin(database, clock)

    # Loops ----------------------------------------------------------------------------------------------------------

    def _begin(self, database: Database, clock: DatabaseClock) -> None:
        """As `notifier.app` begins: the database's time first, then consumers and loops."""
        try:
            with database.begin() as connection:
                clock.sync(lambda: now_s(connection))
        except Unavailable:
            self.after(1.0, self._begin, database, clock)
            return
        self.ready = True
        self.after(0.01, self._relay_now)
        self.after(_LOOK_EVERY_S, self._look_regularly)

    def _heard(self) -> None:
        if self.alive and self.ready:
            self.after(self.sim.rng.uniform(0.001, 0.02), self._relay_now)

    def _relay_now(self) -> None:
        """The relay's loop, as far as there is something to relay or to number."""
        if self._relaying:
            return
        self._relaying = True
        again: float | None = None
        try:
            again = 0.02 if self.relay.step() else None
        except Unavailable:
            again = _BACKOFF_S
        self._relaying = False
        if again is not None:
            self.after(again, self._relay_now)
        while not self.hints._waiting.empty():
            self.hints.step()

    def wake(self) -> None:
        """Look at the ledger at once."""
        if not self._woken:
            self._woken = True
            self.after(0.005, self._look)

    def _look(self) -> None:
        self._woken = False
        # Set, so that the product's loop does not really wait.
        self.sweeper.wake()
        try:
            self.sweeper.step(lambda: self._claim(None))
        except Unavailable:
            self.after(_BACKOFF_S, self.wake)

    def _look_regularly(self) -> None:
        """What the product's loops find by themselves, once a second; looks that would find nothing are left out."""
        if self.server.open["outbox"] or self.server.open["events"]:
            self._relay_now()
        if self.monotonic() >= self.sweeper._sync_at or self.server.open["notifications"]:
            self._look()
        self.after(_LOOK_EVERY_S, self._look_regularly)

    # Messages and sends ---------------------------------------------------------------------------------------------

    def receive(self, envelope: Envelope) -> None:
        """A hint from the queue."""
        if envelope.payload.get("v") != 1:
            envelope.end = "dead"
            return
        handed_at = envelope.handed_at
        with suppress(Unavailable):  # the sweeper finds them
            self._claim(envelope.payload["n"])
        self.bus.acknowledge(envelope, self, handed_at)

    def _claim(self, ids: list[str] | None) -> int:
        began_at = self.sim.now
        claims = self.deliverer.claim(ids)
        # After a suspension our clock is behind until it is measured again, and so is the end of the leases we take.
        behind_s = max(0.0, self.server.now_s() - self.clock.now_ms() / 1000)
        for claim in claims:
            self._claimed_at[claim.lease_token] = began_at - behind_s
            self.after(0.001, self._send, claim)
        return len(claims)

    def _send(self, claim: Claimed) -> None:
        if self.sim.blown():
            self._struck("before sending")
        sending = self.deliverer.send(claim)
        try:
            request = sending.send(None)
        except Unsendable as error:
            self._ended(claim, Attempt(Outcome.REJECTED, error=error.message, poison=error.poison))
            return
        # Nobody can take back what is sent when the lease may be over by then: that duplicate is a fault's, not ours.
        late = self._age_s(claim) > _TOLERATED_S
        seconds, exchange = self.sinks.receive(claim.channel_id, request, late=late)
        self.after(seconds, self._answered, claim, sending, exchange)

    def _age_s(self, claim: Claimed) -> float:
        """How long ago it was claimed, by the database's clock."""
        return self.sim.now - self._claimed_at[claim.lease_token]

    def _answered(self, claim: Claimed, sending: Coroutine[Any, Any, Attempt], exchange: HttpExchange) -> None:
        if self.sim.blown():
            self._struck("after sending")
        try:
            sending.send(exchange)  # type: ignore[arg-type]
        except StopIteration as end:
            self._ended(claim, end.value)

    def _struck(self, where: str) -> None:
        """Dead, or standing still for longer than the lease lasts."""
        if self.sim.rng.random() < 0.3:
            self.sim.die(self, where)
        self.freeze(self.sim.rng.choice((3.0, 11.0, 15.0)))
        self.sim.pause(self, self.frozen_until - self.sim.now)

    def _ended(self, claim: Claimed, attempt: Attempt) -> None:
        """What `Deliverer._carry` does with an attempt."""
        now = self.now()
        decision = after_attempt(attempt, Standing(claim.first_attempt_at, claim.failures, claim.failing_since), now)
        self._settle(Settlement(claim, attempt, decision, 100.0, now))

    def _settle(self, settlement: Settlement) -> None:
        """What `Settler._try` does: again and again until it is committed."""
        try:
            settled = self.settler._commit([settlement])
        except Contended:
            self.after(0.1, self._settle, settlement)
            return
        except Unavailable:
            self.settler.in_trouble = True
            # It may be settled already, and then it is not ours any more.
            self._claimed_at[settlement.claim.lease_token] -= LEASE_S
            self.after(_BACKOFF_S, self._settle, settlement)
            return
        self.settler.in_trouble = False
        ours = settlement.claim.id in settled.ours
        if self.sim.trace is not None:
            self.sim.say(self.name, f"settled {settlement.decision.status} {settlement.decision.reason}, ours {ours}")
        self.on_settled(settlement, ours, self._age_s(settlement.claim))
        self.deliverer._finished(settlement.claim.channel_id, _Over(more=settled.more))  # type: ignore[arg-type]
