"""The other 5,000 of the 10,000 schedules: see test_even_seeds."""

from __future__ import annotations

import pytest

from tests.simulation.run import first_violation

_CHUNK = 1_000


@pytest.mark.parametrize("start", range(0, 10_000, _CHUNK))
def test_whatever_fails_nothing_is_lost_doubled_or_invented(start: int) -> None:
    assert first_violation(range(start + 1, start + _CHUNK, 2)) is None
