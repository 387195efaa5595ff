"""What the leader counts of incidents and of what waits: each once, by whoever leads, and only then."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from prometheus_client import REGISTRY

from common.clock import from_ms, utc_now
from common.domain.checks import Verdict
from common.domain.health import Health
from scheduler.figures import Figures
from tests import api_cast
from tests.api_cast import World
from tests.rollup_world import Past, Tenant

world = api_cast.world


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def everything() -> dict[str, float]:
    """What is counted; gauges aside."""
    names = ("tocsin_incidents_opened_total", "tocsin_incident_detection_seconds_count",
             "tocsin_incident_acknowledgement_seconds_count", "tocsin_incident_resolution_seconds_count")  # fmt: skip
    return {
        name: sum(sample.value for metric in REGISTRY.collect() for sample in metric.samples if sample.name == name)
        for name in names
    }


class Clock:
    """The database's time, as far ahead as a test wants."""

    ahead = timedelta()

    def now(self) -> datetime:
        return utc_now() + self.ahead


def test_each_event_is_counted_once_and_what_is_open_is_shown(world: World) -> None:
    clock, leads = Clock(), [True]
    figures = Figures(world.databases.worker, lambda: leads[0], clock.now)
    world.open_incident(world.alice.make_monitor(name="old"))
    time.sleep(0.005)
    clock.ahead = timedelta(seconds=10)  # as if it looked up to this very moment
    figures.step()  # what happened before the term is not ours to count
    before = everything()
    time.sleep(0.005)
    one = world.open_incident(world.alice.make_monitor(name="one"))
    world.alice.post("/v1/incidents", json={"title": "By hand", "severity": "critical"})
    for status in ("acknowledged", "resolved"):
        assert world.alice.patch(f"/v1/incidents/{one}/status", json={"status": status}).status_code == 200
    clock.ahead = timedelta(seconds=60)
    figures.step()
    figures.step()
    counted = {name: after - before[name] for name, after in everything().items()}
    assert counted == {
        "tocsin_incidents_opened_total": 2,
        "tocsin_incident_detection_seconds_count": 0,  # there are no results that say when it began
        "tocsin_incident_acknowledgement_seconds_count": 1,
        "tocsin_incident_resolution_seconds_count": 1,
    }
    assert value("tocsin_incidents_open", severity="error", status="open") == 1
    assert value("tocsin_incidents_open", severity="critical", status="open") == 1
    assert value("tocsin_incidents_open", severity="error", status="acknowledged") == 0
    assert value("tocsin_outbox_events") == 5
    assert 0 < value("tocsin_outbox_oldest_seconds") < 60
    leads[0] = False
    clock.ahead = timedelta(seconds=120)
    world.open_incident(world.alice.make_monitor(name="later"))
    figures.step()
    assert {name: after - before[name] for name, after in everything().items()} == counted
    # Who leads no more must not go on showing what it saw last.
    assert value("tocsin_outbox_events") == 0
    assert value("tocsin_incidents_open", severity="critical", status="open") == 0


def test_time_to_detect_is_from_the_first_failure_after_the_last_success(world: World, database_url: str) -> None:
    past = Past(world.databases, Tenant(database_url, world.org_a))
    number = past.plain(health=Health.UP)
    at = past.start_ms
    past.results(number, [at + minute * 60_000 for minute in range(3)])
    past.results(number, [at + 180_000, at + 240_000], Verdict.DOWN)
    monitor = world.rows("SELECT id::text FROM monitors WHERE monitor_no = %(no)s", no=number)[0]
    incident = world.open_incident(monitor)
    world.execute("UPDATE incidents SET opened_at = %(at)s WHERE id = %(id)s", at=from_ms(at + 241_000), id=incident)
    from common.store import incident_figures

    with world.databases.worker.begin() as connection:
        assert incident_figures.detected_after_s(connection, [incident]) == [61.0]
        assert incident_figures.detected_after_s(connection, []) == []
