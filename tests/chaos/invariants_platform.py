"""I1 and I8 to I11: writes, results, coverage, leadership, and what is left afterwards."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import groupby

from common.domain.slots import next_slot, phase_ms
from tests.chaos.events import MonitorSpec, Sample, Write
from tests.chaos.facts import RECOVERY_S, Facts
from tests.chaos.finding import Finding
from tests.chaos.reasons import delays_checks

#: A slot may be lost to a fault that comes so long after it: its check was under way.
_UNDER_WAY_S = 3.0
#: The youngest slots may still be on their way when we look.
_STILL_COMING_S = 5.0
_HEARD_WITHIN_S = 2.0
#: A long-lived process may grow by so much (share, and megabytes or descriptors on top).
_GROWTH, _GROWTH_MB, _GROWTH_FDS = 1.25, 25.0, 30
_LONG_LIVED_S = 60.0


def writes_survive(facts: Facts) -> Finding:
    """I1. A write without an answer, or refused for now, may have happened; one that was acknowledged must have."""
    finding = Finding()
    stored = {row["key"]: row["name"] for row in facts.tables["monitors"]}
    by_key: dict[str, list[Write]] = defaultdict(list)
    for write in sorted(facts.writes, key=lambda write: write.at):
        by_key[write.key].append(write)
    for key, writes in by_key.items():
        acknowledged = [n for n, write in enumerate(writes) if write.status in (200, 201)]
        if not acknowledged:
            continue
        finding.applicable += len(acknowledged)
        allowed = {f"{key} {write.at:.6f}" for write in writes[acknowledged[-1] :]}
        if stored.get(key) not in allowed:
            finding.break_(f"monitor {key} was acknowledged as one of {sorted(allowed)}; stored is {stored.get(key)}",
                           lost=True)  # fmt: skip
    for write in facts.writes:
        if write.status not in (None, 200, 201, 503):
            finding.break_(
                f"{write.method} {write.path} at {write.at - facts.run.at:.1f} s was answered {write.status}"
            )
    return finding


def one_result_per_slot(facts: Facts) -> Finding:
    """I8."""
    rows = Counter((row["monitor_no"], row["location"], row["slot_ms"]) for row in facts.tables["results"])
    finding = Finding(applicable=len(rows))
    for (number, _, slot), count in rows.items():
        if count > 1:
            finding.break_(f"monitor {number} has {count} results of the slot {slot / 1000 - facts.run.at:.1f} s")
    return finding


def coverage(facts: Facts) -> Finding:
    """I9. `explained` says how many slots are missing, and why that is allowed."""
    finding = Finding()
    stored: dict[int, set[int]] = defaultdict(set)
    for row in facts.tables["results"]:
        if row["kind"] == "scheduled":
            stored[row["monitor_no"]].add(row["slot_ms"])
    allowed = 0
    for spec in facts.run.monitors:
        for slot in _due(facts, spec):
            finding.applicable += 1
            if slot in stored[spec.no]:
                continue
            at = slot / 1000
            ends = at + spec.timeout_s + _UNDER_WAY_S
            if facts.disturbed(at - RECOVERY_S - spec.interval_s, ends, delays_checks):
                allowed += 1
            else:
                finding.break_(f"{spec.path} was not checked in its slot of {at - facts.run.at:.1f} s", lost=True)
    if allowed:
        finding.explained.append(f"{allowed} of {finding.applicable} slots are missing, all of them beside a fault")
    return finding


def _due(facts: Facts, spec: MonitorSpec) -> list[int]:
    interval_ms = round(spec.interval_s * 1000)
    phase = phase_ms(spec.id, interval_ms)
    # The scheduler hears of a new monitor a moment after it was made.
    slot = next_slot(round((facts.began + _HEARD_WITHIN_S) * 1000), interval_ms, phase)
    end = round((facts.ended - spec.timeout_s - _STILL_COMING_S) * 1000)
    return list(range(slot, end, interval_ms))


def epochs(facts: Facts) -> Finding:
    """I10."""
    finding = Finding()
    current = 0
    for row in facts.tables["lease_writes"]:
        finding.applicable += 1
        said = f"lease write {row['no']} by {row['holder']}"
        if row["operation"] == "DELETE" or row["epoch"] < current:
            finding.break_(f"{said} is {row['operation']} with epoch {row['epoch']}, after epoch {current}")
            continue
        taken = row["old_epoch"] is not None and row["epoch"] != row["old_epoch"]
        if not taken and row["old_holder"] not in (None, row["holder"]):
            finding.break_(f"{said} changed the holder and not the epoch {row['epoch']}")
        if taken and row["epoch"] != row["old_epoch"] + 1:
            finding.break_(f"{said} went from epoch {row['old_epoch']} to {row['epoch']}")
        if taken and row["old_expires_at"] > row["at"]:
            finding.break_(f"{said} took epoch {row['epoch']} before the old lease had expired")
        current = row["epoch"]
    return finding


def convergence(facts: Facts) -> Finding:
    """I11."""
    finding = Finding(applicable=1)
    if facts.tables["outbox"]:
        finding.break_(f"{len(facts.tables['outbox'])} events are still in the outbox")
    pending = Counter(row["status"] for row in facts.tables["notifications"])["pending"]
    if pending:
        finding.break_(f"{pending} notifications are still pending")
    held: Counter[str] = Counter()
    for ack in facts.tables["acks"]:
        held[ack["queue"]] += ack["held"]
        if ack["held"] and not ack["alive"]:
            finding.break_(f"{ack['held']} messages of {ack['queue']} are held by a dead process")
    _queues(facts, held, finding)
    for (process, _), samples in groupby(sorted(facts.samples, key=_owner), key=_owner):
        _flat(process, list(samples), finding)
    return finding


def _queues(facts: Facts, held: Counter[str], finding: Finding) -> None:
    spoiled = facts.faults.get("queue-corrupt", 0)
    for queue in facts.tables["queues"]:
        orphans = queue["bodies"] - queue["waiting"] - held[queue["queue"]]
        if orphans > 20:
            finding.break_(f"{queue['queue']} stores {orphans} messages that nobody waits for")
        if queue["set_aside"] and not spoiled:
            finding.break_(f"{queue['set_aside']} messages of {queue['queue']} were set aside")
        elif queue["set_aside"]:
            finding.explained.append(f"{queue['set_aside']} messages of {queue['queue']} were set aside: corrupt ones")


def _owner(sample: Sample) -> tuple[str, int]:
    return sample.process, sample.pid


def _flat(process: str, samples: list[Sample], finding: Finding) -> None:
    samples.sort(key=lambda sample: sample.at)
    if samples[-1].at - samples[0].at < _LONG_LIVED_S:
        return
    early = [s for s in samples if s.at - samples[0].at <= _LONG_LIVED_S / 2]
    rss_mb, fds = max(s.rss_mb for s in early), max(s.fds for s in early)
    last = samples[-1]
    if last.rss_mb > rss_mb * _GROWTH + _GROWTH_MB:
        finding.break_(f"{process} grew from {rss_mb:.0f} to {last.rss_mb:.0f} MB")
    if last.fds > fds * _GROWTH + _GROWTH_FDS:
        finding.break_(f"{process} grew from {fds} to {last.fds} open files")
