"""A flapping monitor from its results to what people get: one notice, then silence until it has calmed down."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from common.clock import utc_now
from common.domain.checks import Verdict
from common.domain.flapping import TURNS, flap_of
from common.domain.incident import Status
from common.store import incident_changes, incidents
from common.store.incidents import Deed
from tests.conftest import Databases
from tests.integration.test_writer import Bench
from tests.stack import Seed
from tests.world import World

U, D = Verdict.UP, Verdict.DOWN
DEED = Deed("user:u", utc_now(), "r")

#: Three outages of one check each.
THREE = (U, D, U, D, U, D, U)


class Course(Bench):
    """A monitor that flaps after six turns; every result is written by a writer of its own, as after a restart."""

    def __init__(self, databases: Databases, seed: Seed, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(databases, seed, loop)
        self.world = World(databases.owner, databases.worker)
        self.seed.org_id = self.world.org_id
        self.world.channel("http://127.0.0.1:9/")
        self.number = self.monitor(failure_threshold=1)
        config = self.configs[self.number]
        self.configs[self.number] = replace(
            config, policy=replace(config.policy, flap=flap_of(TURNS, config.interval_s))
        )
        self.slot = 0

    def go_on(self, verdicts: Sequence[Verdict]) -> None:
        for verdict in verdicts:
            self.slot += 1
            writer = self.another()
            self.submit([self.judged(self.number, self.slot, verdict)], writer)
            self.drain(writer)

    def state(self) -> tuple[bool, int]:
        """Whether it flaps, and how many turns are kept."""
        [row] = self.seed.run("SELECT flapping, cardinality(turns) FROM monitor_states")
        return (row[0], row[1])

    def timeline(self) -> list[str]:
        return [row[0] for row in self.seed.run("SELECT type FROM incident_events ORDER BY id")]

    def told(self) -> list[str]:
        self.world.relay_all()
        return [row[0] for row in self.world.statuses()]

    def incident(self) -> tuple[str, str, str]:
        """(id, status, title) of the newest."""
        [row] = self.seed.run("SELECT id::text, status, title FROM incidents ORDER BY opened_at DESC LIMIT 1")
        return (row[0], row[1], row[2])


@pytest.fixture
def course(databases: Databases, database_url: str) -> Iterator[Course]:
    loop = asyncio.new_event_loop()
    yield Course(databases, Seed(database_url), loop)
    loop.close()


ROUND = ["opened", "resolved", "opened", "resolved", "opened", "flapping"]
HEARD = ["opened", "resolved", "opened", "resolved", "opened", "reminder"]


def test_the_end_of_the_third_outage_is_one_notice_and_then_nobody_hears_anything(course: Course) -> None:
    course.go_on(THREE)
    assert course.incident()[1:] == ("open", "http://shop is flapping")
    assert course.state() == (True, 6)
    [data] = [row[0] for row in course.seed.run("SELECT data FROM incident_events WHERE type = 'flapping'")]
    assert data == {"turns": 6, "seconds": 150}
    course.go_on([D, U] * 4)
    assert (course.timeline(), course.told()) == (ROUND, HEARD)
    assert course.seed.run("SELECT health, incident_worst FROM monitor_states") == [
        (1, 3)
    ]  # what is, and what was told


def test_one_that_calms_down_well_is_resolved_and_the_next_outage_is_a_new_one(course: Course) -> None:
    course.go_on([*THREE, D, U, *[U] * 9])
    assert course.state()[0]
    course.go_on([U])
    assert course.state() == (False, 0)
    assert course.incident()[1] == "resolved"
    course.go_on([D, U])
    assert course.timeline() == [*ROUND, "resolved", "opened", "resolved"]
    assert course.told() == [*HEARD, "resolved", "opened", "resolved"]


def test_one_that_calms_down_ill_is_told_once_more_and_resolved_as_any_other(course: Course) -> None:
    course.go_on([*THREE, *[D] * 15])
    assert course.incident()[1:] == ("open", "http://shop is down")
    assert course.told() == [*HEARD, "reminder"]
    course.go_on([U])
    assert course.timeline() == [*ROUND, "settled", "resolved"]
    assert course.told() == [*HEARD, "reminder", "resolved"]


def test_what_we_cannot_see_calms_nobody(course: Course) -> None:
    course.go_on([*THREE, *[Verdict.UNKNOWN] * 30])
    assert course.state()[0]
    course.go_on([U])
    assert course.incident()[1] == "resolved"


def test_who_resolves_it_by_hand_ends_the_flapping(course: Course) -> None:
    course.go_on(THREE)
    with course.databases.api.begin(course.seed.org_id) as connection:
        incident_changes.set_status(
            connection, org_id=course.seed.org_id, incident_id=course.incident()[0], wanted=Status.RESOLVED, deed=DEED
        )
    assert course.state() == (False, 0)
    course.go_on([D])
    assert course.timeline() == [*ROUND, "resolved", "opened"]


def test_a_pause_ends_it_too(course: Course) -> None:
    course.go_on(THREE)
    with course.databases.api.begin(course.seed.org_id) as connection:
        incidents.close_for_monitors(connection, {course.number: 1}, cause={"reason": "paused"}, deed=DEED)
    assert course.state() == (False, 0)
    assert course.incident()[1] == "resolved"


def test_a_writer_of_the_version_before_that_resolves_it_leaves_nothing_behind(course: Course) -> None:
    course.go_on(THREE)
    # What it writes: all but the new columns.
    course.seed.run("UPDATE incidents SET status = 'resolved', resolved_at = now() WHERE status <> 'resolved'")
    course.seed.run("UPDATE monitor_states SET incident_worst = NULL, open_incident = NULL")
    course.go_on([D])
    assert course.state()[0] is False
    assert course.incident()[1] == "open"
