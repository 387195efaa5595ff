"""The client and the real API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from common import client_wire
from common.client import Client
from common.client_errors import Missing, NotLetIn, Refused, Stale
from common.client_wire import Patience
from tests import api_cast
from tests.api_cast import MONITOR, PASSWORD, Person, World
from tests.served import serving

world = api_cast.world
patient_queue = api_cast.patient_queue

pytestmark = pytest.mark.usefixtures("patient_queue")

QUICK = Patience(tries=3, first_pause_s=0.01, longest_pause_s=0.02, within_s=60)


@pytest.fixture
def url(world: World) -> Iterator[str]:
    with serving(world.client.application) as url:
        yield url


@pytest.fixture
def alice(world: World, url: str) -> Iterator[Client]:
    with Client(url, token(world.alice), patience=QUICK) as client:
        yield client


def token(person: Person) -> str:
    return person.headers["Authorization"].removeprefix("Bearer ")


def test_a_session_is_opened_used_renewed_and_ended(url: str) -> None:
    with Client(url) as client:
        tokens = client.login("alice@example.com", PASSWORD)
        with Client(url, tokens["access_token"]) as alice:
            assert (alice.me()["user"] or {})["email"] == "alice@example.com"
        newer = client.refresh(tokens["refresh_token"])
        client.logout(newer["refresh_token"])
        with Client(url, newer["access_token"]) as alice, pytest.raises(NotLetIn):
            alice.me()
        with pytest.raises(NotLetIn) as caught:
            client.login("alice@example.com", "wrong")
    assert caught.value.code == "INVALID_CREDENTIALS"


def test_monitors_are_made_read_changed_and_removed(alice: Client) -> None:
    made = [alice.create_monitor({**MONITOR, "name": f"Shop {number}"}) for number in range(5)]
    assert [one["id"] for one in alice.monitors(page=2)] == [one["id"] for one in reversed(made)]
    assert alice.put_monitor("shop", MONITOR)["id"] == alice.put_monitor("shop", MONITOR)["id"]
    first = made[0]["id"]
    assert alice.change_monitor(first, {"interval_seconds": 60})["interval_seconds"] == 60
    assert alice.pause_monitor(first)["enabled"] is False
    assert alice.resume_monitor(first)["enabled"] is True
    assert alice.check_monitor(first)["check_id"]
    assert list(alice.results(first, verdict=["down"])) == []
    alice.delete_monitor(first)
    with pytest.raises(Missing) as caught:
        alice.monitor(first)
    assert caught.value.code == "MONITOR_NOT_FOUND"


def test_monitors_are_filtered_and_cut_to_fields(alice: Client) -> None:
    alice.create_monitor({**MONITOR, "name": "Shop", "labels": {"team": "shop"}})
    alice.create_monitor({**MONITOR, "name": "Mail", "type": "tcp", "target": "192.0.2.7:25"})
    assert [one["name"] for one in alice.monitors(label=["team:shop"])] == ["Shop"]
    assert [one["name"] for one in alice.monitors(type=["tcp"], state=["pending", "up"])] == ["Mail"]
    assert [one["name"] for one in alice.monitors(q="mail")] == ["Mail"]
    assert [sorted(one) for one in alice.monitors(fields=["name", "key"], sort="name", page=1)] == [
        ["id", "key", "name"], ["id", "key", "name"],
    ]  # fmt: skip


def test_many_monitors_at_once(alice: Client) -> None:
    wanted = [{**MONITOR, "name": f"Shop {number}"} for number in range(3)]
    assert alice.create_monitors(wanted)["created"] == 3
    mixed = alice.create_monitors([MONITOR, {**MONITOR, "type": "nonsense"}], mode="each")
    assert (mixed["created"], mixed["failed"]) == (1, 1)
    assert mixed["results"][1]["error"] is not None
    ids = [one["id"] for one in alice.monitors()]
    done = alice.switch_monitors("pause", ids=ids[:2])
    assert (done["changed"], done["unchanged"], done["not_found"]) == (2, 0, [])
    assert alice.switch_monitors("resume", ids=ids)["changed"] == 2


def test_a_desired_set_is_planned_applied_and_stale_afterwards(alice: Client) -> None:
    wanted = [{**MONITOR, "key": "shop"}]
    plan = alice.plan(wanted)
    assert (plan["summary"]["create"], plan["changes"][0]["key"]) == (1, "shop")
    done = alice.apply(wanted, plan["fingerprint"])
    assert done["summary"]["create"] == 1
    with pytest.raises(Stale) as caught:
        alice.apply(wanted, plan["fingerprint"])
    assert caught.value.code == "PLAN_STALE"
    exported = alice.export()
    assert [one["key"] for one in exported["monitors"]] == ["shop"]
    assert alice.plan(exported["monitors"])["changes"] == []
    assert alice.plan([], prune=True)["summary"]["delete"] == 1


def test_incidents_are_opened_taken_and_ended(alice: Client) -> None:
    made = alice.create_incident({"title": "Carts lose items", "priority": "P1"})
    assert [one["id"] for one in alice.incidents(status=["open"], priority=["P1"])] == [made["id"]]
    assert alice.acknowledge(made["id"], duration_s=600)["status"] == "acknowledged"
    assert alice.comment(made["id"], "looking")["data"]["body"] == "looking"
    assert alice.resolve(made["id"], comment="done")["status"] == "resolved"
    events = [event["type"] for event in alice.incident_events(made["id"])]
    assert events[:3] == ["opened", "acknowledged", "commented"]
    assert sorted(events[3:]) == ["commented", "resolved"]
    with pytest.raises(Refused) as caught:
        alice.acknowledge(made["id"])
    assert caught.value.code == "INVALID_STATUS_TRANSITION"
    assert list(alice.notifications(incident_id=made["id"])) == []
    assert alice.redeliver_all(incident_id=made["id"]) == {"redelivered": 0, "remaining": 0}


def test_a_creation_whose_answer_was_lost_is_not_made_twice(alice: Client) -> None:
    send, lost = alice._wire._session.send, []

    def lose_the_first(request: Any, **options: Any) -> Any:
        response = send(request, **options)
        if not lost:
            lost.append(json.loads(response.content))
            raise client_wire.requests.ConnectionError("lost")
        return response

    alice._wire._session.send = lose_the_first  # type: ignore[method-assign]
    made = alice.create_monitor(MONITOR)
    assert made["id"] == lost[0]["id"]
    assert len(list(alice.monitors())) == 1
