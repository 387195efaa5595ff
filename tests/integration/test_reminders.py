"""Reminders: an open incident that nobody acknowledges is told again, once per interval, through its route."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest
from psycopg.types.json import Jsonb

from common.clock import utc_now
from common.domain.incident import EventType, Status
from common.store import reminders, routes
from notifier.reminders import Reminders
from tests.conftest import Databases
from tests.sink import Answer, Sink
from tests.world import Post, World, posting

_INTERVAL_S = 3600


@pytest.fixture
def world(databases: Databases) -> World:
    return World(databases.owner, databases.worker)


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as sink:
        yield sink


@pytest.fixture
def post(world: World) -> Iterator[Post]:
    with posting(world) as post:
        yield post


@pytest.fixture
def route(world: World, sink: Sink) -> str:
    """Everything goes to /hook, and again every hour."""
    return _route(world, world.channel(sink.url(), is_default=False))


def _route(world: World, channel: str, repeat_s: int | None = _INTERVAL_S) -> str:
    id_ = str(uuid4())
    world.run(
        "INSERT INTO routes (id, org_id, name, position, match, channel_ids, repeat_interval_s)"
        " VALUES (%(id)s, %(org)s, 'all', 1, %(match)s, ARRAY[%(channel)s]::uuid[], %(repeat)s)",
        id=id_,
        org=world.org_id,
        match=Jsonb({}),
        channel=channel,
        repeat=repeat_s,
    )
    world.run("UPDATE organizations SET routing_version = routing_version + 1")
    return id_


def _tell(world: World, post: Post) -> None:
    world.relay_all()
    post.until(lambda: not world.run("SELECT 1 FROM notifications WHERE status = 'pending'"))


def _pass(world: World) -> None:
    """An interval goes by."""
    world.run("UPDATE reminders SET due_at = due_at - %(wait)s * interval '1 second'", wait=_INTERVAL_S + 1)


def _remind(world: World) -> bool:
    return Reminders(world.worker, utc_now).step()


def _reminders(world: World) -> list[str]:
    return [row[0] for row in world.run("SELECT incident_id::text FROM incident_events WHERE type = 'reminder'")]


def test_what_is_still_open_is_told_again_once_per_interval(world: World, sink: Sink, post: Post, route: str) -> None:
    (incident,) = world.open()
    _tell(world, post)
    assert not _remind(world)
    for count in (1, 2):
        _pass(world)
        assert _remind(world)
        assert not _remind(world)
        _tell(world, post)
        assert [r.type for r in sink.accepted()] == ["opened"] + ["reminder"] * count
    assert sink.received[-1].json["data"]["incident"]["id"] == incident
    version, data = world.run("SELECT version, data FROM incident_events WHERE type = 'reminder' ORDER BY version")[0]
    assert (version, data) == (2, {"route_id": route})


@pytest.mark.parametrize(
    ("status", "left"),
    [
        # An acknowledgement may expire, an end is final.
        (Status.ACKNOWLEDGED, 1),
        (Status.RESOLVED, 0),
    ],
)
def test_nobody_is_reminded_of_what_is_acknowledged_or_over(
    world: World, sink: Sink, post: Post, route: str, status: Status, left: int
) -> None:
    (incident,) = world.open()
    _tell(world, post)
    world.change(incident, EventType(status.value), status)
    _tell(world, post)
    _pass(world)
    _remind(world)
    assert _reminders(world) == []
    assert world.run("SELECT count(*) FROM reminders") == [(left,)]


def test_what_has_not_arrived_is_not_repeated(world: World, sink: Sink, post: Post, route: str) -> None:
    world.open()
    _tell(world, post)
    sink.default["/hook"] = Answer(503)
    _pass(world)
    _remind(world)
    world.relay_all()
    post.round()
    _pass(world)
    assert _remind(world), "it was looked at, and put off"
    assert len(_reminders(world)) == 1


def test_an_escalation_starts_the_interval_anew(world: World, sink: Sink, post: Post, route: str) -> None:
    (incident,) = world.open()
    _tell(world, post)
    _pass(world)
    world.change(incident, EventType.ESCALATED)
    _tell(world, post)
    assert not _remind(world)


def test_two_notifiers_remind_once(world: World, sink: Sink, post: Post, route: str) -> None:
    for _ in range(3):
        world.open()
    _tell(world, post)
    _pass(world)
    with world.worker.begin() as one, world.worker.begin() as other:
        assert reminders.remind(one, utc_now(), limit=100) == (3, True)
        assert reminders.remind(other, utc_now(), limit=100) == (0, False)
    assert not _remind(world)
    assert len(_reminders(world)) == 3


def test_an_incident_that_somebody_holds_is_left_to_the_next_look(
    world: World, sink: Sink, post: Post, route: str
) -> None:
    (held, _) = world.open(2)
    _tell(world, post)
    _pass(world)
    with world.owner.begin() as holder:
        holder.exec_driver_sql("SELECT 1 FROM incidents WHERE id = %(id)s FOR UPDATE", {"id": held})
        _remind(world)
        assert len(_reminders(world)) == 1
    _remind(world)
    assert len(_reminders(world)) == 2


def test_two_routes_remind_of_the_same_incident_in_two_events(world: World, sink: Sink, post: Post, route: str) -> None:
    _route(world, world.channel(sink.url("/other"), is_default=False))
    world.open()
    _tell(world, post)
    _pass(world)
    while _remind(world):
        pass
    _tell(world, post)
    assert len(_reminders(world)) == 2
    assert [r.type for r in sink.accepted("/other")] == [r.type for r in sink.accepted("/hook")] == [
        "opened", "reminder",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "left"),
    [
        # A route that is off may come back, one that repeats no more or is gone does not.
        ("enabled = false", 1),
        ("repeat_interval_s = NULL", 0),
        ("deleted_at = now()", 0),
    ],
)
def test_a_route_that_no_longer_asks_for_it_reminds_no_more(
    world: World, sink: Sink, post: Post, route: str, change: str, left: int
) -> None:
    world.open()
    _tell(world, post)
    world.run(f"UPDATE routes SET {change}")
    _pass(world)
    _remind(world)
    assert _reminders(world) == []
    assert world.run("SELECT count(*) FROM reminders") == [(left,)]


def test_a_changed_interval_applies_to_what_is_open_already(
    world: World, sink: Sink, post: Post, databases: Databases
) -> None:
    route = _route(world, world.channel(sink.url(), is_default=False), None)
    open_, over = world.open(2)
    _tell(world, post)
    world.resolve(over)
    _tell(world, post)
    assert world.run("SELECT count(*) FROM reminders") == [(0,)]
    with databases.api.begin(world.org_id) as connection:
        config = routes.RouteConfig(
            "all", {}, [], world.run("SELECT channel_ids::text[] FROM routes")[0][0], 0, None, 30, 300, 60,
            continues=True, enabled=True,
        )  # fmt: skip
        routes.change(connection, org_id=world.org_id, route_id=route, route=config, position=0)
    rows = world.run("SELECT incident_id::text, due_at - sent_at = interval '60 s' FROM reminders JOIN notifications n"
                     " USING (incident_id) WHERE n.event_type = 'opened'")  # fmt: skip
    assert rows == [(open_, True)]


def test_only_what_is_due_is_looked_at_however_much_is_open(world: World, sink: Sink, post: Post, route: str) -> None:
    (incident,) = world.open()
    _tell(world, post)
    world.run(
        "WITH i AS (INSERT INTO incidents (id, org_id, source, dedup_key, title, severity, priority, status, opened_at)"
        " SELECT gen_random_uuid(), %(org)s, 'test', 'k' || n, 'x', 'error', 'P2', 'open', now()"
        "   FROM generate_series(1, 20000) n RETURNING id)"
        " INSERT INTO reminders (route_id, incident_id, org_id, due_at)"
        " SELECT %(route)s, id, %(org)s, now() + interval '1 hour' FROM i",
        org=world.org_id,
        route=route,
    )
    world.run("UPDATE reminders SET due_at = now() - interval '1 s' WHERE incident_id = %(id)s", id=incident)
    for table in ("incidents", "reminders"):
        world.run(f"ANALYZE {table}")
    with world.worker.begin() as connection:
        parameters = {"now": utc_now(), "limit": 100, "asking": reminders.ASKING}
        plan = "\n".join(
            row[0] for row in connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS) {reminders._DUE}", parameters)
        )
    assert "Seq Scan on incidents" not in plan, plan
    assert "Seq Scan on reminders" not in plan, plan
    _remind(world)
    assert _reminders(world) == [incident]
