"""Redis and Dramatiq, modelled: at least once, except when told to lose; duplicates, delays, reorders, goes away.

A message is handed to one live consumer of its queue and belongs to it until it is acknowledged. What a dead or long
frozen consumer holds is handed out again after the heartbeat's timeout; the acknowledgement of one from whom it was
taken away does nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dramatiq
import redis

from common.broker import HEARTBEAT_TIMEOUT_MS
from tests.simulation.engine import Simulator
from tests.simulation.process import Process

_TAKEN_OVER_S = HEARTBEAT_TIMEOUT_MS / 1000


@dataclass(slots=True, eq=False)
class Envelope:
    """One copy of a message. `end`: how it left the queue (acked, lost, flushed, dead), empty while it has not."""

    no: int
    queue: str
    payload: Any
    holder: Process | None = None
    generation: int = 0
    handed_at: float = 0.0
    end: str = ""


@dataclass(slots=True)
class Weather:
    """What may happen to each message (probabilities), and how late it may come (seconds)."""

    loss: float = 0.0
    duplicate: float = 0.0
    corrupt: float = 0.0
    delay: float = 0.0
    longest_delay_s: float = 0.0


class Bus:
    """The queue server; `consumers` by queue's name."""

    def __init__(self, sim: Simulator, weather: Weather) -> None:
        self.sim = sim
        self.weather = weather
        self.away_until = 0.0
        self.consumers: dict[str, list[Any]] = {}
        self.envelopes: list[Envelope] = []

    def put(self, queue: str, payload: Any) -> None:
        """What became of one message that a producer sent."""
        rng, weather = self.sim.rng, self.weather
        if self.sim.now >= self.sim.heal_at:
            self._send(queue, payload, 0.002)
            return
        draw = rng.random()
        delay = rng.uniform(0, weather.longest_delay_s) if rng.random() < weather.delay else rng.uniform(0.001, 0.05)
        envelope = self._send(queue, payload, delay)
        if draw < weather.loss:
            envelope.end = "lost"
            self.sim.strike("message lost", queue, f"#{envelope.no}")
        elif draw < weather.loss + weather.duplicate:
            self.sim.strike("message duplicated", queue, f"#{envelope.no}")
            self._send(queue, payload, rng.uniform(0, max(1.0, weather.longest_delay_s)))
        elif draw < weather.loss + weather.duplicate + weather.corrupt:
            self.sim.strike("message corrupted", queue, f"#{envelope.no}")
            envelope.payload = {"v": 0}

    def _send(self, queue: str, payload: Any, delay: float) -> Envelope:
        envelope = Envelope(len(self.envelopes) + 1, queue, payload)
        self.envelopes.append(envelope)
        self.sim.at(self.sim.now + delay, self._hand_over, envelope)
        return envelope

    def _hand_over(self, envelope: Envelope) -> None:
        if envelope.end:
            return
        sim = self.sim
        ready = [c for c in self.consumers.get(envelope.queue, ()) if c.alive and c.ready and not c.frozen]
        if not ready or self.away_until > sim.now:
            sim.at(max(sim.now + 0.25, self.away_until), self._hand_over, envelope)
            return
        consumer = ready[int(sim.rng.random() * len(ready))]
        envelope.holder, envelope.generation, envelope.handed_at = consumer, consumer.generation, sim.now
        sim.at(sim.now + _TAKEN_OVER_S, self._look_after, envelope, sim.now)
        sim.at(sim.now, consumer.receive, envelope, process=consumer)

    def _look_after(self, envelope: Envelope, handed_at: float) -> None:
        if envelope.end or envelope.handed_at != handed_at or envelope.holder is None:
            return
        holder = envelope.holder
        if holder.alive and holder.generation == envelope.generation and not holder.frozen:
            self.sim.at(self.sim.now + 1.0, self._look_after, envelope, handed_at)
            return
        if self.sim.trace is not None:
            self.sim.say(envelope.queue, f"#{envelope.no} taken over from {holder.name}")
        envelope.holder = None
        self._hand_over(envelope)

    def acknowledge(self, envelope: Envelope, process: Process, handed_at: float) -> bool:
        """Whether it was still this delivery's to acknowledge."""
        if envelope.end or envelope.holder is not process or envelope.handed_at != handed_at:
            return False
        envelope.end = "acked"
        return True

    def flush(self) -> None:
        """FLUSHALL: whatever waits or is held is gone."""
        gone = [envelope for envelope in self.envelopes if not envelope.end]
        for envelope in gone:
            envelope.end = "flushed"
        self.sim.strike("queue flushed", "redis", f"{len(gone)} messages")


class Client:
    """One process's connection to the queue: stands where the product's `QueueBroker` does."""

    def __init__(self, bus: Bus, process: Process) -> None:
        self._bus = bus
        self._process = process

    def enqueue(self, message: dramatiq.Message[Any]) -> None:
        """As Dramatiq's: raises what redis-py raises; a lost reply leaves the message in the queue."""
        bus, sim = self._bus, self._bus.sim
        if bus.away_until > sim.now:
            raise redis.ConnectionError("away")
        trouble = sim.rng.random() if sim.blown() else 1.0
        if trouble < 0.3:
            sim.die(self._process, "before enqueue")
        bus.put(message.queue_name, message.args[0])
        if trouble < 0.6:
            sim.die(self._process, "after enqueue")
        if trouble < 0.8:
            sim.strike("reply lost", self._process.name, "enqueue")
            raise redis.ConnectionError("reply lost")
        if trouble < 1.0:
            self._process.freeze(sim.rng.choice((0.5, 4.0, 20.0)))
            sim.pause(self._process, self._process.frozen_until - sim.now)
