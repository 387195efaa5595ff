"""Queues: Dramatiq on Redis or Valkey, a fast hint that may lose or repeat things (docs/decisions/0002).

What travels is versioned and small: checks as numbers, notifications as ids, never a secret. Prefetch and polling are
set per queue, so that a full lane never starves another.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

import dramatiq
import redis
import uvloop
from dramatiq.asyncio import EventLoopThread, get_event_loop_thread, set_event_loop_thread
from dramatiq.brokers.redis import RedisBroker, _RedisConsumer
from dramatiq.common import dq_name
from dramatiq.errors import ConnectionClosed, DecodeError
from dramatiq.middleware import Middleware, Retries
from redis.backoff import NoBackoff
from redis.retry import Retry

from common import telemetry
from common.domain.checks import Check, Kind, Lane
from common.domain.errors import TocsinError, Unavailable
from common.pulse import Pulse
from common.redis_breaker import RedisBreaker

T = TypeVar("T")

#: Version of the payloads; a reader accepts its own and the one before.
VERSION = 1
READABLE_VERSIONS = frozenset({1})

#: Checks in one message, at most.
BATCH_SIZE = 100

NAMESPACE = "tocsin"
NOTIFY_QUEUE = "notify"
DELIVER_ACTOR = "deliver"
PROBE_ACTOR = "probe"

_LANE_QUEUES = MappingProxyType({Lane.FAST: "checks", Lane.SLOW: "slow", Lane.URGENT: "urgent"})
_CHECK_ACTORS = MappingProxyType({Lane.FAST: "check_fast", Lane.SLOW: "check_slow", Lane.URGENT: "check_urgent"})

#: Messages that one process holds of each lane; a thread stands ready for every one of them.
PREFETCH = MappingProxyType({"checks": 48, "slow": 64, "urgent": 16, "probes": 8, NOTIFY_QUEUE: 32})

_POLL_MS = 50
_DELAYED_POLL_MS = 1000

#: A worker that is silent for so long is dead and its messages are taken over (milliseconds).
HEARTBEAT_TIMEOUT_MS = 15_000

#: Out of a million commands: every one cleans up. Only the scheduler's reaper asks for that.
_ALWAYS = 1_000_000

#: Of a message that was fetched the body must stay: it may be put back.
_WITHDRAW = """
if redis.call('lrem', KEYS[1], 1, ARGV[1]) > 0 then
  redis.call('hdel', KEYS[2], ARGV[1])
end
"""

#: A command that waits in Redis (BLPOP) waits there for so long at most: its connection must be more patient.
BLOCK_S = 1.0

#: How long a request waits for Redis: to connect, for an answer, for one that may have waited there; and for how long
#: nobody asks after that was in vain. Our threads are few, and most of what they do needs no Redis.
_REQUEST_CONNECT_S = 0.25
_REQUEST_ANSWER_S = 0.5
_REQUEST_BLOCK_S = BLOCK_S + 1.5
_REQUEST_PAUSE_S = 2.0

#: How long what still runs on a loop may take to end when it is told to.
_END_TASKS_S = 1.0


class UnreadableMessage(TocsinError):
    """A message that this version cannot read: set aside in the dead-letter queue, never retried."""

    code = "UNREADABLE_MESSAGE"


@dataclass(frozen=True, slots=True)
class Batch:
    """Checks that travel together. `id` is the batch's correlation id, `epoch` the leader's that sent it.

    `sent_ms` is when (Unix time in milliseconds, database clock), 0 from a sender that does not say.
    """

    id: str
    epoch: int
    checks: tuple[Check, ...]
    sent_ms: int = 0


def queue_name(lane: Lane, location: str) -> str:
    """The queue of a lane at a location."""
    return f"{_LANE_QUEUES[lane]}.{location}"


def probe_queue(location: str) -> str:
    """The queue of a location's probes that somebody waits for."""
    return f"probes.{location}"


def actor_name(lane: Lane) -> str:
    """The actor that reads a lane."""
    return _CHECK_ACTORS[lane]


class EventLoop(Middleware):
    """Dramatiq's AsyncIO middleware on uvloop, with waiting threads that wake once a second instead of ten times."""

    def __init__(self) -> None:
        self.thread = EventLoopThread(logging.getLogger(__name__), interrupt_check_ival=1.0)
        self.thread.loop.close()
        self.thread.loop = uvloop.new_event_loop()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that all async actors of this process run on."""
        loop: asyncio.AbstractEventLoop = self.thread.loop
        return loop

    def before_worker_boot(self, _broker: dramatiq.Broker, _worker: dramatiq.Worker) -> None:
        """Start the loop before the first message is fetched."""
        self.thread.start(timeout=5.0)
        set_event_loop_thread(self.thread)

    def after_worker_shutdown(self, _broker: dramatiq.Broker, _worker: dramatiq.Worker) -> None:
        """Stop the loop after the last message is done."""
        if get_event_loop_thread() is self.thread:
            set_event_loop_thread(None)
            asyncio.run_coroutine_threadsafe(_end_tasks(), self.loop).result()
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join()


async def _end_tasks() -> None:
    """End what is still running on the loop: watchers that know no end of their own."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_END_TASKS_S)


class _Consumer(_RedisConsumer):
    """Dramatiq's consumer, except that garbage is set aside instead of stopping the queue, and that it can drain."""

    _is_fresh = True

    def __next__(self) -> Any:
        if self._is_fresh:
            self._take_back()
        if self.broker.draining and not self.queue_name.endswith(".DQ"):
            self.prefetch = 0  # the delayed queue's consumer goes on: its polls are our heartbeat
        try:
            message = super().__next__()  # type: ignore[no-untyped-call]
        except DecodeError as error:
            telemetry.MESSAGES_REFUSED.labels(self.queue_name).inc()
            self._set_aside(error.data)
            return None
        if message is not None:
            self.broker.in_hand(self.queue_name).add(message.options["redis_message_id"])
        return message

    def _take_back(self) -> None:
        """A consumer begins anew after every error: whatever the last one was sent in vain goes back first."""
        try:
            self.broker.take_back(self.queue_name)
        except redis.RedisError as error:
            raise _try_again(error) from None
        self._is_fresh = False

    def ack(self, message: Any) -> None:
        """Say that a message is done; raises ConnectionClosed when Redis does not take it, whatever its reason."""
        try:
            super().ack(message)  # type: ignore[no-untyped-call]
        except redis.RedisError as error:
            raise _try_again(error) from None
        self.broker.in_hand(self.queue_name).discard(message.options["redis_message_id"])

    def nack(self, message: Any) -> None:
        """Set a message aside; raises ConnectionClosed as `ack` does."""
        try:
            super().nack(message)  # type: ignore[no-untyped-call]
        except redis.RedisError as error:
            raise _try_again(error) from None
        self.broker.in_hand(self.queue_name).discard(message.options["redis_message_id"])

    def _set_aside(self, body: bytes) -> None:
        # Only Redis knows the id under which the body is stored; this is rare enough to look for it.
        broker: QueueBroker = self.broker
        key = f"{broker.namespace}:{self.queue_name}.msgs"
        for message_id in broker.client.smembers(f"{broker.namespace}:__acks__.{broker.broker_id}.{self.queue_name}"):
            if broker.client.hget(key, message_id) == body:
                broker.do_nack(self.queue_name, message_id)


def _try_again(error: redis.RedisError) -> ConnectionClosed:
    # Dramatiq repeats only what a lost connection has prevented; after a timeout, or when Redis is full, it would leave
    # the message held by us until we end.
    return ConnectionClosed(error)  # type: ignore[no-untyped-call]


class QueueBroker(RedisBroker):
    """Dramatiq's Redis broker with our prefetch and polling per queue.

    While `draining`, nothing more is fetched: Dramatiq would hold it in memory until the last running message is done.
    `waiting` is the client for commands that wait in Redis; with a `breaker` nobody waits for a Redis that hangs.
    """

    draining = False

    def __init__(
        self, *, waiting: redis.Redis | None = None, breaker: RedisBreaker | None = None, **options: Any
    ) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self.waiting: redis.Redis = waiting or self.client
        self._breaker = breaker
        self._pulse = Pulse(self._ping)
        self._in_hand: dict[str, set[str]] = {}

    def ask(self, call: Callable[[], T]) -> T:
        """Run a Redis call of ours; raises Unavailable for everything that Redis can do to us."""
        return guarded(lambda: self._attempt(call))

    def answers(self) -> bool:
        """Whether Redis answers, or did a second ago."""
        return self._pulse.beats()

    def enqueue(self, message: dramatiq.Message[Any], *, delay: int | None = None) -> dramatiq.Message[Any]:
        """Put a message into its queue."""
        return self._attempt(lambda: super(QueueBroker, self).enqueue(message, delay=delay))

    def _attempt(self, call: Callable[[], T]) -> T:
        return call() if self._breaker is None else self._breaker.attempt(call)

    def _ping(self) -> bool:
        try:
            return bool(self.ask(self.client.ping))
        except Unavailable:
            return False

    def in_hand(self, queue_name: str) -> set[str]:
        """Which messages of a queue this process works on, by the ids that Redis knows them by."""
        return self._in_hand.setdefault(queue_name, set())

    def take_back(self, queue_name: str) -> None:
        """Put back what Redis says we hold and we do not: the answer that brought it was lost on its way to us."""
        if queue_name.endswith(".DQ"):
            self.in_hand(queue_name).clear()  # with its consumer Dramatiq forgets all that is delayed
        ours = set(self.in_hand(queue_name))  # first: what is acknowledged meanwhile is not lost
        held: Any = self.client.smembers(f"{self.namespace}:__acks__.{self.broker_id}.{queue_name}")
        lost = {message_id.decode() for message_id in held} - ours
        if lost:
            self.do_requeue(queue_name, *lost)

    @property
    def consumer_class(self) -> type[_Consumer]:
        """The consumer that survives garbage."""
        return _Consumer

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> _Consumer:
        """A consumer of a queue; what Dramatiq proposes for prefetch and timeout is replaced by ours."""
        del timeout
        if queue_name.endswith(".DQ"):
            poll_ms = _DELAYED_POLL_MS
        else:
            prefetch, poll_ms = PREFETCH.get(queue_name.split(".", 1)[0], prefetch), _POLL_MS
        return _Consumer(self, queue_name, prefetch, poll_ms)  # type: ignore[no-untyped-call]


def make_broker(
    redis_url: str,
    *,
    middleware: Sequence[Middleware] = (),
    reaper: bool = False,
    max_retries: int = 3,
) -> QueueBroker:
    """The broker of a process. The scheduler's is the `reaper`: each of its commands takes over dead workers' work.

    Nothing connects yet. Commands are not re-sent after a lost reply: a fetch or enqueue is not idempotent.
    """
    return QueueBroker(
        client=_client(redis_url, answer_s=10, connect_s=5),
        namespace=NAMESPACE,
        middleware=[*middleware, Retries(max_retries=max_retries, min_backoff=1000, max_backoff=15_000)],
        heartbeat_timeout=HEARTBEAT_TIMEOUT_MS,
        maintenance_chance=_ALWAYS if reaper else 0,
    )


def make_request_broker(redis_url: str) -> QueueBroker:
    """The broker of a process that serves requests: it enqueues and asks, and does not wait for a Redis that hangs."""
    return QueueBroker(
        client=_client(redis_url, answer_s=_REQUEST_ANSWER_S, connect_s=_REQUEST_CONNECT_S),
        waiting=_client(redis_url, answer_s=_REQUEST_BLOCK_S, connect_s=_REQUEST_CONNECT_S),
        breaker=RedisBreaker("queue", pause_s=_REQUEST_PAUSE_S),
        namespace=NAMESPACE,
        middleware=[],
        heartbeat_timeout=HEARTBEAT_TIMEOUT_MS,
        maintenance_chance=0,
    )


def _client(redis_url: str, *, answer_s: float, connect_s: float) -> redis.Redis:
    return redis.Redis.from_url(
        redis_url,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=answer_s,
        socket_connect_timeout=connect_s,
        health_check_interval=15,
    )


def run_worker(broker: QueueBroker, queues: Iterable[str]) -> dramatiq.Worker:
    """Start consuming these queues, with a thread for every message that may be prefetched."""
    names = set(queues)
    threads = sum(PREFETCH[name.split(".", 1)[0]] for name in names)
    worker = dramatiq.Worker(broker, queues=names, worker_threads=threads)
    worker.start()
    return worker


def consumers_alive(worker: dramatiq.Worker) -> bool:
    """Whether every consumer thread runs; a process with a dead one must end, or that queue starves in silence."""
    return all(consumer.is_alive() for consumer in worker.consumers.values())


def encode_batch(batch: Batch) -> dict[str, Any]:
    """A batch as its message carries it."""
    return {
        "v": VERSION,
        "b": batch.id,
        "e": batch.epoch,
        "t": batch.sent_ms,
        "c": [[c.monitor_no, c.config_version, c.scheduled_at_ms, int(c.kind)] for c in batch.checks],
    }


def decode_batch(payload: Any) -> Batch:
    """A message's batch; raises UnreadableMessage for anything else."""
    try:
        if payload["v"] not in READABLE_VERSIONS:
            raise UnreadableMessage(f"message version {payload['v']} is not readable by this version")
        checks = tuple(Check(int(n), int(c), int(at), Kind(kind)) for n, c, at, kind in payload["c"])
        return Batch(str(payload["b"]), int(payload["e"]), checks, int(payload.get("t", 0)))
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise UnreadableMessage(f"not a batch of checks: {error!r}") from error


def new_batch_id() -> str:
    """A correlation id for a batch."""
    return secrets.token_hex(8)


def enqueue_checks(  # noqa: PLR0913 - the last three are for logs and traces
    broker: QueueBroker,
    lane: Lane,
    location: str,
    checks: Sequence[Check],
    *,
    batch_id: str = "",
    epoch: int = 0,
    sent_ms: int = 0,
) -> int:
    """Put checks into a lane, up to 100 a message; how many messages. Raises Unavailable when Redis is away."""
    queue = queue_name(lane, location)
    messages = 0
    for chunk in _chunks(checks, BATCH_SIZE):
        batch = Batch(batch_id or new_batch_id(), epoch, chunk, sent_ms)
        _enqueue(broker, dramatiq.Message(queue, actor_name(lane), (encode_batch(batch),), {}, {}))
        messages += 1
    return messages


def enqueue_notifications(broker: QueueBroker, ids: Sequence[str]) -> None:
    """Hint that these ledger rows are due. Raises Unavailable when Redis is away."""
    for chunk in _chunks(ids, 20):
        payload = {"v": VERSION, "n": list(chunk)}
        _enqueue(broker, dramatiq.Message(NOTIFY_QUEUE, DELIVER_ACTOR, (payload,), {}, {}))


def enqueue_probe(broker: QueueBroker, location: str, probe_id: str) -> str:
    """Have a worker of the location look at a question (common.probe_requests); what to withdraw the message by."""
    payload = {"v": VERSION, "p": probe_id}
    message = _enqueue(broker, dramatiq.Message(probe_queue(location), PROBE_ACTOR, (payload,), {}, {}))
    return str(message.options["redis_message_id"])


def decode_probe(payload: Any) -> str:
    """The id in such a message; raises UnreadableMessage for anything else."""
    try:
        if payload["v"] not in READABLE_VERSIONS:
            raise UnreadableMessage(f"message version {payload['v']} is not readable by this version")
        return str(payload["p"])
    except (KeyError, TypeError) as error:
        raise UnreadableMessage(f"not a question for a probe: {error!r}") from error


def withdraw_probe(broker: QueueBroker, location: str, message_id: str) -> None:
    """Take such a message out of its queue, if it is still there: without a worker nobody else ever would."""
    key = f"{broker.namespace}:{probe_queue(location)}"
    script = broker.client.register_script(_WITHDRAW)
    broker.ask(lambda: script(keys=[key, f"{key}.msgs"], args=[message_id]))


def backlog(broker: QueueBroker, queue: str) -> int:
    """Messages of a queue that wait to be fetched; with a reaper this also takes over what dead workers held."""

    def ask() -> int:
        broker.do_qsize(queue)
        return int(broker.client.llen(f"{broker.namespace}:{queue}"))

    return guarded(ask)


def waiting(broker: QueueBroker, queues: Sequence[str]) -> list[int]:
    """Messages of each of these queues that wait to be fetched, asked together."""

    def ask() -> list[int]:
        with broker.client.pipeline(transaction=False) as pipe:
            for queue in queues:
                pipe.llen(f"{broker.namespace}:{queue}")
            return pipe.execute()

    return broker.ask(ask)


def reap_delayed(broker: QueueBroker, queue: str) -> int:
    """The same for a queue's delayed messages (retries)."""
    return guarded(lambda: int(broker.do_qsize(dq_name(queue))))


def dead_letters(broker: QueueBroker, queue: str) -> int:
    """Messages of a queue that were set aside."""
    return guarded(lambda: int(broker.client.zcard(f"{broker.namespace}:{queue}.XQ")))


def guarded(call: Callable[[], T]) -> T:
    """Run a Redis call; raises Unavailable for everything that Redis can do to us."""
    try:
        return call()
    except redis.RedisError as error:
        raise Unavailable("The queue (Redis) cannot be reached.") from error


def _enqueue(broker: QueueBroker, message: dramatiq.Message[Any]) -> dramatiq.Message[Any]:
    return guarded(lambda: broker.enqueue(message))


def _chunks(items: Sequence[T], size: int) -> Iterator[tuple[T, ...]]:
    for start in range(0, len(items), size):
        yield tuple(items[start : start + size])
