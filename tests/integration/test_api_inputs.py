"""Bad input: always a 4xx that names the field, never a 5xx, never a row."""

from __future__ import annotations

import json
from typing import Any

from api.app import ROUTES
from api.permissions import allows
from common.broker import NOTIFY_QUEUE
from tests import api_cast
from tests.api_cast import CHANNEL, MONITOR, World
from tests.integration.test_api_auth import BODIES

world = api_cast.world

#: (changed fields, the field that is to blame)
BAD_MONITORS: list[tuple[dict[str, Any], str]] = [
    ({"name": None}, "name"),
    ({"name": ""}, "name"),
    ({"name": "  "}, "name"),
    ({"name": "a\r\nBcc: x"}, "name"),
    ({"name": "a\x00b"}, "name"),
    ({"name": "x" * 201}, "name"),
    ({"name": 5}, "name"),
    ({"type": "gopher"}, "type"),
    ({"type": None}, "type"),
    ({"target": ""}, "target"),
    ({"target": "shop"}, "target"),
    ({"target": "ftp://shop.example/"}, "target"),
    ({"target": "http://user:pw@shop.example/"}, "target"),
    ({"target": "http://user@shop.example/"}, "target"),
    ({"target": "http://shop.example:0/"}, "target"),
    ({"target": "http://shop.example:99999/"}, "target"),
    ({"target": "http://sh op.example/"}, "target"),
    ({"target": "http://shop.example/\r\nX: y"}, "target"),
    ({"target": "http://[::1"}, "target"),
    ({"target": "http://" + "a" * 2050}, "target"),
    ({"target": "http://..example/"}, "target"),
    ({"target": ["http://shop.example/"]}, "target"),
    ({"type": "tcp", "target": "db.example"}, "target"),
    ({"type": "tcp", "target": "db.example:http"}, "target"),
    ({"type": "tcp", "target": "http://db.example:5432"}, "target"),
    ({"type": "tcp", "target": "::1:80"}, "target"),
    ({"type": "tcp", "target": "db.example:1", "http": {}}, "http"),
    ({"type": "tcp", "target": "db.example:1", "assertions": [{"source": "status", "op": "eq", "value": 200}]},
     "assertions.0"),
    ({"interval_seconds": 0}, "interval_seconds"),
    ({"interval_seconds": -1}, "interval_seconds"),
    ({"interval_seconds": 86401}, "interval_seconds"),
    ({"interval_seconds": "30"}, "interval_seconds"),
    ({"interval_seconds": True}, "interval_seconds"),
    ({"interval_seconds": 30.5}, "interval_seconds"),
    ({"interval_seconds": 10**30}, "interval_seconds"),
    ({"interval_seconds": None}, "interval_seconds"),
    ({"timeout_seconds": 0}, "timeout_seconds"),
    ({"timeout_seconds": 31}, "timeout_seconds"),
    ({"timeout_seconds": "5"}, "timeout_seconds"),
    ({"timeout_seconds": True}, "timeout_seconds"),
    ({"failure_threshold": 0}, "failure_threshold"),
    ({"failure_threshold": 101}, "failure_threshold"),
    ({"recovery_threshold": 0}, "recovery_threshold"),
    ({"retry_interval_seconds": 0}, "retry_interval_seconds"),
    ({"severity": "fatal"}, "severity"),
    ({"labels": []}, "labels"),
    ({"labels": {"a": 1}}, "labels.a"),
    ({"labels": {"a": "x" * 501}}, "labels.a"),
    ({"labels": {"a": "x\x00"}}, "labels.a"),
    ({"labels": {"a\x00b": "x"}}, "labels.ab"),
    ({"labels": {str(n): "x" for n in range(51)}}, "labels"),
    ({"labels": {"": "x"}}, "labels."),
    ({"locations": []}, "locations"),
    ({"locations": ["local", "local"]}, "locations"),
    ({"locations": ["mars"]}, "locations.0"),
    ({"locations": "local"}, "locations"),
    ({"locations": [5]}, "locations.0"),
    ({"quorum": 2}, "quorum"),
    ({"quorum": 0}, "quorum"),
    ({"enabled": "yes"}, "enabled"),
    ({"enabled": 1}, "enabled"),
    ({"parent_id": "x"}, "parent_id"),
    ({"parent_id": "00000000-0000-0000-0000-000000000000"}, "parent_id"),
    ({"key": ""}, "key"),
    ({"key": "a b"}, "key"),
    ({"key": "a\n"}, "key"),
    ({"key": "x" * 101}, "key"),
    ({"http": []}, "http"),
    ({"http": {"method": "TRACE"}}, "http.method"),
    ({"http": {"method": "GET\r\n"}}, "http.method"),
    ({"http": {"body": "x" * 65_537}}, "http.body"),
    ({"http": {"verify_tls": "no"}}, "http.verify_tls"),
    ({"http": {"proxy": "ftp://x"}}, "http.proxy"),
    ({"http": {"headers": {"X": "a\r\nY: b"}}}, "http.headers.X"),
    ({"http": {"headers": {"X": {"secret": "a\nb"}}}}, "http.headers.X"),
    ({"http": {"headers": {"X": {"secret": 5}}}}, "http.headers.X"),
    ({"http": {"headers": {"X": {"hidden": "a"}}}}, "http.headers.X"),
    ({"http": {"headers": {"X": 5}}}, "http.headers.X"),
    ({"http": {"headers": {"X": None}}}, "http.headers.X"),
    ({"http": {"headers": {"X Y": "a"}}}, "http.headers"),
    ({"http": {"headers": {"X:": "a"}}}, "http.headers"),
    ({"http": {"headers": {"": "a"}}}, "http.headers"),
    ({"http": {"headers": {"Content-Length": "5"}}}, "http.headers"),
    ({"http": {"headers": {"Transfer-Encoding": "chunked"}}}, "http.headers"),
    ({"http": {"headers": {"X": "a", "x": "b"}}}, "http.headers"),
    ({"http": {"headers": {f"X-{n}": "a" for n in range(51)}}}, "http.headers"),
    ({"http": {"headers": {"X": "ü"}}}, "http.headers.X"),
    ({"assertions": {}}, "assertions"),
    ({"assertions": [5]}, "assertions.0"),
    ({"assertions": [{}]}, "assertions.0.source"),
    ({"assertions": [{"source": "status", "op": "eq", "value": 200}] * 51}, "assertions"),
    ({"assertions": [{"source": "magic", "op": "eq", "value": 1}]}, "assertions.0"),
    ({"assertions": [{"source": "status", "op": "eq", "value": 10**18}]}, "assertions.0"),
    ({"assertions": [{"source": "status", "op": "eq", "value": 10**300}]}, "assertions.0.value"),
    ({"assertions": [{"source": "latency_ms", "op": "lt", "value": 10**40}]}, "assertions.0.value"),
    ({"assertions": [{"source": "body", "op": "matches", "value": "("}]}, "assertions.0"),
    ({"assertions": [{"source": "body", "op": "matches", "value": "x" * 1001}]}, "assertions.0"),
    ({"assertions": [{"source": "body", "op": "contains", "value": {"a": [1]}}]}, "assertions.0"),
    ({"assertions": [{"source": "body", "op": "contains", "value": "a\x00"}]}, "assertions.0.value"),
    ({"assertions": [{"source": "status", "op": "in", "value": ["x"]}]}, "assertions.0"),
    ({"assertions": [{"source": "status", "op": "eq", "value": 200, "on_fail": "shout"}]}, "assertions.0.on_fail"),
    ({"assertions": [{"source": "status", "op": "eq", "value": 200, "path": "$"}]}, "assertions.0"),
    ({"assertions": [{"source": "header", "op": "eq", "value": "x"}]}, "assertions.0"),
    ({"surprise": 1}, "surprise"),
    ({"org_id": "x"}, "org_id"),
    ({"monitor_no": 1}, "monitor_no"),
]  # fmt: skip

#: In PATCH, null means the default, or removes a header: these are wrong in POST and PUT only.
GOOD_IN_PATCH = ({"interval_seconds": None}, {"http": {"headers": {"X": None}}})


def blamed(response: Any) -> list[str]:
    return [detail["field"] for detail in response.get_json()["details"]]


def test_every_bad_monitor_is_refused_naming_its_field(world: World) -> None:
    path = f"/v1/monitors/{world.alice.make_monitor()['id']}"
    before = world.rows("SELECT * FROM monitors")
    for fields, field in BAD_MONITORS:
        calls = [
            world.alice.post("/v1/monitors", json={**MONITOR, **fields}),
            world.alice.put("/v1/monitors/by-key/k", json={**MONITOR, **fields}),
        ]
        if fields not in GOOD_IN_PATCH:
            calls.append(world.alice.patch(path, json=fields))
        for response in calls:
            found = (response.status_code, response.get_json().get("code"))
            assert found == (400, "VALIDATION_ERROR"), (fields, response.text)
            assert field in blamed(response), (fields, response.text)
    after = world.rows("SELECT * FROM monitors")
    assert [row["id"] for row in after] == [row["id"] for row in before]


DENIED = [
    "http://169.254.169.254/latest/meta-data", "http://2852039166/", "http://0xa9fea9fe/", "http://[fe80::1]/",
    "http://[::ffff:169.254.169.254]/", "http://[64:ff9b::a9fe:a9fe]/", "http://0.0.0.0/", "http://[::]/",
    "http://224.0.0.1/", "http://169.254.169.254./", "http://\uff11\uff16\uff19.254.169.254/",
]  # fmt: skip


def test_addresses_that_the_egress_policy_denies_are_refused_at_once(world: World) -> None:
    path = f"/v1/monitors/{world.alice.make_monitor()['id']}"
    for target in DENIED:
        for response in (
            world.alice.post("/v1/monitors", json={**MONITOR, "target": target}),
            world.alice.put("/v1/monitors/by-key/k", json={**MONITOR, "target": target}),
            world.alice.patch(path, json={"target": target}),
        ):
            assert (response.status_code, response.get_json()["code"]) == (400, "EGRESS_DENIED"), target
            assert blamed(response) == ["target"]
    denied = world.alice.post("/v1/monitors", json={"name": "x", "type": "tcp", "target": "169.254.169.254:80"})
    assert denied.get_json()["code"] == "EGRESS_DENIED"


GOOD_TARGETS = [
    "http://127.0.0.1:8080/", "https://bücher.example/straße?q=ä#x", "http://[2001:db8::1]:8080/x", "https://a.b",
    "HTTP://SHOP.EXAMPLE", "http://under_score.example/", "https://shop.example/a@b?c=d@e",
]  # fmt: skip


def test_unusual_but_good_targets_are_kept_as_they_were_sent(world: World) -> None:
    for target in GOOD_TARGETS:
        assert world.alice.make_monitor(target=target)["target"] == target
    for target in ("db.example:5432", "[2001:db8::1]:53", "10.0.0.1:1"):
        assert world.alice.make_monitor(type="tcp", target=target)["target"] == target


#: Whole bodies: (bytes, content type, status)
BODIES_OF_EVIL: list[tuple[bytes, str | None, int]] = [
    (b"", "application/json", 400),
    (b"{", "application/json", 400),
    (b"[]", "application/json", 400),
    (b"null", "application/json", 400),
    (b'"text"', "application/json", 400),
    (b"1", "application/json", 400),
    (b'{"name": NaN}', "application/json", 400),
    (b'{"name": 1e999}', "application/json", 400),
    (b'{"name": "\\u0000"}', "application/json", 400),
    (b'{"name": "\\ud800"}', "application/json", 400),
    (b'{"name": "\xff\xfe"}', "application/json", 400),
    (b"[" * 100_000, "application/json", 400),
    (b'{"a":' * 100_000, "application/json", 400),
    (b'{"\\u0000": 1}', "application/json", 400),
    (b'{"name": "a", "name": "b"}', "application/json", 400),
    (json.dumps({str(n): n for n in range(20_000)}).encode(), "application/json", 400),
    (b"name=x", "application/x-www-form-urlencoded", 415),
    (b"{}", "text/plain", 415),
    (b"{}", None, 415),
    (b"{}", "multipart/form-data; boundary=x", 415),
    (b" " * (1024 * 1024 + 1), "application/json", 413),
]

CODES = {400: "VALIDATION_ERROR", 413: "PAYLOAD_TOO_LARGE", 415: "UNSUPPORTED_MEDIA_TYPE"}


def test_no_body_however_evil_makes_a_server_error(world: World) -> None:
    ids = {
        "monitor_id": world.alice.make_monitor()["id"],
        "channel_id": world.alice.make_channel()["id"],
    }
    ids["incident_id"] = world.open_incident({"id": ids["monitor_id"]})
    route = {"name": "r", "channel_ids": [ids["channel_id"]]}
    ids["route_id"] = world.alice.post("/v1/routes", json=route).get_json()["id"]
    ids["silence_id"] = world.alice.post("/v1/silences", json=BODIES["create_silence"]).get_json()["id"]
    ids["maintenance_id"] = world.alice.post("/v1/maintenance", json=BODIES["create_maintenance"]).get_json()["id"]
    ids |= {"organization_id": world.org_b, "user_id": world.users["bob"], "name": NOTIFY_QUEUE}
    operator = world.operator()
    for route in ROUTES:
        if "body" not in route.facts:
            continue
        sender = world.alice if route.permission is None or allows("owner", route.permission) else operator
        path = route.path.replace("<key>", "k")
        for name, value in ids.items():
            path = path.replace(f"<{name}>", value)
        for evil, kind, status in BODIES_OF_EVIL:
            body = b" " * (route.max_bytes + 1) if status == 413 else evil
            response = sender.call(route.method, path, data=body, content_type=kind)
            assert response.status_code == status, (route.operation_id, body[:40], response.text)
            answer = response.get_json()
            assert response.content_type == "application/problem+json"
            assert answer["code"] == CODES[status]
            assert status != 400 or 0 < len(answer["details"]) <= 100
        nothing = sender.call(route.method, path, json={})
        assert nothing.status_code in (200, 202, 400), route.operation_id
        unknown = sender.call(route.method, path, json={**(BODIES.get(route.operation_id) or {}), "zz": 1})
        assert unknown.status_code == 400
        assert "zz" in blamed(unknown)


def test_values_of_the_wrong_kind_in_any_field_make_no_server_error(world: World) -> None:
    values: list[Any] = [None, True, 0, -1, 1.5, 2**63, "", "x" * 70_000, "\x00", [], [[]], {}, {"a": {"b": []}}]
    for route in ROUTES:
        model = route.facts.get("body")
        if model is None or "_id>" in route.path:
            continue
        good = BODIES.get(route.operation_id) or {"email": "a@b.c", "password": "x"}
        for field in model.model_fields:
            for value in values:
                response = world.alice.call(route.method, route.path.replace("<key>", "k"), json={**good, field: value})
                assert response.status_code < 500, (route.operation_id, field, str(value)[:40], response.text)


#: (query string, the parameter to blame)
QUERIES = [
    ("limit=0", "limit"),
    ("limit=501", "limit"),
    ("limit=-1", "limit"),
    ("limit=x", "limit"),
    ("limit=", "limit"),
    ("limit=99999999999999999999999999", "limit"),
    ("limit=1&limit=2", "limit"),
    ("cursor=x", "cursor"),
    ("cursor=", "cursor"),
    ("cursor=bnVsbA", "cursor"),  # null
    ("cursor=WzEsMl0", "cursor"),  # [1,2]
    ("cursor=WyJ4IiwieSJd", "cursor"),  # ["x","y"]
    ("cursor=WyIyMDI2LTAxLTAxVDAwOjAwOjAwIiwieSJd", "cursor"),  # without a zone
    ("cursor=" + "W" * 250, "cursor"),
    ("cursor=%00", "cursor"),
    ("cursor=" + "x" * 301, "cursor"),
    ("surprise=1", "surprise"),
    ("%00=1", ""),
    ("limit=%FF", "limit"),
]


def test_every_bad_query_is_refused_naming_its_parameter(world: World) -> None:
    monitor = world.alice.make_monitor()
    incident = world.open_incident(monitor)
    lists = [
        "/v1/monitors", "/v1/incidents", "/v1/channels", "/v1/notifications", "/v1/api-keys", "/v1/routes",
        "/v1/silences",
        f"/v1/monitors/{monitor['id']}/results", f"/v1/incidents/{incident}/events",
    ]  # fmt: skip
    special = [
        ("/v1/incidents", "status=closed", "status.0"),
        ("/v1/incidents", "status=", "status.0"),
        ("/v1/incidents", "severity=open", "severity.0"),
        ("/v1/incidents", "monitor_id=x", "monitor_id"),
        ("/v1/notifications", "incident_id=1", "incident_id"),
        ("/v1/silences", "state=over", "state.0"),
        ("/v1/notifications", "channel_id=%00", "channel_id"),
        (f"/v1/monitors/{monitor['id']}/results", "verdict=broken", "verdict.0"),
        ("/v1/locations", "limit=5", "limit"),
    ]
    for path, query, field in [*special, *((path, query, field) for path in lists for query, field in QUERIES)]:
        response = world.alice.get(f"{path}?{query}")
        assert (response.status_code, response.get_json()["code"]) == (400, "VALIDATION_ERROR"), (path, query)
        assert field in blamed(response), (path, query)


def test_cursors_of_another_list_are_refused_or_lead_somewhere_but_never_break(world: World) -> None:
    monitor = world.alice.make_monitor()
    world.alice.make_monitor()
    incident = world.open_incident(monitor)
    world.alice.post(f"/v1/incidents/{incident}/comments", json={"body": "x"})
    cursors = [
        world.alice.get("/v1/monitors?limit=1").get_json()["next_cursor"],
        world.alice.get(f"/v1/incidents/{incident}/events?limit=1").get_json()["next_cursor"],
    ]
    for cursor in cursors:
        for path in ("/v1/monitors", f"/v1/monitors/{monitor['id']}/results", f"/v1/incidents/{incident}/events"):
            assert world.alice.get(f"{path}?cursor={cursor}").status_code in (200, 400)


def test_bad_keys_in_the_path_are_refused(world: World) -> None:
    for key in ("a%00b", "a%20b", "-a", "x" * 101, "a%0A", "%FF", "ü"):
        response = world.alice.put(f"/v1/monitors/by-key/{key}", json=MONITOR)
        assert (response.status_code, blamed(response)) == (400, ["key"]), key
    other = world.alice.put("/v1/monitors/by-key/a", json={**MONITOR, "key": "b"})
    assert (other.status_code, blamed(other)) == (400, ["key"])
    assert world.alice.put("/v1/monitors/by-key/a/b", json=MONITOR).status_code == 404


def test_read_only_fields_are_ignored_whatever_they_hold(world: World) -> None:
    made = world.alice.make_monitor(id="x", state=5, config_version=99, created_at=None, updated_at=[])
    assert made["config_version"] == 1
    assert world.alice.post("/v1/channels", json={**CHANNEL, "id": 5, "secret": "mine"}).status_code == 201


def test_a_name_that_is_given_twice_is_refused_by_name_wherever_it_stands(world: World) -> None:
    for body, field in (
        ('{"name": "a", "target": "http://a.example/", "name": "b"}', "name"),
        ('{"name": "a", "target": "http://a.example/", "labels": {"team": "x", "team": "x"}}', "team"),
        ('{"name": "a", "target": "http://a.example/", "assertions": [{"op": "eq", "op": "ne"}]}', "op"),
        ('{"name": "a", "n\\u0061me": "b", "target": "http://a.example/"}', "name"),
    ):
        response = world.alice.call("POST", "/v1/monitors", data=body.encode(), content_type="application/json")
        assert (response.status_code, blamed(response)) == (400, [field]), response.text
    assert world.rows("SELECT 1 FROM monitors") == []
    same = {**MONITOR, "labels": {"name": "a", "target": "name"}}
    assert world.alice.post("/v1/monitors", json=same).status_code == 201


def test_an_id_has_one_spelling(world: World) -> None:
    monitor, channel = world.alice.make_monitor()["id"], world.alice.make_channel()["id"]
    incident = world.open_incident({"id": monitor})
    assert world.alice.get(f"/v1/monitors/{monitor.upper()}").status_code == 200
    for spell in ("{{{}}}".format, "urn:uuid:{}".format, lambda text: text.replace("-", ""), "{} ".format):
        assert world.alice.get(f"/v1/monitors/{spell(monitor)}").status_code == 404
        assert world.alice.get(f"/v1/incidents/{spell(incident)}").status_code == 404
        for path, field in (
            (f"/v1/incidents?monitor_id={spell(monitor)}", "monitor_id"),
            (f"/v1/incidents?assignee={spell(monitor)}", "assignee"),
            (f"/v1/notifications?channel_id={spell(channel)}", "channel_id"),
        ):
            response = world.alice.get(path)
            assert (response.status_code, blamed(response)) == (400, [field]), path
        for body, path, field in (
            ({**MONITOR, "parent_id": spell(monitor)}, "/v1/monitors", "parent_id"),
            ({"name": "r", "channel_ids": [spell(channel)]}, "/v1/routes", "channel_ids.0"),
        ):
            response = world.alice.post(path, json=body)
            assert (response.status_code, blamed(response)) == (400, [field]), response.text
