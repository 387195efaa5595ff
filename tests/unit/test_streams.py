"""Room for streams: bounded, and no organization can take all of it."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from api.streams import Access, Streams

MOST = 20


class Room:
    """Streams whose clients do nothing."""

    def __init__(self) -> None:
        self.streams = Streams(MOST, lambda _: lambda: True)
        self._clients: list[socket.socket] = []

    def open(self, org_id: str, count: int) -> int:
        """Open so many, as long as there is room; how many."""
        for opened in range(count):
            if not self.streams.has_room(org_id):
                return opened
            ours, client = socket.socketpair()
            self._clients.append(client)
            self.streams.open(ours, b"", Access(org_id, "key", monitors=True, expires_s=None), None)
        return count

    def close(self) -> None:
        self.streams.close()
        for client in self._clients:
            client.close()


@pytest.fixture
def room() -> Iterator[Room]:
    room = Room()
    yield room
    room.close()


def test_one_organization_leaves_the_last_tenth_to_others(room: Room) -> None:
    assert room.open("alice", MOST) == MOST - 2
    assert room.open("bob", MOST) == 2
    assert room.open("charlie", 1) == 0


def test_who_has_little_gets_the_last_place(room: Room) -> None:
    assert room.open("bob", 1) == 1
    assert room.open("alice", MOST) == MOST - 3
    assert room.open("bob", MOST) == 1  # two are a tenth
    assert room.open("charlie", MOST) == 1


def test_nobody_comes_in_once_it_ends(room: Room) -> None:
    room.streams.stop()
    assert room.open("alice", 1) == 0
