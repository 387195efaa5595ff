"""The image and the composition for real, in the order in which an operator meets them. Opt-in: `make test-docker`.

Needs Docker Engine 25 with Compose 2.24 or newer, and the images that docker-compose.yml names (infra/docker/trial
makes stand-ins where no image registry can be reached).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
import requests

from tests.docker.composition import IMAGE, PROJECT, Composition, build, docker, wait_until

pytestmark = [
    pytest.mark.skipif("TEST_DOCKER" not in os.environ, reason="`make test-docker` runs it"),
    pytest.mark.timeout(600),
]

ROLES = ("api", "scheduler", "worker", "notifier")
LONG_RUNNING = (*ROLES, "postgres", "valkey", "mail")


@pytest.fixture(scope="module")
def image() -> str:
    build()
    return IMAGE


@pytest.fixture(scope="module")
def composition(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composition]:
    made = Composition(tmp_path_factory.mktemp("deploy"))
    try:
        yield made
    finally:
        made("down", "--volumes", "--timeout", "5")


def test_the_image_is_small_and_locked(image: str) -> None:
    made = json.loads(docker("image", "inspect", image))[0]
    print(f"image: {made['Size'] / 1e6:.0f} MB")
    assert made["Size"] < 250e6
    assert made["Config"]["User"] == "10001:10001"
    assert made["Config"]["Healthcheck"]["Test"][0] == "CMD"
    find = "find / -xdev -type f -perm /6000 2>/dev/null; command -v pip apt perl; find /venv -name '*.pyc' | head -1"
    assert docker("run", "--rm", "--entrypoint", "sh", image, "-c", find).split("\n")[0].endswith(".pyc")


def test_it_starts_from_nothing_in_order(composition: Composition) -> None:
    took = composition.up()
    print(f"cold start, empty volumes: {took:.1f} s")
    migrate = composition.inspect("migrate")[0]["State"]
    assert migrate["ExitCode"] == 0
    began, ended = (datetime.fromisoformat(migrate[key][:26]) for key in ("StartedAt", "FinishedAt"))
    postgres = composition.inspect("postgres")[0]["State"]
    assert datetime.fromisoformat(postgres["StartedAt"][:26]) < began
    for role in ROLES:
        for container in composition.inspect(role):
            assert datetime.fromisoformat(container["State"]["StartedAt"][:26]) > ended
            assert container["State"]["Health"]["Status"] == "healthy"
    assert len(composition.inspect("scheduler")) == len(composition.inspect("worker")) == 2


@pytest.mark.parametrize("service", LONG_RUNNING)
def test_no_container_can_do_more_than_it_needs(composition: Composition, service: str) -> None:
    for container in composition.inspect(service):
        name = container["Name"].strip("/")
        assert composition.inside(name, "id", "-u").strip() != "0"
        assert "Read-only" in composition.inside(name, "sh", "-c", "touch /x 2>&1; touch /usr/x 2>&1", check=False)
        status = composition.inside(name, "grep", "-E", "CapEff|CapBnd|NoNewPrivs", "/proc/self/status").split()
        assert sorted(status) == sorted(["CapEff:", "0" * 16, "CapBnd:", "0" * 16, "NoNewPrivs:", "1"])
        limits = container["HostConfig"]
        assert limits["Memory"] > 0
        assert limits["NanoCpus"] > 0
        assert limits["PidsLimit"] > 0


@pytest.mark.parametrize(
    ("role", "withheld"),
    [
        ("scheduler", {"TOCSIN_JWT_KEY", "TOCSIN_ENCRYPTION_KEYS", "TOCSIN_SMTP_URL", "GRAFANA_PASSWORD"}),
        ("worker", {"TOCSIN_JWT_KEY", "TOCSIN_SMTP_URL", "TOCSIN_ADMIN_PASSWORD", "GRAFANA_PASSWORD"}),
        ("notifier", {"TOCSIN_JWT_KEY", "TOCSIN_ADMIN_PASSWORD", "GRAFANA_PASSWORD"}),
        ("api", {"TOCSIN_ADMIN_PASSWORD", "GRAFANA_PASSWORD"}),
    ],
)
def test_no_role_holds_the_secrets_of_another(composition: Composition, role: str, withheld: set[str]) -> None:
    for container in composition.inspect(role):
        given = {name for name, _, value in (line.partition("=") for line in container["Config"]["Env"]) if value}
        assert "DATABASE_URL" in given
        assert not given & withheld


def test_the_database_is_reachable_from_nowhere_else(composition: Composition) -> None:
    assert composition.inspect("postgres")[0]["NetworkSettings"]["Ports"].get("5432/tcp") is None
    reach = "import socket; socket.create_connection(('postgres', 5432), timeout=2)"
    composition("run", "--rm", "--no-deps", "--entrypoint", "python", "worker", "-c", reach)
    with pytest.raises(AssertionError, match=r"gaierror|Name or service|timed out"):
        composition("run", "--rm", "--no-deps", "--entrypoint", "python", "target", "-c", reach)


def test_an_outage_opens_one_incident_and_people_hear_of_it(composition: Composition) -> None:
    composition.call(
        "POST",
        "/v1/channels",
        {"name": "hook", "type": "webhook", "config": {"url": "http://receiver:8080/"}, "is_default": True},
    )
    composition.call(
        "POST",
        "/v1/channels",
        {"name": "mail", "type": "email", "config": {"to": ["ops@example.com"]}, "is_default": True},
    )
    made = composition.call(
        "POST", "/v1/monitors",
        {"name": "target", "type": "http", "target": "http://target:8080/", "interval_seconds": 5},
    )  # fmt: skip
    composition.call(
        "PUT", "/v1/monitors/by-key/ping", {"name": "ping", "type": "icmp", "target": "target", "interval_seconds": 5}
    )

    def status(monitor: str) -> str:
        return str(composition.call("GET", f"/v1/monitors/{monitor}")["state"]["status"])

    print(f"up after {wait_until(lambda: status(made['id']) == 'up', 30, 'up'):.1f} s")
    ping = composition.call("GET", "/v1/monitors?limit=10")["data"]
    ping_id = next(row["id"] for row in ping if row["name"] == "ping")
    wait_until(lambda: status(ping_id) == "up", 30, "an answer to ICMP without a privilege")

    composition("stop", "target")
    print(f"down after {wait_until(lambda: status(made['id']) == 'down', 60, 'down'):.1f} s")
    wait_until(lambda: any(w["type"] == "incident.opened" for w in composition.webhooks()), 30, "the webhook")
    wait_until(composition.mails, 30, "the mail")
    assert composition.mails()[0]["To"] != []

    composition("start", "target")
    wait_until(lambda: status(made["id"]) == "up", 60, "up again")
    wait_until(lambda: any(w["type"] == "incident.resolved" for w in composition.webhooks()), 30, "the resolve")
    of_target = [w["type"] for w in composition.webhooks() if "target" in json.dumps(w) and "ping" not in json.dumps(w)]
    assert sorted(of_target) == ["incident.opened", "incident.resolved"]


@pytest.mark.parametrize("role", ["worker", "notifier", "scheduler", "api"])
def test_a_killed_role_comes_back_by_itself(composition: Composition, role: str) -> None:
    before = composition.inspect(role)[0]
    name = before["Name"].strip("/")
    # From inside: what `docker kill` ends, Docker does not start again.
    composition.inside(name, "python", "-c", _KILL_ALL, check=False)

    def back() -> bool:
        now = next(c for c in composition.inspect(role) if c["Id"] == before["Id"])
        return bool(now["RestartCount"] > before["RestartCount"] and now["State"]["Health"]["Status"] == "healthy")

    print(f"{role} healthy again after {wait_until(back, 40, f'{role} again'):.1f} s")


#: Ends everything but tini (1) and itself.
_KILL_ALL = """
import os, signal
for pid in map(int, filter(str.isdigit, os.listdir('/proc'))):
    if pid not in (1, os.getpid()):
        try: os.kill(pid, signal.SIGKILL)
        except OSError: pass
"""


def test_docker_kill_and_start_again_lose_nothing(composition: Composition) -> None:
    opened = len(composition.webhooks())
    composition("kill", "-s", "KILL", "worker")
    time.sleep(6)
    composition.up()
    monitor = next(row for row in composition.call("GET", "/v1/monitors")["data"] if row["name"] == "target")
    since = composition.call("GET", f"/v1/monitors/{monitor['id']}/results?limit=1")["data"][0]["scheduled_at"]

    def checked() -> bool:
        latest = composition.call("GET", f"/v1/monitors/{monitor['id']}/results?limit=1")["data"][0]
        return bool(latest["scheduled_at"] > since and latest["verdict"] == "up")

    print(f"next check {wait_until(checked, 30, 'a check'):.1f} s after the workers are back")
    assert len(composition.webhooks()) == opened


def test_one_scheduler_leads_and_the_other_takes_over(composition: Composition) -> None:
    wait_until(lambda: len(composition.leaders()) == 1, 15, "one leader")
    (leader,) = composition.leaders()
    docker("kill", leader)
    took = wait_until(lambda: [name for name in composition.leaders() if name != leader], 10, "a new leader")
    print(f"takeover after kill: {took:.1f} s")
    composition.up()
    assert len(composition.leaders()) == 1


def test_a_second_up_changes_nothing(composition: Composition) -> None:
    before = composition.ids()
    print(f"second up: {composition.up():.1f} s")
    assert composition.ids() == before


def test_workers_are_scaled_by_a_number(composition: Composition) -> None:
    composition.set("WORKERS=3")
    composition.up()
    assert len(composition.inspect("worker")) == 3
    composition.set("WORKERS=2")
    composition.up()
    assert len(composition.inspect("worker")) == 2


def test_an_upgrade_keeps_everything(composition: Composition) -> None:
    monitors = composition.call("GET", "/v1/monitors")["data"]
    before = composition.ids()
    build("tocsin:test-next", "--label", "next=1")
    composition.set("IMAGE=tocsin:test-next")
    print(f"upgrade: {composition.up():.1f} s")
    after = composition.ids()
    assert after[f"{PROJECT}-api-1"] != before[f"{PROJECT}-api-1"]
    assert after[f"{PROJECT}-postgres-1"] == before[f"{PROJECT}-postgres-1"]
    assert [row["id"] for row in composition.call("GET", "/v1/monitors")["data"]] == [row["id"] for row in monitors]


def test_prometheus_finds_every_process(composition: Composition) -> None:
    composition.up("prometheus")
    base = f"http://127.0.0.1:{composition.prometheus_port}/api/v1"

    def up() -> int:
        targets = requests.get(f"{base}/targets", timeout=5).json()["data"]["activeTargets"]
        return sum(target["health"] == "up" for target in targets)

    wait_until(lambda: up() >= 6, 60, "api, 2 schedulers, 2 workers, notifier scraped")
    groups = requests.get(f"{base}/rules", timeout=5).json()["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert rules
    wait_until(lambda: _all_evaluated(base), 60, "every rule evaluated")


def _all_evaluated(base: str) -> bool:
    groups = requests.get(f"{base}/rules", timeout=5).json()["data"]["groups"]
    health = {rule["name"]: (rule["health"], rule.get("lastError", "")) for group in groups for rule in group["rules"]}
    assert not [item for item in health.items() if item[1][0] == "err"]
    return all(state == "ok" for state, _ in health.values())


def test_a_backup_is_restored_into_an_empty_volume(composition: Composition, tmp_path: Path) -> None:
    """Word by word what docs/deploy-compose.md says."""
    monitors = sorted(row["id"] for row in composition.call("GET", "/v1/monitors")["data"])
    dump = tmp_path / "tocsin.dump"
    with dump.open("wb") as file:
        composition.piped("exec", "-T", "postgres", "pg_dump", "-U", "tocsin", "-Fc", "tocsin", stdout=file)
    composition("down", "--timeout", "40")
    docker("volume", "rm", f"{PROJECT}_postgres", f"{PROJECT}_valkey")
    composition("run", "--rm", "migrate")
    composition("exec", "-T", "postgres", "dropdb", "-U", "tocsin", "--force", "tocsin")
    composition("exec", "-T", "postgres", "createdb", "-U", "tocsin", "tocsin")
    with dump.open("rb") as file:
        composition.piped(
            "exec", "-T", "postgres", "pg_restore", "-U", "tocsin", "-d", "tocsin", "--exit-on-error", stdin=file
        )
    print(f"up after restore: {composition.up():.1f} s")
    assert sorted(row["id"] for row in composition.call("GET", "/v1/monitors")["data"]) == monitors


@pytest.mark.parametrize("service", [*ROLES, "valkey", "postgres"])
def test_everything_stops_within_its_grace(composition: Composition, service: str) -> None:
    grace = composition.inspect(service)[0]["Config"]["StopTimeout"]
    started = time.monotonic()
    composition("stop", service)
    took = time.monotonic() - started
    codes = [container["State"]["ExitCode"] for container in composition.inspect(service)]
    print(f"{service} stopped in {took:.1f} s of {grace} s, exit {codes}")
    assert took < grace
    assert set(codes) <= {0}
