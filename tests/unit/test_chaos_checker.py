"""The checker of the chaos runs: a good history passes, and each way of breaking an invariant is seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from common.domain.delivery import LEASE
from common.domain.health import Health
from common.domain.slots import next_slot, phase_ms
from common.domain.traces import check_id
from tests.chaos.checker import INVARIANTS, check
from tests.chaos.events import (
    BROKEN_OFF,
    IN_VAIN,
    ChannelSpec,
    Death,
    Event,
    Fault,
    Final,
    MonitorSpec,
    Phase,
    Probed,
    Run,
    Sample,
    Truth,
    Webhook,
    Write,
)

T0, HEAL, END = 1_000_000.0, 1_000_060.0, 1_000_120.0
SHOP = MonitorSpec("shop", 1, "/shop", 1.0, 1.0, 2, 1, 1.0)
STEADY = MonitorSpec("steady", 2, "/steady", 1.0, 1.0, 2, 1, 1.0)
HOOK, OTHER = ChannelSpec("c1", "/hook", hostile=False), ChannelSpec("c2", "/other", hostile=True)


class Story:
    """A run of two minutes in which /shop fails from 29 s to 50 s, is told of on two channels, and all is well."""

    def __init__(self) -> None:
        self.events: list[Event] = [
            Run(T0, 1, "quick", (SHOP, STEADY), (HOOK, OTHER)),
            Phase(T0, "warm"),
            Truth(T0, "shop", up=True),
            Truth(T0, "steady", up=True),
            Truth(T0 + 29, "shop", up=False),
            Truth(T0 + 50, "shop", up=True),
            Phase(HEAL, "heal"),
            Write(T0 + 5, T0 + 5.1, "PUT", "/v1/monitors/by-key/k", "k", 201),
            Write(T0 + 6, T0 + 9, "PUT", "/v1/monitors/by-key/k", "k", None),
        ]
        self.tables: dict[str, list[dict[str, Any]]] = {
            "monitors": [{"key": "k", "name": f"k {T0 + 5:.6f}"}],
            "incidents": [
                {"id": "i", "monitor": "shop", "dedup_key": "monitor:shop", "status": "resolved", "version": 2,
                 "reason": "status_mismatch", "opened_at": T0 + 31, "resolved_at": T0 + 51},
            ],
            "incident_events": [
                {"id": "e1", "incident": "i", "version": 1, "type": "opened", "at": T0 + 31},
                {"id": "e2", "incident": "i", "version": 2, "type": "resolved", "at": T0 + 51},
            ],
            "notifications": [],
            "outbox": [],
            "monitor_states": [
                {"monitor_no": spec.no, "health": Health.UP.value, "open_incident": None} for spec in (SHOP, STEADY)
            ],
            "results": [row for spec in (SHOP, STEADY) for row in results(spec)],
            "lease_writes": [lease(1, "a", 1, None), lease(2, "a", 1, ("a", 1)), lease(3, "b", 2, ("a", 1))],
            "queues": [{"queue": "checks.local", "waiting": 1, "bodies": 2, "set_aside": 0}],
            "acks": [{"queue": "checks.local", "broker": "x", "held": 1, "alive": True}],
        }  # fmt: skip
        for event, at in (("e1", T0 + 31.1), ("e2", T0 + 51.1)):
            for channel in (HOOK, OTHER):
                self.tell(event, channel, at)

    def tell(self, event: str, channel: ChannelSpec, at: float) -> None:
        row = {"id": f"{event}{channel.id}", "event": event, "channel": channel.id, "status": "sent", "reason": None}
        self.tables["notifications"].append(row)
        self.hook(event, channel, at)

    def hook(self, event: str, channel: ChannelSpec, at: float, *, ambiguous: bool = False, id_: str = "") -> None:
        type_ = "incident.opened" if event == "e1" else "incident.resolved"
        self.events.append(
            Webhook(at, channel.path, id_ or f"msg_{event}{channel.id}", type_, "i", "shop", accepted=not ambiguous,
                    ambiguous=ambiguous)
        )  # fmt: skip

    def row(self, table: str, **wanted: Any) -> dict[str, Any]:
        return next(row for row in self.tables[table] if all(row[key] == value for key, value in wanted.items()))

    def drop(self, table: str, **wanted: Any) -> None:
        self.tables[table].remove(self.row(table, **wanted))

    def unhear(self, webhook_id: str) -> None:
        self.events = [e for e in self.events if not (isinstance(e, Webhook) and e.webhook_id == webhook_id)]

    def result(self, spec: MonitorSpec, at: float) -> dict[str, Any]:
        return next(r for r in self.tables["results"] if r["monitor_no"] == spec.no and r["slot_ms"] >= at * 1000)

    def disturb(self, at: float, *, seconds: float = 0.0, name: str = "kill", target: str = "notifier-1",
                outcome: str = "") -> None:  # fmt: skip
        self.events += [Fault(at, name, begins=True, target=target),
                        Fault(at + seconds, name, begins=False, target=target, outcome=outcome)]  # fmt: skip

    def miss(self, spec: MonitorSpec, begin: float, end: float) -> None:
        """Its slots of this time are not stored."""
        span = range(round(begin * 1000), round(end * 1000))
        self.tables["results"] = [
            r for r in self.tables["results"] if not (r["monitor_no"] == spec.no and r["slot_ms"] in span)
        ]

    def stand_still(self, begin: float, end: float) -> None:
        """Nothing is checked from then to then, the outage aside."""
        for spec in (SHOP, STEADY):
            self.miss(spec, begin, end)

    def ask(self, *unasked: int) -> None:
        """The endpoints were asked for every slot that is stored, but for these."""
        for row in self.tables["results"]:
            if row["slot_ms"] not in unasked:
                self.asked(SHOP if row["monitor_no"] == SHOP.no else STEADY, row["slot_ms"])

    def asked(self, spec: MonitorSpec, slot_ms: int) -> None:
        trace = check_id(spec.id, 1, slot_ms)[:16]
        self.events.append(Probed(slot_ms / 1000 + 0.2, (spec.path,), (trace,), (100,)))

    def report(self) -> Any:
        return check([*self.events, Final(END, self.tables)])


def results(spec: MonitorSpec) -> list[dict[str, Any]]:
    slot = next_slot(round(T0 * 1000), 1000, phase_ms(spec.id, 1000))
    rows = []
    while slot < END * 1000:
        failing = spec is SHOP and T0 + 29 <= slot / 1000 < T0 + 50
        verdict, reason = ("down", "status_mismatch") if failing else ("up", "none")
        rows.append({"monitor_no": spec.no, "location": 1, "slot_ms": slot, "kind": "scheduled", "verdict": verdict,
                     "reason": reason})  # fmt: skip
        slot += 1000
    return rows


def lease(no: int, holder: str, epoch: int, old: tuple[str, int] | None) -> dict[str, Any]:
    at = T0 + no * 10
    return {"no": no, "at": at, "operation": "UPDATE" if old else "INSERT", "holder": holder, "epoch": epoch,
            "expires_at": at + 5, "old_holder": old[0] if old else None, "old_epoch": old[1] if old else None,
            "old_expires_at": at - 5 if old else None}  # fmt: skip


def test_a_good_history_passes_and_every_invariant_had_something_to_check() -> None:
    report = Story().report()
    assert report.violations == []
    about_alerts = ["A1", "A3", "A4", "A5", "A6", "A7", "A8"]  # tests/unit/test_chaos_alerting.py
    about_heartbeats = ["A9", "H1", "H2"]  # tests/unit/test_chaos_heartbeats.py
    nothing_to_check = [name for name, finding in report.findings.items() if not finding.applicable]
    assert nothing_to_check == ["I6", "L1", *about_alerts, *about_heartbeats]
    assert list(report.findings) == list(INVARIANTS)
    numbered = [f"I{n}" for n in range(1, 12)], ["L1"], [f"A{n}" for n in range(1, 10)], ["H1", "H2"]
    assert list(INVARIANTS) == [name for names in numbered for name in names]
    assert report.totals["incidents"] == 1 and report.totals["outages"] == 1 and report.totals["lost"] == 0


def second_incident(story: Story, opened: float, resolved: float | None, **fields: Any) -> None:
    story.tables["incidents"].append(
        {**story.tables["incidents"][0], "id": "i2", "opened_at": T0 + opened, "version": 1 + (resolved is not None),
         "resolved_at": None if resolved is None else T0 + resolved,
         "status": "open" if resolved is None else "resolved", **fields}
    )  # fmt: skip
    types = ["opened", "resolved"][: 1 + (resolved is not None)]
    for version, type_ in enumerate(types, 1):
        story.tables["incident_events"].append(
            {"id": f"x{version}", "incident": "i2", "version": version, "type": type_, "at": T0 + opened}
        )


def stay_blind(story: Story) -> None:
    """No check of the outage is stored."""
    story.tables["results"] = [row for row in story.tables["results"] if row["verdict"] == "up"]


def blink(story: Story, *, failures: int) -> None:
    """/steady fails so shortly that only so many checks see it."""
    story.events += [Truth(T0 + 80, "steady", up=False), Truth(T0 + 80 + failures, "steady", up=True)]
    for second in range(failures):
        story.result(STEADY, T0 + 80 + second).update(verdict="down", reason="status_mismatch")


def announce(story: Story, opened: float, resolved: float) -> None:
    """An incident of /steady that everybody hears of."""
    second_incident(story, opened, resolved, monitor="steady", dedup_key="k2")
    for event, type_, at in (("x1", "opened", opened), ("x2", "resolved", resolved)):
        for channel in (HOOK, OTHER):
            id_ = f"{event}{channel.id}"
            story.tables["notifications"].append(
                {"id": id_, "event": event, "channel": channel.id, "status": "sent", "reason": None}
            )
            story.events.append(Webhook(T0 + at, channel.path, f"msg_{id_}", f"incident.{type_}", "i2", "steady",
                                        accepted=True, ambiguous=False))  # fmt: skip


def lose_incident(story: Story) -> None:
    for table in ("incidents", "incident_events", "notifications"):
        story.tables[table].clear()
    story.events = [e for e in story.events if not isinstance(e, Webhook)]


def reopen(story: Story) -> None:
    story.row("incidents", id="i").update(status="open", resolved_at=None, version=1)
    story.drop("incident_events", id="e2")
    for channel in ("c1", "c2"):
        story.drop("notifications", id=f"e2{channel}")
        story.unhear(f"msg_e2{channel}")


def swap_order(story: Story) -> None:
    for event, at in (("e1", T0 + 52), ("e2", T0 + 51.1)):
        story.unhear(f"msg_{event}c1")
        story.hook(event, HOOK, at)


def corrupt_lease(story: Story) -> None:
    story.tables["lease_writes"].append(lease(4, "a", 1, ("b", 2)))


def usurp(story: Story) -> None:
    story.tables["lease_writes"][2]["old_expires_at"] = story.tables["lease_writes"][2]["at"] + 3


def grow(story: Story) -> None:
    story.events += [Sample(T0 + n, "worker-1", 5, 100.0 + 3 * n, 40) for n in range(0, 100, 5)]


def leak(story: Story) -> None:
    story.events += [Sample(T0 + n, "worker-1", 5, 100.0, 40 + 3 * n) for n in range(0, 100, 5)]


def lose(story: Story, *, name: str, target: str, back_after: float, seconds: float = 0.0) -> None:
    """Something is lost at 70 s, and checks are made again so long after its end."""
    story.disturb(T0 + 70, seconds=seconds, name=name, target=target)
    story.stand_still(T0 + 70, T0 + 70 + seconds + back_after)
    story.ask()


def stick(story: Story, where: str) -> None:
    story.tables["stuck"] = [{"queue": "checks.local", "id": "m1", "where": where, "broker": "b"}]


def append_event(story: Story, **event: Any) -> None:
    story.tables["incident_events"].append({"id": "e3", "incident": "i", "at": T0 + 52, **event})


Break = Callable[[Story], Any]
BROKEN: list[tuple[str, str, Break]] = [
    ("I1", "an acknowledged monitor is gone", lambda s: s.tables["monitors"].clear()),
    ("I1", "an acknowledged change is undone", lambda s: s.row("monitors", key="k").update(name=f"k {T0 + 4:.6f}")),
    ("I1", "an internal error", lambda s: s.events.append(Write(T0, T0, "PUT", "/x", "j", 500))),
    ("I2", "an outage that nobody told of", lose_incident),
    ("I2", "told of much too late", lambda s: s.row("incidents", id="i").update(opened_at=T0 + 40)),
    ("I2", "two incidents of one outage", lambda s: second_incident(s, 40, 52)),
    ("I2", "resolved in the middle of it", lambda s: s.row("incidents", id="i").update(resolved_at=T0 + 40)),
    ("I2", "still open long after", reopen),
    ("I2", "resolved long after", lambda s: s.row("incidents", id="i").update(resolved_at=T0 + 70)),
    ("I2", "nobody told of it, and only an API died", lambda s: [
        lose_incident(s), stay_blind(s), s.disturb(T0 + 35, target="api")]),
    ("I2", "nobody told of it, and a worker died only at its end", lambda s: [
        lose_incident(s), stay_blind(s), s.disturb(T0 + 45, target="worker-1")]),
    ("I2", "seen in the dark and not told of", lambda s: [
        lose_incident(s), s.disturb(T0 + 29, seconds=25, target="worker-1")]),
    ("I2", "seen often enough and not told of", lambda s: blink(s, failures=3)),
    ("I2", "the next outage is not told of", lambda s: s.events.extend(
        [Truth(T0 + 50.5, "shop", up=False), Truth(T0 + 70, "shop", up=True)])),
    ("I3", "an incident of what stayed up", lambda s: second_incident(s, 70, 80, monitor="steady", dedup_key="k2")),
    ("I3", "an incident long before the outage", lambda s: second_incident(s, 10, 20)),
    ("I3", "an incident of a blip", lambda s: [blink(s, failures=1), announce(s, 81, 82)]),
    ("I3", "a check judged down five seconds before the outage",
     lambda s: s.result(SHOP, T0 + 23).update(verdict="down")),
    ("I3", "a check judged down while it was up", lambda s: s.result(STEADY, T0 + 70).update(verdict="down")),
    ("I3", "a check judged degraded while it was up", lambda s: s.result(SHOP, T0 + 70).update(verdict="degraded")),
    ("I4", "two open incidents of one monitor", lambda s: [second_incident(s, 31, None), reopen(s)]),
    ("I4", "two open at once, for a while", lambda s: second_incident(s, 40, 52)),
    ("I4", "a state that names no incident", reopen),
    ("I4", "a state that names an incident of the past",
     lambda s: s.row("monitor_states", monitor_no=1).update(open_incident="i")),
    ("I4", "a state that is down without an incident",
     lambda s: s.row("monitor_states", monitor_no=2).update(health=Health.DOWN.value)),
    ("I4", "it goes on after its end", lambda s: [append_event(s, version=3, type="escalated"),
                                                  s.row("incidents", id="i").update(version=3)]),
    ("I4", "a version is missing", lambda s: s.row("incident_events", id="e2").update(version=3)),
    ("I4", "the incident is further than its timeline", lambda s: s.row("incidents", id="i").update(version=3)),
    ("I4", "opened twice", lambda s: [append_event(s, version=3, type="opened"),
                                      s.row("incidents", id="i").update(version=3)]),
    ("I4", "a timeline without an incident", lambda s: append_event(s, version=1, type="opened", incident="gone")),
    ("I5", "no ledger row for a channel", lambda s: s.drop("notifications", id="e1c2")),
    ("I5", "given up", lambda s: s.row("notifications", id="e1c1").update(status="dead")),
    ("I5", "suppressed", lambda s: s.row("notifications", id="e2c1").update(status="suppressed")),
    ("I5", "said to be sent, never arrived", lambda s: s.unhear("msg_e1c1")),
    ("I5", "half a minute late", lambda s: [s.unhear("msg_e2c1"), s.hook("e2", HOOK, HEAL + 31)]),
    ("I5", "half a minute late in fair weather", lambda s: [
        s.events.remove(Phase(HEAL, "heal")), s.events.append(Phase(T0 + 100, "heal")),
        s.unhear("msg_e2c1"), s.hook("e2", HOOK, T0 + 82)]),
    ("I5", "a message that the ledger does not know", lambda s: s.hook("e1", HOOK, T0 + 32, id_="msg_made-up")),
    ("I6", "a duplicate without a reason", lambda s: s.hook("e1", HOOK, T0 + 32)),
    ("I6", "a duplicate under another id", lambda s: [
        s.tables["notifications"].append({"id": "zz", "event": "e1", "channel": "c9", "status": "sent", "reason": ""}),
        s.hook("e1", HOOK, T0 + 31.5, id_="msg_zz")]),
    ("I6", "a duplicate long after what died", lambda s: [s.disturb(T0 + 20), s.hook("e1", HOOK, T0 + 32)]),
    ("I6", "a duplicate before what died", lambda s: [s.hook("e1", HOOK, T0 + 57), s.disturb(T0 + 50)]),
    ("I6", "a duplicate of one who was asked to stop", lambda s: [
        s.disturb(T0 + 31, seconds=2, name="restart"), s.events.append(Death(T0 + 32, "notifier-1", 7, "stop")),
        s.hook("e1", HOOK, T0 + 57)]),
    ("I6", "a duplicate beside an order to die that nobody met", lambda s: [
        s.disturb(T0 + 31, seconds=2, name="failpoint"), s.hook("e1", HOOK, T0 + 57)]),
    ("I6", "a duplicate on a channel whose receiver was busy", lambda s: [
        s.disturb(T0 + 31, seconds=2, name="sink-busy", target="/hook"), s.hook("e1", HOOK, T0 + 57)]),
    ("I6", "a duplicate beside the death of another", lambda s: [
        s.disturb(T0 + 31.5, target="worker-1"), s.hook("e1", HOOK, T0 + 32)]),
    ("I6", "a duplicate while the queue is away", lambda s: [
        s.disturb(T0 + 31.5, name="redis-kill", target="redis"), s.hook("e1", HOOK, T0 + 32)]),
    ("I6", "a duplicate long after its lease was over", lambda s: [
        s.disturb(T0 + 31.5), s.hook("e1", HOOK, T0 + 31.1 + LEASE.total_seconds() + 11)]),
    ("I6", "a duplicate beside a failpoint that nobody met", lambda s: [
        s.disturb(T0 + 31.5, outcome=IN_VAIN), s.hook("e1", HOOK, T0 + 32)]),
    ("I7", "the end before the beginning", swap_order),
    ("I7", "the end was never told", lambda s: s.unhear("msg_e2c2")),
    ("I7", "the end of what goes on", lambda s: s.row("incidents", id="i").update(status="open")),
    ("I8", "two results of one slot", lambda s: s.tables["results"].append(dict(s.tables["results"][5]))),
    ("I9", "a slot is missing in fair weather",
     lambda s: s.tables["results"].remove(s.result(STEADY, T0 + 70))),
    ("I9", "a slot is missing beside the death of a notifier", lambda s: [
        s.disturb(T0 + 69), s.tables["results"].remove(s.result(STEADY, T0 + 70))]),
    ("I9", "a slot is missing while a receiver does not answer", lambda s: [
        s.disturb(T0 + 69, seconds=3, name="net-blackhole", target="sink"),
        s.tables["results"].remove(s.result(STEADY, T0 + 70))]),
    ("I9", "a slot is missing long after a fault", lambda s: [
        s.disturb(T0 + 40, seconds=5), s.tables["results"].remove(s.result(STEADY, T0 + 70))]),
    ("I9", "a slot is missing beside a fault that never took hold", lambda s: [
        s.disturb(T0 + 69.5, target="worker-1", outcome=IN_VAIN),
        s.tables["results"].remove(s.result(STEADY, T0 + 70))]),
    ("I9", "a slot is missing five seconds after a worker died", lambda s: [
        s.disturb(T0 + 65, target="worker-1"), s.tables["results"].remove(s.result(STEADY, T0 + 70))]),
    ("I9", "a slot is missing long after the leader stood still, which goes on", lambda s: [
        s.disturb(T0 + 60, seconds=20, name="freeze-leader", target="scheduler-1"),
        s.tables["results"].remove(s.result(STEADY, T0 + 70))]),
    ("I9", "a slot is missing while messages are only shuffled", lambda s: [
        s.disturb(T0 + 69, seconds=3, name="queue-shuffle", target="redis"),
        s.tables["results"].remove(s.result(STEADY, T0 + 70))]),
    ("I9", "a slot is missing while a worker has no network", lambda s: [
        s.disturb(T0 + 69, seconds=3, name="egress-mute", target="worker-1"),
        s.tables["results"].remove(s.result(STEADY, T0 + 70))]),
    ("I9", "a slot is missing while the slow lane is flooded", lambda s: [
        s.disturb(T0 + 69, seconds=3, name="slow-flood", target="flood"),
        s.tables["results"].remove(s.result(STEADY, T0 + 70))]),
    ("I9", "a check was made and its result is gone, and only Redis was away", lambda s: [
        s.ask(), s.disturb(T0 + 69.5, name="redis-kill", target="redis"),
        s.tables["results"].remove(s.result(STEADY, T0 + 70))]),
    ("I9", "two results of one slot, scheduled", lambda s: s.tables["results"].append(dict(s.tables["results"][50]))),
    ("I9", "a result of a slot that was not due",
     lambda s: s.tables["results"].append(s.tables["results"][50] | {"slot_ms": int((T0 + 60.0005) * 1000)})),
    ("I9", "judged up without a question", lambda s: s.ask(s.result(STEADY, T0 + 70)["slot_ms"])),
    ("L1", "eight seconds without a leader",
     lambda s: lose(s, name="kill-leader", target="scheduler-1", back_after=8)),
    ("L1", "eight seconds while the leader stands still",
     lambda s: lose(s, name="freeze-leader", target="scheduler-1", seconds=9, back_after=-1)),
    ("L1", "sixteen seconds after Redis is back",
     lambda s: lose(s, name="redis-pause", target="redis", seconds=4, back_after=16)),
    ("L1", "nothing for twenty seconds after a worker was killed",
     lambda s: lose(s, name="kill", target="worker-1", back_after=21)),
    ("L1", "one monitor of two is not checked any more", lambda s: [
        s.disturb(T0 + 70, name="kill-leader", target="scheduler-1"), s.miss(SHOP, T0 + 70, T0 + 90), s.ask()]),
    ("L1", "asked again in time, and nothing stored", lambda s: [
        s.ask(), s.disturb(T0 + 70, name="kill-leader", target="scheduler-1"), s.stand_still(T0 + 70, T0 + 90)]),
    ("I10", "a write under an old epoch", corrupt_lease),
    ("I10", "taken before it had expired", usurp),
    ("I10", "an epoch is left out",
     lambda s: s.tables["lease_writes"].append(lease(4, "c", 4, ("b", 2)))),
    ("I10", "another holder under the same epoch",
     lambda s: s.tables["lease_writes"].append(lease(4, "c", 2, ("b", 2)))),
    ("I10", "the lease deleted", lambda s: s.tables["lease_writes"][1].update(operation="DELETE")),
    ("I11", "events left in the outbox", lambda s: s.tables["outbox"].append({"id": 1})),
    ("I11", "a notification left pending", lambda s: s.row("notifications", id="e1c1").update(status="pending")),
    ("I11", "messages held by the dead", lambda s: s.tables["acks"][0].update(alive=False)),
    ("I11", "a message that a living process never ends", lambda s: stick(s, "held")),
    ("I11", "a message that nobody takes", lambda s: stick(s, "waits")),
    ("I11", "a message that is stored for nobody", lambda s: stick(s, "stored")),
    ("I11", "messages set aside for no reason", lambda s: s.tables["queues"][0].update(set_aside=1)),
    ("I11", "memory that grows", grow),
    ("I11", "files that are never closed", leak),
]  # fmt: skip


@pytest.mark.parametrize(("invariant", "how", "damage"), BROKEN, ids=[f"{i} {how}" for i, how, _ in BROKEN])
def test_each_way_of_breaking_an_invariant_is_seen(invariant: str, how: str, damage: Break) -> None:
    story = Story()
    damage(story)
    assert story.report().findings[invariant].violations, how


LEGAL: list[tuple[str, Break]] = [
    ("every stored slot was asked for", lambda s: s.ask()),
    ("a leader lost, and another one after six seconds",
     lambda s: lose(s, name="kill-leader", target="scheduler-1", back_after=5.5)),
    ("Redis away, and checks soon after",
     lambda s: lose(s, name="redis-pause", target="redis", seconds=4, back_after=3)),
    ("a check was made, and its worker died", lambda s: [
        s.ask(), s.disturb(T0 + 70.5, target="worker-1"), s.tables["results"].remove(s.result(STEADY, T0 + 70))]),
    ("a slot missing beside a fault whose tool broke off", lambda s: [
        s.disturb(T0 + 69, seconds=2, name="postgres-lock", target="postgres", outcome=BROKEN_OFF),
        s.tables["results"].remove(s.result(STEADY, T0 + 70))]),
    ("a duplicate beside a death", lambda s: [s.disturb(T0 + 31.5), s.hook("e1", HOOK, T0 + 32)]),
    ("a duplicate after an answer cut off", lambda s: [
        s.unhear("msg_e1c1"), s.hook("e1", HOOK, T0 + 31.1, ambiguous=True), s.hook("e1", HOOK, T0 + 33)]),
    ("a slot missing beside a kill", lambda s: [
        s.events.append(Death(T0 + 69.5, "worker-1", 7, "kill")),
        s.tables["results"].remove(s.result(STEADY, T0 + 70))]),
    ("a duplicate after the lease of one who died", lambda s: [s.disturb(T0 + 31.5), s.hook("e1", HOOK, T0 + 57)]),
    ("a late copy of what somebody frozen had begun to send", lambda s: [
        s.disturb(T0 + 30, seconds=25, name="freeze"), s.hook("e1", HOOK, T0 + 55.1)]),
    ("a slow channel that is hostile", lambda s: [s.unhear("msg_e2c2"), s.hook("e2", OTHER, HEAL + 50)]),
    ("an outage that began and ended in the dark", lambda s: [
        lose_incident(s), stay_blind(s), s.disturb(T0 + 29, seconds=25, target="worker-1")]),
    ("an outage told of after the dark", lambda s: [
        s.disturb(T0 + 29, seconds=10, target="worker-1"), s.row("incidents", id="i").update(opened_at=T0 + 45)]),
    ("an end told after the dark", lambda s: [
        s.disturb(T0 + 49, seconds=12, target="worker-1"), s.row("incidents", id="i").update(resolved_at=T0 + 70)]),
    ("an end that was seen a moment before it was noted", lambda s: [
        s.events.remove(Truth(T0 + 50, "shop", up=True)), s.events.append(Truth(T0 + 50.1, "shop", up=True)),
        s.row("incidents", id="i").update(resolved_at=T0 + 50)]),
    ("a blip that was long enough to be told of", lambda s: [blink(s, failures=2), announce(s, 82, 84)]),
    ("an incident that goes on over a short recovery", lambda s: [
        s.events.extend([Truth(T0 + 40, "shop", up=True), Truth(T0 + 40.6, "shop", up=False)])]),
    ("a blip that was overtaken", lambda s: blink(s, failures=2)),
    ("two blips of which nobody saw what was between them", lambda s: [
        s.events.extend([Truth(T0 + 62, "steady", up=False), Truth(T0 + 62.9, "steady", up=True)]),
        s.result(STEADY, T0 + 62).update(verdict="down", reason="status_mismatch"),
        s.disturb(T0 + 63, seconds=16, name="redis-pause", target="redis"), s.miss(STEADY, T0 + 63, T0 + 80),
        blink(s, failures=1), announce(s, 81, 82)]),
    ("a check that came late beside a fault", lambda s: [
        s.disturb(T0 + 22, target="worker-1"), s.result(SHOP, T0 + 24).update(verdict="down")]),
    ("messages late beside a fault", lambda s: [
        s.events.remove(Phase(HEAL, "heal")), s.events.append(Phase(T0 + 90, "heal")),
        s.disturb(T0 + 52, seconds=20, name="net-blackhole", target="sink"),
        s.unhear("msg_e2c1"), s.hook("e2", HOOK, T0 + 82)]),
    ("a write that was refused for now", lambda s: s.events.append(Write(T0, T0, "PUT", "/x", "j", 503))),
    ("a write without an answer that happened", lambda s: s.row("monitors", key="k").update(name=f"k {T0 + 6:.6f}")),
    ("a blip that nobody told of", lambda s: s.events.extend(
        [Truth(T0 + 80, "steady", up=False), Truth(T0 + 80.4, "steady", up=True)])),
    ("corrupt messages set aside", lambda s: [
        s.disturb(T0 + 20, name="queue-corrupt"), s.tables["queues"][0].update(set_aside=2)]),
    ("unknown verdicts", lambda s: s.result(STEADY, T0 + 70).update(verdict="unknown")),
]  # fmt: skip


@pytest.mark.parametrize(("how", "oddity"), LEGAL, ids=[how for how, _ in LEGAL])
def test_what_is_odd_but_allowed_passes(how: str, oddity: Break) -> None:
    story = Story()
    oddity(story)
    assert story.report().violations == [], how


def test_a_history_without_its_end_is_refused() -> None:
    with pytest.raises(ValueError, match="final"):
        check(Story().events)


def test_the_reasons_of_duplicates_are_told() -> None:
    story = Story()
    story.disturb(T0 + 31.5, name="freeze")
    story.hook("e1", HOOK, T0 + 32)
    (said,) = story.report().findings["I6"].explained
    assert "freeze notifier-1" in said and "/hook" in said


def test_how_long_it_took_is_measured_from_the_loss_to_the_last_monitor_s_next_check() -> None:
    story = Story()
    lose(story, name="kill-leader", target="scheduler-1", back_after=4)
    (seconds,) = story.report().recoveries["leader lost"]
    assert 4 <= seconds <= 5.2
    assert story.report().findings["L1"].applicable == 1


def test_a_kill_and_the_death_it_brought_about_are_one_trial() -> None:
    story = Story()
    lose(story, name="kill", target="worker-1", back_after=2)
    story.events.append(Death(T0 + 70.1, "worker-1", 7, "kill"))
    assert story.report().findings["L1"].applicable == 1


def test_a_loss_beside_another_says_nothing() -> None:
    story = Story()
    story.disturb(T0 + 71, name="redis-kill", target="redis")
    lose(story, name="kill-leader", target="scheduler-1", back_after=10)
    assert story.report().findings["L1"].applicable == 0


def test_missing_slots_are_told_apart_and_counted() -> None:
    story = Story()
    story.ask()
    story.disturb(T0 + 70.5, target="worker-1")
    story.tables["results"].remove(story.result(STEADY, T0 + 70))
    never_made = story.result(SHOP, T0 + 70)
    story.tables["results"].remove(never_made)
    story.events = [e for e in story.events if not (isinstance(e, Probed) and e.traces == (
        check_id(SHOP.id, 1, never_made["slot_ms"])[:16],))]  # fmt: skip
    (said,) = story.report().findings["I9"].explained
    assert "2 of" in said and "1 were not asked for, 1 asked for and not stored" in said and "worker 2" in said


@pytest.mark.parametrize("outcome", [IN_VAIN, BROKEN_OFF])
def test_what_never_took_hold_is_not_counted(outcome: str) -> None:
    story = Story()
    story.disturb(T0 + 20, name="redis-flush", target="redis")
    story.disturb(T0 + 30, name="redis-flush", target="redis", outcome=outcome)
    assert story.report().faults["redis-flush"] == 1


@pytest.mark.parametrize(
    ("process", "grown_mb", "seen"),
    [("worker-1", 10.0, False), ("worker-1", 16.0, True), ("scheduler-1", 25.0, False), ("scheduler-1", 28.0, True)],
)
def test_memory_may_grow_by_a_tenth_and_a_little_and_once_by_a_rollup(
    process: str, grown_mb: float, seen: bool
) -> None:
    story = Story()
    story.events += [Sample(T0 + n, process, 5, 100.0 + (grown_mb if n > 60 else 0), 40) for n in range(0, 100, 5)]
    finding = story.report().findings["I11"]
    assert bool(finding.violations) is seen
    assert "1 processes" in finding.explained[0]


def test_who_was_frozen_while_it_started_has_not_grown() -> None:
    story = Story()
    story.events += [Sample(T0 + n, "scheduler-1", 5, 20.0 if n < 35 else 98.0, 10) for n in range(0, 75, 5)]
    assert not story.report().findings["I11"].violations


def test_files_that_are_open_for_a_moment_do_not_leak() -> None:
    story = Story()
    story.events += [Sample(T0 + n, "worker-1", 5, 100.0, 400 if n == 95 else 40) for n in range(0, 100, 5)]
    assert not story.report().findings["I11"].violations


def test_what_comes_after_the_last_look_is_not_in_the_tables_and_not_asked_for() -> None:
    story = Story()
    hook = next(event for event in story.events if isinstance(event, Webhook))
    story.events.append(replace(hook, at=END + 2.5, webhook_id="msg_reminder"))
    assert story.report().violations == []


def test_a_run_counts_its_kills() -> None:
    story = Story()
    story.events += [Death(T0 + 1, "worker-1", 3, how) for how in ("kill", "failpoint:before_ack", "stop", "exit:1")]
    assert story.report().totals["kills"] == 2
