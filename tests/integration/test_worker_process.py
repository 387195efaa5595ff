"""Workers as real processes: whatever is killed, repeated, garbled or mute, no false incident and no lost outage."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from common.domain.checks import Kind, Lane
from common.embedded import EmbeddedServers
from migrations.run import migrate
from tests.dns_server import SILENT, DnsServer, Zone
from tests.sink import Answer, Sink
from tests.stack import Queue, Roles, Seed, scheduled, wait_until

UNKNOWN, UP, DOWN = "0", "1", "3"

#: A target that hangs takes its timeout of 10 s: who waits for one takes longer than this, who does not, a moment.
HELD_UP_S = 8


@pytest.fixture
def seed(database_url: str) -> Seed:
    return Seed(database_url)


@pytest.fixture
def roles(database_url: str, redis_url: str) -> Iterator[Roles]:
    with Roles(database_url, redis_url) as roles:
        yield roles


@pytest.fixture
def queue(redis_url: str) -> Queue:
    return Queue(redis_url)


@pytest.fixture
def target() -> Iterator[Sink]:
    """A web server: /up answers, /down fails, /slow takes 1 s, /hang never answers in time."""
    with Sink() as sink:
        sink.default["/down"] = Answer(status=500)
        sink.default["/slow"] = Answer(wait_s=1.0)
        sink.default["/hang"] = Answer(wait_s=30)
        yield sink


def done_with(queue: Queue) -> bool:
    """Nothing waits and nobody works on anything, in no lane: what takes too long moves over."""
    return not any(queue.waiting(lane) or queue.held(lane) for lane in Lane)


@contextmanager
def name_server(zones: dict[str, Zone]) -> Iterator[str]:
    """A name server on a loop of its own; its address."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(DnsServer(zones).start(), loop).result(60)
    yield server.address
    loop.call_soon_threadsafe(server.close)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)
    loop.close()


def test_an_outage_leads_from_the_queue_to_one_incident_and_recovery_resolves_it(
    seed: Seed, roles: Roles, queue: Queue, target: Sink
) -> None:
    up, down = seed.monitors([target.url("/up"), target.url("/down")])
    roles.worker()
    now = seed.now_ms()
    queue.push([scheduled(no, now) for no in (up, down)])
    wait_until(lambda: seed.count("results") == 2, 60)
    assert [(no, verdict) for no, _, verdict, _ in seed.results()] == [(up, UP), (down, DOWN)]

    target.default["/down"] = Answer()
    queue.push([scheduled(no, now + 1) for no in (up, down)])
    wait_until(lambda: seed.run("SELECT 1 FROM incidents WHERE status = 'resolved'"), 60)
    events = seed.run("SELECT version, type FROM incident_events ORDER BY version")
    assert events == [(1, "opened"), (2, "resolved")]
    assert seed.count("outbox") == 2


def test_a_message_that_comes_twice_or_late_changes_nothing_but_missing_results(
    seed: Seed, roles: Roles, queue: Queue, target: Sink
) -> None:
    numbers = seed.monitors([target.url("/up")] * 10, failure_threshold=2, interval_s=60)
    roles.worker()
    now = seed.now_ms()
    checks = [scheduled(no, now + slot * 10) for slot in range(10) for no in numbers]
    random.Random(7).shuffle(checks)
    for start in range(0, 100, 10):
        queue.push(checks[start : start + 10])
        queue.push(checks[start : start + 10])  # redelivered
    wait_until(lambda: seed.count("results") == 100, 60)
    wait_until(lambda: done_with(queue), 60)

    assert {(no, at) for no, at, *_ in seed.results()} == {(c.monitor_no, c.scheduled_at_ms) for c in checks}
    before = seed.run("SELECT monitor_no, health, last_slot, up, not_up FROM votes ORDER BY 1")
    # The same messages once more, and some an hour old, while the targets are down: nobody minds what they say now.
    target.default["/up"] = Answer(status=500)
    queue.push(checks)
    queue.push([scheduled(no, now - 3_600_000) for no in numbers])
    wait_until(lambda: done_with(queue), 60)
    assert seed.run("SELECT monitor_no, health, last_slot, up, not_up FROM votes ORDER BY 1") == before
    assert (seed.count("results"), seed.count("incidents")) == (100, 0)


def test_garbage_is_set_aside_and_the_queue_goes_on(seed: Seed, roles: Roles, queue: Queue, target: Sink) -> None:
    number = seed.monitor(target.url("/up"))
    worker = roles.worker()
    now = seed.now_ms()
    message = b'{"queue_name":"checks.local","actor_name":"check_fast","args":%s,"kwargs":{},"options":'
    message += b'{"redis_message_id":"ID"},"message_id":"m","message_timestamp":1}'
    garbage = [b"{not json", b"[]", b"null", b"\xff\xfe", b'{"args": 1}', b"{}"]
    for body in garbage:
        queue.push_raw(body)
    # Dramatiq's own envelope is good, what it carries is not: a version of the future, a batch that is none.
    for args in (b'[{"v":99,"b":"x","e":1,"c":[]}]', b'["text"]', b'[{"v":1,"b":"x","e":1,"c":[[1]]}]'):
        queue.push_raw(message % args)
    queue.push([scheduled(number, now)])

    wait_until(lambda: seed.count("results") == 1, 60, "the good message behind the garbage")
    wait_until(lambda: queue.set_aside() == len(garbage) + 3, 60, "all garbage being set aside")
    wait_until(lambda: queue.held() == 0, 60, "the good message being acknowledged")
    assert worker.alive
    assert not worker.logged("raw")  # no traceback on stderr
    queue.push([scheduled(number, now + 1)])
    wait_until(lambda: seed.count("results") == 2, 60)


def test_a_check_that_fails_inside_us_is_unknown_and_harms_no_other(
    seed: Seed, roles: Roles, queue: Queue, target: Sink
) -> None:
    # As a newer version stores it while this one still runs.
    future = seed.monitor(target.url("/up"), type="carrier-pigeon")
    others = seed.monitors([target.url("/up"), target.url("/slow")])
    worker = roles.worker()
    # In the lane that nothing is moved out of: however slow this machine is, each target is asked once.
    queue.push([scheduled(no, seed.now_ms()) for no in (future, *others)], Lane.SLOW)
    wait_until(lambda: seed.count("results") == 3, 60)
    wait_until(lambda: done_with(queue), 60, "the message done at once, with no second try")
    assert [(no, verdict) for no, _, verdict, _ in seed.results()] == [(future, UNKNOWN), *((no, UP) for no in others)]
    assert seed.count("incidents") == 0 and not queue.set_aside(Lane.SLOW)
    worker.wait_for("probe_failed")
    assert len(worker.logged("probe_failed")) == 1
    assert sum(target.url(path).endswith(r.path) for r in target.received for path in ("/up", "/slow")) == 2


def test_what_a_killed_worker_held_is_made_up_by_another(seed: Seed, roles: Roles, queue: Queue, target: Sink) -> None:
    # The victim gets no answer, however long this machine needs to kill it.
    numbers = seed.monitors([target.url("/hang")] * 20, interval_s=60, timeout_s=30.0)
    victim = roles.worker()
    now = seed.now_ms()
    queue.push([scheduled(no, now) for no in numbers])
    wait_until(lambda: target.asked["/hang"] == 20, 60)
    victim.kill()
    assert seed.count("results") == 0
    target.default["/hang"] = Answer()
    roles.worker()

    def made_up() -> bool:
        queue.reap()
        return seed.count("results") == 20

    wait_until(made_up, 60)
    assert seed.count("incidents") == 0
    wait_until(lambda: done_with(queue), 60)


def test_a_target_that_hung_up_while_we_stood_still_is_not_called_down(
    seed: Seed, roles: Roles, queue: Queue, target: Sink
) -> None:
    target.default["/impatient"] = Answer(wait_s=30)
    numbers = seed.monitors([target.url("/impatient")] * 5)
    worker = roles.worker()
    slot = seed.now_ms()
    queue.push([scheduled(no, slot) for no in numbers])
    wait_until(lambda: target.asked["/impatient"] == 5, 60)
    worker.freeze()
    target.hang_up()  # and not before
    time.sleep(3.0)
    worker.thaw()
    wait_until(lambda: seed.count("results") == 5, 60)
    assert {verdict for *_, verdict, _ in seed.results()} == {UNKNOWN}
    assert seed.count("incidents") == 0

    # The same while nobody stops: now it is the target's fault.
    target.default["/impatient"] = Answer(wait_s=0.2, reset=True)
    queue.push([scheduled(no, slot + 1) for no in numbers])
    wait_until(lambda: seed.count("incidents") == 5, 60)


def test_a_worker_that_is_asked_to_stop_finishes_what_it_probes_and_takes_nothing_more(
    seed: Seed, roles: Roles, queue: Queue, target: Sink
) -> None:
    # Shorter than what moves to the slow lane, longer than a busy machine needs to hear of SIGTERM.
    target.default["/slower"] = Answer(wait_s=1.7)
    slow, up = seed.monitors([target.url("/slower"), target.url("/up")])
    for _ in range(3):  # a machine that stutters may hear of it later: whoever never does, fails each time
        worker = roles.worker()
        now = seed.now_ms()
        queue.push([scheduled(slow, now)])
        wait_until(lambda: queue.held() == 1, 60)
        worker.process.terminate()
        time.sleep(0.9)
        queue.push([scheduled(up, now)])
        assert worker.wait(60) == 0
        if queue.waiting():
            break
        seed.run("DELETE FROM results")

    assert [(no, verdict) for no, _, verdict, _ in seed.results()] == [(slow, UP)]
    assert worker.logged("worker_stopped")[0]["uncommitted"] == 0
    # Nothing that it could not do any more stayed in its memory meanwhile.
    assert [check.monitor_no for check in queue.waiting()] == [up]
    assert queue.held() == 0


def test_a_slow_check_is_waited_for_when_the_worker_is_asked_to_stop(
    seed: Seed, roles: Roles, queue: Queue, target: Sink
) -> None:
    target.default["/patient"] = Answer(wait_s=5.0)
    number = seed.monitor(target.url("/patient"), interval_s=60, timeout_s=30.0)
    worker = roles.worker()
    queue.push([scheduled(number, seed.now_ms())], Lane.SLOW)
    wait_until(lambda: target.asked["/patient"] == 1, 60)
    assert worker.terminate(60) == 0
    assert [(no, verdict) for no, _, verdict, _ in seed.results()] == [(number, UP)]
    assert (queue.held(Lane.SLOW), queue.waiting(Lane.SLOW)) == (0, [])
    assert [line for line in worker.lines if "exception" in line or line["event"] == "raw"] == []


def test_mute_names_and_hanging_targets_hold_nobody_up(seed: Seed, roles: Roles, queue: Queue, target: Sink) -> None:
    port = target.port
    zones = {"up.test": Zone(("127.0.0.1",)), "hang.test": Zone(("127.0.0.1",))}
    zones |= {f"mute{number}.test": Zone(mute=SILENT) for number in range(40)}
    with name_server(zones) as dns:
        healthy = seed.monitors([f"http://up.test:{port}/up"] * 100, interval_s=60)
        hanging = seed.monitors([f"http://hang.test:{port}/hang"] * 300, interval_s=60)
        mute = seed.monitors([f"http://mute{number}.test:{port}/up" for number in range(40)], interval_s=60)
        roles.worker(TOCSIN_DNS_SERVERS=dns)
        first = seed.now_ms()
        checks = [scheduled(no, first) for no in (*healthy, *hanging, *mute)]
        random.Random(7).shuffle(checks)
        queue.push(checks)
        rounds, waited_for = [first], [0]
        for _ in range(4):  # the next slots of the healthy ones, while all the others still hang
            time.sleep(0.8)
            rounds.append(seed.now_ms())
            queue.push([scheduled(no, rounds[-1]) for no in healthy])
            wait_until(lambda: len(seed.results(healthy[0])) == len(rounds), HELD_UP_S, "a healthy target's check")
            waited_for.append(queue.held(Lane.SLOW))
        wait_until(lambda: queue.held(Lane.FAST) == 0, HELD_UP_S, "the fast lane being empty")
        assert max(*waited_for, queue.held(Lane.SLOW)) >= 3  # that is where those that hang are waited for
        wait_until(lambda: seed.count("results") == 5 * 100 + 300 + 40, 60, "the end of the hanging ones")

    verdicts = {no: verdict for no, _, verdict, _ in seed.results()}
    assert {verdicts[no] for no in healthy} == {UP}
    assert {verdicts[no] for no in hanging} == {DOWN}
    reasons = seed.run("SELECT DISTINCT reason, slow FROM votes WHERE monitor_no = ANY(%s)", hanging)
    assert reasons == [(40, True)]  # Reason.TIMEOUT, and from now on they start in the slow lane
    slowest_ms = seed.run("SELECT max(total_ms) FROM results WHERE monitor_no = ANY(%s)", healthy)[0][0]
    assert slowest_ms < HELD_UP_S * 1000
    assert seed.run("SELECT count(*) FROM incidents i JOIN monitors m ON m.id = i.monitor_id"
                    " WHERE m.monitor_no = ANY(%s)", healthy) == [(0,)]  # fmt: skip


@pytest.fixture
def own_servers() -> Iterator[tuple[EmbeddedServers, str, str]]:
    """PostgreSQL and Valkey of this test's own, to be killed; their URLs."""
    data_dir = Path(tempfile.mkdtemp(prefix="tcs-"))
    data_dir.chmod(0o755)
    with EmbeddedServers(data_dir, lambda _line: None) as servers:
        urls = servers.start()
        migrate(urls.database_url)
        yield servers, urls.database_url, urls.redis_url
    shutil.rmtree(data_dir, ignore_errors=True)


def revive(servers: EmbeddedServers, name: str, answers: Callable[[], object]) -> None:
    """Kill a server as a crash would, and start it again as the supervisor does, until it answers."""
    os.kill(servers.pids()[name], signal.SIGKILL)

    def back() -> bool:
        servers.ensure_alive()
        try:
            answers()
        except Exception:
            return False
        return True

    time.sleep(0.5)
    wait_until(back, 60, f"{name} coming back")


def unhurried() -> bool:
    """Who looks again at once takes the time that the target, a thread of ours, needs to answer."""
    time.sleep(0.3)
    return True


def test_valkey_and_then_postgresql_crash_and_nobody_is_called_down(
    own_servers: tuple[EmbeddedServers, str, str], target: Sink
) -> None:
    servers, database_url, redis_url = own_servers
    seed, queue = Seed(database_url), Queue(redis_url)
    # The target is a thread of ours: a second without it may come, four hardly do.
    numbers = seed.monitors([target.url("/up")] * 30, interval_s=4, timeout_s=4.0)
    with Roles(database_url, redis_url) as roles:
        roles.leader()
        workers = [roles.worker(), roles.worker()]
        wait_until(lambda: unhurried() and seed.count("results") > 60, 60)

        revive(servers, "valkey", queue.redis.ping)
        back_ms = seed.now_ms()
        everybody = "SELECT count(DISTINCT monitor_no) FROM results WHERE scheduled_at > to_timestamp(%s)"
        wait_until(
            lambda: unhurried() and seed.run(everybody, back_ms / 1000) == [(30,)], 60,
            "checks after the queue's restart",
        )  # fmt: skip

        revive(servers, "postgres", seed.now_ms)
        back_ms = seed.now_ms()
        wait_until(
            lambda: unhurried() and seed.run(everybody, back_ms / 1000) == [(30,)], 60,
            "checks after the database's restart",
        )  # fmt: skip
        wait_until(lambda: not any(queue.waiting(lane) for lane in Lane), 60, "the backlog's end")

        assert all(worker.alive for worker in workers)  # no crash loop
        verdicts = dict(seed.run("SELECT verdict::text, count(*) FROM results GROUP BY 1"))
        # A worker that this machine left standing for a while says so.
        assert verdicts.keys() <= {UP, UNKNOWN} and verdicts[UP] > verdicts.get(UNKNOWN, 0), verdicts
        assert seed.count("incidents") == 0
        twice = "SELECT count(*) - count(DISTINCT (monitor_no, scheduled_at)) FROM results"
        assert seed.run(twice) == [(0,)]
        assert len(numbers) == 30
        for worker in workers:
            assert worker.terminate(60) == 0
            assert worker.logged("worker_stopped")[0]["uncommitted"] == 0


def test_a_check_now_is_stored_and_never_votes(seed: Seed, roles: Roles, queue: Queue, target: Sink) -> None:
    number = seed.monitor(target.url("/down"))
    roles.worker()
    queue.push([scheduled(number, seed.now_ms(), kind=Kind.MANUAL)], Lane.URGENT)
    wait_until(lambda: seed.count("results") == 1, 60)
    assert seed.results()[0][2:] == (DOWN, str(int(Kind.MANUAL)))
    assert seed.run("SELECT health, last_slot = 'epoch' FROM votes") == [(0, True)]
    assert seed.count("incidents") == 0
