"""Silences through the API: when they hold, what is refused, and how they end."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from api import silences as api_silences
from api.schemas_silences import Silence
from common.clock import utc_now
from tests import api_cast
from tests.api_cast import Person, World
from tests.integration.test_api_channels import add_notification
from tests.integration.test_api_routes import blamed, version

world = api_cast.world

MATCHER = {"label": "team", "op": "=", "value": "shop"}
HOUR = {"matchers": [MATCHER], "duration_seconds": 3600, "comment": "deploying"}


def make(person: Person, **fields: Any) -> dict[str, Any]:
    body = {**HOUR, **fields}
    response = person.post("/v1/silences", json={name: value for name, value in body.items() if value is not None})
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.get_json()
    return made


def later(**delta: float) -> str:
    return (utc_now() + timedelta(**delta)).isoformat()


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def shift(world: World, silence: dict[str, Any], **delta: float) -> None:
    """Let time pass for one silence."""
    world.execute(
        "UPDATE silences SET starts_at = starts_at - %(by)s, ends_at = ends_at - %(by)s WHERE id = %(id)s",
        by=timedelta(**delta), id=silence["id"],
    )  # fmt: skip


def states(person: Person, query: str = "") -> list[tuple[str, str]]:
    return [(item["comment"], item["state"]) for item in person.get(f"/v1/silences{query}").get_json()["data"]]


def test_a_silence_says_what_when_why_and_who(world: World) -> None:
    made = make(world.alice)
    assert set(made) == set(Silence.model_fields)
    assert (made["matchers"], made["comment"], made["state"]) == ([MATCHER], "deploying", "active")
    assert made["created_by"] == f"user:{world.users['alice']}"
    assert moment(made["ends_at"]) - moment(made["starts_at"]) == timedelta(hours=1)
    assert abs(moment(made["starts_at"]) - utc_now()) < timedelta(seconds=60)
    assert world.bob.get(f"/v1/silences/{made['id']}").get_json() == made
    Silence.model_validate(made)


def test_an_end_is_a_moment_or_a_duration_from_the_beginning(world: World) -> None:
    begin, end = later(days=1), later(days=2)
    made = make(world.alice, starts_at=begin, ends_at=end, duration_seconds=None)
    assert (moment(made["starts_at"]), moment(made["ends_at"])) == (moment(begin), moment(end))
    assert made["state"] == "pending"
    made = make(world.alice, starts_at=begin, duration_seconds=60)
    assert moment(made["ends_at"]) == moment(begin) + timedelta(minutes=1)
    # Who is late may say since when.
    made = make(world.alice, starts_at=later(minutes=-5))
    assert made["state"] == "active"


def test_lists_show_the_newest_end_first_and_filter_by_state(world: World) -> None:
    make(world.alice, comment="active", duration_seconds=100)
    make(world.alice, comment="pending", starts_at=later(hours=1), duration_seconds=200)
    shift(world, make(world.alice, comment="expired"), hours=2)
    make(world.alice, comment="longer", duration_seconds=5_000)
    make(world.charlie, comment="theirs")
    assert states(world.bob) == [
        ("longer", "active"), ("pending", "pending"), ("active", "active"), ("expired", "expired"),
    ]  # fmt: skip
    assert states(world.bob, "?state=active") == [("longer", "active"), ("active", "active")]
    assert states(world.bob, "?state=pending") == [("pending", "pending")]
    assert states(world.bob, "?state=expired") == [("expired", "expired")]
    assert states(world.bob, "?state=pending,expired") == [("pending", "pending"), ("expired", "expired")]
    first = world.bob.get("/v1/silences?state=active&limit=1").get_json()
    assert states(world.bob, f"?state=active&limit=1&cursor={first['next_cursor']}") == [("active", "active")]


#: (changed fields, the field that is to blame); None leaves a field out
BAD: list[tuple[dict[str, Any], str]] = [
    ({"matchers": []}, "matchers"),
    ({"matchers": None}, "matchers"),
    ({"matchers": [MATCHER] * 51}, "matchers"),
    ({"matchers": [{**MATCHER, "op": "=~", "value": "("}]}, "matchers.0.value"),
    ({"matchers": [{**MATCHER, "op": "~"}]}, "matchers.0.op"),
    ({"duration_seconds": None}, "ends_at"),
    ({"ends_at": later(days=1)}, "duration_seconds"),  # and a duration
    ({"duration_seconds": 0}, "duration_seconds"),
    ({"duration_seconds": 400 * 86_400 + 1}, "duration_seconds"),
    ({"duration_seconds": "60"}, "duration_seconds"),
    ({"duration_seconds": None, "ends_at": later(seconds=-1)}, "ends_at"),
    ({"duration_seconds": None, "ends_at": later(days=401)}, "ends_at"),
    ({"duration_seconds": None, "ends_at": "tomorrow"}, "ends_at"),
    ({"duration_seconds": None, "ends_at": "2100-01-01T00:00:00"}, "ends_at"),  # where?
    ({"duration_seconds": None, "ends_at": 4_102_444_800}, "ends_at"),
    ({"duration_seconds": None, "ends_at": later(days=1), "starts_at": later(days=2)}, "ends_at"),
    ({"starts_at": later(hours=-2)}, "duration_seconds"),  # over before it began
    ({"starts_at": later(days=401)}, "starts_at"),
    ({"starts_at": "9999-12-31T23:59:59Z"}, "starts_at"),
    ({"starts_at": "9999-12-31T23:59:59-14:00"}, "starts_at"),
    ({"starts_at": "0001-01-01T00:00:00Z"}, "duration_seconds"),
    ({"comment": "x" * 1_001}, "comment"),
    ({"comment": 5}, "comment"),
    ({"surprise": 1}, "surprise"),
]  # fmt: skip


def test_every_bad_silence_is_refused_naming_its_field(world: World) -> None:
    for fields, field in BAD:
        body = {name: value for name, value in {**HOUR, **fields}.items() if value is not None}
        response = world.alice.post("/v1/silences", json=body)
        assert (response.status_code, response.get_json()["code"]) == (400, "VALIDATION_ERROR"), (fields, response.text)
        assert field in blamed(response), (fields, response.text)
    assert world.rows("SELECT * FROM silences") == []


#: (matchers as label, op, value; whether they would hold back everything)
EVERYTHING = [
    ([("team", "=", "*")], True),
    ([("team", "=", "***"), ("source", "=~", ".*")], True),
    ([("team", "=~", ".*")], True),
    ([("team", "=~", "(.*)?")], True),
    ([("severity", "=~", ".+")], True),  # every incident has one
    ([("severity", "=~", "critical|error|warning|info")], True),
    ([("severity", "=~", "critical|error|warning")], False),
    ([("severity", "!=", "disaster")], True),  # no incident has it
    ([("severity", "!=", "info")], False),
    ([("severity", "!~", "[A-Z]+")], True),
    ([("name", "!~", "^$")], True),
    ([("name", "!=", "")], True),
    ([("name", "=~", ".{1,200}")], True),
    ([("name", "=~", "[a-z0-9-]+")], False),
    ([("source", "!~", "")], True),
    ([("source", "!~", "^$"), ("team", "=~", ".*")], True),
    ([("source", "!~", "node|payments")], False),
    ([("name", "!~", "db-[0-9]{3}[.]prod")], False),
    ([("team", "!~", "[^\\x00-\\x{10FFFF}]")], True),  # excludes nothing
    ([("team", "!~", "^$")], False),  # not every incident has a team
    ([("team", "!=", "")], False),
    ([("team", "=~", ".+")], False),  # not every incident has a team
    ([("team", "=", "*"), ("source", "=", "pay*")], False),
    ([("team", "!=", "shop")], False),
    ([("team", "=", "")], False),
    ([("name", "=", "*db*")], False),
]


def test_a_silence_that_would_hold_back_everything_is_refused(world: World) -> None:
    for matchers, everything in EVERYTHING:
        body = {**HOUR, "matchers": [{"label": label, "op": op, "value": value} for label, op, value in matchers]}
        response = world.alice.post("/v1/silences", json=body)
        assert response.status_code == (400 if everything else 201), (matchers, response.text)
        if everything:
            assert response.get_json()["details"] == [
                {"field": "matchers", "message": "would hold back everything; at least one must let something through"}
            ]


def test_a_silence_that_holds_can_be_told_otherwise(world: World) -> None:
    made = make(world.alice)
    path = f"/v1/silences/{made['id']}"
    end = later(hours=5)
    changed = world.alice.patch(path, json={"ends_at": end, "comment": "still deploying"}).get_json()
    assert (moment(changed["ends_at"]), changed["comment"]) == (moment(end), "still deploying")
    assert (changed["starts_at"], changed["matchers"], changed["created_by"]) == (
        made["starts_at"], made["matchers"], made["created_by"],
    )  # fmt: skip
    # A duration counts from the beginning, as at creation.
    changed = world.alice.patch(path, json={"duration_seconds": 7200}).get_json()
    assert moment(changed["ends_at"]) == moment(made["starts_at"]) + timedelta(hours=2)
    matchers = [MATCHER, {"label": "severity", "op": "!=", "value": "critical"}]
    changed = world.alice.patch(path, json={"matchers": matchers}).get_json()
    assert (changed["id"], changed["matchers"], changed["state"]) == (made["id"], matchers, "active")
    # What was read can be sent back as it is.
    again = world.alice.patch(path, json=changed).get_json()
    assert again == {**changed, "updated_at": again["updated_at"]}


#: (patch, the field that is to blame)
BAD_PATCHES: list[tuple[dict[str, Any], str]] = [
    ({"ends_at": later(seconds=-1)}, "ends_at"),
    ({"ends_at": None}, "ends_at"),
    ({"ends_at": later(days=1), "duration_seconds": 60}, "duration_seconds"),
    ({"starts_at": later(minutes=-30)}, "starts_at"),  # it has begun
    ({"starts_at": None}, "starts_at"),
    ({"matchers": []}, "matchers"),
    ({"matchers": [{**MATCHER, "value": "*"}]}, "matchers"),
    ({"duration_seconds": 400 * 86_400 + 1}, "duration_seconds"),
    ({"zz": 1}, "zz"),
]


def test_every_bad_change_is_refused_naming_its_field(world: World) -> None:
    path = f"/v1/silences/{make(world.alice)['id']}"
    before = world.rows("SELECT * FROM silences")
    for patch, field in BAD_PATCHES:
        response = world.alice.patch(path, json=patch)
        assert (response.status_code, response.get_json()["code"]) == (400, "VALIDATION_ERROR"), (patch, response.text)
        assert field in blamed(response), (patch, response.text)
    assert world.rows("SELECT * FROM silences") == before


def test_one_that_has_not_begun_may_begin_at_another_time(world: World) -> None:
    made = make(world.alice, starts_at=later(hours=1))
    path = f"/v1/silences/{made['id']}"
    begin = later(minutes=30)
    changed = world.alice.patch(path, json={"starts_at": begin}).get_json()
    assert (moment(changed["starts_at"]), changed["ends_at"]) == (moment(begin), made["ends_at"])
    assert world.alice.patch(path, json={"starts_at": None}).get_json()["state"] == "active"


@pytest.mark.parametrize(
    "patch",
    [
        {"ends_at": later(days=1)},  # said when the run begins, and asked long after
        {"duration_seconds": 86_400},
        {"matchers": [{**MATCHER, "value": "books"}]},
        {"ends_at": later(days=1), "comment": "again"},
    ],
)
def test_one_that_has_ended_is_not_begun_again(world: World, patch: dict[str, Any]) -> None:
    made = make(world.alice)
    shift(world, made, hours=2)
    path = f"/v1/silences/{made['id']}"
    before = world.rows("SELECT * FROM silences")
    refused = world.alice.patch(path, json=patch)
    assert (refused.status_code, refused.get_json()["code"]) == (409, "SILENCE_EXPIRED")
    assert refused.get_json()["message"] == "This silence has ended; make a new one."
    assert world.rows("SELECT * FROM silences") == before
    assert world.alice.patch(path, json={"comment": "was the database"}).get_json()["comment"] == "was the database"


def test_delete_ends_it_now_and_once(world: World) -> None:
    made = make(world.alice)
    path = f"/v1/silences/{made['id']}"
    assert world.alice.delete(path).status_code == 204
    ended = world.alice.get(path).get_json()
    assert (ended["state"], ended["starts_at"]) == ("expired", made["starts_at"])
    assert moment(made["starts_at"]) < moment(ended["ends_at"]) <= utc_now() + timedelta(seconds=5)
    assert world.alice.delete(path).status_code == 204
    assert world.alice.get(path).get_json() == ended
    log = world.rows("SELECT action, after IS NULL AS gone FROM audit_log WHERE resource_id = %(id)s", id=made["id"])
    assert sorted((row["action"], row["gone"]) for row in log) == [("create_silence", False), ("delete_silence", True)]
    assert states(world.alice) == [("deploying", "expired")]


def test_one_that_never_began_simply_ends(world: World) -> None:
    made = make(world.alice, starts_at=later(hours=1))
    path = f"/v1/silences/{made['id']}"
    assert world.alice.delete(path).status_code == 204
    ended = world.alice.get(path).get_json()
    assert ended["state"] == "expired"
    assert ended["starts_at"] == ended["ends_at"]


def test_an_end_that_was_put_off_is_announced_at_the_new_one(world: World) -> None:
    made = make(world.alice)
    # The notifier's clock was ahead by a moment: it has seen it over.
    world.execute("UPDATE silences SET settled_at = now()")
    world.alice.patch(f"/v1/silences/{made['id']}", json={"comment": "x", "ends_at": later(hours=2)})
    assert world.rows("SELECT settled_at FROM silences") == [{"settled_at": None}]


def test_what_new_matchers_do_not_hold_back_any_more_is_left_to_one_that_ends_now(world: World) -> None:
    made = make(world.alice)
    path = f"/v1/silences/{made['id']}"
    channel = world.alice.make_channel()
    held = add_notification(world, world.open_incident(world.alice.make_monitor()), channel["id"], "suppressed")
    world.execute("UPDATE notifications SET silence_id = %(id)s", id=made["id"])
    world.alice.patch(path, json={"comment": "no matter", "matchers": [MATCHER]})
    assert states(world.alice) == [("no matter", "active")]  # the same matchers: nothing is left behind
    changed = world.alice.patch(path, json={"matchers": [{**MATCHER, "value": "books"}]}).get_json()
    assert (changed["id"], changed["state"], changed["ends_at"]) == (made["id"], "active", made["ends_at"])
    (left,) = world.alice.get("/v1/silences?state=expired").get_json()["data"]
    assert (left["matchers"], left["comment"], left["created_by"]) == ([MATCHER], "no matter", made["created_by"])
    (row,) = world.rows("SELECT silence_id::text FROM notifications WHERE id = %(id)s", id=held)
    assert row["silence_id"] == left["id"]
    assert world.rows("SELECT settled_at FROM silences WHERE id = %(id)s", id=left["id"]) == [{"settled_at": None}]
    # Nothing is held back by the new ones yet, so another change leaves nothing behind.
    world.alice.patch(path, json={"matchers": [{**MATCHER, "value": "toys"}]})
    assert len(world.alice.get("/v1/silences").get_json()["data"]) == 2


def test_an_organization_has_a_limited_number_of_silences_at_a_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_silences, "MAX_SILENCES", 1)
    made = make(world.alice)
    full = world.alice.post("/v1/silences", json=HOUR)
    assert (full.status_code, full.get_json()["code"]) == (409, "LIMIT_REACHED")
    make(world.charlie)
    world.alice.delete(f"/v1/silences/{made['id']}")
    make(world.alice)


def test_every_change_moves_the_routing_version(world: World) -> None:
    before, theirs = version(world, world.org_a), version(world, world.org_b)
    path = f"/v1/silences/{make(world.alice)['id']}"
    assert version(world, world.org_a) == before + 1
    world.alice.patch(path, json={"duration_seconds": 60})
    assert version(world, world.org_a) == before + 2
    world.alice.patch(path, json={"duration_seconds": 0})
    assert version(world, world.org_a) == before + 2  # refused
    world.alice.delete(path)
    assert version(world, world.org_a) == before + 3
    assert version(world, world.org_b) == theirs


def test_viewers_read_silences_and_editors_write_them(world: World) -> None:
    key = world.alice.post("/v1/api-keys", json={"name": "ci", "role": "editor"}).get_json()
    made = make(world.person(key["key"]))
    assert made["created_by"] == f"api-key:{key['id']}"
    path = f"/v1/silences/{made['id']}"
    for refused in (world.bob.post("/v1/silences", json=HOUR), world.bob.patch(path, json={}), world.bob.delete(path)):
        assert (refused.status_code, refused.get_json()["code"]) == (403, "FORBIDDEN")
    assert world.bob.get(path).status_code == world.bob.get("/v1/silences").status_code == 200
    for method in ("GET", "PATCH", "DELETE"):
        theirs = world.charlie.call(method, path, json={})
        assert (theirs.status_code, theirs.get_json()["code"]) == (404, "SILENCE_NOT_FOUND")
        assert world.alice.call(method, f"/v1/silences/{uuid4()}", json={}).status_code == 404
    assert world.alice.get(path).get_json() == made
