"""I1 and I8 to I11: writes, results, coverage, leadership, and what is left afterwards."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import groupby

from tests.chaos.events import Sample, Write
from tests.chaos.facts import Facts
from tests.chaos.finding import Finding

#: A process that lives longer than this is judged: from what it used at the most until then, when it has seen
#: everything once, it may grow by so much (share, and megabytes or descriptors on top).
_SETTLED_S, _JUDGED_S = 30.0, 60.0
_GROWTH, _GROWTH_MB, _GROWTH_FDS = 1.10, 4.0, 60
_LOOKS = 3
#: Once, at its first rollup of five minutes in which every monitor went down and up.
_ROLLUP_MB = 12.0


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
    for ack in facts.tables["acks"]:
        if ack["held"] and not ack["alive"]:
            finding.break_(f"{ack['held']} messages of {ack['queue']} are held by a dead process")
    _messages(facts, finding)
    _queues(facts, finding)
    judged = [
        _flat(process, list(samples), facts.began, finding)
        for (process, _), samples in groupby(sorted(facts.samples, key=_owner), key=_owner)
    ]
    if lived := sum(judged):
        finding.explained.append(f"memory and open files of {lived} processes that lived long were looked at")
    return finding


def _messages(facts: Facts, finding: Finding) -> None:
    """Each message that was there at two looks, seconds apart: nothing takes so long any more."""
    for message in facts.tables.get("stuck", []):
        where = {"held": f"held by {message['broker']}, which lives", "waits": "waiting, and nobody takes it",
                 "stored": "stored, and neither waits nor is held"}[message["where"]]  # fmt: skip
        finding.break_(f"message {message['id']} of {message['queue']} is {where}")


def _queues(facts: Facts, finding: Finding) -> None:
    spoiled = facts.faults.get("queue-corrupt", 0)
    for queue in facts.tables["queues"]:
        if queue["set_aside"] and not spoiled:
            finding.break_(f"{queue['set_aside']} messages of {queue['queue']} were set aside")
        elif queue["set_aside"]:
            finding.explained.append(f"{queue['set_aside']} messages of {queue['queue']} were set aside: corrupt ones")


def _owner(sample: Sample) -> tuple[str, int]:
    return sample.process, sample.pid


def _flat(process: str, samples: list[Sample], began: float, finding: Finding) -> bool:
    """Whether it lived long enough to be judged. What there is to be seen begins with the run."""
    samples.sort(key=lambda sample: sample.at)
    if samples[-1].at - samples[0].at < _JUDGED_S:
        return False
    # Half its life, should a fault have held up its start.
    settled = max(max(samples[0].at, began) + _SETTLED_S, (samples[0].at + samples[-1].at) / 2)
    early = [s for s in samples if s.at <= settled]
    rss_mb, fds = max(s.rss_mb for s in early), max(s.fds for s in early)
    # What a fault brings along goes again; what leaks is there at each look.
    last_mb, last_fds = (min(values) for values in zip(*((s.rss_mb, s.fds) for s in samples[-_LOOKS:]), strict=True))
    once_mb = _ROLLUP_MB if process.startswith("scheduler") else 0.0
    if last_mb > rss_mb * _GROWTH + _GROWTH_MB + once_mb:
        finding.break_(f"{process} grew from {rss_mb:.0f} to {last_mb:.0f} MB")
    if last_fds > fds * _GROWTH + _GROWTH_FDS:
        finding.break_(f"{process} grew from {fds} to {last_fds} open files")
    return True
