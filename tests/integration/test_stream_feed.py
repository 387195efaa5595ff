"""What streams say, against a real database: every event once and in order, monitors, who may, tenants apart."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest
from flask_jwt_extended import decode_token

from api import stream_feed, streams
from api.stream_access import Key, Session
from api.stream_feed import StreamFeed
from api.streams import Access, Streams
from common.clock import utc_now
from common.domain.errors import Unavailable
from common.store import incidents_read, stream
from notifier.relay import Relay
from tests import api_cast
from tests.api_cast import Person, World
from tests.stack import wait_until
from tests.statements import counted
from tests.stream_client import StreamClient

world = api_cast.world


def held(world: World, name: str, org: str = "a") -> Session:
    """What somebody's access token is to a stream."""
    with world.client.application.app_context():
        claims = decode_token(api_cast.session(world, name, org))
    return Session(claims["org"], claims["sub"], claims["family"], float(claims["iat"]))


@dataclass
class Line:
    """Streams and their feed, moved by hand: no thread runs, and time passes when the test says so."""

    world: World
    now_s: float = 1000.0
    clients: list[StreamClient] = field(default_factory=list)
    _theirs: dict[StreamClient, socket.socket] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.streams = Streams(1_000, 1_000, lambda _streams: lambda: False, monotonic=lambda: self.now_s)
        self.feed = StreamFeed(
            self.streams, self.world.databases.api, self.world.databases.worker,
            monotonic=lambda: self.now_s, now=self.wall,
        )  # fmt: skip
        self.wall_s = 0.0
        self.sessions = {
            self.world.org_a: held(self.world, "alice"),
            self.world.org_b: held(self.world, "charlie", "b"),
        }

    def wall(self) -> datetime:
        return datetime.fromtimestamp(utc_now().timestamp() + self.wall_s, utc_now().tzinfo)

    def open(
        self, org_id: str, last_id: str | None = None, *, monitors: bool = True, credential: Any = None,
        expires_s: float | None = None,
    ) -> StreamClient:  # fmt: skip
        ours, theirs = socket.socketpair()
        place = self.streams.reserve(Access(org_id, "holder", credential or self.sessions[org_id], monitors, expires_s))
        assert place is not None
        self.streams.open(theirs, b"", place, last_id)
        self.clients.append(StreamClient(ours, whole=False))
        self._theirs[self.clients[-1]] = theirs
        return self.clients[-1]

    def turn(self, times: int = 1, *, seconds: float = 0.25) -> None:
        """So many looks, and everything that comes of them taken by the clients."""
        for _ in range(times):
            self.now_s += seconds
            while self.feed.step():
                self.settle()
            self.settle()

    def settle(self) -> None:
        """Until the streams' own thread has sent all that the clients are to get, and they have taken it."""
        wait_until(self._settled, 60, "everything being sent")
        for client in self.clients:
            client.read()

    def _settled(self) -> bool:
        for client in self.clients:
            client.read()
        lines = self.streams
        with lines._lock:
            if lines._arriving or lines._dirty:
                return False
            busy = {one.sock: bool(one.buffer or one.ending) for one in lines._streams}
        socks = [self._theirs[client] for client in self.clients]
        return not any(busy.get(sock, sock.fileno() != -1) for sock in socks)

    def close(self) -> None:
        self.streams.close()
        for client in self.clients:
            client.close()


@pytest.fixture
def line(world: World) -> Iterator[Line]:
    made = Line(world)
    yield made
    made.close()


def number_events(world: World) -> None:
    """As a relay does."""
    relay = Relay(world.databases.worker, lambda _ids: None, utc_now)
    while relay.step():
        pass


def make_incident(person: Person) -> str:
    made = person.post("/v1/incidents", json={"title": "Payments are slow"})
    assert made.status_code == 201, made.text
    return str(made.get_json()["id"])


def test_an_event_comes_with_its_number_and_the_incident_as_lists_show_it(world: World, line: Line) -> None:
    client = line.open(world.org_a)
    line.turn()
    assert [(m.event, m.id) for m in client.messages] == [("", "0"), ("monitors", "")]
    id_ = make_incident(world.alice)
    assert world.alice.post(f"/v1/incidents/{id_}/comments", json={"body": "looking"}).status_code == 201
    number_events(world)
    line.turn()
    opened, commented = client.of("incident")
    assert (opened.id, commented.id) == ("1", "2")
    assert (opened.data["event"]["type"], opened.data["event"]["seq"]) == ("opened", 1)
    assert (commented.data["event"]["type"], commented.data["event"]["actor_name"]) == ("commented", "Alice")
    (listed,) = world.alice.get("/v1/incidents").get_json()["data"]
    same = {name: value for name, value in listed.items() if name != "duration_seconds"}
    assert {name: commented.data["incident"][name] for name in same} == same
    assert set(commented.data["incident"]) == set(listed)


def test_a_stream_goes_on_after_the_number_that_is_asked_for(world: World, line: Line) -> None:
    for _ in range(5):
        make_incident(world.alice)
    number_events(world)
    client = line.open(world.org_a, "2")
    line.turn()
    assert client.numbers() == [3, 4, 5]
    assert client.of("reset") == []
    at_the_end = line.open(world.org_a, "5")
    line.turn()
    assert (at_the_end.numbers(), at_the_end.last_id, at_the_end.of("reset")) == ([], "5", [])


@pytest.mark.parametrize("asked", ["9", "-1", "1.5", "x", "٣", "9" * 40, "1 "])
def test_a_number_that_was_never_given_resets(world: World, line: Line, asked: str) -> None:
    make_incident(world.alice)
    number_events(world)
    client = line.open(world.org_a, asked)
    line.turn()
    assert [(m.id, m.data) for m in client.of("reset")] == [("1", {"reason": "unknown"})]
    make_incident(world.alice)
    number_events(world)
    line.turn()
    assert client.numbers() == [2]


def test_what_is_older_than_a_day_resets(world: World, line: Line) -> None:
    for _ in range(3):
        make_incident(world.alice)
    number_events(world)
    world.execute("UPDATE incident_events SET at = now() - interval '25 hours' WHERE seq = 2")
    early, late = line.open(world.org_a, "1"), line.open(world.org_a, "2")
    line.turn()
    assert [(m.id, m.data) for m in early.of("reset")] == [("3", {"reason": "expired"})]
    assert early.numbers() == []
    # The events of an hour ago may be missing as well: what was dropped by retention is as old.
    assert late.numbers() == [3]
    world.execute("UPDATE incident_events SET seq = NULL WHERE seq = 2")
    gone = line.open(world.org_a, "1")
    line.turn()
    assert [m.data for m in gone.of("reset")] == [{"reason": "expired"}]


def test_through_random_disconnects_every_event_comes_once_and_in_order(world: World, line: Line) -> None:
    """Clients leave and come back at random, while people act and the relay numbers."""
    chance = random.Random(20261121)
    clients = [line.open(world.org_a) for _ in range(4)]
    line.turn()
    seen: list[list[int]] = [[] for _ in clients]
    incidents = [make_incident(world.alice)]
    for _ in range(60):
        what = chance.random()
        if what < 0.3:
            incidents.append(make_incident(world.alice))
        elif what < 0.5:
            path = f"/v1/incidents/{chance.choice(incidents)}/comments"
            assert world.alice.post(path, json={"body": "looking"}).status_code == 201
        elif what < 0.7:
            number_events(world)
        elif what < 0.85:
            index = chance.randrange(len(clients))
            gone = clients[index]
            if chance.random() < 0.5:
                gone.read()  # else what is on its way is lost
            seen[index] += gone.numbers()
            gone.close()
            line.clients.remove(gone)
            clients[index] = line.open(world.org_a, gone.last_id)
        else:
            line.turn()
    number_events(world)
    line.turn(3)
    (head,) = world.rows("SELECT last_seq FROM organizations WHERE id = %(id)s", id=world.org_a)
    assert head["last_seq"] > 20
    for index, client in enumerate(clients):
        assert seen[index] + client.numbers() == list(range(1, head["last_seq"] + 1))
        assert client.of("reset") == []


def test_however_many_come_back_at_once_their_events_are_read_once(world: World, line: Line) -> None:
    for _ in range(3):
        make_incident(world.alice)
    number_events(world)
    clients = [line.open(world.org_a, "0") for _ in range(30)]
    with counted(world.databases.api) as sent:
        line.turn()
    assert [client.numbers() for client in clients] == [[1, 2, 3]] * 30
    assert sum("FROM incident_events e" in one and "ORDER BY e.seq" in one for one in sent) == 1


def test_a_long_way_is_gone_page_by_page(world: World, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_feed, "PAGE", 3)
    monkeypatch.setattr(stream_feed, "PAGE_BYTES", 1_000)
    for _ in range(8):
        make_incident(world.alice)
    number_events(world)
    client = line.open(world.org_a, "0")
    line.turn()
    assert client.numbers() == list(range(1, 9))


def test_a_client_that_takes_nothing_holds_little_and_is_let_go(
    world: World, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "HUNGRY_BYTES", 2_000)
    client = line.open(world.org_a)
    line.turn()
    (slow,) = line.streams.all()
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    slow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    line.clients.remove(client)
    for _ in range(30):
        make_incident(world.alice)
        number_events(world)
        line.turn()
    behind = slow.position
    assert behind is not None and behind < 30
    assert not slow.hungry
    assert len(slow.buffer) < 2_000 + 2_000  # what was before it, and one event
    # Others are not held up by it.
    other = line.open(world.org_a, "28")
    line.turn()
    assert other.numbers() == [29, 30]
    # It begins to read: it gets everything that is missing.
    line.clients.append(client)
    line.turn(60)
    assert client.numbers() == list(range(1, 31))
    line.clients.remove(client)
    for _ in range(30):
        make_incident(world.alice)
        number_events(world)
        line.turn()
    assert not slow.hungry
    line.turn(seconds=streams.STUCK_S + 1)
    wait_until(lambda: slow not in line.streams.all(), 60, "its end")


def test_a_silent_stream_says_every_now_and_then_that_it_is_there(world: World, line: Line) -> None:
    client = line.open(world.org_a)
    line.turn()
    for beat in (1, 2, 3):
        line.now_s += streams.HEARTBEAT_S + 1
        wait_until(lambda: client.read(0.1) or client.heartbeats, 60, "a beat")
        time.sleep(streams._TICK_S + 0.2)  # in which no other may come
        client.read()
        assert client.heartbeats == 1, beat
        client.heartbeats = 0
    assert len(client.messages) == 2


def test_a_look_that_fails_misses_nothing_and_doubles_nothing(
    world: World, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, theirs = line.open(world.org_a), line.open(world.org_b)
    line.turn()
    make_incident(world.alice)
    make_incident(world.charlie)
    number_events(world)
    real, failing = incidents_read.these, [world.org_b]

    def these(connection: Any, *, org_id: str, ids: Any) -> Any:
        if org_id in failing:
            raise Unavailable("The database cannot be reached.")
        return real(connection, org_id=org_id, ids=ids)

    monkeypatch.setattr(incidents_read, "these", these)
    for _ in range(3):
        with pytest.raises(Unavailable):
            line.turn()
    line.streams.flush()
    line.settle()
    assert mine.numbers() == [1]  # whoever cannot be read holds up nobody else
    failing.clear()
    line.turn(2)
    assert (mine.numbers(), theirs.numbers()) == ([1], [1])


def test_a_change_of_a_monitor_comes_once_a_second_at_most_and_all_of_them_together(world: World, line: Line) -> None:
    monitors = [world.alice.make_monitor(name=f"m{n}") for n in range(3)]
    client = line.open(world.org_a)
    line.turn()
    assert [m.data for m in client.of("monitors")] == [{"monitors": {}, "more": True}]
    incidents = [world.open_incident(monitor) for monitor in monitors[:2]]
    line.turn(3)
    assert len(client.of("monitors")) == 1
    line.turn(2)
    _, told = client.of("monitors")
    assert told.data["more"] is False
    assert set(told.data["monitors"]) == {monitor["id"] for monitor in monitors[:2]}
    state = told.data["monitors"][monitors[0]["id"]]
    assert (state["status"], state["incident_id"]) == ("down", incidents[0])
    shown = world.alice.get(f"/v1/monitors/{monitors[0]['id']}").get_json()["state"]
    assert {name: state[name] for name in shown} == shown
    line.turn(8)
    assert len(client.of("monitors")) == 2


def test_pausing_and_deleting_are_changes_too(world: World, line: Line) -> None:
    paused, deleted = world.alice.make_monitor(name="a"), world.alice.make_monitor(name="b")
    client = line.open(world.org_a)
    line.turn()
    assert world.alice.post(f"/v1/monitors/{paused['id']}/pause").status_code == 200
    assert world.alice.delete(f"/v1/monitors/{deleted['id']}").status_code == 204
    line.turn(5)
    told = client.of("monitors")[-1].data["monitors"]
    assert (told[paused["id"]]["status"], told[deleted["id"]]) == ("paused", None)


def test_an_older_transaction_neither_hides_a_change_nor_repeats_one(world: World, line: Line) -> None:
    first, second = world.alice.make_monitor(name="a"), world.alice.make_monitor(name="b")
    client = line.open(world.org_a)
    line.turn()
    with world.databases.owner.begin() as slow:
        slow.exec_driver_sql(
            "UPDATE monitor_states SET since = since WHERE monitor_no ="
            " (SELECT monitor_no FROM monitors WHERE id = %(id)s)", {"id": first["id"]},
        )  # fmt: skip
        world.open_incident(second)
        line.turn(12)
        assert [list(m.data["monitors"]) for m in client.of("monitors")[1:]] == [[second["id"]]]
    line.turn(12)
    assert [list(m.data["monitors"]) for m in client.of("monitors")[1:]] == [[second["id"]], [first["id"]]]


def test_very_many_changes_beside_an_older_transaction_are_told_once(
    world: World, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_feed, "MOST_MONITORS", 2)
    first, *monitors = [world.alice.make_monitor(name=f"m{n}") for n in range(7)]
    client = line.open(world.org_a)
    line.turn()

    def told() -> list[tuple[int, bool]]:
        return [(len(m.data["monitors"]), m.data["more"]) for m in client.of("monitors")[1:]]

    with world.databases.owner.begin() as slow:
        slow.exec_driver_sql(
            "UPDATE monitor_states SET since = since WHERE monitor_no ="
            " (SELECT monitor_no FROM monitors WHERE id = %(id)s)", {"id": first["id"]},
        )  # fmt: skip
        for monitor in monitors[:5]:
            world.open_incident(monitor)
        line.turn(20)
        assert told() == [(2, True)]
        world.open_incident(monitors[5])  # after so many that nobody would read them all
        line.turn(12)
        assert told()[1:] == [(1, False)]
        assert list(client.of("monitors")[-1].data["monitors"]) == [monitors[5]["id"]]
    line.turn(12)
    assert told()[2:] == [(1, False)]
    assert list(client.of("monitors")[-1].data["monitors"]) == [first["id"]]


def test_of_very_many_changes_some_are_told_and_the_rest_is_read(
    world: World, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_feed, "MOST_MONITORS", 2)
    monitors = [world.alice.make_monitor(name=f"m{n}") for n in range(5)]
    theirs = world.charlie.make_monitor(name="theirs")
    client, other = line.open(world.org_a), line.open(world.org_b)
    line.turn()
    for monitor in monitors:
        world.open_incident(monitor)
    world.open_incident(theirs, world.org_b)
    line.turn(5)
    told = client.of("monitors")[1].data
    assert (len(told["monitors"]), told["more"]) == (2, True)
    # A storm at one organization costs another nothing.
    assert other.of("monitors")[1].data["more"] is False
    assert list(other.of("monitors")[1].data["monitors"]) == [theirs["id"]]


def test_organizations_hear_nothing_of_each_other(world: World, line: Line) -> None:
    mine, theirs = line.open(world.org_a), line.open(world.org_b)
    line.turn()
    world.open_incident(world.alice.make_monitor())
    make_incident(world.alice)
    number_events(world)
    line.turn(6)
    assert mine.numbers() == [1, 2]
    assert len(mine.of("monitors")) == 2
    assert [(m.event, m.data) for m in theirs.messages[1:]] == [("monitors", {"monitors": {}, "more": True})]
    # Nor by a number of theirs.
    asking = line.open(world.org_b, "1")
    line.turn()
    assert (asking.numbers(), [m.data for m in asking.of("reset")]) == ([], [{"reason": "unknown"}])


def test_who_may_not_read_monitors_hears_of_incidents_alone(world: World, line: Line) -> None:
    client = line.open(world.org_a, monitors=False)
    line.turn()
    world.open_incident(world.alice.make_monitor())
    number_events(world)
    line.turn(6)
    assert (client.numbers(), client.of("monitors")) == ([1], [])


def test_a_stream_ends_when_its_key_is_deleted(world: World, line: Line) -> None:
    made = world.alice.post("/v1/api-keys", json={"name": "page", "role": "viewer"}).get_json()
    client = line.open(world.org_a, credential=Key(world.org_a, made["id"], made["prefix"]))
    other = line.open(world.org_a, credential=held(world, "alice"))
    line.turn(12)
    assert not client.ended
    assert world.alice.delete(f"/v1/api-keys/{made['id']}").status_code == 204
    line.turn(5)
    assert (client.ended, other.ended) == (True, False)


@pytest.mark.parametrize("change", ["expires_at = now()", "scopes = '{monitors:read}'", "scopes = '{incidents:read}'"])
def test_a_stream_ends_when_its_key_allows_less(world: World, line: Line, change: str) -> None:
    made = world.alice.post("/v1/api-keys", json={"name": "page", "role": "viewer"}).get_json()
    client = line.open(world.org_a, credential=Key(world.org_a, made["id"], made["prefix"]))
    line.turn()
    world.execute(f"UPDATE api_keys SET {change} WHERE id = %(id)s", id=made["id"])
    line.turn(5)
    assert client.ended


def test_a_stream_ends_when_another_key_has_its_prefix(world: World, line: Line) -> None:
    made = world.alice.post("/v1/api-keys", json={"name": "page", "role": "viewer"}).get_json()
    client = line.open(world.org_a, credential=Key(world.org_a, str(uuid4()), made["prefix"]))
    line.turn(2)
    assert client.ended


@pytest.mark.parametrize("how", ["revoked", "disabled", "left", "organization", "tokens"])
def test_a_stream_ends_when_its_user_is_out(world: World, line: Line, how: str) -> None:
    session = held(world, "bob")
    client, other = line.open(world.org_a, credential=session), line.open(world.org_b)
    line.turn()
    world.execute(
        {
            "revoked": "UPDATE refresh_tokens SET revoked_at = now() WHERE family_id = %(family)s",
            "disabled": "UPDATE users SET disabled_at = now() WHERE id = %(user)s",
            "left": "DELETE FROM memberships WHERE user_id = %(user)s",
            "organization": "UPDATE organizations SET disabled_at = now() WHERE id = %(org)s",
            "tokens": "UPDATE users SET tokens_valid_after = now() + interval '1 minute' WHERE id = %(user)s",
        }[how],
        family=session.family_id, user=session.user_id, org=world.org_a,
    )  # fmt: skip
    line.turn(5)
    assert (client.ended, other.ended) == (True, False)


def test_all_tokens_of_a_session_share_its_places(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "ARRIVES_S", 600.0)  # no place is given up before the test is over
    tokens = world.login("bob")
    most = world.services.settings.streams_per_credential
    answers = [world.person(tokens["access_token"]).get("/v1/stream") for _ in range(most + 1)]
    assert [answer.status_code for answer in answers] == [200] * most + [503]
    assert "TOCSIN_STREAMS_PER_CREDENTIAL" in answers[-1].text
    next_ = world.person(world.person(tokens["refresh_token"]).post("/v1/auth/refresh").get_json()["access_token"])
    assert next_.get("/v1/stream").status_code == 503
    assert world.alice.get("/v1/stream").status_code == 200
    answers[0].close()  # an answer that ends here has not changed hands
    assert next_.get("/v1/stream").status_code == 200


def test_a_key_that_is_full_leaves_room_to_the_next(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "ARRIVES_S", 600.0)
    made = [world.alice.post("/v1/api-keys", json={"name": name, "role": "viewer"}).get_json() for name in "ab"]
    full, other = (world.person(key["key"]) for key in made)
    most = world.services.settings.streams_per_credential
    assert [full.get("/v1/stream").status_code for _ in range(most + 1)] == [200] * most + [503]
    assert other.get("/v1/stream").status_code == 200


def test_a_stream_ends_with_its_token(world: World, line: Line) -> None:
    client = line.open(world.org_a, credential=held(world, "alice"), expires_s=utc_now().timestamp() + 60)
    line.turn()
    assert not client.ended
    line.wall_s = 61
    line.turn()
    line.settle()
    assert client.ended


def test_a_look_takes_few_statements_however_many_listen(world: World, line: Line) -> None:
    for _ in range(50):
        line.open(world.org_a)
        line.open(world.org_b)
        line.open(world.org_b, credential=held(world, "charlie", "b"))
    for name in ("one", "two"):
        made = world.alice.post("/v1/api-keys", json={"name": name, "role": "viewer"}).get_json()
        line.open(world.org_a, credential=Key(world.org_a, made["id"], made["prefix"]))
    line.turn()
    with counted(world.databases.worker) as sent, counted(world.databases.api) as own:
        line.turn(4)
    # Four looks at the numbers, and one at the monitors: two statements. One each for all keys and all sessions.
    assert (len(sent), len(own)) == (6, 2)
    assert not any(client.ended for client in line.clients)


def test_nobody_listening_costs_no_statement(world: World, line: Line) -> None:
    client = line.open(world.org_a)
    line.turn()
    client.close()
    line.clients.clear()
    wait_until(lambda: line.streams.all() == [], 60, "its going being noticed")
    with counted(world.databases.worker) as sent:
        line.turn(8)
    assert sent == []


def test_the_looks_read_by_index_alone(world: World) -> None:
    """With few rows a planner prefers to read all: forbidden, it must find a way that reads no more than it shows."""
    with world.databases.worker.begin() as connection:
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        keys = {"orgs": "{" + world.org_a + "}", "next": "1", "open": "{2,3}", "limit": 10}
        plan = "\n".join(row[0] for row in connection.exec_driver_sql(f"EXPLAIN {stream._CHANGED}", keys))
    assert plan.count("monitor_states_changed") == 2
    assert plan.count("monitors_changed_of") == 2
    assert "Seq Scan" not in plan
