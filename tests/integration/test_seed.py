"""`tocsin seed`: an installation is filled, once, whole or not at all, and alerts find their organizations."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

from common.domain.incident import EventType
from common.seed.alerts import backbone, stream
from common.seed.universe import Plan, Universe
from common.settings import Settings
from common.vault import Vault
from notifier.relay import Relay
from tests import api_cast
from tests.api_cast import World

world = api_cast.world

ROOT = Path(__file__).parents[2]
PLAN = Plan(seed=3, organizations=12, routes=240)
ARGUMENTS = ["--seed", "3", "--organizations", "12", "--routes", "240", "--endpoint", "http://127.0.0.1:9/hooks/"]


def run(
    arguments: list[str], data_dir: Path, database_url: str, settings: Settings | None = None
) -> subprocess.CompletedProcess[str]:
    env = {"PATH": "/usr/bin:/bin", "TOCSIN_DATA_DIR": str(data_dir), "DATABASE_URL": database_url}
    if settings is not None:
        assert settings.encryption_keys is not None
        env["TOCSIN_ENCRYPTION_KEYS"] = settings.encryption_keys.get_secret_value()
    command = [sys.executable, "-m", "common.cli", "seed", *arguments]
    return subprocess.run(command, env=env, cwd=ROOT, text=True, capture_output=True, timeout=100, check=False)


def count(world: World, table: str) -> int:
    (row,) = world.rows(f"SELECT count(*) AS count FROM {table}")
    return int(row["count"])


def only_one_organization(world: World) -> None:
    """As after a first start."""
    world.execute("DELETE FROM refresh_tokens")
    world.execute("DELETE FROM memberships WHERE org_id = %(id)s", id=world.org_b)
    world.execute("DELETE FROM organizations WHERE id = %(id)s", id=world.org_b)


def test_a_fresh_installation_is_filled_as_the_plan_says(world: World, database_url: str, tmp_path: Path) -> None:
    only_one_organization(world)
    done = run(ARGUMENTS, tmp_path, database_url, world.services.settings)
    assert (done.returncode, done.stderr) == (0, "")
    assert "240 routes to 480 channels at http://127.0.0.1:9/hooks/" in done.stdout
    assert "12 organizations, tenant-001 to tenant-012" in done.stdout

    universe = Universe(PLAN)
    assert count(world, "organizations") == 13
    stored = {row["id"]: row for row in world.rows("SELECT *, id::text, org_id::text, channel_ids::text[] FROM routes")}
    assert len(stored) == 240
    for route in universe.routes():
        row = stored[str(route.id)]
        assert row["org_id"] == str(universe.organizations[route.organization][0])
        assert (row["match"], row["matchers"], row["position"]) == (route.match, route.matchers, route.position)
        assert row["channel_ids"] == [str(id_) for id_ in route.channels]
    channels = world.rows("SELECT id::text, org_id::text, config, secrets, type, is_default, enabled FROM channels")
    assert {row["id"] for row in channels} == {id_ for row in stored.values() for id_ in row["channel_ids"]}
    assert len({row["config"]["url"] for row in channels}) == 480
    assert {row["org_id"] for row in channels if row["is_default"]} == {str(id_) for id_, _ in universe.organizations}
    assert sum(row["is_default"] for row in channels) == 12
    keys = world.services.settings.encryption_keys
    assert keys is not None
    for row in channels:
        opened: Any = Vault(keys.get_secret_value()).open(f"channel:{row['org_id']}:{row['id']}", row["secrets"])
        assert opened["secret"].startswith("whsec_")


def test_alerts_of_the_platform_reach_the_seeded_organizations(world: World, database_url: str, tmp_path: Path) -> None:
    only_one_organization(world)
    assert run(ARGUMENTS, tmp_path, database_url, world.services.settings).returncode == 0
    universe = Universe(PLAN)
    operator = world.operator()
    watchers = {service.name: service.watchers for service in universe.services}
    alerts = list(islice(stream(universe, "run"), 30))
    answer = operator.post("/v1/alerts", json=alerts)
    assert (answer.status_code, answer.get_json()["accepted"]) == (202, 30)
    assert count(world, "incidents") == sum(watchers[alert["name"]] for alert in alerts)

    assert operator.post("/v1/alerts", json=list(islice(backbone(universe, "run"), 2))).status_code == 202
    assert count(world, "incidents WHERE source = 'backbone'") == 2 * universe.fan_out

    # Every incident goes to both channels of the one route that wanted it.
    relay = Relay(world.databases.worker, lambda _ids: None, lambda: world.rows("SELECT now()")[0]["now"])
    while relay.step():
        pass
    assert count(world, "notifications") == 2 * count(world, "incidents")
    assert count(world, f"notifications WHERE status = 'pending' AND event_type = '{EventType.OPENED}'") == count(
        world, "notifications"
    )


def test_an_installation_in_use_is_left_alone_without_force(world: World, database_url: str, tmp_path: Path) -> None:
    only_one_organization(world)
    world.execute(
        "INSERT INTO channels (id, org_id, name, type) VALUES (gen_random_uuid(), %(org)s, 'x', 'webhook')",
        org=world.org_a,
    )
    refused = run(ARGUMENTS, tmp_path, database_url, world.services.settings)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "in use (1 channels)" in refused.stderr
    assert "--force" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert count(world, "routes") == 0

    assert run([*ARGUMENTS, "--force"], tmp_path, database_url, world.services.settings).returncode == 0
    again = run([*ARGUMENTS, "--force"], tmp_path, database_url, world.services.settings)
    assert again.returncode == 2
    assert "choose another --seed" in again.stderr
    assert count(world, "routes") == 240
    other = run([*ARGUMENTS, "--force", "--seed", "4"], tmp_path, database_url, world.services.settings)
    assert other.returncode == 0
    assert count(world, "routes") == 480


def test_what_is_wrong_is_one_line(world: World, database_url: str, tmp_path: Path) -> None:
    only_one_organization(world)
    settings = world.services.settings
    for arguments, complaint in (
        (["--organizations", "1"], "2 to 10,000 organizations"),
        (["--routes", "10"], "2 routes for each organization"),
        (["--channels-per-route", "0"], "1 to 10 channels"),
        (["--endpoint", "nowhere"], "http(s) URL"),
    ):
        refused = run(arguments, tmp_path, database_url, settings)
        assert (refused.returncode, refused.stdout) == (2, ""), arguments
        assert complaint in refused.stderr
        assert refused.stderr.count("\n") == 1
    without_keys = run(ARGUMENTS, tmp_path, database_url)
    assert (without_keys.returncode, without_keys.stderr.count("\n")) == (2, 1)
    assert "TOCSIN_ENCRYPTION_KEYS" in without_keys.stderr
    nothing_runs = run(ARGUMENTS, tmp_path, "")
    assert nothing_runs.returncode == 2
    assert "start `tocsin up`, or set DATABASE_URL" in nothing_runs.stderr
    assert count(world, "organizations") == 1


def test_the_embedded_stack_that_runs_here_is_found_with_its_keys(
    world: World, database_url: str, tmp_path: Path
) -> None:
    only_one_organization(world)
    (tmp_path / "stack.json").write_text(json.dumps({"url": "http://x", "database_url": database_url}))
    keys = world.services.settings.encryption_keys
    assert keys is not None
    (tmp_path / "keys.json").write_text(json.dumps({"jwt_key": "k" * 40, "encryption_keys": keys.get_secret_value()}))
    done = run(ARGUMENTS, tmp_path, "")
    assert (done.returncode, done.stderr) == (0, "")
    (row,) = world.rows("SELECT id::text, org_id::text, secrets FROM channels LIMIT 1")
    opened = Vault(keys.get_secret_value()).open(f"channel:{row['org_id']}:{row['id']}", row["secrets"])
    assert set(opened) == {"secret"}
