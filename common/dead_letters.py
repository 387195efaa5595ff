"""Dead letters: messages that Dramatiq gave up on, looked at, replayed and discarded.

Dramatiq keeps a queue's in `<queue>.XQ` (ids by the moment they died) and `<queue>.XQ.msgs` (id → body) for seven days.
What a message carries is not shown: of its body we tell the actor, times, and the class of the last error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import uuid4

from dramatiq import Message
from dramatiq.errors import DecodeError

from common.broker import QueueBroker
from common.clock import from_ms, to_ms

#: What Dramatiq writes into a message while it fails; without them it is as good as new.
_MARKS_OF_FAILURE = frozenset({"retries", "traceback", "requeue_timestamp", "eta"})

#: Messages that one script moves: the server does nothing else meanwhile.
_AT_ONCE = 200
#: Messages that one replay of all moves.
MOST = 10_000
# Move messages that are still dead back into their queue: whoever takes an id out of the set first moves it, so a
# message is replayed once. ARGV: its id, its new id and body, for each.
_REPLAY = """
local moved = 0
for i = 1, #ARGV, 3 do
  if redis.call('zrem', KEYS[1], ARGV[i]) > 0 then
    redis.call('hdel', KEYS[2], ARGV[i])
    redis.call('hset', KEYS[4], ARGV[i + 1], ARGV[i + 2])
    redis.call('rpush', KEYS[3], ARGV[i + 1])
    moved = moved + 1
  end
end
return moved
"""

_ERROR_CLASS = re.compile(r"([A-Za-z_][\w.]*)(?::|$)")


@dataclass(frozen=True, slots=True)
class QueueState:
    """A queue: messages that wait, that wait for their time, that are dead."""

    name: str
    messages: int
    delayed: int
    dead: int
    oldest_dead_at: datetime | None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was given up on. `actor` and `enqueued_at` are None when it cannot be read at all."""

    id: str
    actor: str | None
    enqueued_at: datetime | None
    died_at: datetime
    retries: int
    error: str | None


def state(broker: QueueBroker, queue: str) -> QueueState:
    """How a queue stands. Raises Unavailable when Redis is away."""
    key = _key(broker, queue)

    def ask() -> list[Any]:
        with broker.client.pipeline(transaction=False) as pipe:
            pipe.llen(key)
            pipe.hlen(f"{key}.DQ.msgs")
            pipe.zcard(f"{key}.XQ")
            pipe.zrange(f"{key}.XQ", 0, 0, withscores=True)
            return pipe.execute()

    messages, delayed, dead, oldest = broker.ask(ask)
    return QueueState(queue, messages, delayed, dead, from_ms(int(oldest[0][1])) if oldest else None)


def list_page(broker: QueueBroker, queue: str, *, limit: int, before: tuple[datetime, str] | None) -> list[DeadLetter]:
    """Dead letters, the last to die first; `before` is the last one of the page before."""
    key = _key(broker, queue)

    def ask() -> list[tuple[str, int, bytes]]:
        found: list[tuple[str, int, bytes]] = []
        for ids in _windows(broker, key, before, limit):
            bodies = broker.client.hmget(f"{key}.XQ.msgs", [id_ for id_, _ in ids]) if ids else []
            found += [(id_, at, body) for (id_, at), body in zip(ids, bodies, strict=True) if body is not None]
            if len(found) >= limit:
                break
        return found[:limit]

    return [_letter(*row) for row in broker.ask(ask)]


def replay(broker: QueueBroker, queue: str, ids: Sequence[str] | None = None) -> int:
    """Put dead letters back into their queue, with all their retries: these, or (None) up to MOST, the oldest first.

    How many; of two who replay a message one does. What cannot be read stays: it would only be set aside again.
    """
    key = _key(broker, queue)

    def move() -> int:
        wanted = ids if ids is not None else [id_ for id_, _ in _span(broker, key, 0, MOST)]
        return sum(_replay(broker, queue, chunk) for chunk in _chunks(wanted))

    return broker.ask(move)


def discard(broker: QueueBroker, queue: str, message_id: str) -> bool:
    """Throw one away; whether it was there."""
    key = _key(broker, queue)

    def remove() -> bool:
        with broker.client.pipeline(transaction=True) as pipe:
            pipe.zrem(f"{key}.XQ", message_id)
            pipe.hdel(f"{key}.XQ.msgs", message_id)
            return bool(pipe.execute()[0])

    return broker.ask(remove)


def _replay(broker: QueueBroker, queue: str, ids: Sequence[str]) -> int:
    key = _key(broker, queue)
    bodies = broker.client.hmget(f"{key}.XQ.msgs", list(ids))
    arguments: list[str | bytes] = []
    for id_, body in zip(ids, bodies, strict=True):
        new_id = str(uuid4())
        if body is not None and (fresh := as_new(body, queue, new_id)) is not None:
            arguments += [id_, new_id, fresh]
    if not arguments:
        return 0
    script = broker.client.register_script(_REPLAY)
    return int(script(keys=[f"{key}.XQ", f"{key}.XQ.msgs", key, f"{key}.msgs"], args=arguments))


def as_new(body: bytes, queue: str, redis_id: str) -> bytes | None:
    """The message as if nobody had tried it yet, under a new id in Redis; None when it cannot be read."""
    try:
        message: Message[Any] = Message.decode(body)
        options = {name: value for name, value in message.options.items() if name not in _MARKS_OF_FAILURE}
        options["redis_message_id"] = redis_id
        return replace(message, queue_name=queue, options=options).encode()
    except (DecodeError, AttributeError, TypeError):
        return None


def _letter(id_: str, died_ms: int, body: bytes) -> DeadLetter:
    died_at = from_ms(died_ms)
    try:
        message: Message[Any] = Message.decode(body)
        enqueued_at = from_ms(int(message.message_timestamp))
        retries = message.options.get("retries", 0)
        traceback = message.options.get("traceback")
    except (DecodeError, AttributeError, TypeError, ValueError, OverflowError, OSError):
        return DeadLetter(id_, None, None, died_at, 0, None)
    return DeadLetter(
        id_,
        str(message.actor_name),
        enqueued_at,
        died_at,
        retries if isinstance(retries, int) else 0,
        error_class(traceback) if isinstance(traceback, str) else None,
    )


def error_class(traceback: str) -> str | None:
    """The class that a traceback ends with. Never what the error said: that may hold anything."""
    last = traceback.rpartition("Traceback (most recent call last):")[2]
    lines = last.splitlines()
    frames = [place for place, line in enumerate(lines) if line.startswith('  File "')]
    if not frames:
        return None
    ending = next((line for line in lines[frames[-1] :] if line and not line.startswith(" ")), "")
    found = _ERROR_CLASS.match(ending)
    return None if found is None else found[1]


def _windows(
    broker: QueueBroker, key: str, before: tuple[datetime, str] | None, size: int
) -> Iterator[list[tuple[str, int]]]:
    """(id, moment of death in ms), `size` at a time, the last to die first; of one moment the greatest id first."""
    bound = None if before is None else (to_ms(before[0]), before[1])
    start = 0 if bound is None else broker.client.zcount(f"{key}.XQ", f"({bound[0]}", "+inf")
    while True:
        rows = _span(broker, key, start, size, desc=True)
        yield [(id_, at) for id_, at in rows if bound is None or (at, id_) < bound]
        if len(rows) < size:
            return
        start += size


def _span(broker: QueueBroker, key: str, start: int, count: int, *, desc: bool = False) -> list[tuple[str, int]]:
    """(id, moment of death in ms) of so many dead ones from a place on."""
    rows: Any = broker.client.zrange(f"{key}.XQ", start, start + count - 1, desc=desc, withscores=True)
    return [(id_.decode(errors="replace"), int(score)) for id_, score in rows]


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _AT_ONCE):
        yield ids[start : start + _AT_ONCE]


def _key(broker: QueueBroker, queue: str) -> str:
    return f"{broker.namespace}:{queue}"
