"""Slots are arithmetic: the same for every scheduler, one per interval, locations spread over it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from common.domain.slots import deadline_ms, latest_slot, next_slot, phase_ms, slots_between

ids = st.uuids().map(str)
intervals_ms = st.integers(1, 86_400).map(lambda s: s * 1000)
moments_ms = st.integers(1_500_000_000_000, 2_000_000_000_000)


@given(ids, intervals_ms, st.integers(1, 12), st.data())
def test_a_phase_lies_in_the_interval_and_is_always_the_same(
    monitor_id: str, interval_ms: int, locations: int, data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, locations - 1))
    phase = phase_ms(monitor_id, interval_ms, index, locations)
    assert 0 <= phase < interval_ms
    again = phase_ms(monitor_id, interval_ms, index, locations)
    assert again == phase


def test_the_phase_of_a_monitor_never_changes_between_versions() -> None:
    # Pinned: another hash would move every slot of every installation at its upgrade.
    assert phase_ms("0190d9a2-8f5e-7cc0-8000-000000000001", 30_000) == 24_666


@given(ids, intervals_ms, st.integers(1, 12))
def test_locations_are_spread_evenly_over_the_interval(monitor_id: str, interval_ms: int, locations: int) -> None:
    phases = sorted(phase_ms(monitor_id, interval_ms, index, locations) for index in range(locations))
    gaps = [later - sooner for sooner, later in zip(phases, [*phases[1:], phases[0] + interval_ms], strict=True)]
    assert max(gaps) - min(gaps) <= 1


def test_phases_of_many_monitors_are_flat() -> None:
    buckets = [0] * 30
    for number in range(30_000):
        buckets[phase_ms(f"monitor-{number}", 30_000) // 1000] += 1
    assert min(buckets) > 850
    assert max(buckets) < 1150


@given(moments_ms, intervals_ms, st.data())
def test_the_next_slot_is_the_one_after_the_latest(now_ms: int, interval_ms: int, data: st.DataObject) -> None:
    phase = data.draw(st.integers(0, interval_ms - 1))
    latest, following = latest_slot(now_ms, interval_ms, phase), next_slot(now_ms, interval_ms, phase)
    assert latest <= now_ms < following
    assert following - latest == interval_ms
    assert (latest - phase) % interval_ms == 0
    assert latest_slot(latest, interval_ms, phase) == latest
    assert next_slot(latest - 1, interval_ms, phase) == latest


@given(moments_ms, st.integers(1, 60).map(lambda s: s * 1000), st.integers(-5_000, 600_000), st.data())
def test_the_slots_between_two_moments_are_those_that_walking_finds(
    after_ms: int, interval_ms: int, span_ms: int, data: st.DataObject
) -> None:
    phase = data.draw(st.integers(0, interval_ms - 1))
    walked, slot = 0, next_slot(after_ms, interval_ms, phase)
    while slot <= after_ms + span_ms:
        walked, slot = walked + 1, next_slot(slot, interval_ms, phase)
    assert slots_between(after_ms, after_ms + span_ms, interval_ms, phase) == walked


def test_a_check_is_worth_running_for_one_interval_and_at_least_ten_seconds() -> None:
    assert deadline_ms(1_000, 60) == 61_000
    assert deadline_ms(1_000, 1) == 11_000
