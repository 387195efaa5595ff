"""A real Prometheus: discovers targets from us, has them probed, scrapes the monitors and the roles.

Debian's package `prometheus` is needed; as root it is installed, otherwise these are skipped.
"""

from __future__ import annotations

import http.server
import json
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from bench.packages import find
from tests import api_cast
from tests.api_cast import World
from tests.certificate import make_certificate
from tests.integration.test_alertmanager_peer import free_ports, program
from tests.integration.test_alertmanager_peer import serving as running_in_thread
from tests.integration.test_prometheus_series import WELL, number_of, see, told
from tests.served import serving
from tests.sink import Answer, Sink
from tests.stack import Queue, RoleProcess, Roles, scheduled, wait_until

world = api_cast.world
ROOT = Path(__file__).parent.parent.parent

CONFIG = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: tocsin
    static_configs: [{{targets: ["{api}", "127.0.0.1:{worker}"]}}]
  - job_name: tocsin-monitors
    metrics_path: /prometheus/metrics
    honor_labels: true
    authorization: {{credentials: {key}}}
    static_configs: [{{targets: ["{api}"]}}]
  - job_name: probed
    metrics_path: /probe
    params: {{module: [http_2xx]}}
    basic_auth: {{username: prometheus, password: {key}}}
    http_sd_configs:
      - url: "http://{api}/prometheus/sd?type=http"
        refresh_interval: 1s
        authorization: {{type: Bearer, credentials: {key}}}
    relabel_configs:
      - {{source_labels: [__address__], target_label: __param_target}}
      - {{source_labels: [__param_target], target_label: instance}}
      - {{source_labels: [__meta_tocsin_monitor], target_label: monitor}}
      - {{source_labels: [__meta_tocsin_label_team], target_label: team}}
      - {{target_label: __address__, replacement: "{api}"}}
"""


@pytest.fixture
def target() -> Iterator[Sink]:
    with Sink() as sink:
        sink.default["/down"] = Answer(status=500)
        yield sink


@pytest.fixture(autouse=True)
def patience(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that this machine keeps waiting for its turn still counts as one that begins."""
    monkeypatch.setattr(world.services.probes, "_begin_within_s", 60.0)


@pytest.fixture
def worker_port() -> int:
    return free_ports(1)[0]


@pytest.fixture
def worker(world: World, database_url: str, redis_url: str, worker_port: int) -> Iterator[RoleProcess]:
    keys = world.services.settings.encryption_keys
    assert keys is not None
    environ = {"TOCSIN_ENCRYPTION_KEYS": keys.get_secret_value(), "TOCSIN_METRICS_PORT": str(worker_port)}
    with Roles(database_url, redis_url, **environ) as roles:
        yield roles.worker()


def scopes_key(world: World, *scopes: str) -> str:
    made = world.alice.post("/v1/api-keys", json={"name": "prometheus", "role": "editor", "scopes": list(scopes)})
    assert made.status_code == 201, made.text
    return str(made.get_json()["key"])


def values(text: str) -> dict[str, float]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_a_probe_says_what_blackbox_would(world: World, worker: RoleProcess, target: Sink) -> None:
    key = {"Authorization": f"Bearer {scopes_key(world, 'probes:write')}"}

    def probe(module: str, where: str) -> dict[str, float]:
        answer = world.nobody.get("/probe", query_string={"module": module, "target": where}, headers=key)
        assert answer.status_code == 200, answer.text
        assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"
        return values(answer.text)

    up = probe("http_2xx", target.url("/up"))
    assert (up["probe_success"], up["probe_http_status_code"], up["probe_ip_protocol"]) == (1, 200, 4)
    assert up["probe_duration_seconds"] >= up['probe_http_duration_seconds{phase="connect"}'] > 0
    assert (up["probe_http_version"], up["probe_http_redirects"], up["probe_http_ssl"]) == (1.1, 0, 0)
    assert probe("http_2xx", target.url("/up").removeprefix("http://"))["probe_success"] == 1
    assert world.nobody.get("/probe", query_string={"target": target.url("/up")}, headers=key).status_code == 200
    down = probe("http", target.url("/down"))
    assert (down["probe_success"], down["probe_http_status_code"]) == (0, 500)
    assert down['tocsin_probe_failure_info{reason="status_mismatch"}'] == 1
    assert probe("tcp_connect", f"127.0.0.1:{target.port}")["probe_success"] == 1
    nobody_there = probe("tcp_connect", f"127.0.0.1:{free_ports(1)[0]}")
    assert nobody_there["probe_success"] == 0
    for wrong in ("module=nothing&target=x", "module=tcp&target=x", "module=http", "",
                  "module=http&target=http://169.254.169.254/", "module=http&target=x&location=nowhere"):  # fmt: skip
        assert world.nobody.get(f"/probe?{wrong}", headers=key).status_code == 400, wrong
    assert world.nobody.get("/prometheus/metrics", headers=key).status_code == 403
    assert worker.alive


class Secure(http.server.BaseHTTPRequestHandler):
    """Something that speaks TLS."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def secure(folder: Path) -> Iterator[int]:
    """An HTTPS server whose certificate has a day left; its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*make_certificate(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Secure)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with running_in_thread(server):
        yield server.server_port


def test_when_certificates_expire_is_told_though_no_assertion_asks(
    world: World, worker: RoleProcess, redis_url: str, tmp_path: Path
) -> None:
    queue = Queue(redis_url)
    with secure(tmp_path) as port:
        monitors = [
            world.alice.make_monitor(type="http", target=f"https://127.0.0.1:{port}/", http={"verify_tls": False}),
            world.alice.make_monitor(type="tls", target=f"127.0.0.1:{port}", tls={"verify_tls": False}),
        ]
        now = time.time()
        queue.push([scheduled(number_of(world, monitor), int(now * 1000)) for monitor in monitors])
        wait_until(lambda: all("probe_ssl_earliest_cert_expiry" in told(world, monitor) for monitor in monitors), 60)
    for monitor in monitors:
        found = told(world, monitor)
        assert abs(found["probe_ssl_earliest_cert_expiry"] - now - 86_400) < 60
        assert (found["probe_success"], found["monitor_cert_is_valid"]) == (1, 1)
        assert found["monitor_cert_days_remaining"] in (0, 1)
    assert worker.alive


def test_prometheus_scrapes_everything(
    world: World, worker: RoleProcess, worker_port: int, target: Sink, tmp_path: Path
) -> None:
    prometheus = find("prometheus", "prometheus", print)
    if prometheus is None:
        pytest.skip("Debian's package prometheus is not installed")
    up = world.alice.make_monitor(name="Up", target=target.url("/up"), labels={"team": "shop"})
    down = world.alice.make_monitor(name="Down", target=target.url("/down"))
    theirs = world.charlie.make_monitor(name="Theirs", target=target.url("/theirs"))
    for monitor in (up, down, theirs):
        see(world, monitor, WELL)
    key = scopes_key(world, "monitors:read", "probes:write")
    (port,) = free_ports(1)
    with ExitStack() as running:
        api = running.enter_context(serving(world.client.application)).removeprefix("http://")
        rules = ROOT / "infra" / "prometheus" / "rules" / "tocsin.rules.yml"
        (tmp_path / "prometheus.yml").write_text(CONFIG.format(api=api, worker=worker_port, key=key, rules=rules))
        line = [prometheus, "--config.file=prometheus.yml", "--storage.tsdb.path=tsdb",
                f"--web.listen-address=127.0.0.1:{port}"]  # fmt: skip
        running.enter_context(program(line, port, tmp_path))

        def ask(expression: str) -> dict[str, float]:
            """{monitor or instance: value}."""
            answer = requests.get(f"http://127.0.0.1:{port}/api/v1/query", params={"query": expression}, timeout=30)
            found: list[Any] = answer.json()["data"]["result"]
            return {one["metric"].get("monitor", one["metric"].get("instance", "")): float(one["value"][1])
                    for one in found}  # fmt: skip

        def becomes(expression: str, expected: object) -> None:
            """Waits: a scrape that comes late leaves its series stale until the next."""
            wait_until(lambda: ask(expression) == expected, 60, expression)

        becomes('probe_success{job="probed"}', {"Up": 1.0, "Down": 0.0})
        becomes('probe_success{job="tocsin"}', {"Up": 1.0, "Down": 1.0})  # as the writer left it
        becomes('up{job="tocsin"}', {api: 1.0, f"127.0.0.1:{worker_port}": 1.0})
        becomes('probe_http_duration_seconds{job="tocsin",phase="tls",monitor="Up"}', {"Up": 0.005})
        becomes('count(monitor_status{monitor_name="Up"} == 1)', {"": 1.0})
        joined = "probe_success * on (monitor_id) group_left (label_team) tocsin_monitor_info{label_team='shop'}"
        becomes(joined, {"Up": 1.0})
        becomes('probe_success{team="shop"}', {"Up": 1.0})
        becomes("sum(tocsin_probes_asked_total) > bool 0", {"": 1.0})
        becomes('sum(tocsin_build_info{role="worker"})', {"": 1.0})
        everything = requests.get(
            f"http://127.0.0.1:{port}/api/v1/series", params={"match[]": '{job=~".+"}'}, timeout=30
        )
        assert theirs["id"] not in everything.text and "Theirs" not in everything.text
        health = requests.get(f"http://127.0.0.1:{port}/api/v1/rules", timeout=30).json()["data"]["groups"]
        broken = [rule["name"] for group in health for rule in group["rules"] if rule["health"] == "err"]
        assert broken == [], json.dumps(health)
