"""What is still wrong when a silence ends is announced then, whatever happens at the same moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from common.domain.incident import EventType, Severity, Status
from common.store import held_back, outbox
from common.store.engine import Connection
from common.store.route_books import RouteBooks
from notifier.relay import Relay, relay
from notifier.silences import SilenceEnds
from tests.conftest import Databases
from tests.integration.test_notifier_process import Notifiers
from tests.routing_world import RoutingWorld
from tests.sink import Sink
from tests.stack import wait_until

PENDING = ("pending", None)
SILENCED = ("suppressed", "silenced")
NOT_ANNOUNCED = ("suppressed", "not_announced")

ALL = ("source", "=", "test")

#: How many wait for a lock of these kinds.
_WAITS = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = ANY(%(on)s)"


@pytest.fixture
def world(databases: Databases) -> RoutingWorld:
    return RoutingWorld(databases.owner, databases.worker)


def test_what_is_still_wrong_is_announced_and_its_end_too(world: RoutingWorld) -> None:
    channel = world.channel("http://a")
    silence = world.silence(ALL, ends=10)
    still, acknowledged, over = (world.happen() for _ in range(3))
    world.change(acknowledged, EventType.ACKNOWLEDGED, Status.ACKNOWLEDGED)
    world.resolve(over)
    world.relay_at(0)
    assert set(world.outcome("opened").values()) == {SILENCED}

    assert world.end_silences_at(9.999) == []
    assert not world.settled(silence)
    hinted = world.end_silences_at(10)

    assert world.settled(silence)
    assert world.outcome("opened", still) == world.outcome("opened", acknowledged) == {channel: PENDING}
    assert world.outcome("opened", over) == {channel: SILENCED}
    assert world.outcome("resolved", over) == {channel: NOT_ANNOUNCED}
    pending = world.run("SELECT id::text FROM notifications WHERE status = 'pending' AND event_type = 'opened'")
    assert sorted(hinted) == sorted(row[0] for row in pending)
    assert world.dues("opened") == [10, 10]
    world.resolve(still)
    world.relay_at(20)
    assert world.outcome("resolved", still) == {channel: PENDING}


def test_an_acknowledgement_in_a_silence_is_told_after_the_announcement(world: RoutingWorld) -> None:
    channel = world.channel("http://a")
    world.route(channel, group_by=["team"], group_wait_s=30)
    world.silence(ALL, ends=10)
    incident = world.happen()
    world.relay_at(0)
    world.change(incident, EventType.ACKNOWLEDGED, Status.ACKNOWLEDGED)
    world.relay_at(1)
    assert world.outcome("acknowledged") == {channel: NOT_ANNOUNCED}
    world.end_silences_at(10)
    assert [row[0::2] + row[3:] for row in world.rows()] == [("opened", *PENDING), ("acknowledged", *PENDING)]
    assert world.dues() == [40, 40]  # they leave together


def test_an_acknowledgement_that_expired_in_a_silence_is_not_told(world: RoutingWorld) -> None:
    channel = world.channel("http://a")
    world.silence(ALL, ends=10)
    incident = world.happen()
    world.change(incident, EventType.ACKNOWLEDGED, Status.ACKNOWLEDGED)
    world.relay_at(0)
    world.run("UPDATE incidents SET status = 'open' WHERE id = %(id)s", id=incident)
    world.end_silences_at(10)
    assert world.outcome("opened") == {channel: PENDING}
    assert world.outcome("acknowledged") == {channel: NOT_ANNOUNCED}


def test_a_silence_is_settled_once(world: RoutingWorld) -> None:
    world.channel("http://a")
    world.silence(ALL, ends=10)
    world.happen()
    world.relay_at(0)
    assert len(world.end_silences_at(10)) == 1
    world.tell(at=11)
    assert world.end_silences_at(12) == []
    assert [row[2] for row in world.rows()] == ["sent"]


def test_a_silence_that_held_back_nothing_is_settled_too(world: RoutingWorld) -> None:
    silence = world.silence(ALL, ends=10)
    assert world.end_silences_at(10) == []
    assert world.settled(silence)


def test_what_another_silence_still_covers_is_handed_on_to_it(world: RoutingWorld) -> None:
    channel = world.channel("http://a")
    short, long = world.silence(ALL, ends=10), world.silence(("team", "=", "a"), starts=5, ends=20)
    covered, uncovered = world.happen(labels={"team": "a"}), world.happen(labels={"team": "b"})
    world.relay_at(0)
    assert set(world.column("silence_id")) == {short}

    world.end_silences_at(10)
    assert world.outcome("opened", covered) == {channel: SILENCED}
    assert world.outcome("opened", uncovered) == {channel: PENDING}
    assert set(world.column("silence_id")) == {long, None}

    world.end_silences_at(20)
    assert world.outcome("opened", covered) == {channel: PENDING}
    assert world.settled(short)
    assert world.settled(long)


def test_a_channel_that_is_off_is_told_nothing_and_its_fallback_is(world: RoutingWorld) -> None:
    on, off, fallback = (world.channel(f"http://{n}", is_default=n != "fallback") for n in ("on", "off", "fallback"))
    world.silence(ALL, ends=10)
    incident = world.happen()
    world.relay_at(0)
    world.change_rules("UPDATE channels SET enabled = false, fallback_id = %(f)s WHERE id = %(o)s", f=fallback, o=off)
    hinted = world.end_silences_at(10)
    assert world.outcome("opened", incident) == {
        on: PENDING,
        off: ("suppressed", "channel_disabled"),
        fallback: ("pending", "fallback"),
    }
    assert len(hinted) == 2


def test_the_newest_announcement_is_made_and_only_where_nothing_newer_was_heard(world: RoutingWorld) -> None:
    channel = world.channel("http://a")
    silence = world.silence(("severity", "=", "warning"), ends=10)
    everything = world.silence(("name", "=", "Twice"), ends=10)
    # Its worsening was not silenced: whoever heard of that need not hear of the milder beginning.
    heard_worse = world.happen(Severity.WARNING)
    world.worsen(heard_worse)
    # Both were: the worse one is news, the milder one is not any more.
    twice = world.happen(Severity.WARNING, name="Twice")
    world.worsen(twice)
    world.relay_at(0)
    world.end_silences_at(10)

    assert world.outcome("opened", heard_worse) == {channel: SILENCED}
    assert world.outcome("escalated", heard_worse) == {channel: PENDING}
    assert world.outcome("opened", twice) == {channel: SILENCED}
    assert world.outcome("escalated", twice) == {channel: PENDING}
    assert world.settled(silence)
    assert world.settled(everything)


def test_a_worsening_that_was_silenced_is_announced_to_those_who_heard_the_beginning(world: RoutingWorld) -> None:
    channel = world.channel("http://a")
    incident = world.happen()
    world.relay_at(0)
    world.tell(at=1)
    world.silence(ALL, ends=10)
    world.worsen(incident)
    world.relay_at(2)
    assert world.outcome("escalated", incident) == {channel: SILENCED}
    world.end_silences_at(10)
    assert world.outcome("escalated", incident) == {channel: PENDING}


def test_what_is_announced_late_joins_its_group_and_begins_its_cooldown(world: RoutingWorld) -> None:
    channel = world.channel("http://a")
    world.route(channel, group_by=["team"], group_wait_s=30, group_interval_s=300, cooldown_s=600)
    world.silence(("mute", "=", "me"), ends=10)
    held = [world.happen(key=f"k{n}", labels={"team": "a", "mute": "me"}) for n in range(2)]
    world.relay_at(0)
    world.happen(labels={"team": "a"})
    world.relay_at(5)
    assert world.end_silences_at(10) == []  # they are not due yet
    assert world.dues() == [35, 35, 35]
    world.resolve(held[0])
    again = world.happen(key="k0", labels={"team": "a"})
    world.relay_at(100)
    assert world.outcome("opened", again) == {channel: ("suppressed", "cooldown")}


def test_very_much_is_announced_in_parts(world: RoutingWorld) -> None:
    world.channel("http://a")
    world.channel("http://b")
    silence = world.silence(ALL, ends=10)
    for _ in range(7):
        world.happen()
    world.relay_at(0)
    hinted: list[str] = []
    ends = SilenceEnds(world.worker, hinted.extend, lambda: world.time(10), batch=4)
    steps = 0
    while ends.step():
        steps += 1
        if steps == 3:
            assert not world.settled(silence)
    assert len(set(hinted)) == len(hinted) == 14
    assert steps == 4
    assert world.settled(silence)


def test_a_notifier_that_dies_on_the_way_leaves_it_to_the_next(
    world: RoutingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = world.channel("http://a")
    silence = world.silence(ALL, ends=10)
    world.happen()
    world.relay_at(0)
    with monkeypatch.context() as patch:
        patch.setattr("common.store.silence_ends.settle", _die)
        with pytest.raises(RuntimeError):
            world.end_silences_at(10)
    assert world.outcome("opened") == {channel: SILENCED}
    assert not world.settled(silence)
    world.end_silences_at(11)
    assert world.outcome("opened") == {channel: PENDING}


def _die(*_args: object) -> None:
    raise RuntimeError


def test_a_silence_whose_end_is_refused_does_not_hold_up_the_others(world: RoutingWorld) -> None:
    channel = world.channel("http://a")
    poisoned, healthy = world.silence(("team", "=", "x"), ends=10), world.silence(("team", "=", "y"), ends=11)
    bad, good = world.happen(labels={"team": "x"}), world.happen(labels={"team": "y"})
    world.relay_at(0)
    world.run(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF NEW.incident_id = '{bad}' THEN RAISE EXCEPTION 'no' USING ERRCODE = '23514'; END IF; RETURN NEW; END $$"
    )
    world.run("CREATE TRIGGER refuse BEFORE UPDATE ON notifications FOR EACH ROW EXECUTE FUNCTION refuse()")
    world.end_silences_at(12)
    assert world.outcome("opened", good) == {channel: PENDING}
    assert (world.settled(poisoned), world.settled(healthy)) == (False, True)


def test_a_running_notifier_announces_it(
    world: RoutingWorld, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    notifiers = Notifiers(world, database_url, redis_url, tmp_path / "log")
    with Sink() as sink:
        world.channel(sink.url("/hook"))
        silence = world.silence(ALL, ends=86_400)
        incident = world.happen()
        try:
            notifiers.start(TOCSIN_EGRESS="internal")
            wait_until(lambda: bool(world.rows()), 60)
            world.change(incident, EventType.ACKNOWLEDGED, Status.ACKNOWLEDGED)
            wait_until(lambda: world.outcome("acknowledged") != {}, 60)
            assert not sink.received
            world.change_rules("UPDATE silences SET ends_at = now() WHERE id = %(id)s", id=silence)
            assert sink.wait_for(lambda: len(sink.received) == 2)
            wait_until(lambda: [row[2] for row in world.rows()] == ["sent", "sent"], 60)
            types = [received.json["type"] for received in sink.received]
            assert types == ["incident.opened", "incident.acknowledged"]
        finally:
            notifiers.close()
    assert world.settled(silence)


# Races ----------------------------------------------------------------------------------------------------------------


def test_it_ends_while_a_relay_writes_what_it_holds_back(world: RoutingWorld) -> None:
    """Nothing is lost between a relay that still silences and a notifier that settles the silence."""
    channel = world.channel("http://a")
    silence = world.silence(ALL, ends=10)
    world.happen()
    books = RouteBooks()
    with ThreadPoolExecutor(1) as pool:
        with world.worker.begin() as connection:
            taken = outbox.claim(connection, limit=10)
            relay(connection, taken, books, world.time(9.9))
            ending = pool.submit(world.end_silences_at, 10)
            time.sleep(0.3)
            assert not ending.done()  # it waits for the organization
        assert len(ending.result(60)) == 1
    assert world.outcome("opened") == {channel: PENDING}
    assert world.settled(silence)


def test_a_relay_whose_clock_is_behind_does_not_go_by_a_silence_that_is_settled(world: RoutingWorld) -> None:
    channel = world.channel("http://a")
    world.silence(ALL, ends=10)
    hinted: list[str] = []
    late = Relay(world.worker, hinted.extend, lambda: world.time(9.9))
    world.happen()
    assert late.step()  # it has the rules with the silence
    world.end_silences_at(10)
    incident = world.happen()
    assert late.step()
    assert world.outcome("opened", incident) == {channel: PENDING}
    assert len(hinted) == 1


def test_an_end_under_way_is_over_before_a_relay_of_the_organization_decides(world: RoutingWorld) -> None:
    channel = world.channel("http://a")
    world.silence(ALL, ends=10)
    first = world.happen()
    world.relay_at(0)
    world.resolve(first)
    second = world.happen()
    with world.owner.begin() as holder:
        # As the notifier holds it while it settles.
        holder.exec_driver_sql("SELECT 1 FROM organizations FOR NO KEY UPDATE")
        world.relay_at(10)
        assert world.outcome("resolved") == {}
    world.end_silences_at(10)
    world.relay_at(10)
    assert world.outcome("resolved", first) == {channel: NOT_ANNOUNCED}
    assert world.outcome("opened", second) == {channel: PENDING}


def test_it_ends_while_the_incident_is_being_resolved(world: RoutingWorld) -> None:
    """Then neither beginning nor end is told: whoever resolves it has its row, and the end waits for the outcome."""
    channel = world.channel("http://a")
    silence = world.silence(ALL, ends=10)
    incident, other = world.happen(), world.happen()
    world.relay_at(0)
    with world.owner.begin() as resolving:
        resolving.exec_driver_sql(
            "UPDATE incidents SET status = 'resolved', resolved_at = now() WHERE id = %(id)s", {"id": incident}
        )
        assert len(world.end_silences_at(10)) == 1  # the other one need not wait
        assert not world.settled(silence)
    world.end_silences_at(11)
    assert world.settled(silence)
    assert world.outcome("opened", incident) == {channel: SILENCED}
    assert world.outcome("opened", other) == {channel: PENDING}


def test_an_incident_that_was_resolved_a_moment_ago_is_not_announced(
    world: RoutingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between finding it open and locking it."""
    channel = world.channel("http://a")
    world.silence(ALL, ends=10)
    incident = world.happen()
    world.relay_at(0)
    really = held_back.lock_incidents

    def resolve_first(connection: Connection, org_id: str, ids: Collection[str]) -> Any:
        monkeypatch.undo()
        world.resolve(incident)
        return really(connection, org_id, ids)

    monkeypatch.setattr(held_back, "lock_incidents", resolve_first)
    assert world.end_silences_at(10) == []
    world.relay_at(11)
    assert world.outcome("opened") == {channel: SILENCED}
    assert world.outcome("resolved") == {channel: NOT_ANNOUNCED}


def test_an_incident_that_others_hold_does_not_hold_up_other_silences(world: RoutingWorld) -> None:
    channel = world.channel("http://a")
    held, free = world.silence(("team", "=", "x"), ends=10), world.silence(("team", "=", "y"), ends=11)
    stuck, good = world.happen(labels={"team": "x"}), world.happen(labels={"team": "y"})
    world.relay_at(0)
    with world.owner.begin() as holder:
        holder.exec_driver_sql("SELECT 1 FROM incidents WHERE id = %(id)s FOR UPDATE", {"id": stuck})
        world.end_silences_at(12)
        assert world.outcome("opened", good) == {channel: PENDING}
        assert (world.settled(held), world.settled(free)) == (False, True)
    world.end_silences_at(13)
    assert world.outcome("opened", stuck) == {channel: PENDING}


def test_an_incident_is_resolved_while_the_silence_ends(world: RoutingWorld) -> None:
    """The other way round: it is announced, and whoever resolves it waits; its end is told after its beginning."""
    channel = world.channel("http://a")
    world.silence(ALL, ends=10)
    incident = world.happen()
    world.relay_at(0)
    with world.owner.begin() as look:
        look.exec_driver_sql(
            "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_advisory_xact_lock(11); RETURN NEW; END $$"
        )
        look.exec_driver_sql("CREATE TRIGGER slowly BEFORE UPDATE ON silences FOR EACH ROW EXECUTE FUNCTION slowly()")
    with ThreadPoolExecutor(2) as pool:
        with world.owner.begin() as holder:
            holder.exec_driver_sql("SELECT pg_advisory_xact_lock(11)")
            ending = pool.submit(world.end_silences_at, 10)
            # The announcement is written, the end is not committed.
            wait_until(lambda: world.run(_WAITS, on=["advisory"]) == [(1,)], 60, "the end under way")
            resolving = pool.submit(world.resolve, incident)
            wait_until(lambda: world.run(_WAITS, on=["transactionid", "tuple"]) == [(1,)], 60, "it to wait for the end")
            assert not ending.done() and not resolving.done()
        assert len(ending.result(60)) == 1
        resolving.result(60)
    world.relay_at(11)
    assert [row[0::2] + row[3:] for row in world.rows(incident)] == [("opened", *PENDING), ("resolved", *PENDING)]
    assert world.outcome("opened") == {channel: PENDING}


def test_many_ends_relays_and_changes_at_once_lose_nothing(world: RoutingWorld) -> None:
    """Whatever the order: an incident that is open in the end was announced, one that is over was told whole or not."""
    world.channel("http://a")
    stop = threading.Event()
    problems: list[BaseException] = []

    def run(step: object) -> None:
        try:
            while not stop.is_set():
                if not step():  # type: ignore[operator]
                    time.sleep(0.002)
        except BaseException as error:
            problems.append(error)

    def now() -> object:
        return world.time(time.monotonic() - began)

    began = time.monotonic()
    loops = [
        Relay(world.worker, lambda _ids: None, now, batch=3).step,  # type: ignore[arg-type]
        Relay(world.worker, lambda _ids: None, now, batch=3).step,  # type: ignore[arg-type]
        SilenceEnds(world.worker, lambda _ids: None, now, batch=3).step,  # type: ignore[arg-type]
        SilenceEnds(world.worker, lambda _ids: None, now, batch=3).step,  # type: ignore[arg-type]
    ]
    threads = [threading.Thread(target=run, args=(step,)) for step in loops]
    for thread in threads:
        thread.start()
    opened: list[str] = []
    for n in range(60):
        at = time.monotonic() - began
        if n % 6 == 0:
            world.silence(ALL, starts=at, ends=at + 0.06)
        opened.append(world.happen())
        if n % 3 == 2:
            world.resolve(opened[-2])
        time.sleep(0.005)
    time.sleep(0.1)

    def all_done() -> bool:
        waits = "SELECT count(*) FROM silences WHERE settled_at IS NULL", "SELECT count(*) FROM outbox"
        return problems != [] or [world.run(sql) for sql in waits] == [[(0,)], [(0,)]]

    wait_until(all_done, 60, "the end of all of them")
    stop.set()
    for thread in threads:
        thread.join(60)
    assert problems == []
    assert world.run("SELECT count(*) FROM silences WHERE settled_at IS NULL") == [(0,)]
    assert world.run("SELECT count(*) FROM outbox") == [(0,)]
    for incident in opened:
        rows = [(row[0], row[2]) for row in world.rows(incident)]
        resolved = bool(world.run("SELECT 1 FROM incidents WHERE id = %(id)s AND status = 'resolved'", id=incident))
        if resolved:
            assert rows in (
                [("opened", "pending"), ("resolved", "pending")],
                [("opened", "suppressed"), ("resolved", "suppressed")],
            )
        else:
            assert rows == [("opened", "pending")]
