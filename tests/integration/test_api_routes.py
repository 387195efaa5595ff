"""Routes through the API: their order, what is refused, and what POST /v1/routes/test says about them."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from psycopg.types.json import Jsonb

from api import routes as api_routes
from api.schemas_routes import Route
from common.clock import monotonic_s, utc_now
from tests import api_cast
from tests.api_cast import Person, World

world = api_cast.world

#: What a route has that nobody decided about.
DEFAULTS = {
    "match": {}, "matchers": [], "cooldown_seconds": 0, "continue": True, "group_by": None, "group_wait_seconds": 30,
    "group_interval_seconds": 300, "repeat_interval_seconds": None, "enabled": True,
}  # fmt: skip


def make(person: Person, channel: str | dict[str, Any], name: str = "r", **fields: Any) -> dict[str, Any]:
    channel_id = channel if isinstance(channel, str) else channel["id"]
    response = person.post("/v1/routes", json={"name": name, "channel_ids": [channel_id], **fields})
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.get_json()
    return made


def order(person: Person) -> list[str]:
    """The routes' names in order; their positions have no gaps."""
    listed = person.get("/v1/routes?limit=500").get_json()["data"]
    assert [route["position"] for route in listed] == list(range(len(listed)))
    return [route["name"] for route in listed]


def version(world: World, org_id: str) -> int:
    return int(
        world.rows("SELECT routing_version FROM organizations WHERE id = %(id)s", id=org_id)[0]["routing_version"]
    )


def blamed(response: Any) -> list[str]:
    return [detail["field"] for detail in response.get_json()["details"]]


def test_a_route_is_stored_as_it_was_sent_with_its_defaults(world: World) -> None:
    channel = world.alice.make_channel()
    plain = make(world.alice, channel)
    assert plain == {
        **DEFAULTS, "id": plain["id"], "name": "r", "position": 0, "channel_ids": [channel["id"]],
        "created_at": plain["created_at"], "updated_at": plain["updated_at"],
    }  # fmt: skip
    fields = {
        "match": {"severity": "critical", "source": "pay*", "name": "*"},
        "matchers": [{"label": "team", "op": "=~", "value": "shop|books"}],
        "cooldown_seconds": 60, "continue": False, "group_by": ["team", "env"], "group_wait_seconds": 0,
        "group_interval_seconds": 60, "repeat_interval_seconds": 3600, "enabled": False,
    }  # fmt: skip
    full = make(world.alice, channel, **fields)
    assert {name: full[name] for name in fields} == fields
    assert world.bob.get(f"/v1/routes/{full['id']}").get_json() == full
    assert set(full) == {field.alias or name for name, field in Route.model_fields.items()}
    Route.model_validate(full)


def test_routes_are_listed_in_order_page_by_page(world: World) -> None:
    channel = world.alice.make_channel()
    for name in "abcde":
        make(world.alice, channel, name)
    seen, path = [], "/v1/routes?limit=2"
    while path:
        page = world.bob.get(path)
        seen.append([(route["name"], route["position"]) for route in page.get_json()["data"]])
        cursor = page.get_json()["next_cursor"]
        assert ("Link" in page.headers) is (cursor is not None)
        path = f"/v1/routes?limit=2&cursor={cursor}" if cursor else ""
    assert seen == [[("a", 0), ("b", 1)], [("c", 2), ("d", 3)], [("e", 4)]]


def test_a_taken_position_moves_the_later_ones_down(world: World) -> None:
    channel = world.alice.make_channel()
    for name in "abc":
        make(world.alice, channel, name)
    assert make(world.alice, channel, "first", position=0)["position"] == 0
    assert make(world.alice, channel, "third", position=2)["position"] == 2
    # There is no gap: a position behind the last is the last.
    assert make(world.alice, channel, "last", position=1_000)["position"] == 5
    assert order(world.alice) == ["first", "a", "third", "b", "c", "last"]
    assert order(world.charlie) == []


@pytest.mark.parametrize(
    ("moved", "position", "expected"),
    [
        ("a", 0, "abcd"),
        ("a", 1, "bacd"),
        ("a", 3, "bcda"),
        ("a", 99, "bcda"),
        ("d", 0, "dabc"),
        ("c", 1, "acbd"),
        ("b", None, "acdb"),  # null is the default: the last
    ],
)
def test_a_patch_of_the_position_moves_one_route_and_keeps_the_order_of_the_others(
    world: World, moved: str, position: int | None, expected: str
) -> None:
    channel = world.alice.make_channel()
    ids = {name: make(world.alice, channel, name)["id"] for name in "abcd"}
    before = {row["id"]: row["updated_at"] for row in world.rows("SELECT id::text, updated_at FROM routes")}
    changed = world.alice.patch(f"/v1/routes/{ids[moved]}", json={"position": position})
    assert (changed.status_code, changed.get_json()["position"]) == (200, expected.index(moved))
    assert "".join(order(world.alice)) == expected
    after = {row["id"]: row["updated_at"] for row in world.rows("SELECT id::text, updated_at FROM routes")}
    assert {id_ for id_ in after if after[id_] != before[id_]} == {ids[moved]}  # the others only moved aside


def test_a_deleted_route_is_gone_but_stays_in_the_database_and_the_later_ones_move_up(world: World) -> None:
    channel = world.alice.make_channel()
    ids = {name: make(world.alice, channel, name)["id"] for name in "abc"}
    assert world.alice.delete(f"/v1/routes/{ids['b']}").status_code == 204
    assert order(world.alice) == ["a", "c"]
    path = f"/v1/routes/{ids['b']}"
    assert [world.alice.call(method, path, json={}).status_code for method in ("GET", "PATCH", "DELETE")] == [404] * 3
    assert world.rows("SELECT deleted_at IS NOT NULL AS gone FROM routes WHERE id = %(id)s", id=ids["b"])[0]["gone"]
    assert make(world.alice, channel, "d")["position"] == 2


def test_gaps_that_somebody_else_left_are_closed(world: World) -> None:
    channel = world.alice.make_channel()
    for name in "abc":
        make(world.alice, channel, name)
    world.execute("UPDATE routes SET position = 7 WHERE name = 'b'")
    world.execute("UPDATE routes SET position = 5 WHERE name <> 'b'")
    assert order(world.alice) == ["a", "c", "b"]
    make(world.alice, channel, "d", position=1)
    assert order(world.alice) == ["a", "d", "c", "b"]
    assert [row["position"] for row in world.rows("SELECT position FROM routes ORDER BY position")] == [0, 1, 2, 3]


def test_a_route_changes_by_merge_patch(world: World) -> None:
    channel, other = world.alice.make_channel(), world.alice.make_channel()
    made = make(
        world.alice, channel, match={"severity": "error", "name": "a"}, group_by=["x"], repeat_interval_seconds=60
    )
    path = f"/v1/routes/{made['id']}"
    patch = {
        "name": "New", "match": {"name": None, "source": "s*"}, "group_by": None, "continue": False,
        "channel_ids": [other["id"], channel["id"]],
    }  # fmt: skip
    changed = world.alice.patch(path, json=patch, headers={"Content-Type": "application/merge-patch+json"}).get_json()
    assert changed == {
        **made, **patch, "match": {"severity": "error", "source": "s*"}, "updated_at": changed["updated_at"],
    }  # fmt: skip
    assert changed["updated_at"] > made["updated_at"]
    # What was read can be sent back as it is.
    again = world.alice.patch(path, json=changed).get_json()
    assert again == {**changed, "updated_at": again["updated_at"]}
    reset = world.alice.patch(path, json={"match": None, "repeat_interval_seconds": None, "cooldown_seconds": None})
    assert [reset.get_json()[name] for name in ("match", "repeat_interval_seconds", "cooldown_seconds")] == [
        {},
        None,
        0,
    ]


MATCHER = {"label": "team", "op": "=", "value": "shop"}

#: (changed fields, the field that is to blame)
BAD: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "name"),
    ({"name": "a\nb"}, "name"),
    ({"position": -1}, "position"),
    ({"position": 2**31}, "position"),
    ({"position": "1"}, "position"),
    ({"match": []}, "match"),
    ({"match": {"team": "shop"}}, "match.team"),
    ({"match": {"severity": "fatal"}}, "match.severity"),
    ({"match": {"severity": "CRITICAL"}}, "match.severity"),
    ({"match": {"source": 5}}, "match.source"),
    ({"match": {"name": ""}}, "match.name"),
    ({"match": {"name": "x" * 1_001}}, "match.name"),
    ({"matchers": {}}, "matchers"),
    ({"matchers": [MATCHER] * 51}, "matchers"),
    ({"matchers": [5]}, "matchers.0"),
    ({"matchers": [{"label": "team", "op": "="}]}, "matchers.0.value"),
    ({"matchers": [MATCHER, {**MATCHER, "op": "=="}]}, "matchers.1.op"),
    ({"matchers": [{**MATCHER, "label": ""}]}, "matchers.0.label"),
    ({"matchers": [{**MATCHER, "value": "x" * 1_001}]}, "matchers.0.value"),
    ({"matchers": [{**MATCHER, "regex": True}]}, "matchers.0.regex"),
    ({"matchers": [{**MATCHER, "op": "=~", "value": "(a"}]}, "matchers.0.value"),
    ({"matchers": [MATCHER, {**MATCHER, "op": "!~", "value": "a**"}]}, "matchers.1.value"),
    ({"matchers": [{**MATCHER, "op": "=~", "value": r"(a)\1"}]}, "matchers.0.value"),  # RE2 has no backreferences
    ({"matchers": [{**MATCHER, "op": "=~", "value": "(((a{1000}){1000}){1000})"}]}, "matchers.0.value"),
    ({"channel_ids": []}, "channel_ids"),
    ({"channel_ids": ["x"]}, "channel_ids.0"),
    ({"channel_ids": [str(uuid4()) for _ in range(51)]}, "channel_ids"),
    ({"cooldown_seconds": -1}, "cooldown_seconds"),
    ({"cooldown_seconds": 604_801}, "cooldown_seconds"),
    ({"continue": "no"}, "continue"),
    ({"continues": True}, "continues"),
    ({"group_by": "team"}, "group_by"),
    ({"group_by": [""]}, "group_by.0"),
    ({"group_by": ["a", "a"]}, "group_by"),
    ({"group_by": [str(n) for n in range(21)]}, "group_by"),
    ({"group_wait_seconds": 3_601}, "group_wait_seconds"),
    ({"group_interval_seconds": 0}, "group_interval_seconds"),
    ({"repeat_interval_seconds": 59}, "repeat_interval_seconds"),
    ({"enabled": 1}, "enabled"),
    ({"org_id": "x"}, "org_id"),
]  # fmt: skip


def test_every_bad_route_is_refused_naming_its_field(world: World) -> None:
    channel = world.alice.make_channel()
    path = f"/v1/routes/{make(world.alice, channel)['id']}"
    before = world.rows("SELECT * FROM routes")
    for fields, field in BAD:
        good = {"name": "r", "channel_ids": [channel["id"]]}
        for response in (world.alice.post("/v1/routes", json={**good, **fields}), world.alice.patch(path, json=fields)):
            assert (response.status_code, response.get_json()["code"]) == (400, "VALIDATION_ERROR"), (
                fields,
                response.text,
            )
            assert field in blamed(response), (fields, response.text)
    nameless = world.alice.post("/v1/routes", json={})
    assert blamed(nameless) == ["name", "channel_ids"]
    assert world.rows("SELECT * FROM routes") == before


def test_channels_must_be_the_organizations_own_and_named_once(world: World) -> None:
    mine, theirs = world.alice.make_channel()["id"], world.charlie.make_channel()["id"]
    gone = world.alice.make_channel()["id"]
    world.alice.delete(f"/v1/channels/{gone}")
    nothing = str(uuid4())
    answers = []
    for wrong in (theirs, gone, nothing):
        response = world.alice.post("/v1/routes", json={"name": "r", "channel_ids": [mine, wrong]})
        assert (response.status_code, blamed(response)) == (400, ["channel_ids.1"])
        answers.append({name: value for name, value in response.get_json().items() if name != "request_id"})
    assert answers[0] == answers[1] == answers[2]  # nobody learns what others have
    twice = world.alice.post("/v1/routes", json={"name": "r", "channel_ids": [mine, mine.upper()]})
    assert (twice.status_code, blamed(twice)) == (400, ["channel_ids"])


def test_a_route_keeps_a_channel_that_was_deleted_and_can_still_be_changed(world: World) -> None:
    kept, gone = world.alice.make_channel()["id"], world.alice.make_channel()["id"]
    made = make(world.alice, kept, channel_ids=[gone, kept])
    other = make(world.alice, kept, "other")
    world.alice.delete(f"/v1/channels/{gone}")
    changed = world.alice.patch(f"/v1/routes/{made['id']}", json={"name": "New"})
    assert (changed.status_code, changed.get_json()["channel_ids"]) == (200, [gone, kept])
    late = world.alice.patch(f"/v1/routes/{other['id']}", json={"channel_ids": [gone, kept]})
    assert (late.status_code, blamed(late)) == (400, ["channel_ids.0"])
    (step, _) = asked(world.alice)["routes"]
    assert [(channel["id"], channel["enabled"]) for channel in step["channels"]] == [(gone, False), (kept, True)]


def test_where_none_of_a_routes_channels_is_left_it_leads_nowhere(world: World) -> None:
    default, gone = world.alice.make_channel()["id"], world.alice.make_channel()["id"]
    make(world.alice, gone)
    world.alice.delete(f"/v1/channels/{gone}")
    answer = asked(world.alice)
    assert (answer["routes"][0]["outcome"], answer["unrouted"], answer["default"]) == ("taken", True, True)
    assert [(told["id"], told["route_id"]) for told in answer["channels"]] == [(default, None)]


def test_an_organization_has_a_limited_number_of_routes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert api_routes.MAX_ROUTES == 1_000
    monkeypatch.setattr(api_routes, "MAX_ROUTES", 2)
    channel, theirs = world.alice.make_channel(), world.charlie.make_channel()
    first = make(world.alice, channel)
    make(world.alice, channel)
    full = world.alice.post("/v1/routes", json={"name": "r", "channel_ids": [channel["id"]]})
    assert (full.status_code, full.get_json()["code"]) == (409, "LIMIT_REACHED")
    make(world.charlie, theirs)
    world.alice.delete(f"/v1/routes/{first['id']}")
    make(world.alice, channel)


def test_every_change_moves_the_routing_version_of_its_organization_and_no_other(world: World) -> None:
    channel = world.alice.make_channel()
    theirs, before = version(world, world.org_b), version(world, world.org_a)
    path = f"/v1/routes/{make(world.alice, channel)['id']}"
    assert version(world, world.org_a) == before + 1
    world.alice.patch(path, json={"name": "New"})
    assert version(world, world.org_a) == before + 2
    world.alice.patch(path, json={"name": ""})
    world.alice.post("/v1/routes/test", json={})
    assert version(world, world.org_a) == before + 2  # nothing changed
    world.alice.delete(path)
    assert version(world, world.org_a) == before + 3
    world.alice.patch(f"/v1/channels/{channel['id']}", json={"name": "New"})
    world.alice.delete(f"/v1/channels/{channel['id']}")
    assert version(world, world.org_a) == before + 5
    assert version(world, world.org_b) == theirs


def test_viewers_read_and_test_routes_and_editors_write_them(world: World) -> None:
    channel = world.alice.make_channel()
    key = world.alice.post("/v1/api-keys", json={"name": "ci", "role": "editor"}).get_json()["key"]
    made = make(world.person(key), channel)
    path = f"/v1/routes/{made['id']}"
    body = {"name": "r", "channel_ids": [channel["id"]]}
    for refused in (world.bob.post("/v1/routes", json=body), world.bob.patch(path, json={}), world.bob.delete(path)):
        assert (refused.status_code, refused.get_json()["code"]) == (403, "FORBIDDEN")
    assert world.bob.get(path).status_code == world.bob.get("/v1/routes").status_code == 200
    assert world.bob.post("/v1/routes/test", json={}).status_code == 200
    assert world.nobody.post("/v1/routes/test", json={}).status_code == 401


def test_eight_at_once_leave_positions_without_gaps(world: World) -> None:
    channel = world.alice.make_channel()
    ids = [make(world.alice, channel, f"start-{n}")["id"] for n in range(6)]
    app = world.client.application

    def shuffle(seed: int) -> list[int]:
        chance, codes = random.Random(seed), []
        person = Person(app.test_client())
        person.headers = world.alice.headers
        for turn in range(6):
            if turn % 3 == 0:
                body = {"name": f"{seed}-{turn}", "channel_ids": [channel["id"]], "position": chance.randrange(12)}
                codes.append(person.post("/v1/routes", json=body).status_code)
            else:
                path = f"/v1/routes/{chance.choice(ids)}"
                codes.append(person.patch(path, json={"position": chance.randrange(12)}).status_code)
        codes.append(person.delete(f"/v1/routes/{ids[seed]}").status_code if seed < 2 else 204)
        return codes

    with ThreadPoolExecutor(8) as threads:
        codes = [code for found in threads.map(shuffle, range(8)) for code in found]
    # One that was deleted meanwhile is not found; nothing else may go wrong.
    assert set(codes) <= {200, 201, 204, 404}
    assert codes.count(201) == 16
    assert len(order(world.alice)) == 6 + 16 - 2
    stored = world.rows("SELECT position FROM routes WHERE deleted_at IS NULL ORDER BY position")
    assert [row["position"] for row in stored] == list(range(20))


WAITING = "SELECT count(*) AS n FROM pg_locks WHERE NOT granted"


def test_whoever_changes_rules_waits_for_the_relay_before_holding_anything_itself(world: World) -> None:
    channel = world.alice.make_channel()
    route = f"/v1/routes/{make(world.alice, channel)['id']}"
    body = {"matchers": [MATCHER], "duration_seconds": 60}
    silence = f"/v1/silences/{world.alice.post('/v1/silences', json=body).get_json()['id']}"
    app = world.client.application

    def change(path: str) -> int:
        person = Person(app.test_client())
        person.headers = world.alice.headers
        return person.patch(path, json={"enabled": False} if path == route else {"comment": "x"}).status_code

    with ThreadPoolExecutor(2) as threads:
        with world.databases.owner.begin() as relay:
            relay.exec_driver_sql("SELECT 1 FROM organizations FOR NO KEY UPDATE")
            answers = [threads.submit(change, path) for path in (route, silence)]
            deadline = monotonic_s() + 60
            while world.rows(WAITING)[0]["n"] < 2:
                assert monotonic_s() < deadline
            # What it will touch while it holds the organization is free.
            for table in ("routes", "silences", "channels"):
                relay.exec_driver_sql(f"SELECT 1 FROM {table} FOR UPDATE NOWAIT")
        assert [answer.result() for answer in answers] == [200, 200]


EVERYTHING = """
SELECT r.*, o.routing_version, (SELECT count(*) FROM notifications) AS told
  FROM routes r JOIN organizations o ON o.id = r.org_id ORDER BY r.id
"""

COOL = """
INSERT INTO route_cooldowns (route_id, org_id, dedup_key, last_at) VALUES (%(route)s, %(org)s, %(key)s, now())
"""

ALERT = {"name": "db-1", "source": "payments", "severity": "critical", "labels": {"team": "shop"}}


def asked(person: Person, **fields: Any) -> dict[str, Any]:
    response = person.post("/v1/routes/test", json=fields or ALERT)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.get_json()
    return answer


def outcomes(answer: dict[str, Any]) -> list[tuple[str, str, list[str]]]:
    return [(step["name"], step["outcome"], step["failing"]) for step in answer["routes"]]


def test_a_test_says_what_becomes_of_each_route_and_why(world: World) -> None:
    one, two = world.alice.make_channel(name="one"), world.alice.make_channel(name="two")
    team = [{"label": "team", "op": "!=", "value": "shop"}]
    first = make(world.alice, one, "first", match={"severity": "critical"}, group_by=["team"])
    make(world.alice, one, "other team", match={"source": "pay*"}, matchers=team)
    make(world.alice, one, "off", match={"name": "x"}, enabled=False)
    last = make(world.alice, two, "last", **{"channel_ids": [one["id"], two["id"]], "continue": False})
    make(world.alice, two, "beyond")
    before = world.rows(EVERYTHING)
    answer = asked(world.bob)
    assert outcomes(answer) == [
        ("first", "taken", []),
        ("other team", "no_match", ['team!="shop"']),
        ("off", "disabled", ['name="x"']),
        ("last", "taken", []),
        ("beyond", "not_reached", []),
    ]
    assert [step["position"] for step in answer["routes"]] == [0, 1, 2, 3, 4]
    seen_one = {"id": one["id"], "name": "one", "type": "webhook", "enabled": True}
    seen_two = {**seen_one, "id": two["id"], "name": "two"}
    assert answer["routes"][3]["channels"] == [seen_one, seen_two]
    assert answer["channels"] == [{**seen_one, "route_id": first["id"]}, {**seen_two, "route_id": last["id"]}]
    assert answer["routes"][0]["group_key"].startswith(first["id"])
    assert [step["group_key"] for step in answer["routes"][1:]] == [None] * 4
    assert (answer["unrouted"], answer["default"], answer["silenced_by"]) == (False, False, [])
    assert world.rows(EVERYTHING) == before


def test_what_no_route_takes_goes_to_the_default_channels(world: World) -> None:
    assert asked(world.alice) == {
        "routes": [], "unrouted": True, "default": False, "channels": [], "silenced_by": [], "held_back": None,
    }  # fmt: skip
    default, other = world.alice.make_channel(), world.alice.make_channel()
    make(world.alice, other, match={"severity": "info"})
    answer = asked(world.alice)
    assert (answer["unrouted"], answer["default"]) == (True, True)
    assert [(told["id"], told["route_id"]) for told in answer["channels"]] == [(default["id"], None)]
    world.alice.patch(f"/v1/channels/{default['id']}", json={"enabled": False})
    answer = asked(world.alice)
    assert (answer["unrouted"], answer["default"], answer["channels"]) == (True, True, [])


def test_a_disabled_channel_is_shown_and_not_told(world: World) -> None:
    off, on = world.alice.make_channel(enabled=False), world.alice.make_channel()
    make(world.alice, off, channel_ids=[off["id"], on["id"]])
    answer = asked(world.alice)
    assert [channel["enabled"] for channel in answer["routes"][0]["channels"]] == [False, True]
    assert [told["id"] for told in answer["channels"]] == [on["id"]]


def test_an_incident_is_tested_by_its_own_labels_and_key(world: World) -> None:
    channel, other = world.alice.make_channel(), world.alice.make_channel()
    incident = world.open_incident(world.alice.make_monitor())
    (row,) = world.rows("SELECT * FROM incidents")
    world.execute("UPDATE incidents SET labels = %(labels)s", labels=Jsonb({"team": "shop", "severity": "hidden"}))
    name = row["name"] or row["title"]
    hot = make(world.alice, channel, "hot", match={"severity": "error", "source": "monitor"}, cooldown_seconds=3600)
    make(world.alice, other, "named", matchers=[{"label": "name", "op": "=", "value": name}, MATCHER])
    answer = asked(world.bob, incident_id=incident)
    assert outcomes(answer) == [("hot", "taken", []), ("named", "taken", [])]
    assert [step["cooldown_until"] for step in answer["routes"]] == [None, None]
    world.execute(COOL, route=hot["id"], org=world.org_a, key=row["dedup_key"])
    answer = asked(world.bob, incident_id=incident)
    assert answer["routes"][0]["cooldown_until"] is not None
    assert [told["id"] for told in answer["channels"]] == [other["id"]]
    assert asked(world.bob)["routes"][0]["cooldown_until"] is None  # another problem
    world.execute("UPDATE route_cooldowns SET last_at = now() - interval '1 hour'")
    assert asked(world.bob, incident_id=incident)["routes"][0]["cooldown_until"] is None
    for unknown in (str(uuid4()), world.org_b):
        missing = world.alice.post("/v1/routes/test", json={"incident_id": unknown})
        assert (missing.status_code, missing.get_json()["code"]) == (404, "INCIDENT_NOT_FOUND")
    assert world.charlie.post("/v1/routes/test", json={"incident_id": incident}).status_code == 404


def test_an_alert_whose_key_cools_down_is_known_by_it(world: World) -> None:
    channel = world.alice.make_channel()
    route = make(world.alice, channel, cooldown_seconds=600)
    world.execute(COOL, route=route["id"], org=world.org_a, key="k")
    assert asked(world.alice, **ALERT, dedup_key="k")["routes"][0]["cooldown_until"] is not None
    assert asked(world.alice, **ALERT, dedup_key="other")["routes"][0]["cooldown_until"] is None


def test_silences_that_hold_it_back_are_named_and_nobody_is_told(world: World) -> None:
    channel = world.alice.make_channel()
    make(world.alice, channel)
    silence = {"matchers": [MATCHER], "duration_seconds": 60}
    made = world.alice.post("/v1/silences", json=silence).get_json()
    for other in (
        {"matchers": [{**MATCHER, "value": "books"}], "duration_seconds": 60},
        {"matchers": [MATCHER], "starts_at": (utc_now() + timedelta(days=1)).isoformat(), "duration_seconds": 60},
    ):
        assert world.alice.post("/v1/silences", json=other).status_code == 201
    world.charlie.post("/v1/silences", json=silence)
    answer = asked(world.alice)
    assert (answer["silenced_by"], answer["channels"]) == ([made["id"]], [])
    assert outcomes(answer) == [("r", "taken", [])]
    world.alice.delete(f"/v1/silences/{made['id']}")
    assert [told["id"] for told in asked(world.alice)["channels"]] == [channel["id"]]


NOT_HELD = dict.fromkeys(
    ("reason", "maintenance_id", "maintenance", "parent_id", "parent", "parent_incident_id", "until")
)


def told(answer: dict[str, Any]) -> list[str]:
    return [channel["id"] for channel in answer["channels"]]


def test_a_monitor_is_tested_as_if_it_went_down_now(world: World) -> None:
    channel, other = world.alice.make_channel(), world.alice.make_channel()
    monitor = world.alice.make_monitor(severity="critical", labels={"team": "shop"})
    match = {"severity": "critical", "source": "monitor", "name": monitor["name"]}
    hot = make(world.alice, channel, "hot", match=match, matchers=[MATCHER], cooldown_seconds=600)
    make(world.alice, other, "other", match={"severity": "error"})
    answer = asked(world.bob, monitor_id=monitor["id"])
    assert outcomes(answer) == [("hot", "taken", []), ("other", "no_match", ['severity="error"'])]
    assert (told(answer), answer["held_back"]) == ([channel["id"]], None)
    world.execute(COOL, route=hot["id"], org=world.org_a, key=f"monitor:{monitor['id']}")
    assert told(asked(world.bob, monitor_id=monitor["id"])) == []
    for person, unknown in ((world.alice, str(uuid4())), (world.charlie, monitor["id"])):
        missing = person.post("/v1/routes/test", json={"monitor_id": unknown})
        assert (missing.status_code, missing.get_json()["code"]) == (404, "MONITOR_NOT_FOUND")


def test_a_window_that_holds_a_monitor_back_is_named_and_nobody_is_told(world: World) -> None:
    channel = world.alice.make_channel()
    make(world.alice, channel)
    monitor = world.alice.make_monitor(labels={"team": "shop"})
    incident = world.open_incident(monitor)
    assert (asked(world.bob, incident_id=incident)["held_back"], told(asked(world.bob, incident_id=incident))) == (
        None, [channel["id"]],
    )  # fmt: skip
    window = {"name": "patch day", "monitor_ids": [monitor["id"]], "duration_seconds": 3_600}
    made = world.alice.post("/v1/maintenance", json=window).get_json()
    for what in ({"incident_id": incident}, {"monitor_id": monitor["id"]}):
        answer = asked(world.bob, **what)
        assert answer["held_back"] == {
            **NOT_HELD, "reason": "maintenance", "maintenance_id": made["id"], "maintenance": "patch day",
            "until": made["occurrence"]["ends_at"],
        }  # fmt: skip
        assert (told(answer), answer["silenced_by"], outcomes(answer)) == ([], [], [("r", "taken", [])])

    # Alerts from elsewhere and incidents by hand are not a monitor's own, whatever labels they have.
    assert (told(asked(world.bob)), asked(world.bob)["held_back"]) == ([channel["id"]], None)
    by_hand = {"title": "Shop is slow", "severity": "error", "monitor_id": monitor["id"]}
    other = world.alice.post("/v1/incidents", json=by_hand).get_json()["id"]
    assert (told(asked(world.bob, incident_id=other)), asked(world.bob, incident_id=other)["held_back"]) == (
        [channel["id"]], None,
    )  # fmt: skip

    # A silence is named beside it, and holds it back when the window is over.
    silence = world.alice.post("/v1/silences", json={"matchers": [MATCHER], "duration_seconds": 60}).get_json()
    answer = asked(world.bob, monitor_id=monitor["id"])
    assert (answer["silenced_by"], answer["held_back"]["maintenance"]) == ([silence["id"]], "patch day")
    assert world.alice.post(f"/v1/maintenance/{made['id']}/end").status_code == 200
    answer = asked(world.bob, monitor_id=monitor["id"])
    assert (answer["silenced_by"], answer["held_back"], told(answer)) == ([silence["id"]], None, [])
    world.alice.delete(f"/v1/silences/{silence['id']}")
    assert told(asked(world.bob, monitor_id=monitor["id"])) == [channel["id"]]


def test_a_monitor_above_that_is_down_is_named_and_nobody_is_told(world: World) -> None:
    channel = world.alice.make_channel()
    make(world.alice, channel)
    switch = world.alice.make_monitor(name="Switch")
    rack = world.alice.make_monitor(name="Rack", parent_id=switch["id"])
    shop = world.alice.make_monitor(parent_id=rack["id"])
    assert told(asked(world.bob, monitor_id=shop["id"])) == [channel["id"]]
    above = world.open_incident(switch)
    for held in (rack, shop):
        answer = asked(world.bob, monitor_id=held["id"])
        assert answer["held_back"] == {
            **NOT_HELD, "reason": "parent_down", "parent_id": switch["id"], "parent": "Switch",
            "parent_incident_id": above,
        }  # fmt: skip
        assert told(answer) == []
    assert (asked(world.bob, incident_id=above)["held_back"], told(asked(world.bob, incident_id=above))) == (
        None, [channel["id"]],
    )  # fmt: skip
    # A window goes before a parent, as it does when it counts; one of the rack is one of the shop, too.
    window = {"name": "rewiring", "monitor_ids": [rack["id"]], "duration_seconds": 3_600}
    assert world.alice.post("/v1/maintenance", json=window).status_code == 201
    answer = asked(world.bob, monitor_id=shop["id"])
    assert (answer["held_back"]["reason"], answer["held_back"]["maintenance"]) == ("maintenance", "rewiring")
    assert answer["held_back"]["parent"] is None


#: (body, the field that is to blame)
BAD_TESTS: list[tuple[dict[str, Any], str]] = [
    ({"severity": "fatal"}, "severity"),
    ({"labels": {"a": 1}}, "labels.a"),
    ({"name": "a\nb"}, "name"),
    ({"status": "resolved"}, "status"),
    ({"incident_id": "x"}, "incident_id"),
    ({"incident_id": str(uuid4()), "name": "x"}, "incident_id"),
    ({"monitor_id": "x"}, "monitor_id"),
    ({"monitor_id": str(uuid4()), "labels": {}}, "monitor_id"),
    ({"zz": 1}, "zz"),
]


def test_every_bad_test_is_refused_naming_its_field(world: World) -> None:
    for body, field in BAD_TESTS:
        response = world.alice.post("/v1/routes/test", json=body)
        assert (response.status_code, blamed(response)) == (400, [field]), body
