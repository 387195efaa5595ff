"""What chaos has found in the product, each as the smallest test that shows it."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest
import redis
from dramatiq.errors import BrokerConnectionError

import common.broker
from common.domain.checks import Reason
from common.http.resolver import Resolution, Resolver
from tests.dns_server import SILENT, DnsServer, Zone
from worker.canary import Canary


def test_a_check_that_began_while_the_network_was_lost_is_not_believed_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost = True

    async def reach(_target: str, _names: object) -> bool:
        return not lost

    monkeypatch.setattr("worker.canary._reach", reach)

    async def ask() -> list[bool]:
        nonlocal lost
        canary = Canary(("a:1",))
        said = [await canary.alive(time.monotonic())]
        began_s = time.monotonic()
        lost = False
        await asyncio.sleep(0.11)  # failures of one moment share an attempt
        said.append(await canary.alive(began_s))
        await asyncio.sleep(0.11)
        said += [await canary.alive(began_s), await canary.alive(time.monotonic())]
        return said

    assert asyncio.run(ask()) == [False, False, False, True]


def test_without_any_trouble_every_check_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def reach(_target: str, _names: object) -> bool:
        return True

    monkeypatch.setattr("worker.canary._reach", reach)

    async def ask() -> bool:
        canary = Canary(("a:1",))
        await canary.alive()
        began_s = time.monotonic()
        await asyncio.sleep(0.11)
        return await canary.alive(began_s)

    assert asyncio.run(ask())


def test_a_worker_that_starts_without_a_network_does_not_believe_what_began_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first check that fails may ask only when the network is there: it was sent before."""

    async def reach(_target: str, _names: object) -> bool:
        return True

    monkeypatch.setattr("worker.canary._reach", reach)
    assert not asyncio.run(Canary(("a:1",)).alive(time.monotonic() - 1))


@pytest.mark.parametrize("verb", ["ack", "nack"])
@pytest.mark.parametrize(
    "error",
    [
        redis.TimeoutError("no answer"),
        redis.ResponseError("MISCONF no space left on device"),
        redis.ResponseError("OOM command not allowed"),
        redis.ConnectionError("gone"),
    ],
    ids=str,
)
def test_a_message_that_redis_does_not_let_go_is_let_go_later(verb: str, error: redis.RedisError) -> None:
    def refuse(*_: object) -> None:
        raise error

    consumer = common.broker._Consumer.__new__(common.broker._Consumer)
    consumer.broker = cast("Any", SimpleNamespace(do_ack=refuse, do_nack=refuse))
    consumer.queue_name, consumer.queued_message_ids = "checks.local", set()
    message = SimpleNamespace(message_id="m", options={"redis_message_id": "r"})
    with pytest.raises(BrokerConnectionError):  # which Dramatiq takes as a reason to try again
        getattr(consumer, verb)(message)


class Held:
    """Redis as a broker sees it: what it says we hold."""

    def __init__(self, *ids: str) -> None:
        self.ids = set(ids)
        self.requeued: list[str] = []

    def smembers(self, _key: str) -> set[bytes]:
        return {id_.encode() for id_ in self.ids}

    def requeue(self, _queue: str, *ids: str) -> None:
        self.requeued += sorted(ids)


@pytest.mark.parametrize(
    ("queue", "taken_back"),
    [
        # What is in hand stays there.
        ("checks.local", ["lost"]),
        # With its consumer Dramatiq forgets all that is delayed.
        ("checks.local.DQ", ["lost", "ours"]),
    ],
)
def test_what_was_fetched_and_never_arrived_is_put_back(
    queue: str, taken_back: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = common.broker.make_broker("redis://127.0.0.1:1/0")
    redis_ = Held("lost", "ours")
    monkeypatch.setattr(broker, "client", redis_)
    monkeypatch.setattr(broker, "do_requeue", redis_.requeue, raising=False)
    monkeypatch.setattr(broker, "do_fetch", lambda *_: [], raising=False)
    broker.in_hand(queue).add("ours")
    consumer = broker.consume(queue)
    next(consumer)
    assert redis_.requeued == taken_back
    next(consumer)
    assert redis_.requeued == taken_back  # once, when it begins


def test_nothing_is_put_back_when_all_that_we_hold_is_in_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = common.broker.make_broker("redis://127.0.0.1:1/0")
    redis_ = Held("ours")
    monkeypatch.setattr(broker, "client", redis_)
    monkeypatch.setattr(broker, "do_fetch", lambda *_: [], raising=False)
    broker.in_hand("checks.local").add("ours")
    next(broker.consume("checks.local"))
    assert redis_.requeued == []


def test_a_name_server_that_is_back_answers_the_next_look_up() -> None:
    async def look_up() -> tuple[Resolution, Resolution]:
        zone = Zone(("192.0.2.1",), mute=SILENT)
        server = await DnsServer({"shop.test": zone}).start()
        resolver = Resolver((server.address,))
        try:
            lost = await resolver.resolve("shop.test", 0.2)
            zone.mute = frozenset()
            return lost, await resolver.resolve("shop.test", 0.5)
        finally:
            resolver.close()
            server.close()

    lost, back = asyncio.run(look_up())
    assert lost.reason is Reason.DNS_TIMEOUT
    assert back.addresses == ("192.0.2.1",)
