"""The relay against a real PostgreSQL: every announced event reaches the ledger once, in order, numbered."""

from __future__ import annotations

import threading

import pytest

from common.clock import utc_now
from common.domain.incident import EventType, Status
from common.store import notifications, outbox
from notifier.relay import Relay
from tests.conftest import Databases
from tests.world import World


@pytest.fixture
def world(databases: Databases) -> World:
    return World(databases.owner, databases.worker)


def _sequence(world: World) -> list[tuple[int, str, int]]:
    rows = world.run("SELECT seq, incident_id::text, version FROM incident_events ORDER BY seq")
    return [(row[0], row[1], row[2]) for row in rows]


def test_an_opening_goes_to_every_enabled_default_channel_and_leaves_the_outbox(world: World) -> None:
    first, second = world.channel("http://a"), world.channel("http://b")
    world.channel("http://c", is_default=False)
    off = world.channel("http://d")
    gone = world.channel("http://e")
    world.run("UPDATE channels SET enabled = false WHERE id = %(id)s", id=off)
    world.run("UPDATE channels SET deleted_at = now() WHERE id = %(id)s", id=gone)
    world.open()

    world.relay_all()

    assert sorted(row[1:4] for row in world.ledger()) == sorted(
        [
            (first, "pending", None),
            (second, "pending", None),
            (off, "suppressed", "channel_disabled"),
        ]
    )
    assert world.run("SELECT count(*) FROM outbox")[0][0] == 0


def test_the_hint_names_exactly_the_pending_notifications(world: World) -> None:
    world.channel("http://a")
    off = world.channel("http://b")
    world.run("UPDATE channels SET enabled = false WHERE id = %(id)s", id=off)
    world.open(3)
    hinted: list[str] = []

    relay = Relay(world.worker, hinted.extend, utc_now)
    assert relay.step() is True
    assert relay.step() is False

    pending = world.run("SELECT id::text FROM notifications WHERE status = 'pending'")
    assert sorted(hinted) == sorted(row[0] for row in pending)
    assert len(hinted) == 3


def test_events_are_numbered_without_gaps_and_in_order_of_versions(world: World) -> None:
    world.channel("http://a")
    one, two = world.open(2)
    world.comment(one)
    world.change(one, EventType.ACKNOWLEDGED, Status.ACKNOWLEDGED)
    world.resolve(two)

    world.relay_all()

    sequence = _sequence(world)
    assert [row[0] for row in sequence] == [1, 2, 3, 4, 5]
    assert [row[2] for row in sequence if row[1] == one] == [1, 2, 3]
    assert [row[2] for row in sequence if row[1] == two] == [1, 2]
    assert world.run("SELECT last_seq FROM organizations")[0][0] == 5


def test_a_comment_nobody_announces_gets_its_number_too(world: World) -> None:
    (incident,) = world.open()
    world.relay_all()
    world.comment(incident)

    # A new relay looks at everything that ever happened.
    world.relay_all()

    assert _sequence(world) == [(1, incident, 1), (2, incident, 2)]


def test_a_resolve_follows_its_opening_only(world: World) -> None:
    channels = {name: world.channel(f"http://{name}") for name in ("sent", "pending", "unsure", "refused", "off")}
    (incident,) = world.open()
    world.relay_all()
    # The cast: what became of the opening at each channel.
    for name, change in {
        "sent": "status = 'sent', sent_at = now()",
        "unsure": "status = 'dead', reason = 'expired', unknown_outcome = true",
        "refused": "status = 'dead', reason = 'rejected'",
        "off": "status = 'sent', sent_at = now()",
    }.items():
        world.run(f"UPDATE notifications SET {change} WHERE channel_id = %(id)s", id=channels[name])
    world.run("UPDATE channels SET enabled = false WHERE id = %(id)s", id=channels["off"])
    world.run("UPDATE channels SET is_default = false WHERE id = %(id)s", id=channels["sent"])
    late = world.channel("http://late")

    world.resolve(incident)
    world.relay_all()

    resolves = {row[1]: row[2:4] for row in world.ledger() if row[0] == "resolved"}
    assert resolves == {
        channels["sent"]: ("pending", None),  # no default any more, but it heard
        channels["pending"]: ("pending", None),  # behind its opening
        channels["unsure"]: ("pending", None),  # it may have heard
        channels["refused"]: ("suppressed", "not_announced"),
        channels["off"]: ("suppressed", "channel_disabled"),
        late: ("suppressed", "not_announced"),
    }


def test_an_escalation_announces_to_those_who_have_not_heard_and_they_hear_the_end(world: World) -> None:
    early = world.channel("http://early")
    (incident,) = world.open()
    world.relay_all()
    late = world.channel("http://late")

    world.change(incident, EventType.ESCALATED)
    world.resolve(incident)
    world.relay_all()

    got = [(row[0], row[1], row[2]) for row in world.ledger() if row[0] != "opened"]
    assert sorted(got) == sorted(
        (event, who, "pending") for event in ("escalated", "resolved") for who in (early, late)
    )


def test_a_whole_life_in_one_batch_is_announced_in_order(world: World) -> None:
    world.channel("http://a")
    (incident,) = world.open()
    world.change(incident, EventType.ACKNOWLEDGED, Status.ACKNOWLEDGED)
    world.resolve(incident)

    world.relay_all()

    assert world.statuses() == [
        ("opened", "pending", None),
        ("acknowledged", "pending", None),
        ("resolved", "pending", None),
    ]


def test_two_relays_side_by_side_write_every_row_once_and_in_order(world: World) -> None:
    others = [World(world.owner, world.worker) for _ in range(3)]
    worlds = [world, *others]
    for each in worlds:
        each.channel("http://a")
        each.channel("http://b")
        for incident in each.open(50):
            each.resolve(incident)

    def run() -> None:
        relay = Relay(world.worker, lambda _ids: None, utc_now, batch=30)
        idle = 0
        while idle < 3:
            idle = 0 if relay.step() else idle + 1

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert world.run("SELECT count(*), count(DISTINCT (event_id, channel_id)) FROM notifications") == [(800, 800)]
    assert world.run("SELECT count(*) FROM outbox")[0][0] == 0
    wrong = world.run(
        "SELECT 1 FROM notifications o JOIN notifications r USING (incident_id, channel_id)"
        " WHERE o.event_type = 'opened' AND r.event_type = 'resolved' AND o.no > r.no"
    )
    assert wrong == []
    for each in worlds:
        numbers = world.run("SELECT seq FROM incident_events WHERE org_id = %(id)s ORDER BY seq", id=each.org_id)
        assert [row[0] for row in numbers] == list(range(1, 101))


def test_a_younger_event_waits_while_another_relay_holds_the_older_one(world: World) -> None:
    world.channel("http://a")
    (incident,) = world.open()
    with world.worker.begin() as other:
        assert len(outbox.claim(other, limit=1).rows) == 1
        world.resolve(incident)
        with world.worker.begin() as connection:
            assert outbox.claim(connection, limit=10).rows == []


def test_an_event_that_the_database_refuses_is_set_aside_with_its_incident_and_blocks_nobody(world: World) -> None:
    world.channel("http://a")
    poisoned, *healthy = world.open(20)
    world.resolve(poisoned)
    with world.owner.begin() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" IF NEW.incident_id = '{poisoned}' THEN RAISE EXCEPTION 'no' USING ERRCODE = '23514'; END IF;"
            " RETURN NEW; END $$"
        )
        connection.exec_driver_sql(
            "CREATE TRIGGER refuse BEFORE INSERT ON notifications FOR EACH ROW EXECUTE FUNCTION refuse()"
        )

    world.relay_all()

    relayed = world.run("SELECT incident_id::text FROM notifications")
    assert sorted(row[0] for row in relayed) == sorted(healthy)
    assert world.run("SELECT count(*) FROM outbox")[0][0] == 2


def test_many_comments_on_one_incident_do_not_hide_those_on_another(world: World) -> None:
    talked_about, other = world.open(2)
    world.relay_all()
    for _ in range(6):
        world.comment(talked_about)
    world.comment(other)
    with world.worker.begin() as connection:
        found = outbox.claim_unnumbered(connection, since=None, limit=4)
        assert found.more
        outbox.number(connection, found.incidents)
        rest = outbox.claim_unnumbered(connection, since=None, limit=4)
        outbox.number(connection, rest.incidents)
        assert not outbox.claim_unnumbered(connection, since=None, limit=4).incidents
    assert world.run("SELECT count(*) FROM incident_events WHERE seq IS NULL") == [(0,)]


def test_an_event_of_a_newer_version_is_left_to_it_and_blocks_nobody(world: World) -> None:
    world.channel("http://a")
    newer, *known = world.open(3)
    world.run("UPDATE outbox SET type = 'transmuted' WHERE incident_id = %(id)s::uuid", id=newer)

    world.relay_all()

    relayed = world.run("SELECT incident_id::text FROM notifications")
    assert sorted(row[0] for row in relayed) == sorted(known)
    assert world.run("SELECT incident_id::text FROM outbox") == [(newer,)]


def test_a_relay_that_dies_in_its_transaction_leaves_everything_as_it_was(world: World) -> None:
    world.channel("http://a")
    world.open(2)

    def die_half_way() -> None:
        with world.worker.begin() as connection:
            claimed = outbox.claim(connection, limit=10).rows
            outbox.number(connection, [row.incident_id for row in claimed])
            outbox.delete(connection, claimed)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        die_half_way()

    world.relay_all()

    with world.worker.begin() as connection:
        assert notifications.count_by_status(connection) == {"pending": 2}
    assert [row[0] for row in _sequence(world)] == [1, 2]
