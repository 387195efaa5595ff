"""Two organizations never see each other: through no route, and in the database not even when our filter is missing."""

from __future__ import annotations

from typing import Any

from api.app import ROUTES
from tests import api_cast
from tests.api_cast import World
from tests.integration.test_api_auth import BODIES
from tests.integration.test_api_channels import add_notification
from tests.integration.test_api_monitors import add_result

world = api_cast.world


def furnish(world: World) -> dict[str, str]:
    """One of everything in alice's organization."""
    monitor, channel = world.alice.make_monitor(key="shop"), world.alice.make_channel()
    incident = world.open_incident(monitor)
    key = world.alice.post("/v1/api-keys", json={"name": "ci"}).get_json()
    route = world.alice.post("/v1/routes", json={"name": "r", "channel_ids": [channel["id"]]}).get_json()
    silence = world.alice.post("/v1/silences", json=BODIES["create_silence"]).get_json()
    window = world.alice.post("/v1/maintenance", json=BODIES["create_maintenance"]).get_json()
    (row,) = world.rows("SELECT monitor_no, location_ids, created_at FROM monitors")
    at_ms = int(row["created_at"].timestamp() * 1000)
    add_result(world, row["monitor_no"], row["location_ids"][0], at_ms, verdict=3)
    return {
        "monitor_id": monitor["id"],
        "channel_id": channel["id"],
        "incident_id": incident,
        "notification_id": add_notification(world, incident, channel["id"]),
        "api_key_id": key["id"],
        "route_id": route["id"],
        "silence_id": silence["id"],
        "maintenance_id": window["id"],
    }


def test_every_route_answers_404_to_an_id_of_another_organization(world: World) -> None:
    ids = furnish(world)
    sql = (
        "SELECT * FROM monitors, channels, incidents, api_keys, incident_events, routes, silences, maintenance_windows"
    )
    before = world.rows(sql)
    walked = set()
    for route in ROUTES:
        names = [name for name in ids if f"<{name}>" in route.path]
        if not names:
            continue
        walked.update(names)
        path = route.path
        for name in names:
            path = path.replace(f"<{name}>", ids[name])
        body = BODIES.get(route.operation_id)
        theirs = world.charlie.call(route.method, path, json=body)
        code = names[0].removesuffix("_id").upper() + "_NOT_FOUND"
        assert (theirs.status_code, theirs.get_json()["code"]) == (404, code), route.operation_id
        for nonsense in ("1", "x" * 36, "%00", "00000000-0000-0000-0000-000000000000"):
            path = route.path.replace(f"<{names[0]}>", nonsense)
            assert world.alice.call(route.method, path, json=body).status_code == 404, (route.operation_id, nonsense)
    assert walked == set(ids)
    assert world.rows(sql) == before


def test_lists_and_filters_show_nothing_of_others(world: World) -> None:
    ids = furnish(world)
    for path in (
        "/v1/monitors",
        "/v1/incidents",
        "/v1/channels",
        "/v1/notifications",
        "/v1/api-keys",
        "/v1/routes",
        "/v1/silences",
        "/v1/maintenance",
        f"/v1/incidents?monitor_id={ids['monitor_id']}",
        f"/v1/notifications?incident_id={ids['incident_id']}",
        f"/v1/notifications?channel_id={ids['channel_id']}",
    ):
        assert world.alice.get(path).get_json()["data"] != [], path
        assert world.charlie.get(path).get_json() == {"data": [], "next_cursor": None}, path


def test_a_cursor_of_others_leads_to_nothing_of_theirs(world: World) -> None:
    for _ in range(3):
        world.alice.make_monitor()
    cursor = world.alice.get("/v1/monitors?limit=1").get_json()["next_cursor"]
    assert world.charlie.get(f"/v1/monitors?cursor={cursor}").get_json()["data"] == []


def test_the_same_key_of_two_organizations_is_two_monitors(world: World) -> None:
    ids = furnish(world)
    made = world.charlie.put("/v1/monitors/by-key/shop", json=api_cast.MONITOR)
    assert made.status_code == 201
    assert made.get_json()["id"] != ids["monitor_id"]


TENANT_TABLES = (
    "organizations", "users", "memberships", "api_keys", "refresh_tokens", "monitors", "monitor_states", "votes",
    "results", "result_details", "incidents", "incident_events", "outbox", "channels", "notifications",
    "delivery_attempts", "routes", "silences",
    "maintenance_windows",
)  # fmt: skip


def counts(world: World, org_id: str) -> dict[str, int]:
    """Rows that the API's role sees without any filter of ours."""
    with world.databases.api.begin(org_id) as connection:
        return {
            table: connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one() for table in TENANT_TABLES
        }


def test_row_level_security_holds_when_our_own_filter_is_forgotten(world: World) -> None:
    furnish(world)
    assert all(counts(world, world.org_a).values()), counts(world, world.org_a)
    theirs = {table: count for table, count in counts(world, world.org_b).items() if count}
    # Only what is charlie's own: organization B, charlie, the membership and the session.
    assert theirs == {"organizations": 1, "users": 1, "memberships": 1, "refresh_tokens": 1}
    assert set(counts(world, "").values()) == {0}


def test_row_level_security_refuses_to_write_into_another_organization(world: World) -> None:
    ids = furnish(world)
    writes: list[tuple[str, dict[str, Any]]] = [
        ("UPDATE monitors SET name = 'x' WHERE id = %(id)s", {"id": ids["monitor_id"]}),
        ("UPDATE votes SET down = 0 WHERE %(id)s <> ''", {"id": "x"}),
        ("DELETE FROM votes WHERE %(id)s <> ''", {"id": "x"}),
        ("UPDATE incidents SET title = 'x' WHERE id = %(id)s", {"id": ids["incident_id"]}),
        ("UPDATE channels SET name = 'x' WHERE id = %(id)s", {"id": ids["channel_id"]}),
        ("UPDATE routes SET name = 'x' WHERE id = %(id)s", {"id": ids["route_id"]}),
        ("UPDATE silences SET comment = 'x' WHERE id = %(id)s", {"id": ids["silence_id"]}),
        ("UPDATE maintenance_windows SET comment = 'x' WHERE id = %(id)s", {"id": ids["maintenance_id"]}),
    ]
    for sql, parameters in writes:
        with world.databases.api.begin(world.org_b) as connection:
            assert connection.exec_driver_sql(sql, parameters).rowcount == 0, sql
