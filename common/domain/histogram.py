"""Latencies in buckets of equal ratio: small, mergeable, and every percentile within 5 % of the exact one.

Bucket i holds what lies in (e^((i-47)/10), e^((i-46)/10)] milliseconds, so 0.01 ms to 13 days in one byte of a number.
The value that stands for a bucket is off by at most tanh(1/20) = 4.996 % of any value in it. What is stored is four
bytes per bucket that is not empty, big-endian, count · 256 + number, in the order of the numbers; SQL writes and adds
up the same form (common/store/rollups_plain.py, rollups_merge.py).
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

#: The largest relative error of a percentile.
RELATIVE_ERROR = math.tanh(0.05)

#: Buckets per e-fold, the number of the bucket that ends at 1 ms, and the last number.
PER_E = 10
AT_ONE_MS = 46
LAST = 255

#: A count has 23 bits; more of one bucket in one row would take a check every 10 ms for a day.
MOST = 2**23 - 1


def number(latency_ms: float) -> int:
    """The bucket of a latency; what is too short or too long for all of them counts in the first or the last."""
    if latency_ms <= 0:
        return 0
    return min(LAST, max(0, math.ceil(PER_E * math.log(latency_ms)) + AT_ONE_MS))


def value_ms(bucket: int) -> float:
    """What stands for a bucket: as far, by ratio, from its lower bound as from its upper one."""
    lower, upper = (math.exp((bucket - AT_ONE_MS - side) / PER_E) for side in (1, 0))
    return 2 * lower * upper / (lower + upper)


def collect(latencies_ms: Iterable[float]) -> Counter[int]:
    """{bucket: how many} of these latencies."""
    return Counter(map(number, latencies_ms))


def encode(counts: Mapping[int, int]) -> bytes:
    """As it is stored; empty for none."""
    packed = [min(count, MOST) << 8 | bucket for bucket, count in sorted(counts.items()) if count]
    return struct.pack(f">{len(packed)}i", *packed)


def decode(stored: bytes) -> Counter[int]:
    """{bucket: how many} of a stored row."""
    return Counter({packed & 255: packed >> 8 for (packed,) in struct.iter_unpack(">i", stored)})


def merge(rows: Iterable[bytes]) -> Counter[int]:
    """Several stored rows as one."""
    # Whole windows of thousands of monitors pass here: a list is twice as fast as a Counter that grows.
    counts = [0] * (LAST + 1)
    stored = b"".join(rows)
    for packed in struct.unpack(f">{len(stored) // 4}i", stored):
        counts[packed & 255] += packed >> 8
    return Counter({bucket: count for bucket, count in enumerate(counts) if count})


def percentiles(counts: Mapping[int, int], wanted: Sequence[float]) -> list[float | None]:
    """Nearest-rank percentiles, each of `wanted` in (0, 1]; None where nothing was counted."""
    total = sum(counts.values())
    if not total:
        return [None for _ in wanted]
    return [value_ms(_at_rank(counts, max(1, math.ceil(share * total)))) for share in wanted]


def _at_rank(counts: Mapping[int, int], rank: int) -> int:
    passed = 0
    for bucket in sorted(counts):
        passed += counts[bucket]
        if passed >= rank:
            return bucket
    raise AssertionError("a rank beyond all that was counted")
