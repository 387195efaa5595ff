"""What Prometheus is told of monitors: names, values, and whose they are."""

from __future__ import annotations

import base64
import gzip
import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from api import prometheus
from bench.packages import find
from common.domain.checks import Check, Kind, Observation, Phases, Reason, Result, Verdict
from common.store import result_log
from tests import api_cast
from tests.api_cast import World

world = api_cast.world

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def number_of(world: World, monitor: dict[str, Any]) -> int:
    return int(world.rows("SELECT monitor_no FROM monitors WHERE id = %(id)s", id=monitor["id"])[0]["monitor_no"])


def see(
    world: World, monitor: dict[str, Any], seen: Observation, *, ago: timedelta = timedelta(), health: int = 1
) -> None:
    """What the writer leaves behind when a check has seen this."""
    no = number_of(world, monitor)
    slot = datetime.now(UTC).replace(microsecond=0) - ago
    location = world.rows("SELECT id FROM locations WHERE name = 'local'")[0]["id"]
    check = Check(no, 1, int(slot.timestamp() * 1000), Kind.SCHEDULED)
    with world.databases.worker.begin() as connection:
        result_log.append(connection, [Result(check, location, seen, check.scheduled_at_ms)])
    world.execute(
        "UPDATE votes SET last_slot = %(slot)s, last_verdict = %(verdict)s, reason = %(reason)s, latency_ms = %(ms)s"
        " WHERE monitor_no = %(no)s",
        slot=slot, verdict=int(seen.verdict), reason=int(seen.reason), ms=seen.phases.total_ms, no=no,
    )  # fmt: skip
    world.execute("UPDATE monitor_states SET health = %(health)s WHERE monitor_no = %(no)s", health=health, no=no)


WELL = Observation(Verdict.UP, code=200, phases=Phases(2.0, 3.0, 5.0, 20.0, 31.0))
TIMED_OUT = Observation(Verdict.DOWN, Reason.TIMEOUT, "no answer", phases=Phases(2.0, 3.0, -1, -1, 10_000.0))
BLIND = Observation(Verdict.UNKNOWN, Reason.WORKER_NETWORK, "not judged")


def series(text: str) -> Series:
    found: Series = {}
    for family in parse_text(text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, f"twice: {key}"
            found[key] = sample.value
    return found


def told(world: World, monitor: dict[str, Any] | None = None, path: str = "") -> dict[str, float]:
    """{name and labels of its own: value}, of one monitor of alice's or of all."""
    answer = world.alice.get("/prometheus/metrics" + path)
    assert answer.status_code == 200, answer.text
    common = {"instance", "job", "monitor", "monitor_id", "location", "monitor_name", "monitor_type", "monitor_url",
              "monitor_hostname", "monitor_port", "key"}  # fmt: skip
    return {
        name + "".join(f" {key}={text}" for key, text in sorted(labels) if key not in common): value
        for (name, labels), value in series(answer.text).items()
        if monitor is None or ("monitor_id", monitor["id"]) in labels
    }


def test_a_healthy_monitor_has_the_values_that_blackbox_would_show(world: World) -> None:
    shop = world.alice.make_monitor(labels={"team": "shop", "a.b": "x"})
    see(world, shop, WELL)
    found = told(world, shop)
    assert found["probe_success"] == 1
    assert found["probe_duration_seconds"] == 0.031
    assert found["probe_dns_lookup_time_seconds"] == 0.002
    assert found["probe_http_status_code"] == 200
    assert found["probe_http_ssl"] == 1
    assert found["probe_failed_due_to_regex"] == 0
    phases = {name: value for name, value in found.items() if name.startswith("probe_http_duration_seconds")}
    assert phases == {
        "probe_http_duration_seconds phase=resolve": 0.002,
        "probe_http_duration_seconds phase=connect": 0.003,
        "probe_http_duration_seconds phase=tls": 0.005,
        "probe_http_duration_seconds phase=processing": 0.02,
        "probe_http_duration_seconds phase=transfer": 0.001,
    }
    assert (found["monitor_status"], found["monitor_response_time"]) == (1, 31)
    assert found["tocsin_monitor_info enabled=true label_a_b=x label_team=shop severity=error type=http"] == 1
    assert not any(name.startswith("tocsin_monitor_failure_info") for name in found)


def test_a_failure_says_why(world: World) -> None:
    shop = world.alice.make_monitor()
    see(world, shop, TIMED_OUT, health=3)
    found = told(world, shop)
    assert (found["probe_success"], found["monitor_status"], found["probe_http_status_code"]) == (0, 0, 0)
    assert found["tocsin_monitor_failure_info reason=timeout"] == 1
    # What was not reached is absent.
    assert "probe_http_duration_seconds phase=tls" not in found
    assert "probe_http_duration_seconds phase=transfer" not in found
    assert found["probe_http_ssl"] == 0


#: (what was seen of a name server, probe_dns_query_succeeded)
ANSWERED = [
    (Observation(Verdict.UP, phases=Phases(1.0, -1, -1, 4.0, 5.0)), 1),
    (Observation(Verdict.DOWN, Reason.DNS_FAILED, code=2, phases=Phases(1.0, -1, -1, 4.0, 5.0)), 1),  # SERVFAIL
    (Observation(Verdict.DOWN, Reason.DNS_TIMEOUT, phases=Phases(1.0, -1, -1, -1, 5_000.0)), 0),
    (Observation(Verdict.DOWN, Reason.EGRESS_DENIED, phases=Phases(total_ms=0.1)), 0),  # nobody was asked
]


@pytest.mark.parametrize(("seen", "succeeded"), ANSWERED)
def test_a_name_server_that_refuses_has_answered(world: World, seen: Observation, succeeded: int) -> None:
    monitor = world.alice.make_monitor(type="dns", target="shop.example")
    see(world, monitor, seen)
    found = told(world, monitor)
    assert found["probe_dns_query_succeeded"] == succeeded
    assert found.get("probe_dns_duration_seconds phase=request") == (0.004 if succeeded else None)
    assert "probe_failed_due_to_regex" not in found


def test_what_is_not_as_expected_is_told_apart_from_what_is_not_there(world: World) -> None:
    monitor = world.alice.make_monitor(type="tcp", target="192.0.2.1:22")
    cases = [(Reason.ANSWER_MISMATCH, Verdict.DOWN, 1), (Reason.ANSWER_MISMATCH, Verdict.DEGRADED, 0),
             (Reason.CONNECT_REFUSED, Verdict.DOWN, 0)]  # fmt: skip
    for ago, (reason, verdict, due) in enumerate(reversed(cases)):
        see(world, monitor, Observation(verdict, reason, phases=Phases(total_ms=3)), ago=timedelta(seconds=9 - ago))
        assert told(world, monitor)["probe_failed_due_to_regex"] == due


@pytest.mark.parametrize(
    ("seen", "ago", "health", "status"),
    [
        (None, timedelta(), 0, 2),  # nothing yet
        (BLIND, timedelta(), 1, 1),  # our own fault: no success is shown, no failure either
        (WELL, timedelta(minutes=10), 1, 1),  # the checks have stopped: the last one does not pass for a new one
    ],
)
def test_what_is_not_known_is_absent(
    world: World, seen: Observation | None, ago: timedelta, health: int, status: int
) -> None:
    shop = world.alice.make_monitor()
    if seen is not None:
        see(world, shop, seen, ago=ago, health=health)
    found = told(world, shop)
    assert not any(name.startswith("probe_") for name in found)
    assert found["monitor_status"] == status


def test_a_paused_monitor_has_no_state_and_one_in_maintenance_says_so(world: World) -> None:
    paused, maintained = world.alice.make_monitor(enabled=False), world.alice.make_monitor()
    see(world, maintained, WELL)
    world.execute("UPDATE monitor_states SET maintenance = true WHERE monitor_no = %(no)s",
                  no=number_of(world, maintained))  # fmt: skip
    assert set(told(world, paused)) == {"tocsin_monitor_info enabled=false severity=error type=http"}
    assert told(world, maintained)["monitor_status"] == 3


def test_the_location_that_sees_speaks_for_its_monitor(world: World) -> None:
    world.execute("INSERT INTO locations (name) VALUES ('aaa')")
    shop = world.alice.make_monitor(locations=["aaa", "local"])
    see(world, shop, WELL)
    world.execute("UPDATE votes SET last_verdict = 0 WHERE location = (SELECT id FROM locations WHERE name = 'aaa')")
    found = told(world, shop)
    assert (found["monitor_response_time"], found["monitor_status"], found["probe_success"]) == (31, 1, 1)
    assert len([name for name in found if name.startswith(("monitor_status", "tocsin_monitor_info"))]) == 2


def test_names_that_are_the_same_and_texts_that_need_escaping_make_no_mess(world: World) -> None:
    odd = 'a "quoted" \\ name'
    for _ in range(2):
        see(world, world.alice.make_monitor(name=odd), WELL)
    answer = world.alice.get("/prometheus/metrics")
    names = [dict(labels)["monitor"] for name, labels in series(answer.text) if name == "probe_success"]
    assert names == [odd, odd]


def test_both_formats_are_what_they_say(world: World) -> None:
    see(world, world.alice.make_monitor(), WELL)
    plain = world.alice.get("/prometheus/metrics")
    assert plain.content_type == "text/plain; version=0.0.4; charset=utf-8"
    newer = world.alice.get("/prometheus/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"})
    assert newer.content_type.startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name for family in parse_openmetrics(newer.text)}
    assert families == {family.name for family in parse_text(plain.text)}
    packed = world.alice.get("/prometheus/metrics", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert series(gzip.decompress(packed.data).decode()).keys() == series(plain.text).keys()
    promtool = find("promtool", "prometheus", print)
    if promtool is None:
        pytest.skip("Debian's package prometheus is not installed")
    checked = subprocess.run([promtool, "check", "metrics"], input=plain.data, capture_output=True, check=False)
    complaints = [
        line for line in checked.stderr.decode().splitlines() if not line.startswith("monitor_response_time ")
    ]
    assert complaints == []  # Uptime Kuma's own name has a unit that is none of the base units


def test_everybody_sees_their_own_and_the_operator_nothing(world: World) -> None:
    ours, theirs = world.alice.make_monitor(), world.charlie.make_monitor()
    for monitor in (ours, theirs):
        see(world, monitor, WELL)
    for person, mine, others in ((world.alice, ours, theirs), (world.bob, ours, theirs), (world.charlie, theirs, ours)):
        for path in ("/prometheus/metrics", "/prometheus/sd"):
            text = person.get(path).text
            assert mine["id"] in text and others["id"] not in text
    assert world.charlie.get(f"/prometheus/metrics?monitor_id={ours['id']}").text.count(ours["id"]) == 0
    for path in ("/prometheus/metrics", "/prometheus/sd", "/probe?target=192.0.2.1&module=icmp"):
        assert world.nobody.get(path).status_code == 401
        assert world.operator().get(path).status_code == 403
    assert world.bob.get("/probe?target=192.0.2.1&module=icmp").status_code == 403


def test_what_the_operator_scrapes_names_nobody(world: World) -> None:
    """/metrics asks nobody who they are, so nothing of any organization may stand in it, whatever was asked for."""
    private = "Quarterly-Secret-Project"
    monitor = world.alice.make_monitor(name=private, key="quarterly", target=f"http://192.0.2.7/{private}")
    channel = world.alice.make_channel(name=private)
    incident = world.open_incident(monitor)
    alert = {"name": private, "source": private, "severity": "error", "status": "firing", "labels": {"team": private}}
    assert world.alice.post("/v1/alerts", json=[alert]).status_code == 202
    asked = (f"monitors/{monitor['id']}", f"incidents/{incident}", f"channels/{channel['id']}",
             f"monitors?label=team:{private}", f"monitors/{private}", private, f"../ping/{private}")  # fmt: skip
    for path in asked:
        world.alice.get(f"/v1/{path}", headers={"X-Request-ID": private})
    world.alice.call(private.upper(), "/v1/monitors")
    world.nobody.post("/v1/auth/login", json={"email": f"{private}@example.com", "password": private})
    told_all = world.nobody.get("/metrics").text
    assert 'route="/v1/monitors/<monitor_id>"' in told_all and 'method="other"' in told_all
    secrets = [private, private.upper(), private.lower(), "quarterly", monitor["id"], incident, channel["id"],
               world.org_a, world.org_b, "alice", "192.0.2.7"]  # fmt: skip
    assert [secret for secret in secrets if secret in told_all] == []


def test_a_key_is_taken_as_bearer_and_as_either_half_of_basic_for_reading_only(world: World) -> None:
    key = world.alice.post("/v1/api-keys", json={"name": "p", "role": "viewer"}).get_json()["key"]

    def basic(text: str) -> dict[str, str]:
        return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}

    for header in ({"Authorization": f"Bearer {key}"}, basic(f"{key}:"), basic(f"prometheus:{key}")):
        assert world.nobody.get("/prometheus/sd", headers=header).status_code == 200
    for wrong in (f"prometheus:{key}x", "a:b", ":"):
        assert world.nobody.get("/prometheus/sd", headers=basic(wrong)).status_code == 401
    owner = world.alice.post("/v1/api-keys", json={"name": "o", "role": "owner"}).get_json()["key"]
    assert world.nobody.post("/v1/monitors", json=api_cast.MONITOR, headers=basic(f"x:{owner}")).status_code == 401


def test_filters_and_shards_divide_what_there_is(world: World) -> None:
    made = [world.alice.make_monitor(name=f"m{n}", labels={"team": "ab"[n % 2]}) for n in range(5)]
    gateway = world.alice.make_monitor(type="icmp", target="192.0.2.9")
    ids = [
        {dict(labels)["monitor_id"] for name, labels in series(world.alice.get(f"/prometheus/metrics{query}").text)}
        for query in ("", "?shard=1/2", "?shard=2/2", "?type=icmp", "?label=team:a", f"?monitor_id={made[1]['id']}")
    ]
    assert ids[0] == {one["id"] for one in [*made, gateway]} == ids[1] | ids[2]
    assert ids[1] & ids[2] == set() and ids[1] and ids[2]
    assert ids[3:] == [{gateway["id"]}, {made[n]["id"] for n in (0, 2, 4)}, {made[1]["id"]}]
    for query in ("?shard=0/2", "?shard=3/2", "?shard=x", "?type=nothing", "?label=team", "?other=1"):
        assert world.alice.get(f"/prometheus/metrics{query}").status_code == 400, query


def test_what_is_too_much_is_asked_for_in_parts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus, "MAX_ROWS", 2)
    for n in range(3):
        world.alice.make_monitor(name=f"m{n}")
    answer = world.alice.get("/prometheus/metrics")
    assert (answer.status_code, answer.get_json()["details"][0]["field"]) == (400, "shard")
    parts = [world.alice.get(f"/prometheus/metrics?shard={n}/3") for n in (1, 2, 3)]
    assert [part.status_code for part in parts] == [200, 200, 200]


def test_pages_leave_nobody_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from common.store import exposition

    monkeypatch.setattr(exposition, "_PAGE", 2)
    made = {world.alice.make_monitor(name=f"m{n}")["id"] for n in range(5)}
    world.execute("INSERT INTO locations (name) VALUES ('far')")
    text = world.alice.get("/prometheus/metrics").text
    assert {dict(labels)["monitor_id"] for _, labels in series(text)} == made
    assert {
        group["labels"]["__meta_tocsin_monitor_id"] for group in world.alice.get("/prometheus/sd").get_json()
    } == made


def test_targets_are_discovered_with_what_relabelling_needs(world: World) -> None:
    assert world.alice.get("/prometheus/sd").get_json() == []
    shop = world.alice.make_monitor(key="shop", labels={"team": "shop"})
    world.alice.make_monitor(name="paused", enabled=False)
    answer = world.alice.get("/prometheus/sd")
    assert answer.content_type == "application/json"
    assert answer.get_json() == [
        {
            "targets": [shop["target"]],
            "labels": {
                "__meta_tocsin_monitor_id": shop["id"],
                "__meta_tocsin_monitor": "Shop",
                "__meta_tocsin_key": "shop",
                "__meta_tocsin_type": "http",
                "__meta_tocsin_severity": "error",
                "__meta_tocsin_interval_seconds": "30",
                "__meta_tocsin_label_team": "shop",
            },
        }
    ]
