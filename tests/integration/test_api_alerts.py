"""Alerts through every door of the API: whose key opens it, what is taken, what is refused and in which words."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from psycopg.types.json import Jsonb
from werkzeug.serving import make_server
from werkzeug.test import TestResponse

from api.platform import LOOK_EVERY_S
from common.domain.alerts import label_fingerprint
from common.store import platform_keys
from tests import api_cast
from tests.api_cast import Person, World

world = api_cast.world

DISK: dict[str, Any] = {
    "name": "Disk full", "source": "node", "severity": "warning", "status": "firing", "dedup_key": "disk",
    "summary": "/ is at 97 %", "labels": {"host": "a"}, "starts_at": "2026-03-01T12:00:00Z",
}  # fmt: skip
OVER = {**DISK, "status": "resolved"}


def key_of(world: World, role: str = "editor") -> str:
    return str(world.alice.post("/v1/api-keys", json={"name": role, "role": role}).get_json()["key"])


def send(person: Person, *alerts: Any) -> dict[str, Any]:
    response = person.post("/v1/alerts", json=list(alerts))
    assert response.status_code == 202, response.text
    return dict(response.get_json())


def tally(accepted: int = 0, deduplicated: int = 0, resolved: int = 0) -> dict[str, int]:
    return {"accepted": accepted, "deduplicated": deduplicated, "resolved": resolved}


def incidents(person: Person) -> list[dict[str, Any]]:
    return list(person.get("/v1/incidents").get_json()["data"])


# /v1/alerts ---------------------------------------------------------------------------------------------------------


def test_an_alert_becomes_an_incident_once_and_ends_it(world: World) -> None:
    assert send(world.alice, DISK) == tally(accepted=1)
    assert send(world.alice, DISK, {**DISK, "starts_at": "2026-03-01T13:00:00+01:00"}) == tally(deduplicated=2)
    (found,) = incidents(world.bob)
    assert {name: found[name] for name in ("title", "source", "severity", "priority", "status", "dedup_key")} == {
        "title": "/ is at 97 %", "source": "node", "severity": "warning", "priority": "P3", "status": "open",
        "dedup_key": "disk",
    }  # fmt: skip
    assert (found["labels"], found["monitor_id"]) == ({"host": "a"}, None)
    assert send(world.alice, OVER) == tally(resolved=1)
    assert incidents(world.bob)[0]["status"] == "resolved"
    assert incidents(world.charlie) == []
    (event, _) = world.alice.get(f"/v1/incidents/{found['id']}/events").get_json()["data"]
    assert (event["type"], event["actor"]) == ("opened", f"user:{world.users['alice']}")


def test_the_order_within_a_batch_counts(world: World) -> None:
    again = {**DISK, "starts_at": "2026-03-01T14:00:00Z"}
    assert send(world.alice, DISK, OVER, again) == tally(accepted=2, resolved=1)
    assert [one["status"] for one in incidents(world.alice)] == ["open", "resolved"]


def test_without_a_dedup_key_name_source_and_labels_are_the_problem(world: World) -> None:
    bare = {"name": "Disk full", "source": "node", "labels": {"host": "a", "severity": "warning"}}
    worse = {**bare, "severity": "critical", "summary": "99 %", "labels": {"host": "a", "severity": "critical"}}
    assert send(world.alice, bare) == tally(accepted=1)
    assert send(world.alice, worse, {**bare, "labels": {"host": "b"}}) == tally(accepted=1, deduplicated=1)
    severities = {one["labels"]["host"]: one["severity"] for one in incidents(world.alice)}
    assert severities == {"a": "critical", "b": "error"}
    assert send(world.alice, {**bare, "status": "resolved"}) == tally(resolved=1)


def test_a_worse_severity_since_the_same_start_makes_the_incident_worse(world: World) -> None:
    assert send(world.alice, DISK) == tally(accepted=1)
    assert send(world.alice, {**DISK, "severity": "critical"}) == tally(deduplicated=1)
    (found,) = incidents(world.alice)
    assert (found["severity"], found["priority"]) == ("critical", "P1")
    assert world.rows("SELECT type FROM outbox ORDER BY id") == [{"type": "opened"}, {"type": "escalated"}]
    # By contract an alert_id is known whatever it says now.
    named = {**DISK, "dedup_key": "cpu", "alert_id": "a1"}
    assert send(world.alice, named, {**named, "severity": "critical"}) == tally(accepted=1, deduplicated=1)
    assert incidents(world.alice)[0]["severity"] == "warning"


def test_an_alert_id_counts_once_in_each_organization(world: World) -> None:
    alert = {**DISK, "alert_id": "a1"}
    assert send(world.alice, alert, {**alert, "dedup_key": "cpu"}) == tally(accepted=1, deduplicated=1)
    assert send(world.alice, {**alert, "status": "resolved"}) == tally(deduplicated=1)
    assert send(world.charlie, alert) == tally(accepted=1)
    assert world.rows("SELECT alert_id FROM alerts") == [{"alert_id": "a1"}] * 2


def test_what_people_closed_stays_closed_until_the_problem_begins_anew(world: World) -> None:
    send(world.alice, DISK)
    (found,) = incidents(world.alice)
    world.alice.patch(f"/v1/incidents/{found['id']}/status", json={"status": "resolved"})
    assert send(world.alice, DISK, OVER) == tally(deduplicated=2)
    assert send(world.alice, {**DISK, "starts_at": "2026-03-02T00:00:00Z"}) == tally(accepted=1)


#: (what is wrong with the second of three alerts, the field to blame)
WRONG: list[tuple[Any, str]] = [
    ({**DISK, "severity": "bad"}, "1.severity"),
    ({**DISK, "status": "open"}, "1.status"),
    ({**DISK, "status": None}, "1.status"),
    ({key: value for key, value in DISK.items() if key != "name"}, "1.name"),
    ({key: value for key, value in DISK.items() if key != "source"}, "1.source"),
    ({**DISK, "name": "two\nlines"}, "1.name"),
    ({**DISK, "dedup_key": "monitor:1"}, "1.dedup_key"),
    ({**DISK, "dedup_key": "channel:1"}, "1.dedup_key"),
    ({**DISK, "dedup_key": "platform:1"}, "1.dedup_key"),
    ({**DISK, "dedup_key": "x" * 256}, "1.dedup_key"),
    ({**DISK, "dedup_key": ""}, "1.dedup_key"),
    ({**DISK, "alert_id": "x" * 256}, "1.alert_id"),
    ({**DISK, "alert_id": "tocsin:1"}, "1.alert_id"),
    ({**DISK, "labels": {"a": 1}}, "1.labels.a"),
    ({**DISK, "labels": {f"l{n}": "" for n in range(51)}}, "1.labels"),
    ({**DISK, "starts_at": 1_772_366_400}, "1.starts_at"),
    ({**DISK, "starts_at": "2026-03-01T12:00:00"}, "1.starts_at"),  # whose time?
    ({**DISK, "starts_at": "0001-01-01T00:00:00+14:00"}, "1.starts_at"),
    ({**DISK, "starts_at": "soon"}, "1.starts_at"),
    ({**DISK, "end": "x"}, "1.end"),
    ("firing", "1.body"),
    (None, "1.body"),
    ([], "1.body"),
]


def blamed(response: TestResponse) -> list[str]:
    assert (response.status_code, response.content_type) == (400, "application/problem+json"), response.text
    assert response.get_json()["code"] == "VALIDATION_ERROR"
    return [detail["field"] for detail in response.get_json()["details"]]


@pytest.mark.parametrize(("alert", "field"), WRONG)
def test_one_wrong_alert_is_named_and_none_is_taken(world: World, alert: Any, field: str) -> None:
    response = world.alice.post("/v1/alerts", json=[DISK, alert, DISK])
    assert blamed(response) == [field]
    assert world.rows("SELECT id FROM incidents") == []


def test_all_wrong_alerts_are_named_in_one_answer(world: World) -> None:
    response = world.alice.post("/v1/alerts", json=[{**DISK, "severity": "bad"}, DISK, {"name": "x"}] * 300)
    assert len(blamed(response)) == 600
    assert blamed(response)[:3] == ["0.severity", "2.source", "3.severity"]


#: (body, status)
BODIES = [
    (b"[]", 202),
    (b"{}", 400),
    (b"[", 400),
    (b"", 400),
    (b"null", 400),
    (b'[{"name": "\\u0000", "source": "x"}]', 400),
    (b"[" + b"1," * 1_000 + b"1]", 400),
    (b"[" + b" " * 1_048_576 + b"]", 202),
    (b"[" + b" " * 5 * 1_048_576 + b"]", 413),
]


@pytest.mark.parametrize(("body", "status"), BODIES)
def test_a_body_is_an_array_of_at_most_a_thousand(world: World, body: bytes, status: int) -> None:
    response = world.alice.post("/v1/alerts", data=body, content_type="application/json")
    assert response.status_code == status, response.text
    assert world.alice.post("/v1/alerts", data=body, content_type="text/plain").status_code == 415


def test_a_thousand_alerts_are_one_request(world: World) -> None:
    batch = [{"name": f"n{n}", "source": "s"} for n in range(1_000)]
    assert send(world.alice, *batch) == tally(accepted=1_000)
    assert send(world.alice, *batch) == tally(deduplicated=1_000)


def test_fields_of_the_server_are_ignored_and_viewers_may_not_send(world: World) -> None:
    assert world.bob.post("/v1/alerts", json=[DISK]).status_code == 403
    assert world.nobody.post("/v1/alerts", json=[DISK]).status_code == 401
    assert send(world.person(key_of(world)), DISK) == tally(accepted=1)


def test_the_same_batch_at_the_same_moment_is_one_incident_each(world: World) -> None:
    batch = [{**DISK, "dedup_key": f"disk-{n}", "starts_at": None} for n in range(20)]
    batch = [{name: value for name, value in alert.items() if name != "starts_at"} for alert in batch]
    answers: list[dict[str, Any]] = []
    app, headers = world.client.application, world.alice.headers

    def one(number: int) -> None:
        mine = batch if number % 2 else batch[::-1]
        response = app.test_client().post("/v1/alerts", json=mine, headers=headers)
        while response.status_code == 503:  # who is told to come again does, as every sender
            response = app.test_client().post("/v1/alerts", json=mine, headers=headers)
        answers.append(response.get_json())

    threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert sum(answer["accepted"] for answer in answers) == 20
    assert sum(answer["deduplicated"] for answer in answers) == 100
    assert world.rows("SELECT count(*) AS n FROM incidents") == [{"n": 20}]


# Alertmanager and Prometheus ----------------------------------------------------------------------------------------

LABELS = {"alertname": "HighLatency", "severity": "page", "service": "shop"}
FIRING = {
    "status": "firing", "labels": LABELS, "startsAt": "2026-03-01T12:00:00.123456789Z",
    "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "http://prometheus/graph", "fingerprint": "ca1b1c0ffee00000",
    "annotations": {"summary": "p99 is\n2 s", "description": "Since the deployment.", "runbook_url": "http://wiki/1"},
}  # fmt: skip


def webhook(*alerts: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": "4", "groupKey": "{}", "truncatedAlerts": 0, "status": "firing", "receiver": "tocsin",
        "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "", "alerts": list(alerts),
    }  # fmt: skip


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def test_alertmanagers_webhook_maps_onto_an_incident(world: World) -> None:
    path = f"/integrations/alertmanager/{key_of(world)}"
    response = world.nobody.post(path, json=webhook(FIRING))
    assert (response.status_code, response.get_json()) == (200, {"status": "success", "opened": 1})
    (found,) = incidents(world.alice)
    assert (found["title"], found["description"]) == ("p99 is 2 s", "Since the deployment.")
    assert (found["source"], found["severity"], found["dedup_key"]) == ("alertmanager", "critical", "ca1b1c0ffee00000")
    assert found["labels"] == LABELS
    assert found["cause"] == {
        "reason": "alert", "message": "p99 is 2 s", "starts_at": "2026-03-01T12:00:00.123456+00:00",
        "url": "http://prometheus/graph", "runbook_url": "http://wiki/1",
    }  # fmt: skip
    assert world.rows("SELECT name FROM incidents") == [{"name": "HighLatency"}]
    # Alertmanager repeats what fires, and tells the end once.
    assert world.nobody.post(path, json=webhook(FIRING)).get_json()["deduplicated"] == 1
    over = {**FIRING, "status": "resolved", "endsAt": "2026-03-01T12:30:00Z"}
    assert world.nobody.post(path, json=webhook(over)).get_json()["resolved"] == 1


def test_the_key_comes_in_the_path_as_bearer_or_in_either_half_of_basic(world: World) -> None:
    key = key_of(world)
    doors: list[tuple[str, dict[str, str]]] = [
        (f"/integrations/alertmanager/{key}", {}),
        ("/integrations/alertmanager", {"Authorization": f"Bearer {key}"}),
        ("/integrations/alertmanager", basic("tocsin", key)),
        ("/integrations/alertmanager", basic(key, "")),
    ]
    for path, headers in doors:
        assert world.nobody.post(path, json=webhook(), headers=headers).status_code == 200, (path, headers)
        v2 = f"{path}/api/v2/alerts" if key in path else "/api/v2/alerts"
        assert world.nobody.post(v2, json=[], headers=headers).status_code == 200, (v2, headers)
    viewer = key_of(world, "viewer")
    refused: list[tuple[str, dict[str, str], int]] = [
        ("/integrations/alertmanager/tcs_no_key", {}, 401),
        ("/integrations/alertmanager/nonsense", {}, 401),
        ("/integrations/alertmanager/tcsp_no_key", {}, 401),
        (f"/integrations/alertmanager/{viewer}", {}, 403),
        ("/integrations/alertmanager", {}, 401),
        ("/integrations/alertmanager", {"Authorization": "Basic !!"}, 401),
        ("/integrations/alertmanager", basic("a", "b"), 401),
        ("/api/v2/alerts", {}, 401),
        ("/api/v2/alerts", {"Authorization": f"Bearer {viewer}"}, 403),
        ("/api/v2/alerts", world.alice.headers, 401),  # a person's session is no key
    ]
    for path, headers, status in refused:
        response = world.nobody.post(path, json=webhook(FIRING), headers=headers)
        assert (response.status_code, response.content_type) == (status, "application/problem+json"), path
    assert incidents(world.alice) == []


def test_prometheus_own_alerts_end_by_their_end(world: World) -> None:
    headers = {"Authorization": f"Bearer {key_of(world)}"}
    now = datetime.now(UTC)

    def post(**fields: Any) -> dict[str, Any]:
        alert = {"labels": LABELS, "annotations": {}, "startsAt": "2026-03-01T12:00:00Z", **fields}
        return dict(world.nobody.post("/api/v2/alerts", json=[alert], headers=headers).get_json())

    assert post(endsAt=(now + timedelta(minutes=4)).isoformat()) == {"status": "success", "opened": 1}
    assert post(endsAt=(now + timedelta(minutes=9)).isoformat()) == {"status": "success", "deduplicated": 1}
    assert post() == {"status": "success", "deduplicated": 1}
    (found,) = incidents(world.alice)
    assert (found["title"], found["source"], found["dedup_key"]) == (
        "HighLatency",
        "prometheus",
        label_fingerprint(LABELS),
    )
    assert post(endsAt=(now - timedelta(seconds=1)).isoformat()) == {"status": "success", "resolved": 1}
    assert post(endsAt=(now - timedelta(seconds=1)).isoformat()) == {"status": "success", "deduplicated": 1}


def minutes_left(world: World) -> list[float]:
    """How many minutes what is open lasts without a repeat: to the half, for seconds have passed since it came."""
    rows = world.rows("SELECT extract(epoch FROM ends_at - now())::float / 60 AS n FROM alert_ends ORDER BY ends_at")
    return [round(row["n"] * 2) / 2 for row in rows]


def test_prometheus_own_alerts_last_until_their_end_or_five_minutes(world: World) -> None:
    headers = {"Authorization": f"Bearer {key_of(world)}"}

    def post(**fields: Any) -> None:
        alert = {"labels": LABELS, "startsAt": "2026-03-01T12:00:00Z", **fields}
        assert world.nobody.post("/api/v2/alerts", json=[alert], headers=headers).status_code == 200

    post()
    assert minutes_left(world) == [5]
    post(endsAt=(datetime.now(UTC) + timedelta(minutes=4)).isoformat())
    assert minutes_left(world) == [4]
    post(endsAt="0001-01-01T00:00:00Z")
    assert minutes_left(world) == [5]
    post(endsAt=(datetime.now(UTC) + timedelta(minutes=8)).isoformat())
    assert minutes_left(world) == [8]
    # Alertmanager's webhook, /v1/alerts and PagerDuty tell the end themselves.
    world.nobody.post("/integrations/alertmanager", json=webhook({**FIRING, "fingerprint": "f"}), headers=headers)
    send(world.alice, DISK)
    assert len(minutes_left(world)) == 1


LONG = {
    "alertname": "n" * 5_000, "severity": "page", "text": "t" * 5_000, "k" * 5_000: "v", "": "nameless",
    **{f"a{number:02}": "x" for number in range(60)},
}  # fmt: skip


def test_what_alertmanager_sends_at_any_length_is_cut_and_taken(world: World) -> None:
    path = f"/integrations/alertmanager/{key_of(world)}"
    annotations = {"summary": "s" * 5_000, "description": "d" * 50_000, "runbook_url": "http://wiki/" + "r" * 9_000}
    long = {**FIRING, "labels": LONG, "annotations": annotations}
    del long["fingerprint"]
    assert world.nobody.post(path, json=webhook(long)).get_json()["opened"] == 1
    (found,) = incidents(world.alice)
    assert (found["dedup_key"], found["severity"]) == (label_fingerprint(LONG), "critical")
    assert (len(found["title"]), len(found["description"]), len(found["labels"])) == (1_024, 10_000, 50)
    assert "runbook_url" not in found["cause"]
    assert world.rows("SELECT char_length(name) AS n FROM incidents") == [{"n": 200}]
    # As /v1/alerts takes them.
    assert send(world.alice, {"name": "x", "source": "y", "labels": found["labels"]}) == tally(accepted=1)
    # What differs at the end only is another problem, with other labels.
    other = {**long, "labels": {**LONG, "alertname": LONG["alertname"] + "2"}}
    assert world.nobody.post(path, json=webhook(other)).get_json()["opened"] == 1
    assert incidents(world.alice)[0]["labels"]["alertname"] != found["labels"]["alertname"]
    assert world.nobody.post(path, json=webhook({**long, "status": "resolved"})).get_json()["resolved"] == 1


def test_a_fingerprint_claims_no_reserved_key(world: World) -> None:
    incident = world.open_incident(world.alice.make_monitor())
    (row,) = world.rows("SELECT dedup_key FROM incidents WHERE id = %(id)s", id=incident)
    assert row["dedup_key"].startswith("monitor:")
    path = f"/integrations/alertmanager/{key_of(world)}"
    over = {**FIRING, "status": "resolved", "fingerprint": row["dedup_key"]}
    assert world.nobody.post(path, json=webhook(over)).get_json() == {"status": "success", "deduplicated": 1}
    assert incidents(world.alice)[0]["status"] == "open"


#: (path, body, the field to blame)
FOREIGN: list[tuple[str, Any, str]] = [
    ("webhook", [], "alerts"),
    ("webhook", {"version": "4"}, "alerts"),
    ("webhook", {"alerts": ["x"]}, "alerts.0.status"),
    ("webhook", {"alerts": [{**FIRING, "status": "x"}]}, "alerts.0.status"),
    ("webhook", {"alerts": [FIRING, {**FIRING, "labels": {"a": 1}}]}, "alerts.1.labels"),
    ("webhook", {"alerts": [{**FIRING, "startsAt": "x"}]}, "alerts.0.startsAt"),
    ("webhook", {"alerts": [{**FIRING, "startsAt": 5}]}, "alerts.0.startsAt"),
    ("alerts", {}, "body"),
    ("alerts", [1], "0"),
    ("alerts", [{"labels": [], "annotations": "x"}], "0.annotations"),
    ("alerts", [{"labels": {}, "endsAt": "2026-03-01T12:00:00"}], "0.endsAt"),
]


@pytest.mark.parametrize(("door", "body", "field"), FOREIGN)
def test_what_alertmanager_never_sends_is_refused(world: World, door: str, body: Any, field: str) -> None:
    path = {"webhook": "/integrations/alertmanager", "alerts": "/api/v2/alerts"}[door]
    headers = {"Authorization": f"Bearer {key_of(world)}"}
    assert blamed(world.nobody.post(path, json=body, headers=headers)) == [field]
    assert incidents(world.alice) == []


# PagerDuty ----------------------------------------------------------------------------------------------------------

EVENT: dict[str, Any] = {
    "event_action": "trigger", "dedup_key": "db-1", "client": "Shop", "client_url": "http://shop.example",
    "payload": {"summary": "DB is slow", "source": "db1", "severity": "critical", "class": "latency",
                "component": "postgres", "custom_details": {"p99": "2 s"}, "timestamp": "2026-03-01T12:00:00Z"},
}  # fmt: skip


def enqueue(world: World, key: str, **fields: Any) -> tuple[int, dict[str, Any]]:
    response = world.nobody.post("/v2/enqueue", json={**EVENT, "routing_key": key, **fields})
    return response.status_code, response.get_json()


def test_pagerduty_triggers_acknowledges_and_resolves(world: World) -> None:
    key = key_of(world)
    done = (202, {"status": "success", "message": "Event processed", "dedup_key": "db-1"})
    assert enqueue(world, key) == enqueue(world, key) == done
    (found,) = incidents(world.alice)
    assert (found["title"], found["source"], found["severity"], found["status"]) == (
        "DB is slow", "db1", "critical", "open",
    )  # fmt: skip
    assert found["labels"] == {"class": "latency", "component": "postgres"}
    assert (found["cause"]["client"], found["cause"]["custom_details"]) == ("Shop", {"p99": "2 s"})
    assert world.rows("SELECT name FROM incidents") == [{"name": "latency"}]
    assert enqueue(world, key, event_action="acknowledge", payload=None) == done
    assert incidents(world.alice)[0]["status"] == "acknowledged"
    assert enqueue(world, key, event_action="resolve", payload=None) == done
    assert incidents(world.alice)[0]["status"] == "resolved"
    # Without anything open both are accepted and change nothing; a trigger opens anew.
    assert enqueue(world, key, event_action="acknowledge") == enqueue(world, key, event_action="resolve") == done
    assert enqueue(world, key) == done
    assert [one["status"] for one in incidents(world.alice)] == ["open", "resolved"]


def test_a_trigger_without_a_key_gets_one_of_its_own(world: World) -> None:
    key = key_of(world)
    first, second = (enqueue(world, key, dedup_key=None)[1]["dedup_key"] for _ in range(2))
    assert first != second
    assert {one["dedup_key"] for one in incidents(world.alice)} == {first, second}


def test_what_pagerdutys_senders_send_at_any_length_is_cut_and_taken(world: World) -> None:
    key = key_of(world)
    long = {"summary": "s" * 5_000, "source": "h" * 5_000, "class": "c" * 5_000, "group": "g" * 5_000}
    assert enqueue(world, key, payload={**EVENT["payload"], **long})[0] == 202
    (found,) = incidents(world.alice)
    assert (len(found["title"]), len(found["source"])) == (1_024, 200)
    assert {name: len(value) for name, value in found["labels"].items()} == {
        "component": 8, "group": 500, "class": 500,
    }  # fmt: skip
    assert world.rows("SELECT char_length(name) AS n FROM incidents") == [{"n": 200}]


#: (what is sent instead, how the complaint begins)
INVALID: list[tuple[dict[str, Any], str]] = [
    ({"routing_key": ""}, "'routing_key'"),
    ({"routing_key": None}, "'routing_key'"),
    ({"routing_key": "tcs_wrong_key"}, "'routing_key'"),
    ({"routing_key": "R0UT1NG"}, "'routing_key'"),
    ({"event_action": "close"}, "'event_action'"),
    ({"event_action": None}, "'event_action'"),
    ({"event_action": "resolve", "dedup_key": None}, "'dedup_key'"),
    ({"dedup_key": "x" * 256}, "'dedup_key'"),
    ({"dedup_key": 5}, "'dedup_key'"),
    ({"dedup_key": "monitor:x"}, "'dedup_key'"),
    ({"payload": None}, "'payload'"),
    ({"payload": {**EVENT["payload"], "severity": "bad"}}, "'payload.severity'"),
    ({"payload": {**EVENT["payload"], "summary": " "}}, "'payload.summary'"),
    ({"payload": {"summary": "x", "severity": "info"}}, "'payload.source'"),
]


@pytest.mark.parametrize(("fields", "complaint"), INVALID)
def test_an_invalid_event_is_refused_in_pagerdutys_form(world: World, fields: dict[str, Any], complaint: str) -> None:
    status, body = enqueue(world, key_of(world), **fields)
    assert (status, body["status"], body["message"]) == (400, "invalid event", "Event object is invalid")
    assert len(body["errors"]) == 1
    assert body["errors"][0].startswith(complaint)
    assert incidents(world.alice) == []


def test_what_is_no_event_at_all_is_refused_in_pagerdutys_form_too(world: World) -> None:
    for body in (b"", b"[]", b"{", b'{"a": "\\u0000"}'):
        response = world.nobody.post("/v2/enqueue", data=body)
        assert (response.status_code, response.get_json()["status"]) == (400, "invalid event"), body
    _, viewer = enqueue(world, key_of(world, "viewer"))
    assert viewer["errors"] == ["'routing_key' is invalid"]


# The guide ----------------------------------------------------------------------------------------------------------

GUIDE = Path(__file__).parents[2] / "docs" / "alerting.md"


def test_the_commands_of_the_guide_answer_as_it_says(world: World) -> None:
    section = GUIDE.read_text().partition("## Sending alerts to Tocsin")[2].partition("\n## ")[0]
    told = re.findall(r"^(curl .*?'\n)(\{[^\n]*\})$", section, re.MULTILINE | re.DOTALL)
    assert len(told) == 4
    server = make_server("127.0.0.1", 0, world.client.application, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        place = {"API": f"http://127.0.0.1:{server.port}", "KEY": key_of(world), "PATH": os.environ["PATH"]}
        for command, answer in told:
            done = subprocess.run(["bash", "-c", command], env=place, capture_output=True, timeout=60, check=True)
            assert json.loads(done.stdout) == json.loads(answer), command
    finally:
        server.shutdown()
        thread.join(60)
        server.server_close()
    assert [(one["title"], one["status"]) for one in incidents(world.alice)] == [
        ("DB is slow", "resolved"), ("/ is at 97 %", "resolved"),
    ]  # fmt: skip


# The platform -------------------------------------------------------------------------------------------------------


@dataclass
class Operator:
    """Who holds a platform key."""

    world: World
    key: str
    person: Person

    def route(self, org_id: str, match: dict[str, str], *matchers: tuple[str, str, str], **columns: Any) -> str:
        """A route, as the API writes it."""
        id_ = str(uuid4())
        self.world.execute(
            "INSERT INTO routes (id, org_id, name, position, match, matchers, channel_ids, enabled) VALUES"
            " (%(id)s, %(org)s, 'r', 1, %(match)s, %(matchers)s, '{}', %(enabled)s)",
            id=id_,
            org=org_id,
            match=Jsonb(match),
            matchers=Jsonb([{"label": label, "op": op, "value": value} for label, op, value in matchers]),
            **{"enabled": True, **columns},
        )
        self.moved(org_id)
        return id_

    def moved(self, org_id: str) -> None:
        self.world.execute(
            "UPDATE organizations SET routing_version = routing_version + 1 WHERE id = %(id)s", id=org_id
        )

    def send(self, *alerts: dict[str, Any]) -> dict[str, Any]:
        return send(self.person, *alerts)


@pytest.fixture
def operator(world: World) -> Operator:
    person = world.operator()
    return Operator(world, person.headers["Authorization"].removeprefix("Bearer "), person)


def opened_for(world: World) -> set[str]:
    return {row["org_id"] for row in world.rows("SELECT org_id::text FROM incidents WHERE status <> 'resolved'")}


def test_a_platform_alert_is_an_incident_of_each_organization_whose_routes_match(operator: Operator) -> None:
    world = operator.world
    operator.route(world.org_a, {"severity": "warning", "source": "no*", "name": "*"})
    operator.route(world.org_a, {}, ("host", "=~", "a|b"))
    operator.route(world.org_b, {"name": "Disk full"}, ("host", "!=", "a"))
    assert operator.send(DISK) == {**tally(accepted=1), "unmatched": 0}
    assert opened_for(world) == {world.org_a}
    b = {**DISK, "labels": {"host": "b"}, "dedup_key": "disk-b"}
    assert operator.send(b, b, {**DISK, "name": "x", "source": "y", "labels": {}}) == {
        **tally(accepted=1, deduplicated=1), "unmatched": 1,
    }  # fmt: skip
    assert opened_for(world) == {world.org_a, world.org_b}
    (found,) = incidents(world.charlie)
    assert found["dedup_key"] == "platform:disk-b"
    (event,) = world.charlie.get(f"/v1/incidents/{found['id']}/events").get_json()["data"]
    assert event["actor"].startswith("platform-key:")


def test_its_end_reaches_all_who_have_it_whatever_their_routes_say_by_then(operator: Operator) -> None:
    world = operator.world
    for org in (world.org_a, world.org_b):
        operator.route(org, {"source": "node"})
    operator.send(DISK)
    world.execute("UPDATE routes SET enabled = false")
    # An end of PagerDuty's has no labels by which a route could match.
    assert enqueue(world, operator.key, event_action="resolve", dedup_key="disk")[0] == 202
    assert opened_for(world) == set()
    assert world.rows("SELECT count(*) AS n FROM outbox") == [{"n": 4}]


def test_the_platforms_keys_and_the_tenants_own_never_meet(operator: Operator) -> None:
    world = operator.world
    operator.route(world.org_a, {"source": "node"})
    assert send(world.alice, DISK) == tally(accepted=1)
    assert operator.send(DISK)["accepted"] == 1
    assert operator.send(OVER)["resolved"] == 1
    (open_,) = [one for one in incidents(world.alice) if one["status"] == "open"]
    assert open_["dedup_key"] == "disk"
    assert send(world.alice, OVER) == tally(resolved=1)


def test_pagerdutys_acknowledge_of_the_platform_counts_everywhere(operator: Operator) -> None:
    world = operator.world
    for org in (world.org_a, world.org_b):
        operator.route(org, {"source": "db1"})
    for action in ("trigger", "acknowledge"):
        assert enqueue(world, operator.key, event_action=action)[0] == 202
    assert [incidents(person)[0]["status"] for person in (world.alice, world.charlie)] == ["acknowledged"] * 2


def test_a_long_key_of_the_platform_is_still_one_key(operator: Operator) -> None:
    operator.route(operator.world.org_a, {"source": "node"})
    long = {**DISK, "dedup_key": "x" * 255}
    assert operator.send(long)["accepted"] == 1
    assert operator.send({**long, "status": "resolved"})["resolved"] == 1


def test_alertmanager_takes_a_platform_key_in_its_path(operator: Operator) -> None:
    world = operator.world
    operator.route(world.org_b, {"name": "HighLatency", "severity": "critical"}, ("service", "=", "shop"))
    path = f"/integrations/alertmanager/{operator.key}"
    assert world.nobody.post(path, json=webhook(FIRING)).get_json() == {"status": "success", "opened": 1}
    assert opened_for(world) == {world.org_b}


def test_a_platform_alert_lasts_on_wherever_it_is_open(operator: Operator) -> None:
    world = operator.world
    for org in (world.org_a, world.org_b):
        operator.route(org, {"name": "HighLatency"})
    path = f"/integrations/alertmanager/{operator.key}/api/v2/alerts"

    def post(minutes: float) -> dict[str, Any]:
        ends_at = datetime.now(UTC) + timedelta(minutes=minutes)
        alert = {"labels": LABELS, "startsAt": "2026-03-01T12:00:00Z", "endsAt": ends_at.isoformat()}
        return dict(world.nobody.post(path, json=[alert]).get_json())

    assert post(4)["opened"] == 1
    world.execute("UPDATE routes SET enabled = false WHERE org_id = %(org)s", org=world.org_a)
    operator.moved(world.org_a)
    assert becomes(lambda: world.services.platform.concerned({"name": "HighLatency"}) == [world.org_b])
    assert post(9)["deduplicated"] == 1
    assert minutes_left(world) == [9, 9]


def becomes(condition: Any, within_s: float = 60) -> bool:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_changed_routes_and_disabled_organizations_count_soon(operator: Operator) -> None:
    assert LOOK_EVERY_S < 0.5, "it is looked at so often that it counts within a second"
    world = operator.world
    assert operator.send(DISK)["unmatched"] == 1
    concerned = world.services.platform.concerned
    labels = {"source": "node", "name": "Disk full", "severity": "warning"}
    route = operator.route(world.org_a, {"source": "node"})
    operator.route(world.org_b, {"source": "node"}, enabled=False)
    assert becomes(lambda: concerned(labels) == [world.org_a])
    world.execute("UPDATE routes SET enabled = NOT enabled")
    operator.moved(world.org_a)
    operator.moved(world.org_b)
    assert becomes(lambda: concerned(labels) == [world.org_b])
    world.execute("UPDATE routes SET enabled = true, deleted_at = now() WHERE id = %(id)s", id=route)
    operator.moved(world.org_a)
    operator.person.patch(f"/v1/organizations/{world.org_b}", json={"enabled": False})
    assert becomes(lambda: concerned(labels) == [])
    operator.person.patch(f"/v1/organizations/{world.org_b}", json={"enabled": True})
    assert becomes(lambda: concerned(labels) == [world.org_b])


# The operator's organizations ---------------------------------------------------------------------------------------


def test_organizations_are_made_listed_renamed_and_disabled(operator: Operator) -> None:
    world, person = operator.world, operator.person
    made = person.post("/v1/organizations", json={"name": "Shop"})
    assert made.status_code == 201
    tenant = made.get_json()
    owner = world.person(tenant["api_key"])
    me = owner.get("/v1/auth/me").get_json()
    assert (me["organization"]["id"], me["organization"]["name"], me["role"]) == (tenant["id"], "Shop", "owner")
    assert send(owner, DISK) == tally(accepted=1)
    listed = person.get("/v1/organizations").get_json()["data"]
    assert listed[0]["name"] == "Shop"
    assert {one["name"] for one in listed} == {"Shop", "A", "B"}
    assert "api_key" not in listed[0]
    path = f"/v1/organizations/{tenant['id']}"
    changed = person.patch(path, json={"name": "Shop 2", "enabled": False}).get_json()
    assert changed == {**listed[0], "name": "Shop 2", "enabled": False} == person.get(path).get_json()
    assert owner.get("/v1/auth/me").status_code == 401
    assert owner.post("/v1/alerts", json=[DISK]).status_code == 401
    assert person.patch(path, json={"enabled": True}).get_json()["name"] == "Shop 2"
    assert owner.get("/v1/auth/me").status_code == 200


def test_a_disabled_organizations_people_are_out_at_once_and_may_return(operator: Operator) -> None:
    world, path = operator.world, f"/v1/organizations/{operator.world.org_a}"
    operator.person.patch(path, json={"enabled": False})
    assert world.alice.get("/v1/incidents").status_code == 401
    login = {"email": "alice@example.com", "password": api_cast.PASSWORD}
    assert world.nobody.post("/v1/auth/login", json=login).status_code == 401
    assert world.charlie.get("/v1/incidents").status_code == 200
    operator.person.patch(path, json={"enabled": True})
    assert world.alice.get("/v1/incidents").status_code == 200


def test_pages_of_organizations_lead_to_each_once(operator: Operator) -> None:
    for number in range(4):
        operator.person.post("/v1/organizations", json={"name": f"T{number}"})
    names, path = [], "/v1/organizations?limit=4"
    while path:
        page = operator.person.get(path).get_json()
        names += [one["name"] for one in page["data"]]
        cursor = page["next_cursor"]
        path = f"/v1/organizations?limit=4&cursor={cursor}" if cursor else ""
    assert sorted(names) == ["A", "B", "T0", "T1", "T2", "T3"]


def test_wrong_organizations_are_refused_and_unknown_ones_not_found(operator: Operator) -> None:
    person, path = operator.person, f"/v1/organizations/{operator.world.org_a}"
    for body in ({}, {"name": ""}, {"name": "x", "plan": "y"}, {"name": "x", "enabled": 1}):
        assert blamed(person.post("/v1/organizations", json=body))
    for body in ({"name": None}, {"enabled": "no"}):
        assert blamed(person.patch(path, json=body))
    for unknown in (str(uuid4()), "x"):
        response = person.get(f"/v1/organizations/{unknown}")
        assert (response.status_code, response.get_json()["code"]) == (404, "ORGANIZATION_NOT_FOUND")
        assert person.patch(f"/v1/organizations/{unknown}", json={"enabled": False}).status_code == 404


def test_a_platform_key_opens_nothing_of_a_tenant_and_a_tenants_key_nothing_of_the_platform(
    operator: Operator,
) -> None:
    world = operator.world
    for path in ("/v1/incidents", "/v1/monitors", "/v1/channels", "/v1/auth/me", "/v1/api-keys"):
        assert operator.person.get(path).status_code == 403, path
    for path in ("/v1/organizations", f"/v1/organizations/{world.org_a}"):
        assert world.alice.get(path).status_code == 403
        assert world.nobody.get(path).status_code == 401
    assert world.alice.patch(f"/v1/organizations/{world.org_b}", json={"enabled": False}).status_code == 403


def test_a_revoked_platform_key_is_refused_at_once(operator: Operator) -> None:
    prefix, _ = platform_keys.split(operator.key)
    assert operator.person.get("/v1/organizations").status_code == 200
    with operator.world.databases.owner.begin() as connection:
        assert platform_keys.revoke(connection, prefix) == prefix
        assert platform_keys.revoke(connection, prefix) is None
    assert operator.person.get("/v1/organizations").status_code == 401
    assert operator.world.nobody.post(f"/integrations/alertmanager/{operator.key}", json=webhook()).status_code == 401
