"""The rows of five minutes of monitors in which something happened: accounted for one by one, some at a time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from common.clock import from_ms
from common.domain.accounting import CATEGORIES
from common.domain.accounting_cover import Level
from common.domain.histogram import encode
from common.store import uptime_history
from common.store.arrays import integers
from common.store.engine import Connection
from common.store.uptime_history import Account

#: So many monitors are read at once: turning rows into values holds up the other threads of the process.
_CHUNK = 500

_COLUMNS = ", ".join(f"{category}_ms" for category in CATEGORIES)
_ADD = f"""
INSERT INTO rollups_5m (at, monitor_no, seen, well, {_COLUMNS}, latencies)
SELECT %(at)s, u.* FROM unnest(%(monitors)s::int[], %(seen)s::int[], %(well)s::int[],
  {", ".join(f"%({category})s::int[]" for category in CATEGORIES)}, %(latencies)s::bytea[]) AS u
"""


def roll(connection: Connection, monitors: Sequence[int], begin_ms: int) -> None:
    """Add the rows of these monitors; the bucket has none of them yet."""
    window = (begin_ms, begin_ms + Level.FINE.ms)
    rest = iter(monitors)
    while chunk := list(islice(rest, _CHUNK)):
        made = list(uptime_history.accounts(uptime_history.read(connection, chunk, window), window))
        if made:
            connection.exec_driver_sql(_ADD, _columns(begin_ms, made))


def _columns(begin_ms: int, made: Sequence[Account]) -> dict[str, object]:
    return {
        "at": from_ms(begin_ms),
        "monitors": integers(one.monitor_no for one in made),
        "seen": integers(one.seen for one in made),
        "well": integers(one.well for one in made),
        "latencies": [encode(one.latencies) or None for one in made],
        **{name: integers(getattr(one.times, name) or None for one in made) for name in CATEGORIES},
    }
