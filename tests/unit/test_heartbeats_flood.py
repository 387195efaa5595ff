"""A bound on the pings of one heartbeat, by its own clock."""

from __future__ import annotations

from hashlib import sha256

import pytest

from api import heartbeats_flood
from api.heartbeats_flood import MAX_PINGS, Flood
from common.domain.errors import Throttled

ONE, OTHER = (sha256(name).digest() for name in (b"one", b"other"))


def flooded(now: list[float], secret: bytes = ONE) -> Flood:
    flood = Flood(lambda: now[0])
    for _ in range(MAX_PINGS):
        flood.admit(secret)
        flood.count(secret)
    return flood


def test_one_too_many_is_told_when_the_next_is_taken() -> None:
    now = [1_000.0]
    flood = flooded(now)
    now[0] += 20.5
    with pytest.raises(Throttled) as refused:
        flood.admit(ONE)
    assert refused.value.retry_after_s == 40
    flood.admit(OTHER)
    now[0] += 39.5
    flood.admit(ONE)


def test_what_was_not_taken_does_not_count() -> None:
    flood = Flood(lambda: 0.0)
    for _ in range(2 * MAX_PINGS):
        flood.admit(ONE)


def test_what_is_counted_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeats_flood, "_MAX_COUNTED", 1)
    flood = flooded([0.0])
    for _ in range(2 * MAX_PINGS):
        flood.count(OTHER)
        flood.admit(OTHER)
    with pytest.raises(Throttled):
        flood.admit(ONE)
