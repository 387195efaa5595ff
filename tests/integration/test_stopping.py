"""The end of a process that works on queues: every thread at work is waited for, and what is cut off goes back."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable

import dramatiq
import pytest

from common.broker import NOTIFY_QUEUE, EventLoop, QueueBroker, make_broker, run_worker
from common.stopping import handing_back, stop_worker
from tests.stack import wait_until


def consuming(
    redis_url: str, work: Callable[[int], Awaitable[None]]
) -> tuple[QueueBroker, dramatiq.Worker, dramatiq.Actor]:
    """A broker and its worker, as the roles make them, with one actor."""
    broker = make_broker(redis_url, middleware=[EventLoop()])

    @dramatiq.actor(broker=broker, actor_name="work", queue_name=NOTIFY_QUEUE)
    async def actor(number: int) -> None:
        with handing_back():
            await work(number)

    return broker, run_worker(broker, [NOTIFY_QUEUE]), actor


def test_a_thread_behind_many_idle_ones_may_end_what_it_does(redis_url: str) -> None:
    broker = make_broker(redis_url)
    begun, ended = threading.Event(), threading.Event()

    @dramatiq.actor(broker=broker, queue_name=NOTIFY_QUEUE)
    def work() -> None:
        if worker.workers.index(threading.current_thread()) < len(worker.workers) // 2 or begun.is_set():
            return
        begun.set()
        time.sleep(4.0)
        ended.set()

    worker = run_worker(broker, [NOTIFY_QUEUE])
    while not begun.wait(0.2):
        work.send()
    # What was sent last may still be on its way to a thread.
    wait_until(lambda: not broker.client.exists(f"tocsin:{NOTIFY_QUEUE}"), 60, "the queue being empty")
    began_s = time.monotonic()
    stop_worker(broker, worker, 30.0)
    assert ended.is_set()
    assert time.monotonic() - began_s < 25.0
    assert broker.client.keys("tocsin:__acks__*") == broker.client.keys("tocsin:notify*") == []


def test_what_is_cut_off_is_handed_back_without_a_word_and_done_by_another(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    begun, done = threading.Event(), threading.Event()

    async def hang(_number: int) -> None:
        begun.set()
        await asyncio.sleep(60)

    async def work(_number: int) -> None:
        done.set()

    broker, worker, actor = consuming(redis_url, hang)
    actor.send(7)
    assert begun.wait(60)
    began_s = time.monotonic()
    with caplog.at_level(logging.INFO):
        stop_worker(broker, worker, 0.5)
    assert time.monotonic() - began_s < 20
    assert [record for record in caplog.records if record.levelno > logging.INFO or record.exc_info] == []
    broker, another, _ = consuming(redis_url, work)
    try:
        assert done.wait(60)
        wait_until(lambda: broker.client.keys("tocsin:__acks__*") == [], 60, "the message being done")
    finally:
        stop_worker(broker, another, 2.0)
    assert broker.client.keys("tocsin:notify*") == []
