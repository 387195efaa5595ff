"""Channels and the ledger through the API: one look at the secret, and every attempt on record."""

from __future__ import annotations

import base64
from typing import Any
from uuid import uuid4

import pytest

from common.vault import Vault
from tests import api_cast
from tests.api_cast import CHANNEL, World

world = api_cast.world


def test_a_webhook_shows_its_secret_once_and_stores_it_sealed(world: World) -> None:
    made = world.alice.make_channel()
    assert set(made) == {
        "id", "name", "type", "config", "secret", "enabled", "is_default", "fallback_channel_id", "cap",
        "disabled_reason", "created_at", "updated_at",
    }  # fmt: skip
    assert made["secret"].startswith("whsec_")
    assert len(base64.b64decode(made["secret"].removeprefix("whsec_"))) == 32
    assert world.alice.get(f"/v1/channels/{made['id']}").get_json() == {**made, "secret": None}
    (row,) = world.rows("SELECT * FROM channels")
    assert made["secret"] not in repr(row)
    vault = Vault(world.services.settings.encryption_keys.get_secret_value())
    assert vault.open(f"channel:{world.org_a}:{made['id']}", row["secrets"]) == {"secret": made["secret"]}


def test_the_first_channel_of_an_organization_is_its_default(world: World) -> None:
    assert world.alice.make_channel()["is_default"] is True
    assert world.alice.make_channel()["is_default"] is False
    assert world.charlie.make_channel()["is_default"] is True
    assert world.alice.make_channel(is_default=True)["is_default"] is True


def test_viewers_see_where_a_webhook_goes_but_not_its_path(world: World) -> None:
    made = world.alice.make_channel(config={"url": "https://hooks.example:8443/services/T0/secret?x=1"})
    for seen in (
        world.bob.get(f"/v1/channels/{made['id']}").get_json(),
        world.bob.get("/v1/channels").get_json()["data"][0],
    ):
        assert seen["config"] == {"url": "https://hooks.example:8443/…"}


def test_a_channel_changes_by_merge_patch_but_keeps_type_and_secret(world: World) -> None:
    made = world.alice.make_channel()
    path = f"/v1/channels/{made['id']}"
    changed = world.alice.patch(path, json={**made, "name": "New", "enabled": False}).get_json()
    assert (changed["name"], changed["enabled"], changed["secret"]) == ("New", False, None)
    before = world.rows("SELECT secrets FROM channels")
    assert world.alice.patch(path, json={"config": {"url": "http://other.example/"}}).status_code == 200
    assert world.rows("SELECT secrets FROM channels") == before
    assert world.alice.patch(path, json={"type": "slack"}).status_code == 400
    assert world.alice.patch(path, json={"secret": "whsec_mine"}).get_json()["secret"] is None


@pytest.mark.parametrize(
    ("patch", "mended"),
    [
        ({"name": "Other"}, False),
        ({"enabled": False}, False),
        ({"config": {"url": "https://other.example/"}}, True),
    ],
)
def test_a_mended_channel_forgets_its_failures(world: World, patch: dict[str, Any], *, mended: bool) -> None:
    made = world.alice.make_channel()
    world.execute("UPDATE channels SET failures = 5, failing_since = now(), retry_at = now() + interval '5 min'")
    world.alice.patch(f"/v1/channels/{made['id']}", json=patch)
    (row,) = world.rows("SELECT failures, retry_at FROM channels")
    assert (row["failures"], row["retry_at"] is None) == ((0, True) if mended else (5, False))


def test_a_channel_that_is_enabled_again_forgets_its_failures(world: World) -> None:
    made = world.alice.make_channel(enabled=False)
    world.execute("UPDATE channels SET failures = 5")
    world.alice.patch(f"/v1/channels/{made['id']}", json={"enabled": True})
    assert world.rows("SELECT failures FROM channels") == [{"failures": 0}]


def test_a_deleted_channel_is_gone_with_its_secret(world: World) -> None:
    made = world.alice.make_channel()
    path = f"/v1/channels/{made['id']}"
    assert world.alice.delete(path).status_code == 204
    assert [world.alice.call(method, path, json={}).status_code for method in ("GET", "PATCH", "DELETE")] == [404] * 3
    assert world.alice.get("/v1/channels").get_json()["data"] == []
    assert world.rows("SELECT secrets FROM channels") == [{"secrets": None}]
    assert world.alice.make_channel()["is_default"] is True


URLS = [
    "ftp://example.com/", "hooks.example", "", "https://", "https://user:pw@hooks.example/", "https://a b/",
    "https://hooks.example:99999/", "javascript:alert(1)", "https://" + "a" * 2050, "https://[::1", 5, None,
    "https://hooks.example/\r\nX: y",
]  # fmt: skip


def test_urls_that_are_none_are_refused_by_name(world: World) -> None:
    for url in URLS:
        bad = world.alice.post("/v1/channels", json={**CHANNEL, "config": {"url": url}})
        assert (bad.status_code, bad.get_json()["details"][0]["field"]) == (400, "config.url"), url


def test_a_webhook_into_the_metadata_service_is_refused(world: World) -> None:
    made = world.alice.make_channel()
    for call in (
        world.alice.post("/v1/channels", json={**CHANNEL, "config": {"url": "http://169.254.169.254/"}}),
        world.alice.patch(f"/v1/channels/{made['id']}", json={"config": {"url": "http://[fd00:ec2::254]/"}}),
    ):
        assert (call.status_code, call.get_json()["code"]) == (400, "EGRESS_DENIED")


def add_notification(world: World, incident: str, channel: str, status: str = "dead") -> str:
    notification = str(uuid4())
    world.execute(
        """INSERT INTO notifications (id, org_id, event_id, incident_id, channel_id, event_type, status, reason,
                                      attempts, next_attempt_at)
           SELECT %(id)s, e.org_id, e.id, e.incident_id, %(channel)s, e.type, %(status)s, NULL, 2, now()
             FROM incident_events e WHERE e.incident_id = %(incident)s LIMIT 1""",
        id=notification, channel=channel, status=status, incident=incident,
    )  # fmt: skip
    for number, outcome in ((2, "rejected"), (1, "unknown")):
        world.execute(
            """INSERT INTO delivery_attempts (id, org_id, notification_id, number, outcome, status_code, error,
                                              duration_ms, at)
               SELECT %(id)s, n.org_id, n.id, %(number)s, %(outcome)s, 400, 'no', 3.5, now() FROM notifications n
                WHERE n.id = %(notification)s""",
            id=str(uuid4()), number=number, outcome=outcome, notification=notification,
        )  # fmt: skip
    return notification


def test_the_ledger_lists_and_tells_every_attempt_in_order(world: World) -> None:
    first, second = world.alice.make_channel(), world.alice.make_channel()
    incident = world.open_incident(world.alice.make_monitor())
    dead = add_notification(world, incident, first["id"])
    pending = add_notification(world, incident, second["id"], "pending")

    def ids(query: str) -> list[str]:
        return [item["id"] for item in world.bob.get(f"/v1/notifications{query}").get_json()["data"]]

    assert ids("") == [pending, dead]
    assert ids("?status=dead") == [dead]
    assert ids("?status=dead,pending") == [pending, dead]
    assert ids(f"?channel_id={second['id']}") == [pending]
    assert ids(f"?incident_id={incident}&limit=1") == [pending]
    assert ids(f"?incident_id={uuid4()}") == []
    found = world.bob.get(f"/v1/notifications/{dead}").get_json()
    assert set(found) == {
        "id", "incident_id", "event_type", "channel_id", "route_id", "status", "reason", "attempts", "next_attempt_at",
        "sent_at", "created_at", "delivery_attempts",
    }  # fmt: skip
    assert (found["status"], found["attempts"], found["next_attempt_at"]) == ("dead", 2, None)
    assert [attempt["outcome"] for attempt in found["delivery_attempts"]] == ["unknown", "rejected"]
    assert world.bob.get(f"/v1/notifications/{pending}").get_json()["next_attempt_at"] is not None
