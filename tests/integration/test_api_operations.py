"""The API as operators see it: health, metrics, documentation, request ids, and what happens when parts are away."""

from __future__ import annotations

import functools
import json
import operator
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import structlog
from pydantic import BaseModel

from api import (
    schemas,
    schemas_channels,
    schemas_identity,
    schemas_incidents,
    schemas_monitors,
    schemas_routes,
    schemas_silences,
)
from api.app import ROUTES, create_app
from api.openapi import document
from common import log
from common.broker import make_broker
from common.store import monitor_lists as stored_lists
from common.store import schema
from common.store.engine import Database, DatabaseRole
from tests import api_cast
from tests.api_cast import MONITOR, Person, World
from tests.stack import wait_until

world = api_cast.world
patient_queue = api_cast.patient_queue

pytestmark = pytest.mark.usefixtures("patient_queue")

NOWHERE_DB = "postgresql://tocsin@127.0.0.1:1/tocsin"
NOWHERE_REDIS = "redis://127.0.0.1:1/0"


@contextmanager
def without(world: World, *, database: bool = False, queue: bool = False) -> Iterator[World]:
    """The same world with PostgreSQL or Redis away."""
    services = world.services
    if database:
        services = replace(services, database=Database(NOWHERE_DB, DatabaseRole.API, application="test"))
    if queue:
        services = replace(services, broker=make_broker(NOWHERE_REDIS))
    client = create_app(services).test_client()
    alice, nobody = Person(client), Person(client)
    alice.headers = world.alice.headers
    yield replace(world, services=services, client=client, alice=alice, nobody=nobody)


@pytest.mark.parametrize("path", ["/livez", "/health", "/healthz"])
def test_liveness_depends_on_nothing(world: World, path: str) -> None:
    with without(world, database=True, queue=True) as lost:
        response = lost.nobody.get(path)
        assert (response.status_code, response.get_json()) == (200, {"status": "ok"})
        assert lost.nobody.call("HEAD", path).status_code == 200


def test_readiness_needs_postgresql_and_says_when_redis_is_away(world: World) -> None:
    well = {"status": "ready", "checks": {"postgres": "ok", "redis": "ok"}}
    for path in ("/readyz", "/ready"):
        wait_until(lambda path=path: world.nobody.get(path).get_json() == well, 60, path)  # type: ignore[misc]
    with without(world, queue=True) as lost:
        lenient, strict = lost.nobody.get("/readyz"), lost.nobody.get("/ready")
        assert (lenient.status_code, lenient.get_json()["checks"]["redis"]) == (200, "degraded")
        assert (strict.status_code, strict.headers["Retry-After"]) == (503, "5")
    with without(world, database=True) as lost:
        response = lost.nobody.get("/readyz")
        assert (response.status_code, response.get_json()["checks"]["postgres"]) == (503, "unreachable")


def test_readiness_waits_for_migrations(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "REVISION", "9999")
    response = world.nobody.get("/readyz")
    assert (response.status_code, response.get_json()["checks"]["postgres"]) == (503, "migrations pending")
    monkeypatch.setattr(schema, "REVISION", "0000")
    assert world.nobody.get("/readyz").status_code == 200


def test_without_postgresql_everything_else_is_503_with_retry_after(world: World) -> None:
    with without(world, database=True) as lost:
        for response in (
            lost.alice.get("/v1/monitors"),
            lost.alice.post("/v1/monitors", json=MONITOR),
            lost.nobody.post("/v1/auth/login", json={"email": "a@b.c", "password": "x"}),
        ):
            assert (response.status_code, response.get_json()["code"]) == (503, "UNAVAILABLE")
            assert int(response.headers["Retry-After"]) >= 1
            assert "127.0.0.1" not in response.text


def test_without_redis_only_check_now_is_unavailable(world: World) -> None:
    monitor = world.alice.make_monitor()
    with without(world, queue=True) as lost:
        check = lost.alice.post(f"/v1/monitors/{monitor['id']}/check")
        assert (check.status_code, check.get_json()["code"]) == (503, "UNAVAILABLE")
        assert "Retry-After" in check.headers
        assert lost.alice.make_monitor()["config_version"] == 1


def test_an_unexpected_error_tells_nothing_and_is_logged_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_arguments: Any, **_more: Any) -> None:
        raise RuntimeError("the canary in the mine")

    monkeypatch.setattr(stored_lists, "list_page", explode)
    with structlog.testing.capture_logs() as lines:
        response = world.alice.get("/v1/monitors", headers={"X-Request-ID": "boom"})
    assert response.status_code == 500
    assert response.get_json()["code"] == "INTERNAL_ERROR"
    assert response.get_json()["request_id"] == "boom"
    assert "canary" not in response.text
    assert [line["event"] for line in lines if line["log_level"] == "error"] == ["unexpected_error"]


def test_a_request_id_is_taken_over_or_made_and_stands_everywhere(world: World) -> None:
    for given in ("abc", "A.b_c-1", "x" * 128):
        response = world.nobody.get("/v1/monitors", headers={"X-Request-ID": given})
        assert response.headers["X-Request-ID"] == given
        assert response.get_json()["request_id"] == given
    for given in ("", "a b", "x" * 129, "ü", "a;b", "a/b"):
        made = world.nobody.get("/livez", headers={"X-Request-ID": given}).headers["X-Request-ID"]
        assert re.fullmatch(r"[0-9a-f-]{36}", made), given


def test_every_log_line_of_a_request_has_its_id(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    structlog.reset_defaults()
    log.configure("api", style="json")
    try:
        world.nobody.post(
            "/v1/auth/login",
            json={"email": "alice@example.com", "password": api_cast.PASSWORD},
            headers={"X-Request-ID": "of-login"},
        )
    finally:
        structlog.reset_defaults()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert [line["event"] for line in lines] == ["logged_in", "request"]
    assert {line["request_id"] for line in lines} == {"of-login"}
    assert (lines[-1]["route"], lines[-1]["status"]) == ("/v1/auth/login", 200)
    assert api_cast.PASSWORD not in repr(lines)


def test_every_error_has_the_one_shape(world: World) -> None:
    cases = [
        (world.nobody.get("/nothing"), 404, "NOT_FOUND"),
        (world.nobody.get("/v1/monitors"), 401, "UNAUTHORIZED"),
        (world.bob.post("/v1/monitors", json=MONITOR), 403, "FORBIDDEN"),
        (world.alice.get(f"/v1/monitors/{world.org_b}"), 404, "MONITOR_NOT_FOUND"),
        (world.alice.get(f"/v1/incidents/{world.org_b}"), 404, "INCIDENT_NOT_FOUND"),
        (world.alice.delete("/v1/monitors"), 405, "METHOD_NOT_ALLOWED"),
        (world.alice.call("BREW", "/v1/monitors"), 405, "METHOD_NOT_ALLOWED"),
        (world.alice.post("/v1/monitors", json={}), 400, "VALIDATION_ERROR"),
    ]
    for response, status, code in cases:
        body = response.get_json()
        assert response.content_type == "application/problem+json"
        assert set(body) == {"type", "title", "status", "code", "message", "request_id", "details"}
        assert (response.status_code, body["status"], body["code"]) == (status, status, code)
        assert body["request_id"] == response.headers["X-Request-ID"]
    assert "POST" in world.alice.delete("/v1/monitors").headers["Allow"]
    assert {detail["field"] for detail in cases[-1][0].get_json()["details"]} == {"name", "type", "target"}


def test_metrics_count_requests_by_route_and_never_by_path(world: World) -> None:
    monitor = world.alice.make_monitor()
    world.alice.get(f"/v1/monitors/{monitor['id']}")
    world.nobody.get("/some/random/path")
    response = world.nobody.get("/metrics")
    assert response.status_code == 200
    assert 'tocsin_api_requests_total{method="GET",route="/v1/monitors/<monitor_id>",status="200"}' in response.text
    assert 'route="unmatched"' in response.text
    assert monitor["id"] not in response.text
    assert "random" not in response.text
    assert "tocsin_api_request_duration_seconds_bucket" in response.text
    openmetrics = world.nobody.get("/metrics", headers={"Accept": "application/openmetrics-text"})
    assert openmetrics.text.endswith("# EOF\n")


def test_the_documentation_needs_nothing_from_outside(world: World) -> None:
    front = world.nobody.get("/")
    assert (front.status_code, front.headers["Location"]) == (302, "/docs")
    page = world.nobody.get("/docs")
    assert page.status_code == 200
    assert page.content_type.startswith("text/html")
    assert not re.findall(r"(?:src|href)=[\"'](?:https?:)?//", page.text)
    assert "<script" not in page.text
    for route in ROUTES:
        assert f'id="{route.operation_id}"' in page.text
    spec = world.nobody.get("/openapi.json")
    assert spec.get_json() == json.loads(json.dumps(document(ROUTES)))


def test_the_openapi_document_is_whole(world: World) -> None:
    spec = document(ROUTES)
    assert spec["openapi"] == "3.1.0"
    operations = [operation for path in spec["paths"].values() for operation in path.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(ids) == len(set(ids)) == len(ROUTES)
    for reference in set(re.findall(r'"#/([^"]+)"', json.dumps(spec))):
        functools.reduce(operator.getitem, reference.split("/"), spec)
    for operation in operations:
        assert operation["summary"]
        for scheme in operation["security"]:
            assert set(scheme) <= set(spec["components"]["securitySchemes"])
    assert spec["paths"]["/v1/monitors/{monitor_id}"]["patch"]["requestBody"]["content"].keys() == {
        "application/merge-patch+json", "application/json",
    }  # fmt: skip


def strictly(model: type[BaseModel], value: dict[str, Any]) -> None:
    """Nothing more and nothing less than the documented answer (defaults apart)."""
    model.model_validate(value)
    assert set(value) <= set(model.model_fields), model
    assert {name for name, field in model.model_fields.items() if field.is_required()} <= set(value), model


def test_answers_are_what_the_document_says(world: World) -> None:
    monitor = world.alice.make_monitor(http={"headers": {"A": {"secret": "s"}}})
    incident = world.open_incident(monitor)
    event = world.alice.post(f"/v1/incidents/{incident}/comments", json={"body": "x"}).get_json()
    strictly(schemas_monitors.Monitor, monitor)
    strictly(schemas_monitors.MonitorState, monitor["state"])
    strictly(schemas_incidents.IncidentDetail, world.alice.get(f"/v1/incidents/{incident}").get_json())
    strictly(schemas_incidents.Incident, world.alice.get("/v1/incidents").get_json()["data"][0])
    strictly(schemas_incidents.Event, event)
    done = world.alice.post("/v1/incidents/acknowledge", json={"filter": {}}).get_json()
    strictly(schemas_incidents.BulkAcknowledgement, done)
    strictly(schemas_channels.Channel, world.alice.make_channel())
    strictly(schemas_routes.RouteTest, world.alice.post("/v1/routes/test", json={}).get_json())
    silence = {"matchers": [{"label": "team", "op": "=", "value": "shop"}], "duration_seconds": 60}
    strictly(schemas_silences.Silence, world.alice.post("/v1/silences", json=silence).get_json())
    strictly(schemas_identity.NewApiKey, world.alice.post("/v1/api-keys", json={"name": "x"}).get_json())
    strictly(schemas_identity.ApiKey, world.alice.get("/v1/api-keys").get_json()["data"][0])
    strictly(schemas_identity.Me, world.alice.get("/v1/auth/me").get_json())
    strictly(schemas_identity.Organization, world.alice.get("/v1/organization").get_json())
    strictly(schemas_identity.Member, world.alice.get("/v1/users").get_json()["data"][0])
    strictly(schemas_identity.Membership, world.alice.get("/v1/memberships").get_json()["data"][0])
    invite = world.alice.post("/v1/invites", json={"email": "dora@example.com"}).get_json()
    strictly(schemas_identity.NewInvite, invite)
    strictly(schemas_identity.Invite, world.alice.get("/v1/invites").get_json()["data"][0])
    strictly(schemas.Location, world.alice.get("/v1/locations").get_json()["data"][0])
    strictly(schemas_identity.Tokens, world.login("alice"))
    strictly(schemas.Problem, world.nobody.get("/v1/monitors").get_json())


def test_answers_carry_headers_that_keep_browsers_careful(world: World) -> None:
    response = world.alice.get("/v1/monitors")
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
