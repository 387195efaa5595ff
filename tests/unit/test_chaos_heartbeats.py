"""The checker of the chaos runs, heartbeats and windows: a good history passes, each way of breaking one is seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.events import Heartbeats, HeartbeatSpec, Ping, Pulse, Run, Signal, Silenced, Webhook, Window
from tests.chaos.heartbeats import Script
from tests.chaos.routing import UPKEEP
from tests.unit.test_chaos_alerting import PLAIN, T0, Story

JOB = HeartbeatSpec("job", "/ping/job", 1.0, 2.0, 1.0, 0.5)
MOWER = HeartbeatSpec("mower", "/ping/mower", 1.0, 2.0, 1.0, 0.5, team=UPKEEP)
NUMBERS = {"job": 1, "mower": 2}
LAST = 200.0
WINDOW = Window(T0 + 60, T0 + 60.1, T0 + 90, T0 + 90.1, "w")


class Beating(Story):
    """The job falls silent once. The mower does so twice in a window: what is over by its end is never told."""

    def __init__(self) -> None:
        super().__init__()
        for rows in self.tables.values():
            rows.clear()
        self.events = [e for e in self.events if not isinstance(e, Run | Signal | Webhook | Silenced)]
        self.events += [Run(T0, 1, "quick", (), (PLAIN,)), Heartbeats(T0, (JOB, MOWER)), WINDOW]
        self.tables["monitors"] += [
            {"id": id_, "monitor_no": no, "key": None, "name": id_} for id_, no in NUMBERS.items()
        ]
        self.beat(JOB, (30, 50))
        self.beat(MOWER, (62, 75), (80, 110))
        self.incident("job1", JOB, 33, 50.6)
        self.incident("mower1", MOWER, 65, 75.6)
        self.incident("mower2", MOWER, 83, 110.6)
        for event, at in (("job1 opened", 33.5), ("job1 resolved", 51), ("mower2 resolved", 111)):
            self.tell(PLAIN, at, (event,))
        self.tell(PLAIN, 91, ("mower2 opened",), written=83.1)
        self.hold("mower1 opened", PLAIN, "maintenance")
        self.hold("mower1 resolved", PLAIN, "not_announced")

    def beat(self, spec: HeartbeatSpec, *silences: tuple[float, float]) -> None:
        """Pings twice a second, but in the silences; a result at every second from the deadline on."""
        self.events.append(Pulse(T0, spec.id, beats=True))
        for begin, end in silences:
            self.events += [Pulse(T0 + begin, spec.id, beats=False), Pulse(T0 + end, spec.id, beats=True)]
            for second in range(round(begin) + 3, round(end)):
                self.judge(spec, second)
        for half in range(round(LAST * 2)):
            if not any(begin <= half / 2 < end for begin, end in silences):
                self.events.append(Ping(T0 + half / 2, T0 + half / 2 + 0.01, spec.id, 200))

    def judge(self, spec: HeartbeatSpec, at: float, verdict: str = "down") -> None:
        self.tables["results"].append(
            {"monitor_no": NUMBERS[spec.id], "location": 1, "slot_ms": round((T0 + at) * 1000), "kind": "confirm",
             "verdict": verdict, "reason": "heartbeat_missed"}
        )  # fmt: skip

    def incident(self, id_: str, spec: HeartbeatSpec, opened: float, resolved: float) -> None:
        self.tables["incidents"].append(
            {"id": id_, "monitor": spec.id, "dedup_key": f"monitor:{spec.id}", "status": "resolved", "version": 2,
             "reason": "heartbeat_missed", "opened_at": T0 + opened, "resolved_at": T0 + resolved}
        )  # fmt: skip
        for version, (type_, at) in enumerate((("opened", opened), ("resolved", resolved)), 1):
            self.tables["incident_events"].append(
                {"id": f"{id_} {type_}", "incident": id_, "version": version, "type": type_, "at": T0 + at}
            )

    def answer(self, spec: HeartbeatSpec, begin: float, end: float, status: int | None) -> None:
        """Its pings of this time were answered so."""
        self.events = [
            replace(e, status=status)
            if isinstance(e, Ping) and e.monitor == spec.id and T0 + begin <= e.at <= T0 + end
            else e
            for e in self.events
        ]

    def forget(self, incident: str) -> None:
        """Nothing is known of it, and nothing was told."""
        self.drop("incidents", id=incident)
        for table in ("incident_events", "notifications"):
            self.tables[table] = [row for row in self.tables[table] if row["incident"] != incident]
        self.events = [e for e in self.events if not (isinstance(e, Webhook) and e.incident == incident)]


def test_a_good_history_of_heartbeats_passes_and_they_were_checked() -> None:
    report = Beating().report()
    assert report.violations == []
    assert all(report.findings[name].applicable for name in ("I4", "I5", "I7", "A2", "A9", "H1", "H2"))


def tell_within_the_window(story: Beating) -> None:
    story.unhear("msg_mower2 openedplain")
    story.hook(PLAIN, 85, "msg_mower2 openedplain", ("mower2 opened",))


def tell_what_is_over(story: Beating) -> None:
    for type_, at in (("opened", 65), ("resolved", 75.6)):
        story.drop("notifications", event=f"mower1 {type_}")
        story.tell(PLAIN, at + 0.2, (f"mower1 {type_}",))


def never_announce(story: Beating) -> None:
    story.row("notifications", event="mower2 opened").update(status="suppressed", reason="maintenance")
    story.unhear("msg_mower2 openedplain")


def tell_the_job_twice(story: Beating) -> None:
    """Under another id, so that nobody can know that it is the same."""
    story.hook(PLAIN, 34, "msg_other", ("job1 opened",))


def resolve_in_silence(story: Beating) -> None:
    story.row("incidents", id="job1").update(resolved_at=T0 + 40)


DAMAGES: list[tuple[str, str, Callable[[Beating], Any]]] = [
    ("H1", "a silence that nobody is told of", lambda s: s.forget("job1")),
    ("H1", "told too late", lambda s: s.row("incidents", id="job1").update(opened_at=T0 + 44)),
    ("H1", "resolved without a ping", resolve_in_silence),
    ("H1", "resolved long after the pings are back", lambda s: s.row("incidents", id="job1").update(
        resolved_at=T0 + 70)),
    ("H1", "open for ever", lambda s: s.row("incidents", id="job1").update(resolved_at=None, status="open")),
    ("H1", "two at once", lambda s: s.incident("job2", JOB, 40, 45)),
    ("H2", "down although pings were answered", lambda s: s.judge(JOB, 120)),
    ("H2", "a ping's address is not known", lambda s: s.answer(JOB, 10, 11, 404)),
    ("I5", "the end is not told", lambda s: s.unhear("msg_job1 resolvedplain")),
    ("I5", "what is still wrong at the window's end is never told", never_announce),
    ("I6", "paged twice", tell_the_job_twice),
    ("A2", "a job that nobody maintains is held back", lambda s: s.row(
        "notifications", event="mower1 resolved").update(reason="cooldown")),
    ("A9", "told within the window", tell_within_the_window),
    ("A9", "told though it was over before the window", tell_what_is_over),
    ("A9", "held back for a silence that there is not", lambda s: s.row(
        "notifications", event="mower1 opened").update(reason="silenced")),
    ("A9", "held back though nobody maintains it", lambda s: s.row(
        "notifications", event="job1 opened").update(status="suppressed", reason="maintenance")),
    ("A9", "a window that is refused", lambda s: s.events.append(
        Window(T0 + 100, None, None, None, "", refused=500))),
]  # fmt: skip


@pytest.mark.parametrize(("invariant", "how", "damage"), DAMAGES, ids=[f"{i} {how}" for i, how, _ in DAMAGES])
def test_each_way_of_breaking_it_is_seen(invariant: str, how: str, damage: Callable[[Beating], Any]) -> None:
    story = Beating()
    damage(story)
    assert story.report().findings[invariant].violations, how


def deaf(story: Beating) -> None:
    """Pings of four seconds without an answer, and a heartbeat that is down for it."""
    story.answer(JOB, 118, 122, None)
    story.judge(JOB, 121.5)


def test_an_api_that_dies_is_no_reason_for_a_heartbeat_to_be_down() -> None:
    story = Beating()
    deaf(story)
    story.disturb(118, 2, "freeze", "api")
    assert story.report().findings["H2"].violations


@pytest.mark.parametrize(("name", "target"), [("net-blackhole", "api"), ("postgres-stop", "postgres")])
def test_a_ping_that_is_lost_on_its_way_is_one(name: str, target: str) -> None:
    story = Beating()
    deaf(story)
    story.disturb(118, 4, name, target)
    assert story.report().findings["H2"].violations == []


def test_a_silence_beside_a_fault_need_not_be_told_unless_it_was_seen() -> None:
    story = Beating()
    story.forget("job1")
    story.disturb(30, 12, "freeze", "api")
    assert [said.split(" in ")[0] for said in story.report().findings["H1"].violations] == [
        "/ping/job was judged down 17 times"
    ]
    story.tables["results"].clear()
    assert story.report().findings["H1"].violations == []


def test_a_heartbeat_s_script_is_the_seed_s() -> None:
    def course(seed: str) -> list[bool]:
        script = Script(seed, (8.0, 12.0), (10.0, 14.0))
        return [script.beats(second / 2) for second in range(200)]

    assert course("1") == course("1") != course("2")
    assert {True, False} == set(course("1"))
