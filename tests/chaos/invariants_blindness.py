"""I3, of locations: one that saw was never called blind, and one that sees again is called blind no more.

A worker that loses its network is not enough, nor one that is killed: the other one sees. Only where hardly any check
of half a minute could judge may an incident say so, one at a time (I4).
"""

from __future__ import annotations

from itertools import pairwise

from common.domain.blindness import ALIVE_FOR, FAILING_RATIO, LEAST_PATIENCE, WINDOW_S
from tests.chaos.facts import FOREVER, Facts, Row
from tests.chaos.finding import Finding
from tests.chaos.reasons import delays_checks

_KEYS = "tocsin:blind:"
#: The patience that a run's stack has (common/settings.py), and how long the leader may take to see either.
_PATIENCE_S, _NOTICED_WITHIN_S = 30.0, 10.0
#: A slot and the commit of its result lie so far apart at the most.
_BLUR_S = 5.0


def is_of_a_location(incident: Row) -> bool:
    """Whether it says that a location is blind."""
    return bool(incident["dedup_key"].startswith(_KEYS))


def nobody_saw(facts: Facts, finding: Finding) -> None:
    """Judge the incidents of locations."""
    for incident in filter(is_of_a_location, facts.tables["incidents"]):
        finding.applicable += 1
        opened, resolved = incident["opened_at"], incident["resolved_at"] or FOREVER
        share = _share_that_saw(facts, opened - _PATIENCE_S + _BLUR_S, opened - _BLUR_S)
        if share > 1 - FAILING_RATIO:
            finding.break_(f"{incident['dedup_key']} was opened at {opened - facts.run.at:.1f} s, when {share:.0%} of "
                           "the checks of half a minute could see")  # fmt: skip
        patience_s = _PATIENCE_S + _NOTICED_WITHIN_S + WINDOW_S
        if facts.calm(opened, min(resolved, facts.ended), patience_s, delays_checks) is not None:
            finding.break_(f"{incident['dedup_key']} of {opened - facts.run.at:.1f} s was not resolved, though nothing "
                           f"kept anybody from seeing for {patience_s:.0f} s")  # fmt: skip
    _told_where_nobody_saw(facts, finding)


def _told_where_nobody_saw(facts: Facts, finding: Finding) -> None:
    """A stretch in which nothing was seen, though the leader could look, and much longer than patience, is told."""
    incidents = [i for i in facts.tables["incidents"] if is_of_a_location(i)]
    latest_s = _PATIENCE_S + ALIVE_FOR.total_seconds() + LEAST_PATIENCE.total_seconds() + 2 * _NOTICED_WITHIN_S
    slots = sorted(row["slot_ms"] / 1000 for row in _checks(facts) if row["verdict"] != "unknown")
    # Of a monitor that is due once a day, `queue-stale` asks for a slot of before the run.
    seen_at = [slot for slot in slots if slot >= facts.began]
    for before, after in pairwise(seen_at):
        looks = [s for s in facts.disturbed(before, after, delays_checks) if not s.target.startswith("worker")]
        if after - before < latest_s or looks:
            continue
        finding.applicable += 1
        if not any(before <= i["opened_at"] <= before + latest_s for i in incidents):
            finding.break_(f"nobody saw anything for {after - before:.0f} s from {before - facts.run.at:.1f} s on, and "
                           "no incident says so", lost=True)  # fmt: skip


def _share_that_saw(facts: Facts, begin: float, end: float) -> float:
    """Of the checks that were due then and stored; 0 without any."""
    verdicts = [row["verdict"] != "unknown" for row in _checks(facts) if begin <= row["slot_ms"] / 1000 <= end]
    return sum(verdicts) / len(verdicts) if verdicts else 0.0


def _checks(facts: Facts) -> list[Row]:
    """Results of what looks at something; a heartbeat waits to be told."""
    heartbeats = {row["monitor_no"] for row in facts.tables["monitors"] if row.get("id") in facts.heartbeats}
    return [row for row in facts.tables["results"] if row["monitor_no"] not in heartbeats]
