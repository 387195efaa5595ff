"""Maintenance windows hold back beginnings and nothing else; what is still wrong when one ends is told then, once."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from common.domain.errors import Contended
from common.domain.health import Health
from common.domain.incident import EventType, Status
from common.domain.maintenance import Weekly
from common.store import accounts, maintenance_cover
from common.store import maintenance_turns as turns
from common.store.notifications import FIRST
from notifier.app import _catch_up
from notifier.cooldowns import CooldownEnds
from notifier.maintenance import Maintenance
from tests.conftest import Databases
from tests.maintenance_world import MAINTENANCE, NOT_ANNOUNCED, PENDING, MaintenanceWorld

SHOP = ("team", "=", "shop")
TEAM = {"team": "shop"}


@pytest.fixture
def world(databases: Databases) -> MaintenanceWorld:
    return MaintenanceWorld(databases.owner, databases.worker)


def test_a_beginning_in_a_window_is_held_back_and_told_when_the_window_ends(world: MaintenanceWorld) -> None:
    channel = world.channel("http://a")
    shop, other = world.monitor(labels=TEAM), world.monitor()
    window = world.window(SHOP, ends=60)
    (incident,), (told,) = world.fail(shop, at=1), world.fail(other, at=1)
    world.look(2)
    assert world.outcome("opened", incident) == {channel: MAINTENANCE}
    assert world.outcome("opened", told) == {channel: PENDING}
    assert world.run("SELECT status FROM incidents WHERE id = %(id)s", id=incident)[0][0] == "open"
    assert world.timeline(incident)[1:] == [
        ("held_back", {"reason": "maintenance", "maintenance_id": window, "maintenance": "Upgrade"})
    ]
    assert world.look(59.9) == []
    hinted = world.look(60)
    assert world.outcome("opened", incident) == {channel: PENDING}
    assert len(hinted) == 1
    assert world.look(61) == world.look(3600) == []
    world.recover(shop, incident, 70)
    world.look(71)
    assert world.outcome("resolved", incident) == {channel: PENDING}


def test_what_begins_and_ends_in_a_window_is_never_told(world: MaintenanceWorld) -> None:
    channel = world.channel("http://a")
    shop = world.monitor(labels=TEAM)
    world.window(SHOP, ends=60)
    (incident,) = world.fail(shop, at=1)
    world.look(2)
    world.recover(shop, incident, 30)
    world.look(31)
    world.look(60)
    assert world.rows(incident) == [("opened", channel, *MAINTENANCE), ("resolved", channel, *NOT_ANNOUNCED)]


def test_the_end_of_what_was_told_before_is_told_in_the_window(world: MaintenanceWorld) -> None:
    channel = world.channel("http://a")
    shop = world.monitor(labels=TEAM)
    (incident,) = world.fail(shop, at=-5)
    world.look(-4)
    world.tell(at=-3)
    world.window(SHOP, ends=60)
    world.worsen(incident)
    world.look(1)
    assert world.outcome("escalated", incident) == {channel: MAINTENANCE}
    world.change(incident, EventType.ACKNOWLEDGED, Status.ACKNOWLEDGED)
    world.recover(shop, incident, 10)
    world.look(11)
    assert world.outcome("acknowledged", incident) == world.outcome("resolved", incident) == {channel: PENDING}
    world.look(60)
    assert world.outcome("escalated", incident) == {channel: MAINTENANCE}  # it is over


def test_reminders_are_held_back_and_not_made_up_for(world: MaintenanceWorld) -> None:
    channel = world.channel("http://a")
    route = world.route(channel, repeat_interval_s=60)
    shop = world.monitor(labels=TEAM)
    (incident,) = world.fail(shop, at=-5)
    world.look(-4)
    world.tell(at=-3)
    world.window(SHOP, ends=60)
    world.remind(incident, route)
    world.look(1)
    assert world.outcome("reminder", incident) == {channel: MAINTENANCE}
    assert world.look(60) == []
    assert world.outcome("reminder", incident) == {channel: MAINTENANCE}


def test_an_acknowledgement_in_a_window_is_told_after_the_announcement(world: MaintenanceWorld) -> None:
    world.channel("http://a")
    shop = world.monitor(labels=TEAM)
    world.window(SHOP, ends=60)
    (incident,) = world.fail(shop, at=1)
    world.look(2)
    world.change(incident, EventType.ACKNOWLEDGED, Status.ACKNOWLEDGED)
    world.look(3)
    world.look(60)
    assert [row[0::2] + row[3:] for row in world.rows(incident)] == [
        ("opened", *PENDING), ("acknowledged", *PENDING)
    ]  # fmt: skip


def test_incidents_by_hand_and_alerts_are_no_monitor_s_own(world: MaintenanceWorld) -> None:
    channel = world.channel("http://a")
    world.window(("name", "=", "*"), ends=60)
    by_hand = world.happen(labels=TEAM)
    world.look(1)
    assert world.outcome("opened", by_hand) == {channel: PENDING}


def test_a_window_names_monitors_and_matches_labels_name_and_severity(world: MaintenanceWorld) -> None:
    shop, db, named, none = (
        world.monitor(labels=TEAM), world.monitor(name="db-1"), world.monitor(), world.monitor(labels={"team": "x"}),
    )  # fmt: skip
    assert set(world.spans(world.window(SHOP, monitors=[named]))) == {shop, named}
    assert set(world.spans(world.window(("name", "=", "db-*")))) == {db}
    assert set(world.spans(world.window(("severity", "=", "error"), ("team", "!=", "x")))) == {shop, db, named}
    assert world.spans(world.window(("team", "=~", "s|y"))) == {}
    world.turn(1)
    assert world.shown() == {shop, db, named}
    assert none not in world.shown()


def test_a_window_of_another_organization_covers_nothing_of_ours(databases: Databases) -> None:
    ours, theirs = (MaintenanceWorld(databases.owner, databases.worker) for _ in range(2))
    channel, monitor = ours.channel("http://a"), ours.monitor(labels=TEAM)
    theirs.window(("name", "=", "*"), monitors=[monitor])
    theirs.turn(1)
    (incident,) = ours.fail(monitor)
    ours.look(1)
    assert ours.spans() == {}
    assert ours.outcome("opened", incident) == {channel: PENDING}


def test_states_show_a_window_while_it_is_on(world: MaintenanceWorld) -> None:
    shop = world.monitor(labels=TEAM)
    world.window(SHOP, starts=10, ends=20)
    world.window(SHOP, starts=15, ends=30)
    for at, shown in ((0, False), (9.9, False), (10, True), (19, True), (21, True), (30, False), (99, False)):
        world.turn(at)
        assert (shop in world.shown()) is shown, at
    assert world.spans()[shop] == [(10, 20), (15, 30)]


def test_a_window_that_is_prepared_covers_from_its_very_first_moment(world: MaintenanceWorld) -> None:
    channel, shop = world.channel("http://a"), world.monitor(labels=TEAM)
    world.window(SHOP, starts=20, ends=40)
    world.turn(0)
    assert world.spans()[shop] == [(20, 40)]
    (before,) = world.fail(shop, at=1)
    world.relay_at(19.999)
    assert world.outcome("opened", before) == {channel: PENDING}
    world.recover(shop, before, 19.9995)
    (within,) = world.fail(shop, at=20)
    world.relay_at(20)
    assert world.outcome("opened", within) == {channel: MAINTENANCE}


def test_monitors_that_are_made_or_relabelled_meanwhile_are_followed(world: MaintenanceWorld) -> None:
    channel = world.channel("http://a")
    world.monitor()
    world.window(SHOP, ends=60)
    made, relabelled = world.monitor(labels=TEAM), world.monitor()
    world.turn(5)
    assert world.spans() == {made: [(5, 60)]}
    world.run('UPDATE monitors SET labels = \'{"team": "shop"}\' WHERE id = %(id)s', id=relabelled)
    world.turn(10)
    assert world.spans()[relabelled] == [(10, 60)]
    (incident,) = world.fail(relabelled, at=11)
    world.look(12)
    assert world.outcome("opened", incident) == {channel: MAINTENANCE}
    world.run("UPDATE monitors SET labels = '{}' WHERE id = %(id)s", id=relabelled)
    world.turn(20)
    assert world.spans()[relabelled] == [(10, 20)]
    world.look(20)
    assert world.outcome("opened", incident) == {channel: PENDING}
    world.run("UPDATE monitors SET deleted_at = now() WHERE id = %(id)s", id=made)
    world.turn(25)
    assert world.spans()[made] == [(5, 25)]


def test_very_many_that_changed_at_once_are_all_looked_at_again(
    world: MaintenanceWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunked = maintenance_cover.cover, maintenance_cover.refresh
    for name, function in zip(("cover", "refresh"), chunked, strict=True):
        monkeypatch.setattr(maintenance_cover, name, lambda *given, f=function: f(*given, limit=7))
    world.monitors(20)
    world.window(SHOP, ends=60)
    world.turn(1)
    assert world.spans() == {}
    world.run('UPDATE monitors SET labels = \'{"team": "shop"}\'')
    for at in (5, 6, 7):
        world.turn(at)
    assert len(world.spans()) == 20
    assert {tuple(spans) for spans in world.spans().values()} == {((5.0, 60.0),)}


@pytest.mark.parametrize("how", ["end_window", "delete_window"])
def test_a_window_that_is_ended_or_deleted_announces_what_is_still_wrong_now(world: MaintenanceWorld, how: str) -> None:
    channel = world.channel("http://a")
    shop, well = world.monitor(labels=TEAM), world.monitor(labels=TEAM)
    window = world.window(SHOP, ends=3600)
    incident, over = world.fail(shop, well, at=1)
    world.look(2)
    world.recover(well, over, 3)
    world.look(4)
    getattr(world, how)(window, 10)
    assert len(world.look(10)) == 1
    assert world.outcome("opened", incident) == {channel: PENDING}
    assert world.outcome("opened", over) == {channel: MAINTENANCE}
    assert world.spans()[shop] == [(0, 10)]
    assert world.shown() == set()
    world.tell(at=11)
    assert world.look(12) == world.look(3600) == []
    assert len(world.rows(incident)) == 1


def test_a_notifier_that_dies_between_the_end_of_a_window_and_the_announcement_leaves_it_to_others(
    world: MaintenanceWorld,
) -> None:
    channel, shop = world.channel("http://a"), world.monitor(labels=TEAM)
    window = world.window(SHOP, ends=3600)
    (incident,) = world.fail(shop, at=1)
    world.look(2)
    world.end_window(window, 10)  # committed; whoever did it is gone
    # Nor does it matter who moves the window on, before or after.
    hinted: list[str] = []
    ends = CooldownEnds(world.worker, hinted.extend, lambda: world.time(11))
    other = CooldownEnds(world.worker, hinted.extend, lambda: world.time(11))
    for step in (ends.step, other.step, ends.step, other.step):
        step()
    assert len(hinted) == 1
    assert world.outcome("opened", incident) == {channel: PENDING}
    world.turn(12)
    assert len(world.rows(incident)) == 1


def test_until_healthy_ends_once_something_was_wrong_and_all_is_well_again(world: MaintenanceWorld) -> None:
    shop, other = world.monitor(labels=TEAM), world.monitor(labels=TEAM)
    window = world.window(SHOP, ends=3600, until_healthy=True, healthy_for_s=10)

    def on(at: float) -> bool:
        world.turn(at)
        return shop in world.shown()

    world.check(other, 1, 1)
    world.check(shop, 1, 1)
    assert on(100)  # nothing has begun to go wrong
    (incident,) = world.fail(shop, at=110)
    assert on(115)
    world.recover(shop, incident, 120)
    world.check(shop, 121, 1)
    assert on(129)  # not for long enough
    assert not on(131)
    assert world.spans(window)[shop] == [(0, 131)]
    assert world.run("SELECT begins_at FROM maintenance_windows")[0][0] is None


def test_until_healthy_waits_for_every_monitor_and_not_longer_than_its_end(world: MaintenanceWorld) -> None:
    shop, other = world.monitor(labels=TEAM), world.monitor(labels=TEAM)
    world.channel("http://a")
    world.window(SHOP, ends=600, until_healthy=True)
    incident, still = world.fail(shop, other, at=10)
    world.recover(shop, incident, 20)
    world.check(shop, 21, 1)
    world.look(30)
    assert world.shown() == {shop, other}
    world.look(600)
    assert world.shown() == set()
    assert set(world.outcome("opened", still).values()) == {PENDING}


def test_until_healthy_does_not_take_a_check_from_before_for_well(world: MaintenanceWorld) -> None:
    shop = world.monitor(labels=TEAM)
    (incident,) = world.fail(shop, at=-10)
    world.window(SHOP, ends=600, until_healthy=True)
    world.recover(shop, incident, 0.2)  # seen before the window, written in it
    world.run("UPDATE votes SET last_slot = %(at)s", at=world.time(-1))
    world.turn(10)
    assert shop in world.shown()
    world.check(shop, 11, 1)
    world.turn(12)
    assert shop not in world.shown()


def test_until_healthy_is_not_kept_by_what_is_paused_or_only_degraded_is_not_well(world: MaintenanceWorld) -> None:
    shop, paused = world.monitor(labels=TEAM), world.monitor(labels=TEAM)
    world.window(SHOP, ends=600, until_healthy=True)
    incident, _ = world.fail(shop, paused, at=5, health=Health.DEGRADED)
    world.turn(10)
    assert world.shown() == {shop, paused}
    world.run("UPDATE monitors SET enabled = false WHERE id = %(id)s", id=paused)
    world.recover(shop, incident, 20)
    world.check(shop, 21, 1)
    world.turn(22)
    assert world.shown() == set()


def test_a_weekly_window_comes_again_also_after_it_was_ended_early(world: MaintenanceWorld) -> None:
    now = world.time(0).astimezone(UTC)
    begin = (now - timedelta(minutes=30)).replace(second=0, microsecond=0)
    every_day = tuple(range(7))
    world.monitor(labels=TEAM)
    window = world.window(SHOP, schedule=Weekly(every_day, begin.time(), timedelta(hours=1), "UTC"))

    def occurrence() -> tuple[datetime, datetime]:
        return tuple(world.run("SELECT begins_at, ends_at FROM maintenance_windows")[0])  # type: ignore[return-value]

    assert occurrence() == (begin, begin + timedelta(hours=1))
    world.end_window(window, 10)
    world.turn(11)
    assert occurrence() == (begin + timedelta(days=1), begin + timedelta(days=1, hours=1))
    world.turn((begin - world.began).total_seconds() + 86_400 - 10)  # prepared
    world.turn((begin - world.began).total_seconds() + 86_400 + 1)
    assert len(world.shown()) == 1
    world.turn((begin - world.began).total_seconds() + 86_400 + 3601)
    assert world.shown() == set()
    assert occurrence()[0] == begin + timedelta(days=2)


def test_two_notifiers_at_once_turn_and_announce_once(databases: Databases) -> None:
    world = MaintenanceWorld(databases.owner, databases.worker)
    world.channel("http://a")
    monitors = world.monitors(60, labels=TEAM)
    world.window(SHOP, ends=60)
    world.fail(*monitors, at=1)
    world.look(2)
    hinted: list[str] = []
    failures: list[BaseException] = []

    def notifier() -> None:
        keeper = Maintenance(world.worker, lambda: world.time(61))
        ends = CooldownEnds(world.worker, hinted.extend, lambda: world.time(61), batch=7)
        try:
            for _ in range(60):
                keeper.step()
                ends.step()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=notifier) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert len(hinted) == len(set(hinted)) == 60
    assert world.shown() == set()
    assert [row[2] for row in world.rows()] == ["pending"] * 60


def test_a_window_that_cannot_be_read_holds_up_no_other(world: MaintenanceWorld) -> None:
    shop = world.monitor(labels=TEAM)
    bad = world.window(SHOP, starts=10, ends=20)
    world.run("UPDATE maintenance_windows SET matchers = '[{\"odd\": 1}]' WHERE id = %(id)s", id=bad)
    good = world.window(SHOP, starts=10, ends=20)
    world.turn(9)
    assert set(world.spans(good)) == {shop}
    assert world.spans(bad) == {}


def test_nothing_is_covered_before_the_window_was_made(world: MaintenanceWorld) -> None:
    shop = world.monitor(labels=TEAM)
    world.window(SHOP, starts=-3000, ends=60, at=5)
    assert world.spans() == {shop: [(5, 60)]}


def test_a_keeper_that_comes_late_covers_as_planned(world: MaintenanceWorld) -> None:
    shop = world.monitor(labels=TEAM)
    world.window(SHOP, starts=100, ends=200)
    world.turn(150)
    assert world.spans() == {shop: [(100, 200)]}
    with world.worker.begin() as connection:
        assert turns.to_cover(connection, world.time(150)) is None


#: Ahead of everything that this server's transactions will have.
_ANOTHER_SERVER = "900000000000"


def test_monitors_restored_from_another_server_are_not_looked_at_again_and_again(
    world: MaintenanceWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    cover, refresh = maintenance_cover.cover, maintenance_cover.refresh
    monkeypatch.setattr(maintenance_cover, "cover", lambda *given: cover(*given, limit=7))
    monkeypatch.setattr(maintenance_cover, "refresh", lambda *given: refresh(*given, limit=7))
    world.monitors(20, labels=TEAM)
    with world.owner.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE monitors DISABLE TRIGGER USER")
        connection.exec_driver_sql(f"UPDATE monitors SET changed_xid = '{_ANOTHER_SERVER}'")
        connection.exec_driver_sql("ALTER TABLE monitors ENABLE TRIGGER USER")
    window = world.window(SHOP, ends=3600)
    world.turn(1)
    for at in (4, 7, 10):
        world.turn(at)
        with world.worker.begin() as connection:
            assert turns.to_refresh(connection, world.time(at), after=FIRST) is None
        assert world.run("SELECT covered, cover_from FROM maintenance_windows") == [(True, world.time(0))]
    assert len(world.spans(window)) == 20
    # What is changed here is seen.
    made = world.monitor(labels=TEAM)
    world.turn(13)
    assert world.spans(window)[made] == [(13, 3600)]


def test_a_window_restored_from_another_server_is_covered_anew_once(world: MaintenanceWorld) -> None:
    shop = world.monitor(labels=TEAM)
    window = world.window(SHOP, ends=3600)
    world.turn(1)
    world.run(f"UPDATE maintenance_windows SET seen_xid = '{_ANOTHER_SERVER}'")
    made = world.monitor(labels=TEAM)
    world.turn(5)
    assert world.spans(window) == {shop: [(0, 3600)], made: [(5, 3600)]}
    with world.worker.begin() as connection:
        assert turns.to_cover(connection, world.time(6)) is None
    later = world.monitor(labels=TEAM)
    world.turn(9)
    assert world.spans(window)[later] == [(9, 3600)]


def test_a_window_changed_just_before_it_begins_counts_as_it_is_now(world: MaintenanceWorld) -> None:
    shop, other = world.monitor(labels=TEAM), world.monitor(labels={"team": "x"})
    window = world.window(SHOP, starts=20, ends=60)
    world.turn(0)
    assert world.spans(window) == {shop: [(20, 60)]}
    world.change_window(window, SHOP, starts=5, ends=50, at=5)
    assert world.spans(window)[shop] == [(5, 50), (20, 20)]
    world.turn(6)
    assert world.shown() == {shop}
    # The same beginning again, and one that is taken out stays out.
    later = world.window(SHOP, starts=40, ends=60, at=20)
    world.turn(20)
    world.change_window(later, ("team", "=", "x"), starts=40, ends=55, at=21)
    assert world.spans(later) == {shop: [(40, 40)], other: [(40, 55)]}
    world.change_window(later, SHOP, starts=40, ends=58, at=22)
    assert world.spans(later) == {shop: [(40, 58)], other: [(40, 40)]}


def test_an_end_and_states_do_not_wait_for_windows_until_healthy(
    world: MaintenanceWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.monitor(labels=TEAM)
    world.window(SHOP, ends=60, until_healthy=True)

    def contended(*_given: object, **_how: object) -> bool:
        raise Contended("The database is busy with a conflicting change.")

    monkeypatch.setattr(turns, "is_healthy", contended)
    keeper = Maintenance(world.worker, lambda: world.time(1))
    world.run("UPDATE maintenance_spans SET phase = 0")
    world.run("UPDATE monitor_states SET maintenance = false")
    keeper.step()
    assert len(world.shown()) == 1


def test_windows_until_healthy_are_asked_in_turns_however_long_one_takes(
    world: MaintenanceWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.monitor(labels=TEAM)
    windows = sorted(world.window(SHOP, ends=3600, until_healthy=True) for _ in range(4))
    asked: list[str] = []

    def slow(_connection: object, due: turns.Due, _now: datetime) -> bool:
        asked.append(due.window_id)
        time.sleep(0.06)
        return False

    monkeypatch.setattr(turns, "is_healthy", slow)
    monkeypatch.setattr("notifier.maintenance._LONGEST_FOLLOW_S", 0.1)
    at = [0.0]
    keeper = Maintenance(world.worker, lambda: world.time(at[0]))
    for look in range(4):
        at[0] = 3.0 * look
        keeper.step()
        assert len(asked) <= 2 * (look + 1)
    assert asked[:4] == windows


def test_a_start_does_not_wait_for_ever_nor_for_what_windows_follow(
    world: MaintenanceWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = world.monitor(labels=TEAM)
    window = world.window(SHOP, starts=10, ends=60)
    keeper = Maintenance(world.worker, lambda: world.time(30))
    monkeypatch.setattr(keeper, "_follow", lambda _now: pytest.fail("not before relays"))
    _catch_up(keeper, threading.Event())
    assert world.spans(window) == {shop: [(10, 60)]}
    # However much there is, it ends.
    monkeypatch.setattr("notifier.app._CATCH_UP_S", 0.2)
    monkeypatch.setattr(keeper, "_turn", lambda _now: True)
    began = time.monotonic()
    _catch_up(keeper, threading.Event())
    assert time.monotonic() - began < 30


def test_forty_thousand_monitors_until_healthy_are_asked_about_in_bounded_time(world: MaintenanceWorld) -> None:
    world.monitors(40_000, labels=TEAM)
    window = world.window(SHOP, ends=3600, until_healthy=True)
    world.turn(1)
    world.run("UPDATE votes SET last_slot = %(at)s", at=world.time(3))
    due = turns.Due(window, world.org_id)
    with world.worker.begin() as connection:
        began = time.monotonic()
        assert not turns.is_healthy(connection, due, world.time(5))  # nothing has begun to go wrong
        took = time.monotonic() - began
    print(f"{took:.2f} s")
    assert took < 20  # here less than one


def test_a_removed_organization_and_a_window_that_begins_do_not_lock_each_other_out(world: MaintenanceWorld) -> None:
    monitors = world.monitors(3, labels=TEAM)
    world.window(SHOP, ends=60)
    removed: list[object] = []

    def remove() -> None:
        try:
            with world.owner.begin() as connection:
                accounts.remove_organization(connection, world.org_id)
        except Contended as error:
            removed.append(error)
        else:
            removed.append(True)

    thread = threading.Thread(target=remove)
    with world.worker.begin() as connection:
        connection.exec_driver_sql("SELECT 1 FROM maintenance_spans ORDER BY begins_at FOR NO KEY UPDATE")
        thread.start()
        time.sleep(0.5)  # it waits for the spans
        connection.exec_driver_sql("SELECT 1 FROM monitor_states ORDER BY monitor_no FOR NO KEY UPDATE")
    thread.join(60)
    assert removed == [True]
    assert world.numbers(monitors) == {}
