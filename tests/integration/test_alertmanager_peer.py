"""A real Prometheus and a real Alertmanager send a firing and a resolved alert, each into its own input.

Debian's packages `prometheus` and `prometheus-alertmanager` are needed; as root they are installed, otherwise skipped.
"""

from __future__ import annotations

import http.server
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from werkzeug.serving import make_server

from bench.packages import find
from common.domain.alerts import label_fingerprint
from tests import api_cast
from tests.api_cast import World
from tests.stack import wait_until
from tests.targets import free_port

world = api_cast.world

PROMETHEUS = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [rules.yml]
scrape_configs:
  - job_name: shop
    static_configs: [{{targets: ["127.0.0.1:{target}"]}}]
alerting:
  alertmanagers:
    - static_configs: [{{targets: ["127.0.0.1:{alertmanager}"]}}]
    - static_configs: [{{targets: ["127.0.0.1:{tocsin}"]}}]
      {auth}
"""
RULES = """
groups:
  - name: shop
    rules:
      - alert: ShopIsSlow
        # What a late scrape leaves without a value has the last one, and keeps firing.
        expr: last_over_time(shop_latency_seconds[5m]) > 1
        labels: {severity: page, team: shop}
        annotations: {summary: "{{ $labels.job }} answers after {{ $value }} s", description: "Look at it."}
"""
ALERTMANAGER = """
route: {{receiver: tocsin, group_by: [alertname], group_wait: 0s, group_interval: 1s, repeat_interval: 2s}}
receivers:
  - name: tocsin
    webhook_configs:
      - {{url: "http://127.0.0.1:{tocsin}/integrations/alertmanager{path}", send_resolved: true{auth}}}
"""

#: (how Prometheus is told the key, what follows the webhook's path, how Alertmanager is told the key otherwise)
WAYS = {
    "bearer": ("authorization: {{credentials: {key}}}", "", ", http_config: {{authorization: {{credentials: {key}}}}}"),
    "path": ("path_prefix: /integrations/alertmanager/{key}", "/{key}", ""),
    "basic": (
        "basic_auth: {{username: tocsin, password: {key}}}",
        "",
        ", http_config: {{basic_auth: {{username: tocsin, password: {key}}}}}",
    ),
}


class Shop(http.server.ThreadingHTTPServer):
    """Something to watch: its latency is what the test says."""

    latency_s = 0.1

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"shop_latency_seconds {self.server.latency_s}\n".encode()  # type: ignore[attr-defined]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass


@contextmanager
def serving(server: Any) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield
    server.shutdown()
    thread.join(60)
    server.server_close()


@contextmanager
def program(arguments: Sequence[str], port: int, folder: Path, *, ready: str = "/-/ready") -> Iterator[None]:
    """A program until it is ready, and its end."""
    with (folder / f"{port}.log").open("w") as log:
        process = subprocess.Popen(arguments, cwd=folder, stdout=log, stderr=log)
    try:
        wait_until(lambda: _ready(process, port, ready), 60, f"{arguments[0]} on {port}, see {log.name}")
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(30)


def _ready(process: subprocess.Popen[bytes], port: int, path: str) -> bool:
    assert process.poll() is None, "it ended by itself"
    try:
        return requests.get(f"http://127.0.0.1:{port}{path}", timeout=10).status_code == 200
    except requests.RequestException:
        return False


def free_ports(count: int) -> list[int]:
    return [free_port() for _ in range(count)]


@dataclass(frozen=True)
class Peers:
    """The shop, watched by a Prometheus that tells us (as charlie) and an Alertmanager that tells us (as alice)."""

    shop: Shop


@contextmanager
def peers(world: World, folder: Path, way: str) -> Iterator[Peers]:
    prometheus = find("prometheus", "prometheus", print)
    alertmanager = find("prometheus-alertmanager", "prometheus-alertmanager", print)
    if prometheus is None or alertmanager is None:
        pytest.skip("Debian's packages prometheus and prometheus-alertmanager are not installed")
    keys = {person: getattr(world, person).post("/v1/api-keys", json={"name": "peer"}).get_json()["key"]
            for person in ("alice", "charlie")}  # fmt: skip
    direct, path, webhook = WAYS[way]
    prometheus_port, alertmanager_port = free_ports(2)
    shop = Shop(("127.0.0.1", 0), Shop.Handler)
    api = make_server("127.0.0.1", 0, world.client.application, threaded=True)
    (folder / "rules.yml").write_text(RULES)
    (folder / "prometheus.yml").write_text(
        PROMETHEUS.format(target=shop.server_port, alertmanager=alertmanager_port, tocsin=api.port,
                          auth=direct.format(key=keys["charlie"]))
    )  # fmt: skip
    (folder / "alertmanager.yml").write_text(
        ALERTMANAGER.format(
            tocsin=api.port, path=path.format(key=keys["alice"]), auth=webhook.format(key=keys["alice"])
        )
    )
    # An alert lasts four times as long as Prometheus lets pass between two words of it: one word may be late.
    arguments = {
        alertmanager_port: [alertmanager, "--config.file=alertmanager.yml", "--storage.path=am",
                            "--cluster.listen-address="],
        prometheus_port: [prometheus, "--config.file=prometheus.yml", "--storage.tsdb.path=tsdb",
                          "--rules.alert.resend-delay=3s"],
    }  # fmt: skip
    with ExitStack() as running:
        running.enter_context(serving(shop))
        running.enter_context(serving(api))
        for port, line in arguments.items():
            running.enter_context(program([*line, f"--web.listen-address=127.0.0.1:{port}"], port, folder))
        yield Peers(shop)


def seen(world: World) -> dict[str, list[dict[str, Any]]]:
    """All incidents, by whose they are."""
    return {name: getattr(world, name).get("/v1/incidents").get_json()["data"] for name in ("alice", "charlie")}


def statuses(world: World) -> dict[str, list[str]]:
    return {name: [one["status"] for one in found] for name, found in seen(world).items()}


@pytest.mark.parametrize("way", WAYS)
def test_an_outage_that_prometheus_sees_is_one_incident_by_each_input(world: World, tmp_path: Path, way: str) -> None:
    with peers(world, tmp_path, way) as running:
        running.shop.latency_s = 2.5
        both_open = {"alice": ["open"], "charlie": ["open"]}
        wait_until(lambda: statuses(world) == both_open, 40, "one incident by each input")
        # Both go on repeating it: Prometheus every three seconds, Alertmanager every two.
        before = {source: _repeats(world, source) for source in ("alertmanager", "prometheus")}
        wait_until(lambda: all(_repeats(world, source) >= n + 2 for source, n in before.items()), 40, "repeats")
        assert statuses(world) == both_open
        running.shop.latency_s = 0.1
        wait_until(lambda: statuses(world) == {"alice": ["resolved"], "charlie": ["resolved"]}, 30, "both resolved")
    (by_webhook,), (direct,) = seen(world).values()
    labels = {"alertname": "ShopIsSlow", "severity": "page", "team": "shop", "job": "shop",
              "instance": f"127.0.0.1:{running.shop.server_port}"}  # fmt: skip
    for found, source in ((by_webhook, "alertmanager"), (direct, "prometheus")):
        assert (found["source"], found["severity"], found["labels"]) == (source, "critical", labels)
        assert (found["title"], found["description"]) == ("shop answers after 2.5 s", "Look at it.")
    # Alertmanager names its fingerprint, Prometheus sends none: they are the same.
    assert by_webhook["dedup_key"] == direct["dedup_key"] == label_fingerprint(labels)
    events = world.rows("SELECT type, count(*)::int AS n FROM incident_events GROUP BY type ORDER BY type")
    assert events == [{"type": "opened", "n": 2}, {"type": "resolved", "n": 2}]


def _repeats(world: World, source: str) -> float:
    """Alerts of this input that were known already, as our own metrics count them."""
    lines = world.nobody.get("/metrics").text.splitlines()
    wanted = f'tocsin_alerts_total{{input="{source}",outcome="deduplicated"}}'
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(wanted))
