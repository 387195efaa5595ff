"""One trace from the request that a target sees to the result, the incident and the webhook; seen by a real nginx."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from common.domain.options import HttpOptions, WebsocketOptions
from tests import api_cast
from tests.api_cast import World
from tests.peers import nginx
from tests.probing import TRACE_ID, config, context, look, run
from tests.stack import Queue, Roles, scheduled, wait_until
from tests.targets import free_port

world = api_cast.world

TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-01")
SENT = f"00-{TRACE_ID}-{TRACE_ID[16:]}-01"


@dataclass
class Seen:
    """nginx on two ports, which are two origins, and what it saw: [(port, path, traceparent)], "-" without one."""

    log: Path
    first: int
    second: int

    def url(self, path: str, scheme: str = "http") -> str:
        return f"{scheme}://127.0.0.1:{self.first}{path}"

    def requests(self) -> list[tuple[int, str, str]]:
        lines = [line.split() for line in self.log.read_text().splitlines()]
        return [(int(port), path, trace) for port, path, trace in lines]


@pytest.fixture
def seen(tmp_path: Path) -> Iterator[Seen]:
    log, first, second = tmp_path / "access.log", free_port(), free_port()
    log.touch()
    servers = f"""
        log_format traces '$server_port $uri $http_traceparent';
        server {{
          listen 127.0.0.1:{first}; access_log {log} traces;
          location /up {{ return 200 'ok'; }}
          location /down {{ return 503 'no'; }}
          location /near {{ return 302 /up; }}
          location /far {{ return 302 http://127.0.0.1:{second}/up; }}
        }}
        server {{ listen 127.0.0.1:{second}; access_log {log} traces; location / {{ return 200 'ok'; }} }}
    """
    with nginx(tmp_path, servers):
        yield Seen(log, first, second)


def probe(
    seen: Seen, path: str, options: HttpOptions | WebsocketOptions, type_: str = "http", requests: int = 1
) -> list[str]:
    """What one check sent: a traceparent for every request. nginx may log each of them after its answer was read."""

    async def main() -> None:
        async with context() as ctx:
            target = seen.url(path, "ws" if type_ == "websocket" else "http")
            await look(config(type_, "h", 1, target=target, options=options), ctx)

    before = len(seen.requests())
    run(main())
    wait_until(lambda: len(seen.requests()) >= before + requests, 20, f"{requests} requests in the log")
    return [trace for _, _, trace in seen.requests()[before:]]


def test_every_request_of_a_check_is_in_its_trace_also_at_another_origin(seen: Seen) -> None:
    assert probe(seen, "/up", HttpOptions()) == [SENT]
    assert probe(seen, "/near", HttpOptions(), requests=2) == [SENT, SENT]
    assert probe(seen, "/far", HttpOptions(), requests=2) == [SENT, SENT]
    assert [port for port, _, _ in seen.requests()] == [seen.first] * 4 + [seen.second]
    assert probe(seen, "/up", WebsocketOptions(), "websocket") == [SENT]


def test_a_monitor_that_does_not_want_it_sends_nothing_wherever_it_is_led(seen: Seen) -> None:
    assert probe(seen, "/up", HttpOptions(trace=False)) == ["-"]
    assert probe(seen, "/far", HttpOptions(trace=False), requests=2) == ["-", "-"]
    assert probe(seen, "/up", WebsocketOptions(trace=False), "websocket") == ["-"]


@pytest.mark.parametrize("name", ["traceparent", "TraceParent"])
def test_a_header_of_the_monitor_s_own_wins_and_stays_with_its_origin(seen: Seen, name: str) -> None:
    mine = "00-11111111111111111111111111111111-2222222222222222-00"
    assert probe(seen, "/up", HttpOptions(headers=((name, mine),))) == [mine]
    assert probe(seen, "/far", HttpOptions(headers=((name, mine),)), requests=2) == [mine, "-"]
    assert probe(seen, "/up", WebsocketOptions(headers=((name, mine),)), "websocket") == [mine]


def test_target_result_incident_and_timeline_name_one_trace(
    world: World, database_url: str, redis_url: str, seen: Seen
) -> None:
    made = world.alice.make_monitor(
        target=seen.url("/down"), failure_threshold=1, retry_interval_seconds=60, interval_seconds=60
    )
    quiet = world.alice.make_monitor(target=seen.url("/up"), http={"trace": False})
    assert (quiet["http"]["trace"], "trace" in made["http"]) == (False, False)
    numbers = {row["id"]: row["monitor_no"] for row in world.rows("SELECT id::text, monitor_no FROM monitors")}
    with Roles(database_url, redis_url) as roles:
        roles.worker(TOCSIN_ENCRYPTION_KEYS=world.services.settings.encryption_keys.get_secret_value())
        now_ms = int(world.rows("SELECT extract(epoch FROM clock_timestamp()) * 1000 AS ms")[0]["ms"])
        Queue(redis_url).push([scheduled(numbers[each["id"]], now_ms) for each in (made, quiet)])
        wait_until(lambda: incidents(world), 20, "the incident")
        wait_until(lambda: results(world, quiet), 20, "the other one's result")
    wait_until(lambda: {path for _, path, _ in seen.requests()} >= {"/down", "/up"}, 20, "both in nginx's log")
    (sent,) = (trace for _, path, trace in seen.requests() if path == "/down")
    found = TRACEPARENT.fullmatch(sent)
    assert found is not None
    (result,) = results(world, made)
    (incident,) = incidents(world)
    detail = world.alice.get(f"/v1/incidents/{incident['id']}").get_json()
    assert result["trace_id"] == found[1] == incident["trace_id"] == detail["trace_id"]
    assert [trace for _, path, trace in seen.requests() if path == "/up"] == ["-"]
    assert TRACEPARENT.fullmatch(f"00-{results(world, quiet)[0]['trace_id']}-{'1' * 16}-01"), "it has one all the same"
    by_hand = world.alice.post("/v1/incidents", json={"title": "By hand", "severity": "info"}).get_json()
    assert by_hand["trace_id"] is None


def results(world: World, monitor: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = world.alice.get(f"/v1/monitors/{monitor['id']}/results").get_json()["data"]
    return found


def incidents(world: World) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = world.alice.get("/v1/incidents").get_json()["data"]
    return found
