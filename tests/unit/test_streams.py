"""Open streams: room that nobody takes alone and that always comes back, clients that are too slow, a bad beginning."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from api import streams
from api.streams import Access, Place, Stream, Streams
from common.process import Step

MOST = 20
EACH = 18
_PATIENCE_S = 60.0


class Room:
    """Streams whose clients do nothing by themselves; time passes when the test says so."""

    def __init__(self, most_each: int = EACH, make_feed: Callable[[Streams], Step] = lambda _: lambda: False) -> None:
        self.now_s = 1000.0
        self.streams = Streams(MOST, most_each, make_feed, monotonic=lambda: self.now_s)
        self.clients: list[socket.socket] = []

    def reserve(self, org_id: str, holder: str = "") -> Place | None:
        return self.streams.reserve(Access(org_id, holder or org_id, "credential", monitors=True, expires_s=None))

    def take(self, place: Place, beginning: bytes = b"") -> None:
        """The connection itself, for a place."""
        ours, client = socket.socketpair()
        for end in (ours, client):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        client.settimeout(_PATIENCE_S)
        self.clients.append(client)
        self.streams.open(ours, beginning, place, None)

    def open(self, org_id: str, count: int, holder: str = "") -> int:
        """Open so many, as long as there is room; how many."""
        for opened in range(count):
            place = self.reserve(org_id, holder)
            if place is None:
                return opened
            self.take(place)
        return count

    def close(self) -> None:
        self.streams.close()
        for client in self.clients:
            client.close()


@pytest.fixture
def room() -> Iterator[Room]:
    room = Room()
    yield room
    room.close()


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_one_organization_leaves_the_last_tenth_to_others(room: Room) -> None:
    assert room.open("alice", MOST) == MOST - 2
    assert room.open("bob", MOST) == 2
    assert room.open("charlie", 1) == 0


def test_who_has_little_gets_the_last_place(room: Room) -> None:
    assert room.open("bob", 1) == 1
    assert room.open("alice", MOST) == MOST - 3
    assert room.open("bob", MOST) == 1  # two are a tenth
    assert room.open("charlie", MOST) == 1


def test_one_key_leaves_room_to_its_organization() -> None:
    room = Room(most_each=5)
    assert room.open("alice", MOST, "stolen") == 5
    assert room.open("alice", MOST, "owner") == 5
    for client in room.clients[:2]:
        client.close()
    wait_until(lambda: len(room.streams.all()) == 8)
    assert room.open("alice", MOST, "stolen") == 2
    room.close()


def test_nobody_comes_in_once_it_ends(room: Room) -> None:
    place = room.reserve("alice")
    assert place is not None
    room.streams.stop()
    assert room.open("alice", 1) == 0
    room.take(place)
    assert room.clients[0].recv(1) == b""


def test_those_on_their_way_are_counted(room: Room) -> None:
    """However many are let in before the first of them has its connection."""
    places = [room.reserve("alice", f"key {number}") for number in range(MOST)]
    kept = [place for place in places if place is not None]
    assert len(kept) == MOST - 2
    for place in kept:
        room.take(place)
    assert len(room.streams.all()) == MOST - 2
    assert room.reserve("alice") is None


def test_many_at_once_get_what_one_after_the_other_would() -> None:
    room, got = Room(most_each=7), []
    barrier = threading.Barrier(16)

    def come() -> None:
        barrier.wait(_PATIENCE_S)
        got.append(room.reserve("alice"))

    threads = [threading.Thread(target=come) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_PATIENCE_S)
    assert (len(got), sum(place is not None for place in got)) == (16, 7)
    room.close()


def test_a_place_that_is_given_back_is_free_at_once_and_only_once(room: Room) -> None:
    places = [room.reserve("alice") for _ in range(EACH)]
    assert room.reserve("alice") is None
    for _ in range(2):
        assert places[0] is not None
        room.streams.release(places[0])
    assert room.reserve("alice") is not None
    assert room.reserve("alice") is None


def test_a_place_that_nobody_takes_lapses_and_is_not_taken_later(room: Room) -> None:
    late = room.reserve("alice")
    assert late is not None
    assert sum(room.reserve("alice") is not None for _ in range(EACH)) == EACH - 1
    room.now_s += streams.ARRIVES_S
    assert room.open("alice", MOST) == EACH
    room.take(late)
    assert room.clients[-1].recv(1) == b""
    assert len(room.streams.all()) == EACH


def test_a_connection_that_breaks_on_its_way_leaves_its_place(room: Room) -> None:
    for _ in range(MOST):
        place = room.reserve("alice")
        assert place is not None
        gone = socket.socket()
        gone.close()
        with pytest.raises(OSError):  # not a descriptor any more
            room.streams.open(gone, b"", place, None)
    assert room.open("alice", MOST) == EACH


def test_who_hangs_up_before_the_first_byte_leaves_its_place(room: Room) -> None:
    for _ in range(MOST):
        place = room.reserve("alice")
        assert place is not None
        ours, client = socket.socketpair()
        client.close()
        room.streams.open(ours, b"hello", place, None)
        wait_until(lambda: room.streams.all() == [])
    assert room.open("alice", MOST) == EACH


@pytest.mark.parametrize("what", ["make_feed", "streams", "stream_feed"])
def test_a_beginning_that_failed_is_tried_again(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """One stream is refused; the next one is fed."""
    failing, fed, start = [what], threading.Event(), streams.start_loop

    def fail(name: str) -> None:
        if name in failing:
            failing.clear()
            raise RuntimeError("can't start new thread")

    def make_feed(_streams: Streams) -> Step:
        fail("make_feed")

        def step() -> bool:
            fed.set()
            return False

        return step

    def start_loop(name: str, step: Step, stop: threading.Event, *, idle_s: float) -> threading.Thread:
        fail(name)
        return start(name, step, stop, idle_s=idle_s)

    monkeypatch.setattr(streams, "start_loop", start_loop)
    room = Room(make_feed=make_feed)
    first = room.reserve("alice")
    assert first is not None
    with pytest.raises(RuntimeError):
        room.take(first)
    assert room.clients[0].recv(1) == b""
    second = room.reserve("alice")
    assert second is not None
    room.take(second, b"hello")
    assert room.clients[1].recv(5) == b"hello"
    assert fed.wait(_PATIENCE_S)
    assert room.open("alice", MOST) == EACH - 1
    room.close()


def _take(client: socket.socket, stream: Stream, count: int) -> None:
    """Read so much, until the stream's buffer shows it."""
    before = len(stream.buffer)
    while count > 0:
        count -= len(client.recv(count))
    wait_until(lambda: len(stream.buffer) < before)


def test_who_takes_a_little_now_and_then_is_let_go(room: Room) -> None:
    place = room.reserve("alice")
    assert place is not None
    room.take(place, b"x" * 60_000)
    (slow,), (client,) = room.streams.all(), room.clients
    wait_until(lambda: slow.owed > 0)
    for _ in range(2):
        room.now_s += streams.STUCK_S - 5
        _take(client, slow, 6_000)
    assert room.streams.all() == [slow]
    room.now_s += streams.STUCK_S - 5
    wait_until(lambda: room.streams.all() == [])


def test_who_takes_what_was_before_it_stays_however_much_comes(room: Room) -> None:
    place = room.reserve("alice")
    assert place is not None
    room.take(place, b"x" * 60_000)
    (busy,), (client,) = room.streams.all(), room.clients
    wait_until(lambda: busy.owed > 0)
    for _ in range(8):
        room.now_s += streams.STUCK_S - 5
        _take(client, busy, 40_000)
        assert busy.buffer
        room.streams.send(busy, b"x" * 40_000)
        room.streams.flush()
    time.sleep(streams._TICK_S + 0.1)
    assert room.streams.all() == [busy]
