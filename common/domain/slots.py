"""When a monitor is due. Slots are computed, never stored: `phase + k·interval`, in Unix milliseconds.

The phase comes from a hash of the monitor's id, so that load is flat whatever was created together, and every
scheduler that ever leads computes the same slots.
"""

from __future__ import annotations

from hashlib import blake2b


def phase_ms(monitor_id: str, interval_ms: int, location_index: int = 0, locations: int = 1) -> int:
    """Offset of a monitor's slots in [0, interval). Location i of n is shifted by i·interval/n."""
    digest = int.from_bytes(blake2b(monitor_id.encode(), digest_size=8).digest(), "big")
    return (digest + location_index * interval_ms // locations) % interval_ms


def next_slot(after_ms: int, interval_ms: int, phase: int) -> int:
    """The first slot strictly after `after_ms`."""
    return after_ms - (after_ms - phase) % interval_ms + interval_ms


def latest_slot(until_ms: int, interval_ms: int, phase: int) -> int:
    """The last slot at or before `until_ms`."""
    return until_ms - (until_ms - phase) % interval_ms


def slots_between(after_ms: int, until_ms: int, interval_ms: int, phase: int) -> int:
    """How many slots lie in (after, until]."""
    if until_ms <= after_ms:
        return 0
    return (latest_slot(until_ms, interval_ms, phase) - latest_slot(after_ms, interval_ms, phase)) // interval_ms


def deadline_ms(scheduled_at_ms: int, interval_s: int) -> int:
    """Until when a check of this slot is still worth running: one interval, at least ten seconds."""
    return scheduled_at_ms + max(interval_s, 10) * 1000
