"""What must hold at every commit, at every receipt and at the end of a schedule (the names are RELIABILITY's).

I2  every outage that lasts long enough after the faults opens exactly one incident in time, and its end resolves it
I3  no incident without an endpoint that really failed often enough
I4  one open incident per key at most; a timeline's versions are contiguous; state, votes and incident agree
I5  every announced event reaches every channel that did not refuse it
I6  a notification that was delivered and settled is never sent again; an event has one webhook-id per channel
I7  a channel hears of an incident's events in their order, and in the end of the last one
I8  one result per (monitor, location, slot)
I9  a message is acknowledged only when each of its checks is stored, late or passed on; afterwards no slot is missed
I10 one leader at a time; the lease's epoch and watermark never go back
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from common.clock import to_ms
from common.domain.checks import Verdict
from common.domain.delivery import Outcome
from common.domain.health import Health
from common.domain.matching import LedgerStatus
from common.domain.monitors import MonitorConfig
from common.domain.slots import next_slot, phase_ms
from common.store.settlements import Settlement
from tests.simulation.database import Change
from tests.simulation.engine import Violation
from tests.simulation.notifying import LEASE_S
from tests.simulation.process import EPOCH_S
from tests.simulation.sinks import Receipt
from tests.simulation.statements.judging import HEALTH, LAST_SLOT, VERSION
from tests.simulation.working import Run
from tests.simulation.world import World


class Watch:
    """Looks at every commit, receipt and acknowledgement of a world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._slots: set[tuple[int, int, int]] = set()
        self._caused: dict[tuple[int, int], str] = {}
        self._clean: set[str] = set()
        world.server.watch = self.committed
        world.sinks.on_receipt = self.received
        for worker in world.workers:
            worker.before_ack = self.acknowledged
        for notifier in world.notifiers:
            notifier.on_settled = self.settled
        self._by_table: dict[str, Callable[[Any, Any, Any], None]] = {
            "votes": self._vote,
            "states": self._state,
            "incidents": self._incident,
            "results": self._result,
            "leases": self._lease,
            "notifications": self._notification,
        }

    def committed(self, changes: list[Change]) -> None:
        """One commit; the tables already hold the new rows."""
        for table, key, old, new in changes:
            check = self._by_table.get(table)
            if check is not None:
                check(key, old, new)

    # At every commit ------------------------------------------------------------------------------------------------

    def _vote(self, key: Any, old: Any, new: Any) -> None:
        if self._world.sim.trace is not None:
            self._world.sim.say("", f"vote {key} → {Health(new[HEALTH]).label} {self._text(new)}")
        if new[VERSION] != old[VERSION] + 1 or new[LAST_SLOT] < old[LAST_SLOT]:
            raise Violation("I4", f"vote {key} went back: {old} → {new}")

    def _state(self, no: int, _old: Any, new: Any) -> None:
        incident = self._world.server.table("incidents").get(new["open_incident"])
        is_open = incident is not None and incident["status"] != "resolved"
        if (new["open_incident"] is not None) != (new["worst"] is not None) or is_open != (new["worst"] is not None):
            raise Violation("I4", f"monitor {no}: state {new} with incident {incident}")

    def _incident(self, id_: str, old: Any, new: Any) -> None:
        world = self._world
        if world.sim.trace is not None:
            world.sim.say("", f"INCIDENT {new['no']} v{new['version']} {new['title']}: {new['status']}")
        versions = sorted(
            event["version"] for event in world.server.table("events").values() if event["incident_id"] == id_
        )
        if versions != list(range(1, new["version"] + 1)):
            raise Violation("I4", f"incident {new['no']} is at version {new['version']}, its timeline {versions}")
        same = [i for i in world.server.table("incidents").values() if i["dedup_key"] == new["dedup_key"]]
        if sum(i["status"] != "resolved" for i in same) > 1:
            raise Violation("I4", f"two open incidents of {new['dedup_key']}")
        if old is None:
            self._opened(new)

    def _opened(self, incident: Any) -> None:
        world = self._world
        if incident["monitor_id"] is None:
            return  # a notice of our own: a channel's receiver is gone
        monitor = next(m for m in world.plan.monitors if m.monitor_id == incident["monitor_id"])
        no = monitor.monitor_no
        truths = world.targets.seen.get(incident["correlation_id"], [])
        failing = [index for index in truths if world.plan.truth[no][index].verdict is not Verdict.UP]
        if not failing:
            raise Violation("I3", f"incident {incident['no']} of monitor {no}, whose cause saw it up")
        outage = world.targets.outage(no, failing[-1])
        before = self._caused.get((no, outage))
        if before is not None and not self._late_news(monitor, world.server.table("incidents")[before], incident):
            raise Violation("I2", f"a second incident ({incident['no']}) of one outage of monitor {no}")
        self._caused[no, outage] = incident["id"]
        failures = len(world.targets.failed[no])
        if failures < monitor.policy.failure_threshold:
            raise Violation("I3", f"incident {incident['no']} of monitor {no} after {failures} failures")

    def _late_news(self, monitor: MonitorConfig, before: Any, incident: Any) -> bool:
        """With a quorum of one each location speaks for itself: one may see the end before another reports the failure.

        Excused only when the check that opens it anew began before the first incident was resolved.
        """
        began_at = EPOCH_S + self._world.targets.began[incident["correlation_id"]]
        resolved_at = before["resolved_at"]
        return monitor.policy.quorum == 1 and resolved_at is not None and began_at < resolved_at.timestamp()

    def _result(self, key: Any, _old: Any, new: Any) -> None:
        slot = key[:3]
        if slot in self._slots and new is not None and len(key) > 3:
            raise Violation("I8", f"two results of {slot}")
        self._slots.add(slot)

    def _lease(self, _key: Any, old: Any, new: Any) -> None:
        if old is None:
            return
        if new["epoch"] < old["epoch"] or new["dispatched_to"] < old["dispatched_to"]:
            raise Violation("I10", f"the lease went back: {old} → {new}")
        if new["epoch"] == old["epoch"] and new["holder"] != old["holder"]:
            raise Violation("I10", f"two holders of epoch {new['epoch']}")
        leaders = [scheduler.name for scheduler in self._world.schedulers if scheduler.leads()]
        if len(leaders) > 1 and self._world.sim.now > self._world.sim.clock_trouble_until:
            raise Violation("I10", f"{' and '.join(leaders)} lead at once")

    def _notification(self, id_: str, old: Any, new: Any) -> None:
        if old is not None and old["status"] != "pending" and new["status"] != old["status"]:
            raise Violation("I6", f"notification {id_} goes from {old['status']} to {new['status']}")

    # At the edges ---------------------------------------------------------------------------------------------------

    def acknowledged(self, run: Run) -> None:
        """Before a message is taken out of the queue."""
        location = run.envelope.queue.partition(".")[2]
        number = next(no for no, name in self._world.server.table("locations").items() if name == location)
        excused = {id(check) for check in (*run.late, *run.spilled)}
        for check in run.batch.checks:
            if id(check) not in excused and (check.monitor_no, number, check.scheduled_at_ms) not in self._slots:
                raise Violation("I9", f"message #{run.envelope.no} acknowledged without the result of {check}")

    def settled(self, settlement: Settlement, ours: bool, age_s: float) -> None:
        """An attempt was settled; from now on nobody may send what was delivered."""
        if not ours and age_s < LEASE_S - 3:
            raise Violation("I6", f"{settlement.claim.id} was claimed {age_s:.1f} s ago and is another's already")
        if ours and settlement.attempt.outcome is Outcome.DELIVERED:
            self._clean.add(f"msg_{settlement.claim.message_id or settlement.claim.id}")

    def received(self, receipt: Receipt) -> None:
        """A receiver took a webhook."""
        if receipt.webhook_id in self._clean and not receipt.late:
            raise Violation("I6", f"{receipt.webhook_id} was delivered and settled, and is sent again")

    @staticmethod
    def _text(vote: Any) -> str:
        not_up, down, up, _ = vote[7:11]
        return f"slot {to_ms(vote[LAST_SLOT]) / 1000 - EPOCH_S:.3f}, in a row: up {up}, not up {not_up}, down {down}"


def check_end(world: World) -> None:
    """After the quiet: what was promised has happened."""
    for monitor in world.plan.monitors:
        _check_coverage(world, monitor)
    for channel in world.channels:
        _check_channel(world, channel)
    unknown = [e for e in world.bus.envelopes if not e.end]
    if unknown:
        raise Violation("I9", f"messages still in the queue: {unknown}")
    seqs = sorted(event["seq"] or 0 for event in world.server.table("events").values())
    if seqs != list(range(1, len(seqs) + 1)):
        raise Violation("I11", f"the stream's numbers are {seqs}")


def _check_coverage(world: World, monitor: MonitorConfig) -> None:
    from_ms_ = int((EPOCH_S + world.plan.heal_at + calm_s(world)) * 1000)
    until_ms = int((EPOCH_S + world.sim.now - monitor.timeout_s - 6) * 1000)
    stored = {key[:3] for key in world.server.table("results")}
    for index, location in enumerate(monitor.locations):
        slot = first_slot(monitor, index, from_ms_)
        while slot < until_ms:
            if (monitor.monitor_no, location, slot) not in stored:
                raise Violation("I9", f"no check of monitor {monitor.monitor_no} at slot {slot}, long after the faults")
            slot += monitor.interval_s * 1000


def first_slot(monitor: MonitorConfig, index: int, after_ms: int) -> int:
    """The first slot of a monitor's location after a moment."""
    interval_ms = monitor.interval_s * 1000
    return next_slot(after_ms, interval_ms, phase_ms(monitor.monitor_id, interval_ms, index, len(monitor.locations)))


def calm_s(world: World) -> float:
    """How long after the last fault everything runs again: a lease expires, a standby takes it, a loop backs off."""
    return world.plan.times.ttl_s + 2 * world.plan.times.retry_s + 3


def _check_channel(world: World, channel: str) -> None:
    table = world.server.table
    heard: dict[tuple[str, int], list[Receipt]] = {}
    for receipt in world.sinks.receipts:
        if receipt.channel == channel:
            heard.setdefault((receipt.incident, receipt.version), []).append(receipt)
    for (incident, version), receipts in heard.items():
        if len({receipt.webhook_id for receipt in receipts}) > 1:
            raise Violation("I6", f"{channel} heard of incident {incident} v{version} under several webhook-ids")
    firsts = sorted((receipts[0].at, incident, version) for (incident, version), receipts in heard.items())
    last: dict[str, int] = {}
    for _, incident, version in firsts:
        if version < last.get(incident, 0):
            raise Violation("I7", f"{channel} heard of incident {incident} v{version} after v{last[incident]}")
        last[incident] = version
    rows = {row["event_id"]: row for row in table("notifications").values() if row["channel_id"] == channel}
    for event in table("events").values():
        if event["snapshot"] is not None:
            _check_event(world, channel, event, rows.get(event["id"]), heard)


def _check_event(world: World, channel: str, event: Any, row: Any, heard: Any) -> None:
    told = (event["incident_id"], event["version"]) in heard
    what = f"{event['type']} of incident {event['incident_id']} at {channel}"
    if row is None:
        raise Violation("I5", f"{what} has no ledger row")
    if row["status"] == LedgerStatus.SENT and not told:
        raise Violation("I5", f"{what} counts as sent, and nobody received it")
    refused = f"msg_{row['message_id'] or row['id']}" in world.sinks.refused
    enabled = world.server.table("channels")[channel]["enabled"]
    excused = {
        LedgerStatus.SENT: True,
        LedgerStatus.DEAD: refused,
        LedgerStatus.SUPPRESSED: not enabled or row["reason"] == "not_announced",
        LedgerStatus.PENDING: False,
    }
    if not excused[LedgerStatus(row["status"])]:
        raise Violation("I5", f"{what} is {row['status']} ({row['reason']})")
