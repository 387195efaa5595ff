"""Redis that dies, forgets, stalls or is full, and queues whose messages are repeated, shuffled, stale or garbage."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
from typing import Any
from uuid import uuid4

import redis

from common.broker import BATCH_SIZE, Batch, actor_name, encode_batch, queue_name
from common.domain.checks import Check, Kind, Lane
from tests.chaos.faults.site import Impossible, InVain, Site
from tests.chaos.population import SLOW_ONE
from tests.chaos.world import World

_LOCATION = "local"
_HOUR_MS = 3_600_000
_COPY = b"copy-"
_COPIES = 2
_NOTICED_WITHIN_S = 4.0
#: Messages of the flood: two workers take 64 each at once; checks in each; and how long it takes at the most.
_FLOOD, _FLOOD_CHECKS, _FLOOD_LASTS_S = 300, 3, 30.0


def kill_redis(site: Site) -> None:
    """kill -9; it comes back with what its log had."""
    pid = site.world.servers.pids().get("valkey")
    if pid is None:
        raise InVain("it does not run")
    os.kill(pid, signal.SIGKILL)
    site.moment("redis-kill", "redis")


def flush(site: Site) -> None:
    """FLUSHALL: queues, messages, who holds what, all gone."""
    _tell(site, "redis-flush", "FLUSHALL")


def pause(site: Site) -> None:
    """CLIENT PAUSE: commands wait."""
    span = site.span()
    with site.during("redis-pause", "redis", f"{span:.1f} s"):
        with site.world.queue() as client:
            client.execute_command("CLIENT", "PAUSE", int(span * 1000), "ALL")
        site.sleep(span)


def cut_clients(site: Site) -> None:
    """CLIENT KILL twice a second."""
    killed = 0
    with site.during("redis-clients", "redis"):
        for _ in site.until(site.span(), every_s=0.5):
            with suppress(redis.RedisError), site.world.queue() as client:
                killed += int(client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"))
        if not killed:
            raise InVain("nobody was connected")


def fill_memory(site: Site) -> None:
    """No memory left: nothing can be enqueued, fetched or acknowledged."""
    with site.during("redis-full", "redis"):
        try:
            with site.world.queue() as client:
                client.config_set("maxmemory", 1)
                _require_full(client)
            site.sleep(site.span())
        finally:
            relieve_memory(site.world)


def _require_full(client: redis.Redis) -> None:
    """Raise InVain when it still takes something."""
    try:
        client.set("chaos:full", "?", ex=1)
    except redis.ResponseError:
        return
    raise InVain("it still takes what it is given")


def fill_disk(site: Site) -> None:
    """Not a byte left for its log: it refuses to write, until there is room."""
    disk = site.world.queue_disk
    if disk.problem:
        raise Impossible(f"no small disk: {disk.problem}")
    with site.during("redis-disk", "redis"):
        try:
            disk.fill()
            with site.world.queue() as client:
                _await_full(site, client)
            site.sleep(site.span())
        finally:
            disk.relieve()


def _await_full(site: Site, client: redis.Redis) -> None:
    """It notices with the next write of its log, within a second or two."""
    for _ in site.until(_NOTICED_WITHIN_S, every_s=0.2):
        with suppress(InVain):
            _require_full(client)
            return
    raise InVain("it never noticed")


def flood(site: Site) -> None:
    """More slow checks than all workers can make at once: neither of the quick lanes may feel it."""
    with site.world.database() as connection:
        row = connection.execute(
            "SELECT monitor_no, config_version FROM monitors WHERE name = %s", (SLOW_ONE,)
        ).fetchone()
    if row is None:
        raise InVain("there is no slow monitor")
    now_ms = int(time.time() * 1000)
    with site.during("slow-flood", "flood"), site.world.queue() as client:
        for number in range(_FLOOD):
            at_ms = now_ms - number * _FLOOD_CHECKS
            checks = tuple(Check(row[0], row[1], at_ms - n, Kind.MANUAL) for n in range(_FLOOD_CHECKS))
            _push_batch(client, Lane.SLOW, checks)
        site.sleep(1.0)
        if not client.llen(f"tocsin:{queue_name(Lane.SLOW, _LOCATION)}"):
            raise InVain("the slow lane took it all at once")
        for _ in site.until(_FLOOD_LASTS_S, every_s=0.2):
            if not client.llen(f"tocsin:{queue_name(Lane.SLOW, _LOCATION)}"):
                return


def relieve_memory(world: World) -> None:
    """Memory again, also when Redis is just starting."""
    for _ in range(100):
        try:
            with world.queue() as client:
                client.config_set("maxmemory", 0)
        except redis.RedisError:
            time.sleep(0.1)
        else:
            return


def duplicate(site: Site) -> None:
    """Push messages that wait, or are in work, once more under their own ids and under new ones."""
    copies = 0
    with site.during("queue-duplicate", "redis"):
        for _ in site.until(site.span(), every_s=0.3):
            with suppress(redis.RedisError), site.world.queue() as client:
                copies += sum(_duplicate_some(client, name) for name in _queues())
        if not copies:
            raise InVain("nothing waited")


def _duplicate_some(client: redis.Redis, name: str) -> int:
    # Never a copy of a copy: they would multiply until what is watched breaks down under it.
    answer: Any = client.hgetall(f"tocsin:{name}.msgs")
    originals = [(id_, body) for id_, body in answer.items() if not id_.startswith(_COPY)]
    for message_id, body in originals[:_COPIES]:
        fresh = _COPY + uuid4().hex.encode()
        _push(client, name, body.replace(message_id, fresh), fresh)
        client.rpush(f"tocsin:{name}", message_id)
    return len(originals[:_COPIES])


def shuffle(site: Site) -> None:
    """Bring what waits into another order; while it is done, a check may be fetched out of order or not at all."""
    shuffled = 0
    with site.during("queue-shuffle", "redis"):
        for _ in site.until(site.span(), every_s=0.2):
            with suppress(redis.RedisError), site.world.queue() as client:
                for name in _queues():
                    ids = client.lrange(f"tocsin:{name}", 0, -1)
                    if len(ids) > 1:
                        site.chance.shuffle(ids)
                        _reorder(client, f"tocsin:{name}", ids)
                        shuffled += 1
        if not shuffled:
            raise InVain("never did two wait at once")


def stale(site: Site) -> None:
    """Checks of an hour ago come late: they may be counted, not judged."""
    hour_ago_ms = int(time.time() * 1000) - _HOUR_MS
    with site.world.database() as connection:
        rows = connection.execute(
            "SELECT monitor_no, config_version, interval_s FROM monitors WHERE enabled"
        ).fetchall()
    checks = [Check(no, version, hour_ago_ms - hour_ago_ms % (interval * 1000), Kind.SCHEDULED)
              for no, version, interval in rows]  # fmt: skip
    with site.world.queue() as client:
        for lane in Lane:
            chosen = tuple(site.chance.sample(checks, min(BATCH_SIZE, len(checks))))
            _push_batch(client, lane, chosen)
    site.moment("queue-stale", "redis")


def corrupt(site: Site) -> None:
    """Garbage of three kinds: not JSON, not a message, not a batch."""
    with site.world.queue() as client:
        for lane in Lane:
            message_id = uuid4().hex
            unreadable = _message(lane, {"v": 99, "c": "?"}, message_id)
            _push(client, queue_name(lane, _LOCATION), unreadable, message_id)
        for name in _queues():
            for body in (b"\xff\xfe not json", b'{"no": "message"}'):
                _push(client, name, body, uuid4().hex)
    site.moment("queue-corrupt", "redis")


def _queues() -> tuple[str, ...]:
    return (*(queue_name(lane, _LOCATION) for lane in Lane), "notify")


def _push_batch(client: redis.Redis, lane: Lane, checks: tuple[Check, ...]) -> None:
    message_id = uuid4().hex
    body = _message(lane, encode_batch(Batch("stale", 0, checks)), message_id)
    _push(client, queue_name(lane, _LOCATION), body, message_id)


def _message(lane: Lane, payload: object, message_id: str) -> bytes:
    """A message as Dramatiq writes it."""
    return json.dumps(
        {
            "queue_name": queue_name(lane, _LOCATION),
            "actor_name": actor_name(lane),
            "args": [payload],
            "kwargs": {},
            "options": {"redis_message_id": message_id},
            "message_id": str(uuid4()),
            "message_timestamp": int(time.time() * 1000),
        }
    ).encode()


def _push(client: redis.Redis, name: str, body: bytes, message_id: str | bytes) -> None:
    with client.pipeline(transaction=True) as pipe:
        pipe.hset(f"tocsin:{name}.msgs", message_id, body)
        pipe.rpush(f"tocsin:{name}", message_id)
        pipe.execute()


def _reorder(client: redis.Redis, key: str, ids: list[bytes]) -> None:
    # Only what still waits: one that was fetched meanwhile would otherwise run twice, which is another fault.
    script = """
    local there = {}
    for _, id in ipairs(redis.call('lrange', KEYS[1], 0, -1)) do there[id] = true end
    for _, id in ipairs(ARGV) do
      if there[id] then redis.call('lrem', KEYS[1], 1, id); redis.call('rpush', KEYS[1], id) end
    end
    """
    client.eval(script, 1, key, *ids)


def _tell(site: Site, fault: str, command: str) -> None:
    with site.world.queue() as client:
        client.execute_command(command)
    site.moment(fault, "redis")
