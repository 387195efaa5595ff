"""Uptime over days in what Prometheus is told: counted beside the scrapes, as reports count it, for its owner alone."""

from __future__ import annotations

import pytest

from common.domain.health import Health
from common.store.engine import Database
from tests import api_cast
from tests.api_cast import World
from tests.integration.test_prometheus_series import told
from tests.rollup_world import Past, Tenant
from tests.stack import wait_until

world = api_cast.world


@pytest.fixture
def past(world: World, database_url: str) -> Past:
    return Past(world.databases, Tenant(database_url, world.org_a))


def test_the_first_scrape_begins_to_count_and_the_next_ones_tell(world: World, past: Past) -> None:
    number = past.plain()
    past.results(number, past.every_minute(), latency_ms=40)
    past.health(number, past.start_ms + 600_000, Health.DOWN)
    past.health(number, past.start_ms + 1_200_000, Health.UP)
    past.roll_all()
    assert not any(name.startswith("monitor_uptime_ratio") for name in told(world))
    ratio, mean = "monitor_uptime_ratio window={}", "monitor_response_time_seconds window={}"
    wait_until(lambda: all(ratio.format(window) in told(world) for window in ("1d", "30d", "365d")), 60)
    found = told(world)
    id_ = world.rows("SELECT id FROM monitors WHERE monitor_no = %(no)s", no=number)[0]["id"]
    reported = world.alice.get(f"/v1/monitors/{id_}/uptime?window=24h").get_json()["uptime"]
    covered = world.alice.get(f"/v1/reports/slo?monitor_id={id_}&window=24h").get_json()["total"]["coverage"]
    for window in ("1d", "30d", "365d"):
        assert found[f"tocsin_monitor_coverage_ratio window={window}"] == pytest.approx(covered, abs=0.02)
        assert found[ratio.format(window)] == pytest.approx(reported, abs=0.002) == pytest.approx(50 / 60, abs=0.02)
    for window in ("1d", "30d"):
        assert found[mean.format(window)] == pytest.approx(0.04, rel=0.05)
    assert mean.format("365d") not in found  # a year of buckets is more than a figure is worth
    assert not any("window=" in line for line in world.charlie.get("/prometheus/metrics").text.splitlines()
                   if str(id_) in line)  # fmt: skip


def test_what_was_counted_is_kept_and_a_database_that_is_away_hurts_nobody(world: World) -> None:
    from api.uptime_ratios import UptimeRatios

    class Machine:
        now_s = 1_000.0

    away = Database("postgresql://nobody@127.0.0.1:1/none", world.services.database._role, application="test")
    ratios = UptimeRatios(away, monotonic=lambda: Machine.now_s)
    assert ratios.of(world.org_a) == {"1d": {}, "30d": {}, "365d": {}}
    wait_until(lambda: all(not entry.making for entry in ratios._entries.values()), 60)
    made = {key: entry.made_s for key, entry in ratios._entries.items()}
    assert ratios.of(world.org_a) == {"1d": {}, "30d": {}, "365d": {}}
    assert {key: entry.made_s for key, entry in ratios._entries.items()} == made  # not again before its time
    Machine.now_s += 1_801
    for _ in range(3):
        ratios.of(world.org_b)
        assert len(ratios._due) <= 3  # however many ask, each window is counted once, one after the other
    assert {org for org, _ in ratios._entries} == {world.org_b}
    wait_until(lambda: all(not entry.making for entry in ratios._entries.values()), 60)
    away.dispose()
