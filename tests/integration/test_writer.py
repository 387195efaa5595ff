"""The writer on a real database: whatever races, repeats or breaks, every result is judged once and nothing is half."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

import pytest

from common import telemetry
from common.clock import utc_now
from common.domain.checks import Check, Kind, Observation, Phases, Reason, Result, Verdict
from common.domain.errors import Unavailable
from common.domain.health import Health, Policy
from common.domain.incident import Status
from common.domain.monitors import MonitorConfig
from common.store import incident_changes, incidents, result_log, votes
from common.store.engine import Database, DatabaseRole
from common.store.incidents import Deed
from tests.conftest import Databases
from tests.stack import Seed
from worker.judge import Judged
from worker.signs import Tally
from worker.writer import FLUSH_SIZE, Ticket, Writer

U, G, D, N = Verdict.UP, Verdict.DEGRADED, Verdict.DOWN, Verdict.UNKNOWN


@pytest.fixture
def seed(database_url: str) -> Seed:
    return Seed(database_url)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


class Bench:
    """A writer without its thread, monitors to write about, and the moment their slots begin at."""

    def __init__(self, databases: Databases, seed: Seed, loop: asyncio.AbstractEventLoop) -> None:
        self.databases, self.seed, self.loop = databases, seed, loop
        self.start_ms = seed.now_ms() - 600_000
        self.near = seed.location()
        self.writer = self.another()
        self.configs: dict[int, MonitorConfig] = {}

    def another(self, database: Database | None = None) -> Writer:
        """A further writer, as another process would have it."""
        return Writer(database or self.databases.worker, self.loop, sleep=lambda _s: None)

    def monitor(self, *, locations: Sequence[int] | None = None, severity: str = "error", **policy: int) -> int:
        places = list(locations or [self.near])
        number = self.seed.monitor("http://shop", location_ids=places, severity=severity)
        id_ = self.seed.run("SELECT id::text FROM monitors WHERE monitor_no = %s", number)[0][0]
        self.configs[number] = MonitorConfig(
            number,
            id_,
            self.seed.org_id,
            1,
            "http",
            "http://shop",
            "http://shop",
            30,
            10,
            Policy(**{"failure_threshold": 2, **policy}),
            tuple(places),
        )
        return number

    def judged(
        self, number: int, slot: int, verdict: Verdict, *, kind: Kind = Kind.SCHEDULED, location: int | None = None,
        message: str = "no answer", code: int = 200, late_ms: int = 0,
    ) -> Judged:  # fmt: skip
        config = self.configs[number]
        at_ms = self.start_ms + slot * 30_000
        ok = verdict is U
        observation = Observation(
            verdict, Reason.NONE if ok else Reason.TIMEOUT, "" if ok else message, code, Phases(total_ms=5)
        )
        check = Check(number, config.config_version, at_ms, kind)
        result = Result(check, location or self.near, observation, at_ms + late_ms + 50)
        return Judged(result, config, started_ms=at_ms + late_ms)

    def submit(self, items: Sequence[Judged], writer: Writer | None = None) -> Ticket:
        ticket = Ticket(self.loop)
        for item in items:
            (writer or self.writer).submit(item, ticket)
        return ticket

    def write(self, number: int, verdicts: Sequence[Verdict], *, first: int = 1) -> None:
        """Verdicts in slot order, each in a flush of its own."""
        for slot, verdict in enumerate(verdicts, start=first):
            self.submit([self.judged(number, slot, verdict)])
            self.drain()

    def drain(self, writer: Writer | None = None) -> None:
        writer = writer or self.writer
        for _ in range(200):
            if not writer.waiting:
                return
            writer.step()
        raise AssertionError(f"{writer.waiting} results are still waiting")

    def settled(self, ticket: Ticket) -> bool:
        """Whether the batch may be acknowledged."""
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()
        return ticket._open == 0

    def slots(self, number: int) -> list[int]:
        return [(at - self.start_ms) // 30_000 for _, at, *_ in self.seed.results(number)]

    def events(self) -> list[str]:
        rows = self.seed.run(
            "SELECT e.type FROM incident_events e JOIN incidents i ON i.id = e.incident_id"
            " ORDER BY i.opened_at, i.id, e.version"
        )
        return [row[0] for row in rows]

    def vote(self, number: int, location: int | None = None) -> tuple[Health, int, int]:
        """(health, slot number, version)"""
        row = self.seed.run(
            "SELECT health, extract(epoch FROM last_slot) * 1000, version FROM votes"
            " WHERE monitor_no = %s AND location = %s", number, location or self.near,
        )[0]  # fmt: skip
        return Health(row[0]), (int(row[1]) - self.start_ms) // 30_000, row[2]

    def snapshot(self) -> list[object]:
        """Everything that a flush may change."""
        tables = ("votes", "monitor_states", "results", "result_details", "incidents", "incident_events", "outbox")
        return [self.seed.run(f"SELECT t::text FROM {table} t ORDER BY 1") for table in tables]


@pytest.fixture
def bench(databases: Databases, seed: Seed, loop: asyncio.AbstractEventLoop) -> Bench:
    return Bench(databases, seed, loop)


def test_a_flush_stores_everything_and_settles_its_batches(bench: Bench) -> None:
    number = bench.monitor()
    tickets = [bench.submit([bench.judged(number, slot, U)]) for slot in (1, 2, 3)]
    assert not bench.settled(tickets[0])
    bench.drain()
    assert all(bench.settled(ticket) for ticket in tickets)
    assert bench.slots(number) == [1, 2, 3]
    assert bench.vote(number)[:2] == (Health.UP, 3)


def test_what_a_heartbeat_says_does_not_show_that_its_location_sees(bench: Bench) -> None:
    seen = Tally(lambda: 7.0)
    writer = Writer(bench.databases.worker, bench.loop, sleep=lambda _s: None, tally=seen)
    number, heartbeat = bench.monitor(), bench.monitor()
    bench.configs[heartbeat] = replace(bench.configs[heartbeat], type="heartbeat")
    bench.submit([bench.judged(heartbeat, slot, verdict) for slot, verdict in ((1, U), (2, D))], writer)
    bench.drain(writer)
    assert bench.slots(heartbeat) == [1, 2]
    assert (seen.results, seen.saw, seen.judged_at) == (0, 0, None)
    bench.submit([bench.judged(number, 1, U), bench.judged(heartbeat, 3, U)], writer)
    bench.drain(writer)
    assert (seen.results, seen.saw, seen.judged_at) == (1, 1, 7.0)


def test_an_outage_is_one_incident_with_its_outbox_row_and_its_state(bench: Bench) -> None:
    number = bench.monitor()
    bench.write(number, [U, D, D, D, D, U, U])
    assert bench.events() == ["opened", "resolved"]
    assert bench.seed.count("outbox") == 2
    rows = bench.seed.run("SELECT health, incident_worst, open_incident, last_resolved FROM monitor_states")
    assert rows == [(Health.UP, None, None, None)]


def test_a_long_backlog_with_a_short_outage_inside_opens_and_resolves(bench: Bench) -> None:
    number = bench.monitor()
    backlog = [bench.judged(number, slot, D if 20 <= slot < 23 else U) for slot in range(1, 60)]
    ticket = bench.submit(backlog)
    bench.drain()
    assert bench.events() == ["opened", "resolved"]
    assert bench.slots(number) == list(range(1, 60))
    assert bench.settled(ticket)
    opened, resolved = bench.seed.run("SELECT opened_at, resolved_at FROM incidents")[0]
    assert (resolved - opened).total_seconds() == 60  # as it was, not as it was written


def test_the_same_flush_again_changes_nothing(bench: Bench) -> None:
    number, other = bench.monitor(), bench.monitor()
    items = [bench.judged(n, slot, v) for slot, v in enumerate([U, D, D, N, U, D]) for n in (number, other)]
    bench.submit(items)
    bench.drain()
    before = bench.snapshot()
    ticket = bench.submit(items)
    bench.drain()
    assert bench.snapshot()[1:] == before[1:]  # votes: an unknown that comes twice may count up the version
    assert [bench.vote(n)[:2] for n in (number, other)] == [(Health.UP, 5)] * 2
    assert bench.settled(ticket)


def test_slots_that_arrive_out_of_order_are_stored_and_do_not_vote(bench: Bench) -> None:
    number = bench.monitor(failure_threshold=1)
    for slot, verdict in ((5, U), (3, D), (4, D), (6, U), (1, D)):
        bench.submit([bench.judged(number, slot, verdict)])
        bench.drain()
    assert bench.slots(number) == [1, 3, 4, 5, 6]
    assert bench.events() == []
    assert bench.vote(number)[:2] == (Health.UP, 6)


def test_what_was_seen_before_does_not_end_an_outage_that_was_seen_since(bench: Bench) -> None:
    number = bench.monitor(failure_threshold=1)
    seen = []
    for item in (
        bench.judged(number, 1, D, late_ms=40_000),  # its slot was late: what it saw is newer …
        bench.judged(number, 2, U),  # … than what the next slot's check saw, which was committed after it
        bench.judged(number, 3, D),
        bench.judged(number, 4, U),
    ):
        bench.submit([item])
        bench.drain()
        seen += bench.seed.run("SELECT last_verdict FROM votes WHERE monitor_no = %s", number)[0]
    assert seen == [D, D, D, U]
    assert bench.slots(number) == [1, 2, 3, 4]
    assert bench.events() == ["opened", "resolved"]
    assert bench.vote(number)[:2] == (Health.UP, 4)


def test_of_two_writers_on_one_monitor_the_loser_judges_again_on_top_and_nothing_is_lost(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, calm = bench.monitor(), bench.monitor()
    rival = bench.another()
    first = bench.submit([bench.judged(number, 1, D), bench.judged(calm, 1, U)])
    bench.submit([bench.judged(number, 2, D)], rival)
    read = votes.read

    def slow_read(*args: object) -> object:
        found = read(*args)  # type: ignore[arg-type]
        monkeypatch.setattr(votes, "read", read)
        rival.step()  # the other one reads, judges and commits in between
        return found

    monkeypatch.setattr(votes, "read", slow_read)
    assert bench.writer.step()
    # Ours lost, whole: its result is not stored before its vote was judged; the calm monitor's went through.
    assert (bench.slots(number), bench.slots(calm)) == ([2], [1])
    assert not bench.settled(first)
    assert bench.writer.waiting == 1

    bench.drain()
    assert bench.settled(first)
    assert bench.slots(number) == [1, 2]
    assert bench.vote(number)[:2] == (Health.PENDING, 2)  # slot 1 came too late to vote


def test_many_writers_at_once_lose_no_result_and_open_one_incident_per_monitor(bench: Bench, database_url: str) -> None:
    numbers = [bench.monitor() for _ in range(12)]
    databases = [Database(database_url, DatabaseRole.WORKER, application="w", pool_size=1) for _ in range(4)]
    writers = [bench.another(database) for database in databases]
    items = [bench.judged(number, slot, D) for slot in range(1, 21) for number in numbers]
    for position, item in enumerate(items):
        bench.submit([item], writers[position % 4])

    def work(writer: Writer) -> None:
        deadline = time.monotonic() + 60
        while writer.waiting and time.monotonic() < deadline:
            writer.step()

    threads = [threading.Thread(target=work, args=(writer,)) for writer in writers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for database in databases:
        database.dispose()

    assert [writer.waiting for writer in writers] == [0] * 4
    assert all(bench.slots(number) == list(range(1, 21)) for number in numbers)
    assert bench.seed.run("SELECT count(*), count(DISTINCT monitor_id) FROM incidents") == [(12, 12)]
    assert all(bench.vote(number)[:2] == (Health.DOWN, 20) for number in numbers)


def test_a_vote_that_somebody_holds_is_skipped_and_everybody_else_commits(bench: Bench) -> None:
    held, free = bench.monitor(), bench.monitor()
    ticket = bench.submit([bench.judged(held, 1, U), bench.judged(free, 1, U)])
    with bench.databases.owner.begin() as connection:
        votes.lock(connection, [held])
        bench.writer.step()
        bench.writer.step()
        assert (bench.slots(held), bench.slots(free)) == ([], [1])
    bench.drain()
    assert bench.slots(held) == [1]
    assert bench.settled(ticket)


def test_a_result_that_postgresql_refuses_is_set_aside_alone(bench: Bench) -> None:
    numbers = [bench.monitor() for _ in range(20)]
    items = [bench.judged(number, 1, U) for number in numbers]
    items[13] = bench.judged(numbers[13], 1, U, code=10**6)  # does not fit its column
    ticket = bench.submit(items)
    failures = 0
    for _ in range(60):
        if not bench.writer.waiting:
            break
        try:
            bench.writer.step()
        except Exception:
            failures += 1  # the loop around it counts, logs and goes on
    assert bench.writer.waiting == 0
    assert 1 < failures < 12
    assert [number for number in numbers if bench.slots(number)] == numbers[:13] + numbers[14:]
    assert bench.vote(numbers[13])[2] == 1
    assert bench.settled(ticket)  # its message is acknowledged: it would be refused for ever

    bench.submit([bench.judged(number, 2, U) for number in numbers])
    bench.drain()
    assert all(2 in bench.slots(number) for number in numbers)


def test_a_culprit_in_front_is_found_with_few_failures(bench: Bench) -> None:
    number = bench.monitor()
    bench.submit([bench.judged(number, 1, U, code=10**6), *(bench.judged(number, slot, U) for slot in range(2, 400))])
    failures = 0
    while bench.writer.waiting:
        try:
            bench.writer.step()
        except Exception:
            failures += 1
    assert failures == 2  # each costs a growing pause, in which nothing is written
    assert len(bench.slots(number)) == 398


def test_without_a_database_everything_is_kept_and_written_when_it_is_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = bench.monitor()
    nowhere = Database("postgresql://u@127.0.0.1:1/x", DatabaseRole.WORKER, application="test")
    monkeypatch.setattr(bench.writer, "_database", nowhere)
    ticket = bench.submit([bench.judged(number, slot, D) for slot in range(1, 1_200)])
    for _ in range(5):
        with pytest.raises(Unavailable):
            bench.writer.step()
    assert bench.writer.waiting == 1_199
    assert telemetry.WRITER_WAITING._value.get() == 1_199  # somebody wants to know just now
    nowhere.dispose()
    monkeypatch.setattr(bench.writer, "_database", bench.databases.worker)
    bench.drain()
    assert len(bench.slots(number)) == 1_199
    assert bench.events() == ["opened"]
    assert bench.settled(ticket)


#: Where a writer may die: after this much of a transition's transaction.
STAGES: list[tuple[object, str]] = [
    (votes, "commit"),
    (result_log, "append"),
    (votes, "lock_states"),
    (incidents, "open_all"),
    (incidents, "alter_all"),
    (votes, "save_states"),
]


@pytest.mark.parametrize(("module", "name"), STAGES, ids=[name for _, name in STAGES])
def test_a_transition_is_one_transaction_wherever_it_breaks(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, module: object, name: str
) -> None:
    number = bench.monitor(failure_threshold=1)
    bench.write(number, [U])
    before = bench.snapshot()
    real: Callable[..., object] = getattr(module, name)

    def dies_after(*args: object, **kwargs: object) -> object:
        real(*args, **kwargs)
        raise Unavailable("killed")

    monkeypatch.setattr(module, name, dies_after)
    bench.submit([bench.judged(number, 2, D)])
    with pytest.raises(Unavailable):
        bench.writer.step()
    assert bench.snapshot() == before

    monkeypatch.setattr(module, name, real)
    bench.drain()
    assert bench.events() == ["opened"]
    assert bench.slots(number) == [1, 2]


def test_a_commit_whose_answer_is_lost_is_judged_again_without_effect(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = bench.monitor(failure_threshold=1)
    real = bench.writer._commit

    def answer_lost(flush: object) -> object:
        real(flush)  # type: ignore[arg-type]
        raise Unavailable("reset by peer")

    monkeypatch.setattr(bench.writer, "_commit", answer_lost)
    ticket = bench.submit([bench.judged(number, 1, D)])
    with pytest.raises(Unavailable):
        bench.writer.step()
    before = bench.snapshot()
    monkeypatch.setattr(bench.writer, "_commit", real)
    bench.drain()
    assert bench.snapshot() == before
    assert bench.settled(ticket)


def test_results_in_flight_when_a_monitor_is_paused_open_nothing(bench: Bench) -> None:
    number = bench.monitor(failure_threshold=1)
    in_flight = bench.judged(number, 1, D)
    with bench.databases.owner.begin() as connection:
        incidents.close_for_monitors(
            connection,
            {number: 2},
            cause={"reason": "paused", "message": ""},
            deed=Deed("tocsin", utc_now(), "r"),
        )
    bench.submit([in_flight])
    bench.drain()
    assert bench.events() == []
    assert bench.slots(number) == [1]

    bench.configs[number] = replace(bench.configs[number], config_version=2)  # resumed
    bench.write(number, [D], first=2)
    assert bench.events() == ["opened"]


def resolve_by_hand(bench: Bench) -> str:
    incident = str(bench.seed.run("SELECT id FROM incidents WHERE status <> 'resolved'")[0][0])
    with bench.databases.api.begin(bench.seed.org_id) as connection:
        incident_changes.set_status(
            connection,
            org_id=bench.seed.org_id,
            incident_id=incident,
            wanted=Status.RESOLVED,
            deed=Deed("user:alice", utc_now(), "r"),
        )
    return incident


def test_resolved_by_hand_and_still_down_opens_again_after_the_whole_threshold(bench: Bench) -> None:
    number = bench.monitor(failure_threshold=3)
    bench.write(number, [D, D, D, D])
    first = resolve_by_hand(bench)
    assert bench.events() == ["opened", "resolved"]

    bench.write(number, [D, D], first=5)
    bench.submit([bench.judged(number, 7, D, kind=Kind.CONFIRM)])  # was under way: only scheduled checks count
    bench.drain()
    assert len(bench.events()) == 2
    bench.write(number, [D], first=8)
    reopened = bench.seed.run("SELECT reopened_from::text FROM incidents WHERE status = 'open'")
    assert reopened == [(first,)]


def test_resolved_by_hand_and_recovered_makes_the_next_outage_a_new_one(bench: Bench) -> None:
    number = bench.monitor()
    bench.write(number, [D, D])
    resolve_by_hand(bench)
    bench.write(number, [D, U, D, D], first=3)
    rows = bench.seed.run("SELECT reopened_from FROM incidents WHERE status = 'open'")
    assert rows == [(None,)]


def test_the_next_outage_after_an_ordinary_recovery_is_not_called_reopened(bench: Bench) -> None:
    number = bench.monitor()
    bench.write(number, [D, D, U, D, D])
    assert bench.seed.run("SELECT count(*) FROM incidents WHERE reopened_from IS NOT NULL") == [(0,)]


def test_degraded_escalates_eases_and_resolves_within_one_incident(bench: Bench) -> None:
    number = bench.monitor(failure_threshold=1, severity="critical")
    bench.write(number, [U, G, D, G, D, U])
    assert bench.events() == ["opened", "escalated", "eased", "resolved"]
    assert bench.seed.run("SELECT severity, priority FROM incidents") == [("critical", "P1")]
    # Down again after easing is known already; the state says so all the same.
    assert bench.seed.run("SELECT type FROM outbox ORDER BY id") == [("opened",), ("escalated",), ("resolved",)]


# -- two locations --------------------------------------------------------------------------------------------------


@pytest.fixture
def far(seed: Seed) -> int:
    return seed.location("far")


def test_two_locations_that_fail_at_the_same_moment_open_one_incident(
    bench: Bench, database_url: str, far: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    near = bench.near
    numbers = [bench.monitor(locations=[near, far], failure_threshold=1) for _ in range(15)]
    bench.submit([bench.judged(number, 0, U, location=location) for number in numbers for location in (near, far)])
    bench.drain()
    ready, reading = threading.Barrier(2), threading.Barrier(2)
    read_all = votes.all_of

    def read_together(*args: object) -> object:
        found = read_all(*args)  # type: ignore[arg-type]
        with suppress(threading.BrokenBarrierError):  # the other one must not get here: it waits for the states
            reading.wait(0.5)
        return found

    monkeypatch.setattr(votes, "all_of", read_together)

    def work(location: int) -> None:
        database = Database(database_url, DatabaseRole.WORKER, application="w", pool_size=1)
        writer = bench.another(database)
        for number in numbers:
            bench.submit([bench.judged(number, 1, D, location=location)], writer)
        ready.wait()
        while writer.waiting:
            writer.step()
        database.dispose()

    threads = [threading.Thread(target=work, args=(location,)) for location in (near, far)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Whoever came second saw the first one's vote: nobody is missed, nobody is opened twice.
    assert bench.seed.run("SELECT count(*), count(DISTINCT monitor_id) FROM incidents") == [(15, 15)]
    assert bench.seed.run("SELECT DISTINCT health FROM monitor_states") == [(Health.DOWN,)]


def both(bench: Bench, number: int, slot: int, near: Verdict, far: tuple[int, Verdict] | None) -> None:
    bench.submit([bench.judged(number, slot, near)])
    bench.drain()
    if far is not None:
        bench.submit([bench.judged(number, slot, far[1], location=far[0])])
        bench.drain()


def test_one_of_two_that_fails_is_outvoted_until_the_other_goes_silent(bench: Bench, far: int) -> None:
    number = bench.monitor(locations=[bench.seed.location(), far], failure_threshold=1)
    both(bench, number, 1, U, (far, U))
    both(bench, number, 2, D, (far, U))
    both(bench, number, 3, D, (far, U))
    assert bench.events() == []
    for slot in range(4, 8):  # the far worker died; two intervals, a timeout and five seconds later it does not vote
        both(bench, number, slot, D, None)
    assert bench.events() == ["opened"]
    both(bench, number, 8, U, None)
    assert bench.events() == ["opened", "resolved"]


def test_a_location_that_cannot_see_does_not_hold_an_outage_back(bench: Bench, far: int) -> None:
    number = bench.monitor(locations=[bench.seed.location(), far], failure_threshold=1)
    both(bench, number, 1, U, (far, U))
    for slot in range(2, 8):
        both(bench, number, slot, D, (far, N))
    assert bench.events() == ["opened"]


def test_what_a_silent_location_held_open_is_resolved_by_the_others(bench: Bench, far: int) -> None:
    number = bench.monitor(locations=[bench.seed.location(), far], failure_threshold=1, quorum=1)
    both(bench, number, 1, U, (far, D))
    assert bench.events() == ["opened"]
    for slot in range(2, 8):
        both(bench, number, slot, U, None)
    assert bench.events() == ["opened", "resolved"]


def test_what_a_removed_location_held_open_is_resolved_by_the_one_that_remains(bench: Bench, far: int) -> None:
    near = bench.seed.location()
    number = bench.monitor(locations=[near, far], failure_threshold=1, quorum=1)
    both(bench, number, 1, U, (far, D))
    assert bench.events() == ["opened"]
    with bench.databases.api.begin(bench.seed.org_id) as connection:
        votes.set_locations(connection, {number: ([near], 0)})
    bench.configs[number] = replace(bench.configs[number], locations=(near,))
    both(bench, number, 2, U, None)
    assert bench.events() == ["opened", "resolved"]


def test_resolved_by_hand_with_a_quorum_reopens_with_the_quorum_and_says_so(bench: Bench, far: int) -> None:
    third = bench.seed.location("third")
    near = bench.seed.location()
    number = bench.monitor(locations=[near, far, third], failure_threshold=2)

    def slot(at: int, *verdicts: Verdict) -> None:
        for location, verdict in zip((near, far, third), verdicts, strict=True):
            bench.submit([bench.judged(number, at, verdict, location=location)])
            bench.drain()

    slot(1, U, U, U)
    slot(2, D, D, U)
    slot(3, D, D, U)
    first = resolve_by_hand(bench)
    slot(4, D, D, U)
    assert bench.events() == ["opened", "resolved"]
    slot(5, D, D, U)
    assert bench.seed.run("SELECT reopened_from::text FROM incidents WHERE status = 'open'") == [(first,)]


def test_a_message_that_postgresql_cannot_hold_still_opens(bench: Bench) -> None:
    number = bench.monitor(failure_threshold=1)
    bench.submit([bench.judged(number, 1, D, message="the body starts with \x00 and \udc80")])
    bench.drain()
    assert bench.events() == ["opened"]
    assert bench.seed.run("SELECT message FROM result_details") == [("the body starts with � and ?",)]


def test_a_change_of_lane_is_noted_once(bench: Bench) -> None:
    number = bench.monitor()
    for slot, slow in enumerate([False, True, True, False], start=1):
        item = bench.judged(number, slot, U)
        item.result.slow = slow
        bench.submit([item])
        bench.drain()
        assert bench.seed.run("SELECT slow FROM votes") == [(slow,)]


def test_a_flush_is_never_larger_than_its_limit(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = [bench.monitor() for _ in range(3)]
    sizes: list[int] = []
    append = result_log.append

    def noting(connection: object, results: Sequence[Result]) -> None:
        sizes.append(len(results))
        append(connection, results)  # type: ignore[arg-type]

    monkeypatch.setattr(result_log, "append", noting)
    bench.submit([bench.judged(number, slot, U) for slot in range(1, 401) for number in numbers])
    bench.drain()
    assert max(sizes) <= FLUSH_SIZE
    assert sum(sizes) == 1_200
