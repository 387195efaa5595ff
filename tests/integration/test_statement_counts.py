"""How many SQL statements a request takes: exactly so many, whoever calls included, and no more with more rows.

A number that grows is a round trip that everybody waits for: change it here on purpose, or not at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests import api_cast
from tests.api_cast import CHANNEL, MONITOR, PASSWORD, Person, World
from tests.integration.test_api_channels import add_notification
from tests.statements import counted

world = api_cast.world


@dataclass(frozen=True)
class Ask:
    """A request, and the statements that it takes behind the one that says who calls (none where nobody has to)."""

    path: str
    statements: int
    method: str = "GET"
    body: Callable[[dict[str, str]], Any] | None = None
    who: str = "key"
    status: int = 200


ASKS = {
    "who am I": Ask("/v1/auth/me", 2),
    "a session's turn": Ask("/v1/monitors/{monitor}", 1, who="alice"),
    "login": Ask("/v1/auth/login", 3, "POST",
                 lambda _: {"email": "alice@example.com", "password": PASSWORD}, who="nobody"),
    "read a monitor": Ask("/v1/monitors/{monitor}", 1),
    "list monitors": Ask("/v1/monitors?limit=50", 1),
    "list monitors by state": Ask("/v1/monitors?state=pending&limit=50", 1),
    "list monitors by label": Ask("/v1/monitors?label=team:shop&limit=50", 1),
    "search monitors": Ask("/v1/monitors?q=shop&limit=50", 1),
    "list monitors by name": Ask("/v1/monitors?sort=name&limit=50", 1),
    "create a monitor": Ask("/v1/monitors", 7, "POST", lambda _: MONITOR, status=201),
    "change a monitor": Ask("/v1/monitors/{monitor}", 8, "PATCH", lambda _: {"name": "Renamed"}),
    "a monitor's results": Ask("/v1/monitors/{monitor}/results?limit=100", 2),
    "series": Ask("/v1/monitors/series", 3, "POST",
                  lambda ids: {"ids": [ids["monitor"]], "window": "24h", "points": 60}),
    "summary": Ask("/v1/summary?group_by=label:team", 3),
    "list incidents": Ask("/v1/incidents?limit=50", 2),
    "search incidents": Ask("/v1/incidents?q=shop&limit=50", 2),
    "read an incident": Ask("/v1/incidents/{incident}", 2),
    "an incident's timeline": Ask("/v1/incidents/{incident}/events", 2),
    "acknowledge": Ask("/v1/incidents/{incident}/status", 9, "PATCH", lambda _: {"status": "acknowledged"}),
    "list notifications": Ask("/v1/notifications?limit=50", 1),
    "list channels": Ask("/v1/channels", 1),
    "probe": Ask("/v1/probes", 1, "POST", lambda _: {"type": "http", "target": "http://192.0.2.7/",
                                                     "location": "mars"}, status=400),
}  # fmt: skip


@pytest.fixture
def ids(world: World) -> dict[str, str]:
    monitor = world.alice.make_monitor(labels={"team": "shop"})
    incident = world.open_incident(monitor)
    channel = world.alice.post("/v1/channels", json=CHANNEL).get_json()["id"]
    add_notification(world, incident, channel)
    return {"monitor": monitor["id"], "incident": incident}


@pytest.fixture
def key(world: World) -> Person:
    made = world.alice.post("/v1/api-keys", json={"name": "counter", "role": "owner"}).get_json()
    person = world.person(made["key"])
    assert person.get("/v1/auth/me").status_code == 200  # the first use of a minute is noted
    return person


def ask(world: World, person: Person, asked: Ask, ids: dict[str, str]) -> list[str]:
    """The statements of one request."""
    with counted(world.services.database) as sent:
        body = {} if asked.body is None else {"json": asked.body(ids)}
        answer = person.call(asked.method, asked.path.format(**ids), **body)
    assert answer.status_code == asked.status, answer.text
    return sent


@pytest.mark.parametrize("name", ASKS)
def test_a_request_takes_so_many_statements(world: World, ids: dict[str, str], key: Person, name: str) -> None:
    asked = ASKS[name]
    person = key if asked.who == "key" else getattr(world, asked.who)
    sent = ask(world, person, asked, ids)
    assert len(sent) == asked.statements + (asked.who != "nobody"), "\n".join(sent)


def test_more_rows_take_no_more_statements(world: World, ids: dict[str, str], key: Person) -> None:
    listing = [asked for asked in ASKS.values() if asked.method == "GET" and "limit=" in asked.path]
    before = [len(ask(world, key, asked, ids)) for asked in listing]
    for number in range(12):
        monitor = world.alice.make_monitor(name=f"Shop {number}", labels={"team": "shop"})
        world.open_incident(monitor)
    assert [len(ask(world, key, asked, ids)) for asked in listing] == before
