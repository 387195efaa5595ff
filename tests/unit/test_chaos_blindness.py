"""What the checker of the chaos runs says of incidents that call a location blind."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.test_chaos_checker import STEADY, T0, Story, second_incident

BLIND = {"monitor": None, "dedup_key": "tocsin:blind:local", "reason": "network"}


def blinded(begin: float, end: float, *, verdict: str | None = "unknown") -> Story:
    """Nothing is seen between these seconds of the run: stored as unknown, or (None) not stored at all.

    The outage is left out, which nobody could have seen then.
    """
    story = Story()
    story.events = [event for event in story.events if getattr(event, "monitor", "") != "shop"]
    story.events = [event for event in story.events if not hasattr(event, "webhook_id")]
    for table in ("incidents", "incident_events", "notifications"):
        story.tables[table].clear()
    for row in story.tables["results"]:
        row.update(verdict="up", reason="none")
    span = range(round((T0 + begin) * 1000), round((T0 + end) * 1000))
    if verdict is None:
        story.tables["results"] = [row for row in story.tables["results"] if row["slot_ms"] not in span]
    for row in story.tables["results"]:
        if row["slot_ms"] in span:
            row.update(verdict=verdict, reason="worker_network")
    story.disturb(T0 + begin, seconds=end - begin, name="egress-unreachable", target="worker-1")
    return story


def call_blind(story: Story, opened: float, resolved: float | None) -> None:
    story.tables["incidents"].append({"id": "i", "opened_at": T0 + 31, "severity": "error"})
    second_incident(story, opened, resolved, **BLIND)
    story.drop("incidents", id="i")


def said(story: Story) -> list[str]:
    """What is wrong with it, for I3 and A1."""
    findings = story.report().findings
    return [*findings["I3"].violations, *findings["A1"].violations]


@pytest.mark.parametrize("verdict", ["unknown", None])
def test_a_location_that_saw_nothing_for_long_may_be_called_blind_and_has_to_be(verdict: Any) -> None:
    story = blinded(15, 100, verdict=verdict)
    assert ["no incident says so" in line for line in said(story)] == [True]
    story = blinded(15, 100, verdict=verdict)
    call_blind(story, 55, 118)
    assert said(story) == []


def test_no_incident_has_to_tell_of_a_short_one() -> None:
    assert said(blinded(60, 100)) == []


def test_nobody_looked_before_the_run_whatever_slots_are_stored() -> None:
    story = Story()
    slot = {"slot_ms": round((T0 - 60_000) * 1000), "monitor_no": 99}
    story.tables["results"].append({**story.tables["results"][0], **slot})
    assert said(story) == []


def test_one_that_saw_is_not_called_blind() -> None:
    story = blinded(60, 70)  # as the faults of a run last
    call_blind(story, 75, 118)
    assert ["could see" in line for line in said(story)] == [True]


def test_half_a_location_is_not_called_blind() -> None:
    story = blinded(15, 70)
    for row in story.tables["results"]:
        if row["monitor_no"] == STEADY.no:
            row.update(verdict="up", reason="none")
    call_blind(story, 55, 110)
    assert ["50% of" in line for line in said(story)] == [True]


def test_one_that_sees_again_is_not_called_blind_for_ever() -> None:
    story = blinded(3, 45)
    call_blind(story, 40, None)
    assert ["was not resolved" in line for line in said(story)] == [True]
