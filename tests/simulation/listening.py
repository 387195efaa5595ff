"""LISTEN, modelled: a connection of its own that hears what is notified while it lasts, and breaks with the server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg

from common.store.schedule import LANES_CHANNEL

if TYPE_CHECKING:
    from tests.simulation.database import Server


@dataclass(frozen=True, slots=True)
class Notice:
    """One notification."""

    channel: str
    payload: str


class ListeningConnection:
    """Stands where the product's `Database.raw_connection()` is; it never waits."""

    def __init__(self, server: Server) -> None:
        if server.away_until > server.sim.now:
            raise psycopg.OperationalError("away")
        self._server = server
        self._crashes = server.crashes
        self._heard: list[Notice] = []
        server.listeners.setdefault(LANES_CHANNEL, []).append(
            lambda payload: self._heard.append(Notice(LANES_CHANNEL, payload))
        )

    def execute(self, _query: Any) -> None:
        """LISTEN; only the lanes' channel is ever notified here."""

    def notifies(self, *, timeout: float, stop_after: int | None = None) -> Iterator[Notice]:
        """What was heard so far."""
        del timeout, stop_after
        if self._crashes != self._server.crashes:
            raise psycopg.OperationalError("the connection is gone")
        heard, self._heard = self._heard, []
        yield from heard
