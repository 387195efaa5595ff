"""Lists of incidents: every filter, search as people type it, pages, and the number of statements that it takes."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest

from common.clock import utc_now
from tests import api_cast
from tests.api_cast import Person, World
from tests.integration.test_api_channels import add_notification
from tests.integration.test_api_incidents_by_hand import blamed, make, set_status
from tests.statements import counted

world = api_cast.world


def found(person: Person, query: str) -> list[str]:
    """Titles, newest first."""
    response = person.get(f"/v1/incidents?{query}")
    assert response.status_code == 200, response.text
    return [item["title"] for item in response.get_json()["data"]]


def fill(world: World, count: int, title: str = "'old ' || n", **fields: str) -> None:
    """Many older incidents; fields are SQL."""
    columns = {"severity": "'error'", "priority": "'P2'", "labels": "'{}'", "source": "'x'", **fields}
    world.execute(
        "INSERT INTO incidents (id, org_id, dedup_key, title, status, opened_at, resolved_at, "
        f"{', '.join(columns)}) SELECT gen_random_uuid(), %(org)s, 'k' || n, {title}, 'resolved',"
        f" now() - n * interval '1 minute', now(), {', '.join(columns.values())} FROM generate_series(1, %(count)s) n",
        org=world.org_a,
        count=count,
    )


def test_every_filter_shows_what_passes_it_and_all_must_be_passed(world: World) -> None:
    monitor = world.alice.make_monitor(labels={"team": "core"})
    make(world.alice, title="a", priority="P1", labels={"team": "shop", "env": "prod", "url": "http://x:80"})
    make(world.alice, title="b", severity="warning", labels={"team": "shop", "env": "test"})
    make(world.alice, title="c", assignee=world.users["bob"], monitor_id=monitor["id"])
    set_status(world, make(world.alice, title="d", assignee=world.users["alice"])["id"], "resolved")
    world.open_incident(monitor)
    for query, titles in {
        "": "Shop is down d c b a",
        "status=open": "Shop is down c b a",
        "status=resolved": "d",
        "status=acknowledged,resolved": "d",
        "severity=critical": "a",
        "severity=critical,warning": "b a",
        "severity=info": "",
        "priority=P1": "a",
        "priority=P1&priority=P3": "b a",
        "priority=P1&severity=warning": "",
        "source=manual": "d c b a",
        "source=manual&status=open": "c b a",
        "source=manua": "",
        f"monitor_id={monitor['id']}": "Shop is down c",
        f"assignee={world.users['bob']}": "c",
        "assignee=me": "d",
        "assignee=none": "Shop is down b a",
        "label=team:shop": "b a",
        "label=team:shop&label=env:prod": "a",
        "label=team:shop,env:prod": "a",
        "label=url:http://x:80": "a",
        "label=team:shop&label=team:core": None,
        "label=team:": "",
        "label=team:sho": "",
        "label=team:shop&severity=warning": "b",
        "label=team:core&q=shop": "Shop is down",
    }.items():
        if titles is None:
            assert blamed(world.alice.get(f"/v1/incidents?{query}")) == ["label"]
        else:
            assert " ".join(found(world.alice, query)) == titles, query
            assert found(world.charlie, query.replace("assignee=me", "status=open")) == []


def test_times_bound_what_is_shown(world: World) -> None:
    made = make(world.alice, title="a")
    at = quote(made["opened_at"])
    assert found(world.alice, f"opened_after={at}") == ["a"]
    assert found(world.alice, f"opened_before={at}") == []
    later = quote((utc_now() + timedelta(hours=1)).isoformat())
    assert found(world.alice, f"opened_before={later}") == ["a"]
    assert found(world.alice, f"opened_after={later}") == []
    assert found(world.alice, "opened_after=0001-01-01T00:00:00Z&opened_before=9999-12-31T23:59:59Z") == ["a"]


def test_a_key_is_nobody_to_be_assigned_to(world: World) -> None:
    key = world.alice.post("/v1/api-keys", json={"name": "ci", "role": "viewer"}).get_json()["key"]
    assert blamed(world.person(key).get("/v1/incidents?assignee=me")) == ["assignee"]


#: (title, description, what finds it, what does not)
WORDS: list[tuple[str, str, list[str], list[str]]] = [
    (
        "db-3.eu.example.com is down",
        "",
        ["db", "db-3", "db 3 down", "example.com", "exam", "DOWN", "is down db", "db-3.eu.example.com", "'down'"],
        ["own", "b-3", "down up", "exampl down", "d0wn"],
    ),
    (
        "Payments: 5xx > 2 %",
        "seen 503 at https://pay.example/v1/charge?id=7",
        ["5xx", "503", "pay.example", "charge", "https://pay.example/v1/charge?id=7", "payments 503", "/v1/"],
        ["harge", "payments 504"],
    ),
    ("Überlast in Köln", "", ["über", "ÜBERLAST", "köl", "in köln"], ["uber", "öln"]),
    ("Лента упала", "", ["лента", "ЛЕНТА упа"], ["ента"]),
    ("ab_cd", "it's", ["ab_cd", "cd", "it's", "s"], ["abcd"]),
    ("日本 停止", "", ["日本", "日"], ["本"]),
]


def test_words_are_found_as_people_type_them(world: World) -> None:
    for title, description, hits, misses in WORDS:
        made = make(world.alice, title=title, description=description)
        for text in hits:
            assert title in found(world.bob, f"q={quote(text)}"), text
            assert found(world.charlie, f"q={quote(text)}") == [], text
        for text in misses:
            assert title not in found(world.bob, f"q={quote(text)}"), text
        world.alice.patch(f"/v1/incidents/{made['id']}", json={"title": "renamed", "description": None})
        assert title not in found(world.bob, f"q={quote(hits[0])}")


#: Search texts that mean something to SQL, to LIKE, to tsquery or to nobody.
EVIL = [
    "a & b", "a | b", "!a", "a <-> b", "a:*", "a:*b", "a:ABCD", "(a", "a)", "'", "''", "'a", "a'", "\\", "a\\'", "a\\",
    "%", "_", "%a%", "';DROP TABLE incidents;--", "$1", "%(org_id)s", "%s", "{}", "a\tb", "a\nb", "\u200b", "—", "💥",
    "a" * 200, "😀" * 200, " ", "!!!", "ﬀ", "\u0301", "\ud7ff", "\ufffd", "=critical", "=P2", "1e400", "-5", "1.2.3.4",
]  # fmt: skip


def test_no_text_breaks_the_search(world: World) -> None:
    make(world.alice, title="a b", priority="P2")
    for text in EVIL:
        response = world.alice.get(f"/v1/incidents?q={quote(text)}")
        words = any(character.isalnum() for character in text)
        assert response.status_code == (200 if words else 400), (text, response.text)
        if not words:
            assert blamed(response) == ["q"]
    for raw in ("q=%00", "q=", "q=" + "a" * 201, "q=a&q=b"):
        assert world.alice.get(f"/v1/incidents?{raw}").status_code == 400, raw
    assert world.alice.get("/v1/incidents?q=%ed%a0%80x").status_code == 200  # a lone surrogate, as bytes
    assert found(world.alice, "q=%3DP2") == []  # our own terms cannot be asked for


@pytest.mark.parametrize("count", [40, 3_200])
def test_what_few_pass_is_found_among_many(world: World, count: int) -> None:
    """Beyond the newest 3,000 another way is taken: it has to lead to the same."""
    rare = "CASE WHEN n > %(count)s - 3 THEN {} ELSE {} END"
    fill(
        world,
        count,
        title=rare.format("'kraken ' || n", "'calm ' || n"),
        severity=rare.format("'info'", "'error'"),
        priority=rare.format("'P3'", "'P2'"),
        labels=rare.format('\'{"sea": "deep"}\'', "'{}'") + "::jsonb",
        source=rare.format("'sonar'", "'x'"),
    )
    titles = [f"kraken {count - back}" for back in (2, 1, 0)]
    every = "q=krak&severity=info&priority=P3&label=sea:deep&source=sonar&status=resolved"
    for query in (*every.split("&")[:-1], "q=krak&label=sea:deep", "severity=info&label=sea:deep", every):
        assert found(world.alice, query) == titles, query
        first = world.alice.get(f"/v1/incidents?{query}&limit=2").get_json()
        rest = world.alice.get(f"/v1/incidents?{query}&limit=2&cursor={first['next_cursor']}").get_json()
        assert [item["title"] for item in first["data"] + rest["data"]] == titles, query
        assert rest["next_cursor"] is None
    assert len(found(world.alice, "q=calm&limit=500")) == min(count - 3, 500)
    assert found(world.alice, "q=calm&severity=info") == []


def test_pages_follow_each_other_also_where_times_are_equal(world: World) -> None:
    world.execute(
        "INSERT INTO incidents (id, org_id, source, dedup_key, title, severity, priority, status, opened_at)"
        " SELECT gen_random_uuid(), %(org)s, 'x', 'k' || n, 'same ' || n, 'error', 'P2', 'open', now()"
        "   FROM generate_series(1, 23) n",
        org=world.org_a,
    )
    for query in ("limit=7", "limit=7&q=same", "limit=7&severity=error", "limit=7&status=open"):
        seen: list[str] = []
        path = f"/v1/incidents?{query}"
        while path:
            response = world.bob.get(path)
            seen += [item["id"] for item in response.get_json()["data"]]
            path = response.headers["Link"].split(">", 1)[0].lstrip("<") if "Link" in response.headers else ""
        assert len(seen) == len(set(seen)) == 23, query


def test_incidents_of_others_take_no_place_on_a_page_and_are_named_nowhere(world: World) -> None:
    mine = make(world.alice, title="mine", labels={"a": "b"})["id"]
    for _ in range(3):
        make(world.charlie, title="mine as well", labels={"a": "b"})
    for query in ("limit=2", "limit=2&q=mine", "limit=2&label=a:b", "limit=2&severity=error", "limit=2&status=open"):
        page = world.alice.get(f"/v1/incidents?{query}").get_json()
        assert [item["id"] for item in page["data"]] == [mine], query
        assert page["next_cursor"] is None
    done = world.alice.post("/v1/incidents/acknowledge", json={"filter": {"q": "mine"}}).get_json()
    assert done == {"acknowledged": 1, "unchanged": 0, "not_found": [], "more": False}


def test_rows_say_how_long_and_who_was_told(world: World) -> None:
    channel = world.alice.make_channel()
    monitor = world.alice.make_monitor()
    told = world.open_incident(monitor)
    add_notification(world, told, channel["id"])
    untold = make(world.alice)
    world.execute("UPDATE incidents SET opened_at = now() - interval '90 seconds' WHERE id = %(id)s", id=told)
    rows = {row["id"]: row for row in world.bob.get("/v1/incidents").get_json()["data"]}
    assert rows[told]["monitor_name"] == "Shop"
    assert 90 <= rows[told]["duration_seconds"] <= 150
    assert sum(rows[told]["deliveries"].values()) == 1
    assert rows[untold["id"]]["deliveries"] == {"sent": 0, "pending": 0, "dead": 0, "suppressed": 0}
    for status in ("sent", "dead", "suppressed", "pending"):
        world.execute("UPDATE notifications SET status = %(s)s", s=status)
        (row,) = [row for row in world.bob.get("/v1/incidents").get_json()["data"] if row["id"] == told]
        assert row["deliveries"] == {"sent": 0, "pending": 0, "dead": 0, "suppressed": 0, status: 1}
    resolved = set_status(world, told, "resolved")
    assert resolved["duration_seconds"] >= 90
    world.execute("UPDATE incidents SET resolved_at = opened_at + interval '5.9 seconds' WHERE id = %(id)s", id=told)
    assert world.bob.get(f"/v1/incidents/{told}").get_json()["duration_seconds"] == 5


def test_a_page_takes_the_same_statements_however_long_it_is(world: World) -> None:
    channel = world.alice.make_channel()
    for _ in range(5):
        incident = world.open_incident(world.alice.make_monitor(), world.org_a)
        add_notification(world, incident, channel["id"])
    with counted(world.services.database) as session:
        world.alice.get("/v1/auth/me")
    for query in ("limit=1", "limit=500", "q=shop", "label=a:b", "severity=error&assignee=me"):
        with counted(world.services.database) as sent:
            world.alice.get(f"/v1/incidents?{query}")
        told = [statement for statement in sent if "incidents" in statement or "notifications" in statement]
        assert len(told) == (2 if found(world.alice, query) else 1), query
        assert len(sent) <= len(session) + 2, sent


BAD_QUERIES = [
    ("priority=P4", "priority.0"),
    ("priority=", "priority.0"),
    ("status=open,closed", "status.1"),
    ("label=team", "label.0"),
    ("label=:shop", "label.0"),
    ("label=", "label.0"),
    ("label=a:b,c", "label.1"),
    ("label=" + "x" * 700 + ":y", "label.0"),
    ("label=a:%00", "label"),
    ("source=", "source"),
    ("assignee=bob", "assignee"),
    ("assignee=", "assignee"),
    ("opened_after=yesterday", "opened_after"),
    ("opened_after=2026-01-01", "opened_after"),
    ("opened_after=2026-01-01T00:00:00", "opened_after"),
    ("opened_before=9999-12-31T23:59:59-23:59", "opened_before"),
    ("opened_before=1e30", "opened_before"),
]


def test_every_bad_filter_is_refused_naming_it(world: World) -> None:
    for query, field in BAD_QUERIES:
        assert field in blamed(world.alice.get(f"/v1/incidents?{query}")), query


def test_cursors_that_were_tampered_with_never_break(world: World) -> None:
    for _ in range(3):
        make(world.alice)
    good = world.alice.get("/v1/incidents?limit=1").get_json()["next_cursor"]
    for place in range(0, len(good), 5):
        for letter in "A_z9":
            cursor = good[:place] + letter + good[place + 1 :]
            assert world.alice.get(f"/v1/incidents?cursor={cursor}").status_code in (200, 400), cursor
    for text in ('["9999-12-31T23:59:59-23:59","%s"]', '["0001-01-01T00:00:00+23:59","%s"]', '["infinity","%s"]'):
        cursor = base64.urlsafe_b64encode((text % world.org_a).encode()).decode().rstrip("=")
        assert world.alice.get(f"/v1/incidents?cursor={cursor}").status_code in (200, 400), text


def test_timelines_name_people_and_keys(world: World) -> None:
    made: dict[str, Any] = make(world.alice)
    key = world.alice.post("/v1/api-keys", json={"name": "deploy bot", "role": "editor"}).get_json()["key"]
    world.person(key).post(f"/v1/incidents/{made['id']}/comments", json={"body": "rolled back"})
    events = world.bob.get(f"/v1/incidents/{made['id']}/events").get_json()["data"]
    assert [event["actor_name"] for event in events] == ["Alice", "deploy bot"]
    with counted(world.services.database) as sent:
        world.bob.get(f"/v1/incidents/{made['id']}/events?limit=500")
    assert len([statement for statement in sent if "incident" in statement]) == 2
    world.execute("UPDATE users SET name = '' WHERE id = %(id)s", id=world.users["alice"])
    (first, _) = world.bob.get(f"/v1/incidents/{made['id']}/events").get_json()["data"]
    assert first["actor_name"] == "alice@example.com"
    for body in ("", "x" * 10_001, "a\x00b", None, 5):
        assert blamed(world.alice.post(f"/v1/incidents/{made['id']}/comments", json={"body": body}))
