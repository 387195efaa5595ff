"""Three locations as three real workers: quorum, one that is blind, one that is dead, all dead, and back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests import api_cast
from tests.api_cast import World
from tests.dns_server import SILENT, DnsServer, Zone
from tests.sink import Answer, Sink
from tests.stack import RoleProcess, Roles, wait_until
from tests.targets import free_port

world = api_cast.world

PATIENCE_S = 60.0
PLACES = ("ams", "fra", "nyc")
BLIND = "tocsin:blind:"
HERE, NOBODY_THERE, MUTE = Zone(("127.0.0.1",), ttl=0), Zone(("127.0.0.2",), ttl=0), Zone(mute=SILENT)


class Globe:
    """A scheduler, a worker at each of three locations, and a shop that all look at, each by its own names."""

    def __init__(self, world: World, roles: Roles, names: dict[str, DnsServer], sink: Sink) -> None:
        self.world, self.roles, self.names, self.sink = world, roles, names, sink
        self.workers = {place: self.worker(place) for place in PLACES}
        for worker in self.workers.values():
            worker.wait_for("worker_started")
        roles.leader()
        self.monitors = {
            name: world.alice.make_monitor(
                name=name, target=f"http://shop.test:{sink.port}/", interval_seconds=1, timeout_seconds=1,
                failure_threshold=2, retry_interval_seconds=1, locations=list(PLACES), quorum=quorum,
            )["id"]
            for name, quorum in (("majority", None), ("any", 1), ("all", 3))
        }  # fmt: skip

    def worker(self, place: str) -> RoleProcess:
        """A worker at a location. Its canary never answers: whatever its network does not bring is its own fault."""
        return self.roles.start(
            "worker", TOCSIN_LOCATION=place, TOCSIN_DNS_SERVERS=self.names[place].address,
            TOCSIN_CANARIES=f"127.0.0.1:{free_port()}",
        )  # fmt: skip

    def status(self, name: str) -> str:
        state = self.world.alice.get(f"/v1/monitors/{self.monitors[name]}").get_json()["state"]
        return str(state["status"])

    def statuses(self) -> list[str]:
        return [self.status(name) for name in self.monitors]

    def await_statuses(self, *wanted: str) -> None:
        wait_until(lambda: self.statuses() == list(wanted), PATIENCE_S, f"{wanted}")

    def await_status(self, name: str, status: str) -> None:
        wait_until(lambda: self.status(name) == status, PATIENCE_S, f"{name} {status}")

    def location(self, place: str) -> dict[str, Any]:
        rows = self.world.alice.get("/v1/locations").get_json()["data"]
        return next(row for row in rows if row["name"] == place)

    def await_location(self, place: str, **wanted: Any) -> None:
        wait_until(lambda: wanted.items() <= self.location(place).items(), PATIENCE_S, f"{place} {wanted}")

    def signs(self, place: str) -> list[Any]:
        """Of workers there that have not said that they end."""
        return self.world.rows(
            "SELECT s.seen_at FROM worker_signs s JOIN locations l ON l.id = s.location WHERE l.name = %(place)s",
            place=place,
        )

    def incidents(self) -> list[tuple[str, str]]:
        """(monitor's name, or dedup_key, and status), the oldest first."""
        names = {id_: name for name, id_ in self.monitors.items()}
        rows = self.world.alice.get("/v1/incidents?limit=100").get_json()["data"][::-1]
        return [(names.get(row["monitor_id"], row["dedup_key"]), row["status"]) for row in rows]

    def outages(self) -> list[tuple[str, str]]:
        """Incidents of monitors: where the machine stands still a location may become blind at any time."""
        return [(name, status) for name, status in self.incidents() if name in self.monitors]

    def blind(self) -> list[str]:
        """Places that are said to be blind, one for each open incident."""
        found = [name for name, status in self.incidents() if name.startswith(BLIND) and status != "resolved"]
        return sorted(name.removeprefix(BLIND) for name in found)

    def fail(self, *, status: int = 500) -> None:
        self.sink.default["/"] = Answer(status=status)

    def recover(self) -> None:
        self.sink.default["/"] = Answer()


@contextmanager
def name_servers() -> Iterator[dict[str, DnsServer]]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    servers = {place: DnsServer({"shop.test": HERE}) for place in PLACES}
    for server in servers.values():
        asyncio.run_coroutine_threadsafe(server.start(), loop).result(60)
    yield servers
    for server in servers.values():
        loop.call_soon_threadsafe(server.close)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(60)
    loop.close()


@pytest.fixture
def globe(world: World, database_url: str, redis_url: str, request: pytest.FixtureRequest) -> Iterator[Globe]:
    """Blind after so many seconds as the test says."""
    with (
        Sink() as sink,
        name_servers() as names,
        Roles(database_url, redis_url, TOCSIN_BLIND_AFTER=str(request.param)) as roles,
    ):
        for place in PLACES:
            world.execute("INSERT INTO locations (name) VALUES (%(name)s) ON CONFLICT DO NOTHING", name=place)
        yield Globe(world, roles, names, sink)


@pytest.mark.parametrize("globe", [5], indirect=True)
def test_three_locations_vote_and_who_sees_nothing_does_not(globe: Globe) -> None:
    globe.await_statuses("up", "up", "up")
    for place in PLACES:
        globe.await_location(place, status="fresh")
    wait_until(lambda: globe.location("ams")["checks_last_minute"] > 3, PATIENCE_S)
    globe.await_location("ams", workers=1, blind_since=None, reason=None)
    nothing_waits = {"fast": 0, "slow": 0, "urgent": 0}  # but for a moment, whenever a check is due
    globe.await_location("ams", backlog=nothing_waits)
    found = globe.location("ams")
    assert found["last_seen_at"] is not None
    assert found["last_result_at"] is not None

    # One of three says down: a majority does not, and a quorum of one does.
    globe.names["nyc"].zones["shop.test"] = NOBODY_THERE
    wait_until(lambda: globe.outages() == [("any", "open")], PATIENCE_S)
    globe.names["fra"].zones["shop.test"] = NOBODY_THERE
    wait_until(lambda: globe.outages() == [("any", "open"), ("majority", "open")], PATIENCE_S)
    globe.names["ams"].zones["shop.test"] = NOBODY_THERE
    wait_until(lambda: sorted(globe.outages()) == [("all", "open"), ("any", "open"), ("majority", "open")], PATIENCE_S)
    for place in PLACES:
        globe.names[place].zones["shop.test"] = HERE
    wait_until(lambda: {status for _, status in globe.incidents()} == {"resolved"}, PATIENCE_S)
    before = globe.outages()

    # One is blind, one is dead: neither votes, none of it is held against the shop, and each is one incident.
    globe.names["nyc"].zones["shop.test"] = MUTE
    globe.workers["fra"].kill()
    globe.await_location("nyc", status="blind", reason="network")
    globe.await_location("fra", status="blind", reason="no_worker", workers=0)
    wait_until(lambda: globe.blind() == ["fra", "nyc"], PATIENCE_S)
    globe.await_status("majority", "up")
    assert globe.outages() == before

    # The one that is left is the majority of the fresh votes; three votes there are not.
    globe.fail()
    globe.await_status("majority", "down")
    globe.await_status("any", "down")
    globe.await_status("all", "up")
    globe.recover()
    globe.await_status("majority", "up")
    globe.await_status("any", "up")
    before = globe.outages()
    assert ("all", "open") not in before

    # Nobody sees anything: unknown, and nothing else.
    globe.workers["ams"].kill()
    globe.await_statuses("unknown", "unknown", "unknown")
    globe.await_location("ams", status="blind")
    wait_until(lambda: globe.blind() == sorted(PLACES), PATIENCE_S)
    assert globe.outages() == before
    listed = globe.world.alice.get("/v1/monitors?state=unknown").get_json()["data"]
    assert {row["name"] for row in listed} == set(globe.monitors)

    # And back.
    globe.names["nyc"].zones["shop.test"] = HERE
    for place in ("ams", "fra"):
        globe.workers[place] = globe.worker(place)
    globe.await_statuses("up", "up", "up")
    for place in PLACES:
        globe.await_location(place, status="fresh")
    wait_until(lambda: {status for _, status in globe.incidents()} == {"resolved"}, PATIENCE_S)


@pytest.mark.parametrize("globe", [20], indirect=True)
def test_a_worker_that_is_replaced_makes_nobody_blind(globe: Globe) -> None:
    globe.await_statuses("up", "up", "up")
    for _ in range(2):
        assert globe.workers["ams"].terminate() == 0
        assert globe.signs("ams") == []  # it said so
        globe.workers["ams"] = globe.worker("ams")
        globe.await_location("ams", status="fresh", workers=1)
    assert globe.incidents() == []
