"""What the API says about routes and silences is what the notifier does."""

from __future__ import annotations

import random
from typing import Any

from common.clock import utc_now
from notifier.relay import Relay
from notifier.silences import SilenceEnds
from tests import api_cast
from tests.api_cast import World

world = api_cast.world

TEAMS, SEVERITIES, SOURCES = ("shop", "books", "toys"), ("critical", "error", "info"), ("payments", "search")

LEDGER = """
SELECT n.channel_id::text AS channel, n.route_id::text AS route, n.status, n.reason, n.silence_id::text AS silence
  FROM notifications n JOIN incidents i ON i.id = n.incident_id WHERE i.dedup_key = %(key)s AND n.event_type = 'opened'
"""


def notify(world: World) -> None:
    """The relay and the ends of silences, until there is nothing to do."""
    relay = Relay(world.databases.worker, lambda _ids: None, utc_now)
    ends = SilenceEnds(world.databases.worker, lambda _ids: None, utc_now)
    while relay.step() or ends.step():
        pass


def fire(world: World, key: str, **fields: Any) -> dict[str, Any]:
    alert = {"name": "db-1", "source": "payments", "dedup_key": key, **fields}
    assert world.alice.post("/v1/alerts", json=[alert]).status_code == 202
    return alert


def some_route(chance: random.Random, channels: list[str]) -> dict[str, Any]:
    match = {"severity": chance.choice((*SEVERITIES, "*", "*")), "source": chance.choice((*SOURCES, "*", "*a*"))}
    team = {"label": "team", "op": chance.choice(("=", "!=", "=~")), "value": chance.choice(TEAMS)}
    return {
        "name": "r", "match": match, "matchers": [team] if chance.random() < 0.6 else [],
        "channel_ids": chance.sample(channels, chance.randint(1, 3)), "continue": chance.random() < 0.7,
        "enabled": chance.random() < 0.9, "group_by": ["team"] if chance.random() < 0.3 else None,
        "cooldown_seconds": 3_600 if chance.random() < 0.3 else 0, "position": chance.randrange(8),
    }  # fmt: skip


def test_the_channels_that_a_test_names_are_those_that_the_relay_tells(world: World) -> None:
    chance = random.Random(4)
    channels = [world.alice.make_channel(enabled=n != 1, is_default=n > 3)["id"] for n in range(6)]
    for _ in range(8):
        assert world.alice.post("/v1/routes", json=some_route(chance, channels)).status_code == 201
    world.alice.delete(f"/v1/channels/{channels[2]}")
    silence = {"matchers": [{"label": "team", "op": "=", "value": "toys"}], "duration_seconds": 3600}
    assert world.alice.post("/v1/silences", json=silence).status_code == 201
    seen: dict[str, int] = {"told": 0, "silenced": 0, "cooldown": 0, "default": 0}
    for number in range(40):
        key = f"problem-{number % 25}"  # from 25 on, problems come back: some of their routes cool down
        label = chance.choice((*TEAMS, ""))
        alert = {
            "name": "db-1", "source": chance.choice(SOURCES), "severity": chance.choice(SEVERITIES), "dedup_key": key,
            "labels": {"team": label} if label else {},
        }  # fmt: skip
        said = world.bob.post("/v1/routes/test", json=alert).get_json()
        fire(world, **{"key": key, **{name: value for name, value in alert.items() if name != "dedup_key"}})
        notify(world)
        rows = world.rows(LEDGER, key=key)
        pending = {(row["channel"], row["route"]) for row in rows if row["status"] == "pending"}
        assert {(told["id"], told["route_id"]) for told in said["channels"]} == pending, (alert, said, rows)
        silenced = {row["silence"] for row in rows if row["reason"] == "silenced"}
        assert silenced <= set(said["silenced_by"])
        seen["told"] += bool(pending)
        seen["silenced"] += bool(silenced)
        seen["cooldown"] += any(row["reason"] == "cooldown" for row in rows)
        seen["default"] += said["default"]
        world.execute("UPDATE incidents SET status = 'resolved', resolved_at = now(), dedup_key = 'past'")
    assert all(seen.values()), seen  # every kind came up


def test_what_a_narrower_silence_does_not_hold_back_any_more_is_announced_at_once(world: World) -> None:
    world.alice.make_channel()
    matcher = {"label": "team", "op": "=~", "value": "shop|books"}
    made = world.alice.post("/v1/silences", json={"matchers": [matcher], "duration_seconds": 3600}).get_json()
    for team in ("shop", "books"):
        fire(world, team, labels={"team": team})
    notify(world)

    def state(key: str) -> tuple[str, str | None]:
        (row,) = world.rows(LEDGER, key=key)
        return row["status"], row["silence"]

    assert state("shop") == state("books") == ("suppressed", made["id"])
    narrower = {"matchers": [{**matcher, "value": "shop"}]}
    assert world.alice.patch(f"/v1/silences/{made['id']}", json=narrower).get_json()["id"] == made["id"]
    notify(world)
    assert state("books") == ("pending", None)
    assert state("shop") == ("suppressed", made["id"])  # handed back to the one that goes on
    world.alice.delete(f"/v1/silences/{made['id']}")
    notify(world)
    assert state("shop") == ("pending", None)
    assert world.rows("SELECT count(*) AS n FROM silences WHERE settled_at IS NULL") == [{"n": 0}]
