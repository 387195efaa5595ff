"""The index of all organizations' routes by itself: how long it takes to build, and what matching feels of a change."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Self

import psycopg

from api.platform import Platform
from common import log
from common.store.engine import Database, DatabaseRole

_ALONE_S = 1.0
_CHANGES = 3

# What a changed route leaves behind.
_CHANGE = """
WITH one AS (SELECT id, org_id FROM routes ORDER BY id LIMIT 1), changed AS (
  UPDATE routes r SET name = 'changed', updated_at = now() FROM one WHERE r.id = one.id)
UPDATE organizations o SET routing_version = o.routing_version + 1 FROM one WHERE o.id = one.org_id
"""


@dataclass(frozen=True, slots=True)
class Matching:
    """The index: seconds to read and build it, and to do so after one organization's change.

    Alerts are matched meanwhile: the longest time that one waited; how many are matched a second in a quiet moment.
    """

    build_s: float
    refresh_s: float
    longest_pause_ms: float
    alone_per_s: float
    tenants_mean: float


class _Matcher:
    """Matches alert after alert in a thread."""

    def __init__(self, platform: Platform, labels: Sequence[dict[str, str]]) -> None:
        self._platform = platform
        self._labels = cycle(labels)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.done = self.tenants = 0
        self.longest_s = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        last = time.perf_counter()
        while not self._stop.is_set():
            self.tenants += len(self._platform.concerned(next(self._labels)))
            self.done += 1
            now = time.perf_counter()
            self.longest_s = max(self.longest_s, now - last)
            last = now


def measure_matching(url: str, labels: Sequence[dict[str, str]]) -> Matching:
    """Build the index as an API process does, match, change one route, and match on."""
    log.configure("bench", level="warning")
    platform = Platform(Database(url, DatabaseRole.WORKER, application="bench", pool_size=2))
    try:
        began = time.perf_counter()
        platform.refresh()
        build_s = time.perf_counter() - began
        with _Matcher(platform, labels) as quiet:
            time.sleep(_ALONE_S)
        spans = []
        with psycopg.connect(url, autocommit=True) as connection, _Matcher(platform, labels) as busy:
            for _ in range(_CHANGES):
                connection.execute(_CHANGE)
                began = time.perf_counter()
                platform.refresh()
                spans.append(time.perf_counter() - began)
    finally:
        platform.close()
    mean = quiet.tenants / quiet.done
    return Matching(build_s, sorted(spans)[_CHANGES // 2], busy.longest_s * 1000, quiet.done / _ALONE_S, mean)
