"""A small world to notify about: an organization, its channels, incidents that open and change."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import uvloop
from psycopg.types.json import Jsonb

from common.channels.base import Context
from common.channels.registry import CHANNELS
from common.clock import utc_now
from common.domain.egress import EgressMode, EgressRules
from common.domain.incident import EventType, Severity, Status
from common.http.engine import HttpEngine
from common.http.resolver import Resolver
from common.store import incident_changes, incidents
from common.store.engine import Database
from common.store.incidents import Alteration, Deed, Opening
from common.vault import Vault, generate_key
from notifier.deliver import Deliverer, Parts
from notifier.relay import Relay
from notifier.settle import Settler

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass
class World:
    """One organization. `owner` makes what the API would make, `worker` is what the services act as."""

    owner: Database
    worker: Database
    key: str = field(default_factory=generate_key)
    org_id: str = field(default_factory=lambda: str(uuid4()))

    def __post_init__(self) -> None:
        self.vault = Vault(self.key)
        self.run("INSERT INTO organizations (id, name) VALUES (%(id)s, 'Shop')", id=self.org_id)

    def run(self, sql: str, **values: Any) -> list[Any]:
        """Any statement, as owner; its rows."""
        with self.owner.begin() as connection:
            result = connection.exec_driver_sql(sql, values)
            return list(result) if result.returns_rows else []

    def channel(self, url: str, *, type_: str = "webhook", is_default: bool = True, secrets: Any = "") -> str:
        """A channel; its id. `secrets` None stores none."""
        id_ = str(uuid4())
        sealed = self.vault.seal(f"channel:{self.org_id}:{id_}", secrets or {"secret": SECRET})
        self.run(
            "INSERT INTO channels (id, org_id, name, type, config, secrets, is_default)"
            " VALUES (%(id)s, %(org)s, 'hook', %(type)s, %(config)s, %(secrets)s, %(default)s)",
            id=id_,
            org=self.org_id,
            type=type_,
            config=Jsonb({"url": url}),
            default=is_default,
            secrets=None if secrets is None else sealed,
        )
        return id_

    def open(self, count: int = 1, *, correlation_id: str = "a" * 32) -> list[str]:
        """Open incidents; their ids."""
        openings = [
            Opening(self.org_id, None, "test", uuid4().hex, "Shop is down", Severity.ERROR,
                    {"reason": "timeout", "message": "no answer"}, utc_now(), correlation_id)
            for _ in range(count)
        ]  # fmt: skip
        with self.worker.begin() as connection:
            return list(incidents.open_all(connection, openings).values())

    def change(self, incident: str, type_: EventType, status: Status | None = None) -> None:
        """Add an event to an incident."""
        with self.worker.begin() as connection:
            incidents.alter_all(connection, [Alteration(incident, type_, utc_now(), "b" * 32, status=status)])

    def resolve(self, incident: str) -> None:
        self.change(incident, EventType.RESOLVED, Status.RESOLVED)

    def comment(self, incident: str) -> None:
        with self.worker.begin() as connection:
            incident_changes.comment(
                connection,
                org_id=self.org_id,
                incident_id=incident,
                body="looking",
                deed=Deed("tocsin", utc_now(), "r"),
            )

    def relay(self) -> Relay:
        """A relay that hints nobody."""
        return Relay(self.worker, lambda _ids: None, utc_now)

    def relay_all(self) -> None:
        relay = self.relay()
        while relay.step():
            pass

    def ledger(self) -> list[Any]:
        """(event_type, channel_id, status, reason, attempts), in order."""
        return [
            tuple(row)
            for row in self.run(
                "SELECT event_type, channel_id::text, status, reason, attempts FROM notifications ORDER BY no"
            )
        ]

    def statuses(self) -> list[tuple[str, str, str | None]]:
        """(event_type, status, reason), in order."""
        return [(row[0], row[2], row[3]) for row in self.ledger()]

    def attempts(self) -> list[Any]:
        return self.run("SELECT outcome, status_code, error FROM delivery_attempts ORDER BY at, number")


class Post:
    """A deliverer on an event loop of its own, without queue or sweeper: `round` is one look at the ledger."""

    def __init__(self, world: World, deliverer_class: type[Deliverer] = Deliverer, **limits: int) -> None:
        self.loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.woken = threading.Event()
        self.engine = HttpEngine(Resolver(), EgressRules(EgressMode.INTERNAL), user_agent="test")
        self.parts = Parts(
            database=world.worker,
            settler=Settler(world.worker, utc_now),
            vault=world.vault,
            channels=CHANNELS,
            context=Context(self.engine, utc_now, "http://tocsin.test"),
            wake=self.woken.set,
        )
        self.deliverer = deliverer_class(self.parts, **limits)

    def call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(100)

    def start(self, ids: list[str] | None = None) -> int:
        """Claim and start sending; how many."""
        return int(self.call(self.deliverer.deliver(ids)))

    def round(self, ids: list[str] | None = None) -> int:
        """Claim, send and settle; how many."""
        started = self.start(ids)
        self.settle()
        return started

    def settle(self) -> None:
        """Wait for all that is under way."""
        while self.deliverer._tasks:
            time.sleep(0.002)

    def until(self, condition: Callable[[], bool], timeout_s: float = 60.0) -> bool:
        """Look at the ledger again and again; whether the condition came true in time."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            is_late = time.monotonic() > deadline
            if not self.start():
                time.sleep(0.01)
            if is_late:
                return condition()
        return True

    def close(self) -> None:
        self.call(self.deliverer.drain(0.1))
        self.loop.call_soon_threadsafe(self.engine.close)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(60)


@contextmanager
def posting(world: World, deliverer_class: type[Deliverer] = Deliverer, **limits: int) -> Iterator[Post]:
    """A post for one test."""
    post = Post(world, deliverer_class, **limits)
    yield post
    post.close()
