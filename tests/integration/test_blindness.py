"""One incident for a location that sees nothing, in each organization that is checked from there; none per monitor."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from common import telemetry
from common.clock import utc_now
from common.domain.checks import Observation, Reason, Verdict
from common.domain.incident import Status
from common.store import accounts, blindness, incident_changes
from common.store.blindness import Sign
from common.store.engine import Database, DatabaseRole
from common.store.incidents import Deed
from scheduler.blindness import Lookout
from tests.conftest import Databases
from tests.sink import Sink
from tests.stack import Seed
from tests.world import World, posting
from worker.signs import Signs, Tally

#: So long that it is over when a test says so, and never by itself.
PATIENCE_S = 600.0
SAW, BLINDED = (50, 0), (0, 50)


class Scene:
    """Two organizations with monitors, whose workers say what a test wants them to say."""

    def __init__(self, databases: Databases, database_url: str) -> None:
        self.databases = databases
        self.shop = Seed(database_url)
        self.bank = Seed(database_url)
        self.run = self.shop.run
        self.ams, self.fra = self.shop.location("ams"), self.shop.location("fra")
        self.lookout = self.another()

    def another(self, *, leads: Callable[[], bool] = lambda: True, batch: int = 500) -> Lookout:
        return Lookout(self.databases.worker, leads, patience_s=PATIENCE_S, batch=batch)

    def watch(self, seed: Seed, count: int = 1, *, at: list[int] | None = None, **columns: Any) -> list[int]:
        """Monitors that have been due for long."""
        numbers = seed.monitors(["http://shop"] * count, location_ids=at or [self.ams], **columns)
        self.run("UPDATE monitors SET check_from = now() - interval '1 day' WHERE monitor_no = ANY(%s)", numbers)
        return numbers

    def say(
        self, what: tuple[int, int] = SAW, *, location: int = 0, worker: int = 1, judged_s: float | None = 0
    ) -> None:
        """A worker gives a sign."""
        id_ = f"00000000-0000-0000-0000-{worker:012d}"
        with self.databases.worker.begin() as connection:
            given = Sign(id_, location or self.ams, what[0], what[1], sum(what), judged_s)
            blindness.sign(connection, given)
        # It goes on saying so, as a worker does every two seconds, however long we stand still here.
        self.run(
            "UPDATE worker_signs SET seen_at = seen_at + interval '10 min',"
            " judged_at = judged_at + %s * interval '10 min' WHERE id = %s",
            int(judged_s == 0), id_,
        )  # fmt: skip

    def look(self, *, once: bool = False, lookout: Lookout | None = None) -> None:
        """Look now, and when patience is over, each time until nothing is left to tell."""
        one = lookout or self.lookout
        while one.step():
            pass
        if not once:
            self.lose_patience()
            self.look(once=True, lookout=lookout)

    def lose_patience(self) -> None:
        """It has been as it is for as long as patience lasts."""
        self.run(
            "UPDATE location_sights SET failing_since = failing_since - %s * interval '1 s',"
            " seeing_since = seeing_since - %s * interval '1 s'",
            PATIENCE_S, PATIENCE_S,
        )  # fmt: skip

    def incidents(self, status: str = "open") -> list[tuple[str, str]]:
        """(organization, dedup_key)"""
        return self.run("SELECT org_id::text, dedup_key FROM incidents WHERE status = %s ORDER BY opened_at", status)

    def told(self) -> list[str]:
        return [row[0] for row in self.run("SELECT type FROM incident_events ORDER BY at, version")]


@pytest.fixture
def scene(databases: Databases, database_url: str) -> Scene:
    return Scene(databases, database_url)


BLIND_AMS = "tocsin:blind:ams"


@pytest.mark.parametrize("how", ["network", "no_worker", "no_results"])
def test_a_blind_location_is_one_incident_in_each_organization_until_it_sees_again(scene: Scene, how: str) -> None:
    scene.watch(scene.shop, 30)
    scene.watch(scene.bank, 3, at=[scene.ams, scene.fra])
    scene.say()
    scene.say(location=scene.fra, worker=2)
    scene.look()
    assert scene.incidents() == []

    def fails() -> None:
        if how == "network":
            scene.say(BLINDED)
        elif how == "no_worker":
            scene.run("UPDATE worker_signs SET seen_at = now() - interval '11 s' WHERE location = %s", scene.ams)
        else:
            scene.say((0, 0), judged_s=91)  # three slots, and a second

    fails()
    scene.look(once=True)
    assert scene.incidents() == []  # patience
    scene.look()
    assert sorted(scene.incidents()) == sorted([(scene.shop.org_id, BLIND_AMS), (scene.bank.org_id, BLIND_AMS)])
    assert scene.told() == ["opened"] * 2
    [(severity, labels, cause, name, message)] = scene.run(
        "SELECT severity, labels, cause->>'reason', name, cause->>'message' FROM incidents WHERE org_id = %s",
        scene.shop.org_id,
    )
    assert (severity, cause, name) == ("error", how, "location ams")
    assert labels == {"alertname": "LocationBlind", "location": "ams"}
    assert "30 monitors are checked from there, 30 of them from nowhere else" in message
    [(milder, elsewhere)] = scene.run(
        "SELECT severity, cause->>'message' FROM incidents WHERE org_id = %s", scene.bank.org_id
    )
    assert milder == "warning"
    assert "3 monitors are checked from there, all are seen from elsewhere too" in elsewhere
    [row] = scene.run("SELECT reason, blind_since < now() FROM location_sights WHERE location = %s", scene.ams)
    assert row == (how, True)

    scene.look()  # nothing more, however long it lasts
    assert scene.told() == ["opened"] * 2

    scene.say()
    scene.look(once=True)
    assert len(scene.incidents()) == 2  # it has to see for a while
    scene.look()
    assert len(scene.incidents("resolved")) == 2
    assert scene.told() == ["opened"] * 2 + ["resolved"] * 2
    assert scene.run("SELECT count(*) FROM blind_incidents") == [(0,)]
    assert scene.run("SELECT blind_since, reason FROM location_sights WHERE location = %s", scene.ams) == [(None, None)]
    assert scene.run("SELECT count(*) FROM outbox") == [(4,)]


def test_the_next_blindness_is_an_incident_of_its_own(scene: Scene) -> None:
    scene.watch(scene.shop)
    for _ in range(2):
        scene.say(BLINDED)
        scene.look()
        scene.say()
        scene.look()
    assert scene.incidents("resolved") == [(scene.shop.org_id, BLIND_AMS)] * 2


def test_who_has_no_monitor_there_hears_nothing(scene: Scene) -> None:
    scene.watch(scene.shop)
    scene.watch(scene.bank, at=[scene.fra])
    scene.watch(scene.bank, at=[scene.ams], enabled=False)
    scene.say(location=scene.fra, worker=2)
    scene.look()  # ams: no worker ever was there
    assert scene.incidents() == [(scene.shop.org_id, BLIND_AMS)]


def test_one_blinded_worker_of_two_makes_no_location_blind(scene: Scene) -> None:
    scene.watch(scene.shop)
    scene.say(BLINDED)
    scene.say(worker=2)
    scene.look()
    assert scene.incidents() == []


def test_what_was_resolved_by_hand_is_not_opened_again_while_it_lasts(scene: Scene) -> None:
    scene.watch(scene.shop)
    scene.say(BLINDED)
    scene.look()
    [(id_,)] = scene.run("SELECT id::text FROM incidents")
    with scene.databases.api.begin(scene.shop.org_id) as connection:
        incident_changes.set_status(
            connection, org_id=scene.shop.org_id, incident_id=id_, wanted=Status.RESOLVED,
            deed=Deed("user:u", utc_now(), "r"),
        )  # fmt: skip
    scene.look()
    assert scene.told() == ["opened", "resolved"]
    scene.say()
    scene.look()
    scene.say(BLINDED)
    scene.look()
    assert scene.told() == ["opened", "resolved", "opened"]


def test_monitors_that_come_and_go_while_it_is_blind_bring_and_end_incidents(scene: Scene) -> None:
    [mine] = scene.watch(scene.shop)
    scene.say(BLINDED)
    scene.look()
    scene.watch(scene.bank)
    scene.run("UPDATE monitors SET enabled = false WHERE monitor_no = %s", mine)
    scene.look(once=True)
    assert scene.incidents() == [(scene.bank.org_id, BLIND_AMS)]
    assert scene.incidents("resolved") == [(scene.shop.org_id, BLIND_AMS)]
    scene.run("UPDATE monitors SET deleted_at = now()")
    scene.look(once=True)
    assert scene.incidents() == []


def test_many_organizations_are_told_in_pieces_each_once(scene: Scene, database_url: str) -> None:
    seeds = [Seed(database_url) for _ in range(7)]
    for seed in seeds:
        scene.watch(seed)
    scene.say(BLINDED)
    lookout = scene.another(batch=3)
    scene.look(lookout=lookout)
    assert sorted(scene.incidents()) == sorted((seed.org_id, BLIND_AMS) for seed in seeds)
    scene.say()
    scene.look(lookout=lookout)
    assert scene.told() == ["opened"] * 7 + ["resolved"] * 7


def test_two_who_think_that_they_lead_tell_it_once(scene: Scene, database_url: str) -> None:
    scene.watch(scene.shop, 5)
    scene.watch(scene.bank, 5)
    scene.say(BLINDED)
    pools = [Database(database_url, DatabaseRole.WORKER, application="test") for _ in range(3)]
    others = [Lookout(pool, lambda: True, patience_s=PATIENCE_S) for pool in pools]
    together = threading.Barrier(len(others), action=scene.lose_patience)

    def look(lookout: Lookout) -> None:
        scene.look(once=True, lookout=lookout)
        together.wait(60)
        scene.look(once=True, lookout=lookout)

    threads = [threading.Thread(target=look, args=(one,)) for one in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert not any(thread.is_alive() for thread in threads)
    for pool in pools:
        pool.dispose()
    assert scene.told() == ["opened"] * 2


def test_who_stands_by_looks_at_nothing(scene: Scene) -> None:
    scene.watch(scene.shop)
    scene.look(lookout=scene.another(leads=lambda: False))
    assert scene.run("SELECT count(*) FROM location_sights") == [(0,)]


def test_who_takes_over_goes_on_where_the_other_was(scene: Scene) -> None:
    scene.watch(scene.shop)
    scene.say(BLINDED)
    scene.look()
    scene.say()
    successor = scene.another()
    scene.look(lookout=successor)
    assert scene.told() == ["opened", "resolved"]


def test_results_of_workers_of_the_version_before_tell_that_they_live(scene: Scene) -> None:
    numbers = scene.watch(scene.shop)
    scene.run("UPDATE votes SET last_slot = now() WHERE monitor_no = ANY(%s)", numbers)
    scene.look()
    assert scene.incidents() == []
    scene.run("UPDATE votes SET last_slot = now() - interval '2 min' WHERE monitor_no = ANY(%s)", numbers)
    scene.look()
    assert scene.incidents() == [(scene.shop.org_id, BLIND_AMS)]


def test_an_organization_can_be_removed_while_it_is_blind(scene: Scene) -> None:
    scene.watch(scene.shop)
    scene.say(BLINDED)
    scene.look()
    with scene.databases.owner.begin() as connection:
        for statement in accounts._REMOVE:
            connection.exec_driver_sql(statement, {"org_id": scene.shop.org_id})
    scene.look(once=True)
    assert scene.run("SELECT count(*) FROM blind_incidents") == [(0,)]


def test_its_incident_goes_the_way_of_all_incidents(scene: Scene, databases: Databases) -> None:
    world = World(databases.owner, databases.worker)
    scene.shop.org_id = world.org_id
    scene.watch(scene.shop)
    with Sink() as sink, posting(world) as post:
        world.channel(sink.url("/ops"))
        scene.say(BLINDED)
        scene.look()
        world.relay_all()
        scene.say()
        scene.look()
        world.relay_all()
        post.until(lambda: [row[1] for row in world.statuses()] == ["sent"] * 2)
    assert [(row[0], row[1]) for row in world.statuses()] == [("opened", "sent"), ("resolved", "sent")]


# Monitors -------------------------------------------------------------------------------------------------------------


def shown(scene: Scene, number: int) -> tuple[Any, ...]:
    """(newest verdict, whether the state says that nobody sees it)"""
    return scene.run(
        "SELECT v.last_verdict, s.unseen FROM votes v JOIN monitor_states s USING (monitor_no) WHERE monitor_no = %s",
        number,
    )[0]


def seen_s_ago(scene: Scene, number: int, seconds: float) -> None:
    scene.run(
        "UPDATE votes SET last_slot = now() - %s * interval '1 s', last_verdict = 1, health = 1 WHERE monitor_no = %s",
        seconds, number,
    )  # fmt: skip


def test_a_monitor_that_nobody_looks_at_is_unknown_until_somebody_does(scene: Scene) -> None:
    # Two intervals, a timeout and 5 s: all more than the seconds for which we may stand still before the look.
    stale, fresh, resumed = scene.watch(scene.shop, 3, interval_s=3_600, timeout_s=30.0)
    seen_s_ago(scene, stale, 7_236)
    seen_s_ago(scene, fresh, 7_235 - 26)
    seen_s_ago(scene, resumed, 36_000)
    scene.run("UPDATE monitors SET check_from = now() - interval '60 s' WHERE monitor_no = %s", resumed)
    versions = scene.run("SELECT version FROM votes ORDER BY monitor_no")
    scene.look(once=True)
    assert [shown(scene, number) for number in (stale, fresh, resumed)] == [(0, True), (1, False), (1, False)]
    assert scene.run("SELECT version FROM votes ORDER BY monitor_no") == versions  # what a writer has read still holds
    assert scene.run("SELECT health FROM votes WHERE monitor_no = %s", stale) == [(1,)]

    before = scene.run("SELECT changed_xid::text FROM monitor_states WHERE monitor_no = %s", stale)
    seen_s_ago(scene, stale, 1)
    scene.look(once=True)
    assert shown(scene, stale) == (1, False)
    assert scene.run("SELECT changed_xid::text FROM monitor_states WHERE monitor_no = %s", stale) != before


def test_a_vote_that_a_writer_holds_is_left_alone(scene: Scene, database_url: str) -> None:
    [stale] = scene.watch(scene.shop)
    seen_s_ago(scene, stale, 100)
    pool = Database(database_url, DatabaseRole.WORKER, application="test")
    with pool.begin() as connection:
        connection.exec_driver_sql("SELECT 1 FROM votes WHERE monitor_no = %(no)s FOR UPDATE", {"no": stale})
        scene.look(once=True)
        assert shown(scene, stale)[0] == 1
    pool.dispose()
    scene.look(once=True)
    assert shown(scene, stale) == (0, True)


def test_paused_ones_and_ones_that_were_never_checked_stay_as_they_are(scene: Scene) -> None:
    paused, never = scene.watch(scene.shop, 2)
    seen_s_ago(scene, paused, 100)
    scene.run("UPDATE monitors SET enabled = false WHERE monitor_no = %s", paused)
    scene.run("UPDATE votes SET last_verdict = -1 WHERE monitor_no = %s", never)
    scene.look(once=True)
    assert [shown(scene, number) for number in (paused, never)] == [(1, False), (-1, False)]


# Signs ----------------------------------------------------------------------------------------------------------------


def test_a_worker_says_what_it_saw_lately_and_departs(scene: Scene) -> None:
    now = [100.0]
    tally = Tally(lambda: now[0])
    signs = Signs(scene.databases.worker, tally, scene.ams, monotonic=lambda: now[0])

    def said() -> tuple[Any, ...]:
        signs.step()
        now[0] += 2
        [row] = scene.run(
            "SELECT saw, blinded, checks_minute, round(extract(epoch FROM seen_at - judged_at)) FROM worker_signs"
        )
        return row

    up, down = Observation(Verdict.UP), Observation(Verdict.DOWN, Reason.TIMEOUT)
    ours, bug = Observation(Verdict.UNKNOWN, Reason.WORKER_NETWORK), Observation(Verdict.UNKNOWN, Reason.INTERNAL)
    assert said() == (0, 0, 0, None)
    tally.note([up, up, down, ours, bug])
    assert said() == (3, 1, 5, 0)
    tally.note([ours])
    assert [said() for _ in range(6)] == [
        (3, 2, 6, 0), (3, 2, 6, 2), (3, 2, 6, 4), (3, 2, 6, 6), (0, 1, 6, 8), (0, 0, 6, 10),
    ]  # fmt: skip
    tally.note([])
    assert said()[3] == 12
    for _ in range(25):
        said()
    assert said()[2] == 0
    signs.depart()
    assert scene.run("SELECT count(*) FROM worker_signs") == [(0,)]


def test_what_killed_workers_leave_is_forgotten_after_a_day(scene: Scene) -> None:
    scene.watch(scene.shop)
    scene.say()
    scene.run("UPDATE worker_signs SET seen_at = now() - interval '25 h'")
    scene.say(worker=2)
    scene.look(once=True)
    assert scene.run("SELECT count(*) FROM worker_signs") == [(1,)]


def test_who_leads_no_more_shows_no_blind_location(scene: Scene) -> None:
    """Its metrics are scraped beside those of the next leader, for as long as it lives."""
    leads = [True]
    lookout = scene.another(leads=lambda: leads[0])
    scene.watch(scene.shop)
    scene.say(BLINDED)
    scene.look(lookout=lookout)
    assert telemetry.LOCATIONS_BLIND._value.get() == 1
    leads[0] = False
    lookout.step()
    assert telemetry.LOCATIONS_BLIND._value.get() == 0
