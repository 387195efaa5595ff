"""Percentiles of a histogram stay within the error that is promised, whatever was put in and however it is merged."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.domain import histogram

#: What a probe can measure: 10 µs to 11 days.
LATENCIES = st.lists(st.floats(0.011, 1e9, allow_nan=False), min_size=1, max_size=300)
SHARES = [0.01, 0.5, 0.9, 0.95, 0.99, 1.0]


def exact(latencies: list[float], share: float) -> float:
    """The nearest-rank percentile."""
    return sorted(latencies)[max(1, math.ceil(share * len(latencies))) - 1]


def test_the_promised_error_is_at_most_five_percent() -> None:
    assert 0.049 < histogram.RELATIVE_ERROR < 0.05


@given(LATENCIES)
def test_every_percentile_is_within_the_error_of_the_exact_one(latencies: list[float]) -> None:
    found = histogram.percentiles(histogram.collect(latencies), SHARES)
    for share, value in zip(SHARES, found, strict=True):
        wanted = exact(latencies, share)
        assert value is not None
        assert abs(value - wanted) <= wanted * (histogram.RELATIVE_ERROR + 1e-9)


@given(st.lists(LATENCIES, max_size=5))
def test_merging_rows_is_collecting_all_of_them_at_once(parts: list[list[float]]) -> None:
    merged = histogram.merge(histogram.encode(histogram.collect(part)) for part in parts)
    assert merged == histogram.collect(latency for part in parts for latency in part)


@given(st.dictionaries(st.integers(0, 255), st.integers(1, histogram.MOST)))
def test_what_is_stored_is_read_back(counts: dict[int, int]) -> None:
    assert histogram.decode(histogram.encode(counts)) == counts


def test_a_row_takes_four_bytes_a_bucket_and_none_when_empty() -> None:
    assert histogram.encode({}) == b""
    assert len(histogram.encode(histogram.collect([21.0, 21.1, 21.2, 900.0]))) == 8


def test_a_count_beyond_its_bits_is_cut_and_not_spilled_into_the_next() -> None:
    assert histogram.decode(histogram.encode({7: 2**30})) == {7: histogram.MOST}


@pytest.mark.parametrize(("latency_ms", "bucket"), [(0.0, 0), (-1.0, 0), (1e-9, 0), (1e30, 255), (1.0, 46)])
def test_what_no_bucket_holds_counts_at_its_end(latency_ms: float, bucket: int) -> None:
    assert histogram.number(latency_ms) == bucket


def test_nothing_has_no_percentiles() -> None:
    assert histogram.percentiles({}, [0.5, 0.99]) == [None, None]
