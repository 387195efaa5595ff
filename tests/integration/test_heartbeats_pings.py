"""The ping protocols of healthchecks.io and Uptime Kuma, word by word; strangers and bad input."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from api import limits
from api.app import create_app
from api.heartbeats_flood import MAX_PINGS
from api.heartbeats_words import BODY_BYTES
from common.domain.errors import Unavailable
from tests import api_cast
from tests.api_cast import World, settings_for
from tests.heartbeat_world import HEARTBEAT, make, ping, token_of

world = api_cast.world

SUCCESS, START, FAIL, LOG = 0, 1, 2, 3


@pytest.fixture
def monitor(world: World) -> Iterator[dict[str, Any]]:
    yield make(world.alice)
    world.services.pings.close()


def inbox(world: World) -> list[dict[str, Any]]:
    return world.rows(
        "SELECT kind, exit_code, rid::text, latency_ms, source, body FROM ping_inbox WHERE kind <> 9 ORDER BY id"
    )


# healthchecks.io ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
@pytest.mark.parametrize(
    ("action", "kind", "code"),
    [
        ("", SUCCESS, None),
        ("/start", START, None),
        ("/fail", FAIL, None),
        ("/log", LOG, None),
        ("/0", SUCCESS, 0),
        ("/1", FAIL, 1),
        ("/255", FAIL, 255),
    ],
)
def test_every_ping_of_healthchecks_is_taken_by_every_method(
    world: World,
    monitor: dict[str, Any],
    method: str,
    action: str,
    kind: int,
    code: int | None,
) -> None:
    answer = ping(world, monitor, action, method)
    assert (answer.status_code, answer.text) == (200, "" if method == "HEAD" else "OK")
    assert answer.content_type == "text/plain; charset=utf-8"
    assert answer.headers["Ping-Body-Limit"] == str(BODY_BYTES)
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    (found,) = inbox(world)
    assert (found["kind"], found["exit_code"]) == (kind, code)


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/ping/{unknown}", 404, "not found"),
        ("/ping/{unknown}/start", 404, "not found"),
        ("/ping/nonsense", 404, "not found"),
        ("/ping/{token}x", 404, "not found"),
        ("/ping/{token}/256", 400, "invalid url format"),
        ("/ping/{token}/99999999999999999999", 400, "invalid url format"),
        ("/ping/{token}/-1", 404, "not found"),
        ("/ping/{token}/1.5", 404, "not found"),
        ("/ping/{token}/stop", 404, "not found"),
        ("/ping/{token}/²", 404, "not found"),
        ("/ping/{token}?rid=7", 400, "invalid uuid format"),
        ("/ping/{token}/start?rid=", 400, "invalid uuid format"),
    ],
)
def test_what_is_no_ping_is_refused_in_the_words_of_healthchecks(
    world: World,
    monitor: dict[str, Any],
    path: str,
    status: int,
    text: str,
) -> None:
    answer = world.nobody.get(path.format(token=monitor["token"], unknown=uuid4()))
    assert (answer.status_code, answer.text) == (status, text)
    assert inbox(world) == []


def test_a_run_id_and_the_beginning_of_a_body_are_kept(world: World, monitor: dict[str, Any]) -> None:
    rid = str(uuid4())
    ping(world, monitor, f"/start?rid={rid}&unknown=ignored")
    ping(world, monitor, f"/7?rid={rid}", "POST", data=b'\xff\x00"quoted" \\ {x}\n' + b"a" * 20_000)
    start, end = inbox(world)
    assert (start["rid"], end["rid"]) == (rid, rid)
    assert end["body"].startswith('��"quoted" \\ {x}\naaa')
    assert len(end["body"].encode()) <= BODY_BYTES + 4  # two bytes became two signs of three


@pytest.mark.parametrize("action", ["", "/fail"])
def test_a_body_of_any_length_is_no_reason_to_miss_a_ping(world: World, monitor: dict[str, Any], action: str) -> None:
    assert ping(world, monitor, action, "POST", data=b"b" * 3_000_000).status_code == 200
    (found,) = inbox(world)
    assert found["body"] == "b" * BODY_BYTES


def test_a_uuid_may_be_written_without_dashes_or_in_capitals(world: World, monitor: dict[str, Any]) -> None:
    for token in (monitor["token"].replace("-", ""), monitor["token"].upper()):
        assert world.nobody.get(f"/ping/{token}").status_code == 200


# Uptime Kuma --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("query", "kind", "latency_ms", "body"),
    [
        ("", SUCCESS, -1, "OK"),
        ("?status=up&msg=OK&ping=", SUCCESS, -1, "OK"),
        ("?status=up&msg=fine&ping=12.5", SUCCESS, 12.5, "fine"),
        ("?status=down&msg=disk%20full", FAIL, -1, "disk full"),
        ("?status=", SUCCESS, -1, "OK"),
        ("?status=DOWN", FAIL, -1, "OK"),  # whatever is not up
        ("?ping=20ms", SUCCESS, 20, "OK"),  # as parseFloat reads it
        ("?ping=fast", SUCCESS, -1, "OK"),
    ],
)
def test_every_push_of_uptime_kuma_is_taken(
    world: World,
    monitor: dict[str, Any],
    method: str,
    query: str,
    kind: int,
    latency_ms: float,
    body: str,
) -> None:
    token = monitor["token"].replace("-", "")
    answer = world.nobody.call(method, f"/api/push/{token}{query}")
    assert (answer.status_code, answer.get_json()) == (200, {"ok": True})
    (found,) = inbox(world)
    assert (found["kind"], found["latency_ms"], found["body"]) == (kind, latency_ms, body)


@pytest.mark.parametrize("token", ["nonsense", "0" * 32])
def test_an_unknown_push_token_is_404_in_the_words_of_uptime_kuma(
    world: World,
    monitor: dict[str, Any],
    token: str,
) -> None:
    answer = world.nobody.get(f"/api/push/{token}")
    assert (answer.status_code, answer.get_json()) == (404, {"ok": False, "msg": "Monitor not found or not active."})
    assert monitor


def test_a_push_to_a_paused_monitor_is_404_and_a_ping_is_not(world: World, monitor: dict[str, Any]) -> None:
    world.alice.post(f"/v1/monitors/{monitor['id']}/pause")
    assert world.nobody.get(f"/api/push/{monitor['token']}").status_code == 404
    assert ping(world, monitor).status_code == 200


@pytest.mark.parametrize("ping_", ["-1", "1e12", "9" * 400])
def test_an_impossible_duration_is_refused(world: World, monitor: dict[str, Any], ping_: str) -> None:
    answer = world.nobody.get(f"/api/push/{monitor['token']}?ping={ping_}")
    assert (answer.status_code, answer.get_json()["ok"]) == (404, False)
    assert inbox(world) == []


# Secrets and strangers ----------------------------------------------------------------------------------------------


def test_the_secret_is_stored_sealed_shown_to_editors_only_and_in_no_log(
    world: World,
    monitor: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    ping(world, monitor, "/fail", "POST", data=b"x")
    world.nobody.get(f"/api/push/{monitor['token']}?msg=hello")
    token = monitor["token"]
    for table in ("heartbeats", "monitors", "ping_inbox", "audit_log"):
        for row in world.rows(f"SELECT t::text AS row FROM {table} t"):
            assert token not in row["row"]
            assert token.replace("-", "") not in row["row"]
    said = capsys.readouterr()
    assert token not in said.out + said.err
    assert world.bob.get(f"/v1/monitors/{monitor['id']}/heartbeat").status_code == 403
    assert world.bob.get(f"/v1/monitors/{monitor['id']}/pings").status_code == 200
    assert token not in world.alice.get(f"/v1/monitors/{monitor['id']}").text


def test_another_tenant_sees_and_renews_nothing(world: World, monitor: dict[str, Any]) -> None:
    path = f"/v1/monitors/{monitor['id']}"
    assert world.charlie.get(f"{path}/heartbeat").status_code == 404
    assert world.charlie.get(f"{path}/pings").status_code == 404
    assert world.charlie.post(f"{path}/heartbeat/renew").status_code == 404
    assert ping(world, monitor).status_code == 200
    with world.databases.api.begin(world.org_b) as connection:
        assert connection.exec_driver_sql("SELECT 1 FROM heartbeats").all() == []
        assert connection.exec_driver_sql("SELECT 1 FROM pings").all() == []


def test_a_renewed_secret_replaces_the_one_before(world: World, monitor: dict[str, Any]) -> None:
    answer = world.alice.post(f"/v1/monitors/{monitor['id']}/heartbeat/renew")
    assert answer.status_code == 200
    assert ping(world, monitor).status_code == 404
    assert world.nobody.get(f"/ping/{token_of(world.alice, monitor['id'])}").status_code == 200
    audited = world.alice.get("/v1/audit-log").get_json()["data"][0]
    assert audited["action"] == "renew_heartbeat"


def test_only_unknown_secrets_are_limited(
    world: World, monitor: dict[str, Any], database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_TIMEOUT_S", 30.0)  # a Redis that is slow for a moment is not away
    settings = settings_for(database_url, redis_url, rate_limit_pings=3)
    client = create_app(_with(world, settings)).test_client()
    for _ in range(3):
        assert client.get(f"/ping/{uuid4()}").status_code == 404
    refused = client.get(f"/api/push/{uuid4().hex}")
    assert (refused.status_code, "Retry-After" in refused.headers) == (429, True)
    for _ in range(20):
        assert client.get(f"/ping/{monitor['token']}").status_code == 200


def test_whoever_knows_a_secret_is_limited_far_beyond_what_a_job_means(
    world: World, monitor: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = time.monotonic()
    monkeypatch.setattr(world.services.pings._flood, "_monotonic", lambda: now_s)  # however long they take
    other = make(world.alice, name="other")
    for _ in range(MAX_PINGS):
        assert ping(world, monitor).status_code == 200
    for path in (f"/ping/{monitor['token']}", f"/ping/{monitor['token']}/fail", f"/api/push/{monitor['token']}"):
        refused = world.nobody.get(path)
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
    # By the long way as well, and nobody else.
    assert ping(world, monitor, headers={"X-Request-ID": str(uuid4())}).status_code == 429
    assert ping(world, other).status_code == 200
    assert len(inbox(world)) == MAX_PINGS + 1


def _with(world: World, settings: Any) -> Any:
    from dataclasses import replace

    return replace(world.services, settings=settings)


def test_a_ping_that_cannot_be_committed_is_503_and_never_ok(
    world: World,
    monitor: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def away(*_: Any, **__: Any) -> Any:
        raise Unavailable("The database cannot be reached.")

    monkeypatch.setattr("common.store.heartbeats_intake.append", away)
    answer = ping(world, monitor)
    assert answer.status_code == 503
    assert "Retry-After" in answer.headers
    assert world.nobody.get(f"/api/push/{monitor['token']}").status_code == 503
    assert inbox(world) == []


# Configuration ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"target": "https://shop.example/"}, "target"),
        ({"locations": ["local", "mars"]}, "locations"),
        ({"assertions": [{"source": "latency_ms", "op": "lt", "value": 5}]}, "assertions.0"),
        ({"heartbeat": {"period_seconds": 0}}, "heartbeat.period_seconds"),
        ({"heartbeat": {"grace_seconds": 31_536_001}}, "heartbeat.grace_seconds"),
        ({"heartbeat": {"cron": "* * * *"}}, "heartbeat.cron"),
        ({"heartbeat": {"cron": "0 0 30 2 *"}}, "heartbeat.cron"),
        ({"heartbeat": {"cron": "61 * * * *"}}, "heartbeat.cron"),
        ({"heartbeat": {"cron": "* * * * * *"}}, "heartbeat.cron"),
        ({"heartbeat": {"cron": "0 0 * * *", "period_seconds": 5}}, "heartbeat.period_seconds"),
        ({"heartbeat": {"cron": "0 0 * * *", "timezone": "Mars/Base"}}, "heartbeat.timezone"),
        ({"heartbeat": {"timezone": "../../etc/passwd"}}, "heartbeat.timezone"),
        ({"http": {"method": "GET"}}, "http"),
    ],
)
def test_bad_settings_are_refused_by_their_field(world: World, fields: dict[str, Any], field: str) -> None:
    answer = world.alice.post("/v1/monitors", json={**HEARTBEAT, **fields})
    assert answer.status_code == 400
    assert [detail["field"] for detail in answer.get_json()["details"]] == [field]


def test_every_other_type_still_needs_a_target(world: World) -> None:
    answer = world.alice.post("/v1/monitors", json={"name": "x", "type": "http"})
    assert (answer.status_code, answer.get_json()["details"]) == (
        400,
        [{"field": "target", "message": "is required"}],
    )
    assert world.alice.post("/v1/probes", json={"type": "heartbeat"}).status_code == 400


def test_defaults_and_bulk_and_plans_know_the_type(world: World) -> None:
    plain = {"name": "Nightly", "type": "heartbeat", "key": "nightly"}
    cron = {**plain, "key": "cron", "heartbeat": {"cron": "0 3 * * *", "timezone": "Europe/Berlin"}}
    answer = world.alice.post("/v1/monitors/bulk", json={"monitors": [plain, cron]})
    assert answer.status_code == 200, answer.text
    first, second = (result["monitor"] for result in answer.get_json()["results"])
    assert (first["target"], first["failure_threshold"], first["interval_seconds"]) == ("", 1, 30)
    assert second["heartbeat"] == {"cron": "0 3 * * *", "timezone": "Europe/Berlin"}
    assert token_of(world.alice, first["id"]) != token_of(world.alice, second["id"])
    exported = world.alice.get("/v1/monitors/export").get_json()["monitors"]
    assert {one["key"]: one for one in exported} == {"nightly": plain, "cron": cron}
    planned = world.alice.post("/v1/monitors/plan", json={"monitors": exported}).get_json()
    assert planned["changes"] == []
    patient = {**plain, "failure_threshold": 2}
    wanted = {"monitors": [patient, cron]}
    plan = world.alice.post("/v1/monitors/plan", json=wanted).get_json()
    assert [change["differences"] for change in plan["changes"]] == [
        [{"field": "failure_threshold", "from": 1, "to": 2}]
    ]
    applied = world.alice.post("/v1/monitors/apply", json={**wanted, "fingerprint": plan["fingerprint"]})
    assert applied.status_code == 200, applied.text
    again = {one["key"]: one for one in world.alice.get("/v1/monitors/export").get_json()["monitors"]}
    assert again["nightly"] == patient
