"""Lists of monitors: filtered, in one of several orders, a page at a time; and the labels that they carry."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from common.store.engine import Connection
from common.store.monitors import LIVE, SETTINGS, STATE, STATE_TABLES

_FIND = """
find_monitors(%(said)s, %(labels)s, %(label_keys)s::text[], %(types)s::text[], %(states)s::text[], %(order)s,
              %(after_state)s, %(after_at)s::timestamptz, %(after_name)s, %(after_id)s::uuid, %(limit)s)
"""

# A page. The function finds it and puts it in order; what it is sorted by comes along for the cursor.
_LIST = f"""
SELECT {SETTINGS}, {STATE}, lower(m.name) AS name_place
  FROM {_FIND} WITH ORDINALITY AS f(id, n) JOIN monitors m ON m.id = f.id {STATE_TABLES}
 WHERE {LIVE}
 ORDER BY f.n
"""

# The same without anything but (created_at, id), for who wants to change them all.
_IDS = f"""
SELECT m.created_at, m.id::text FROM {_FIND} WITH ORDINALITY AS f(id, n) JOIN monitors m ON m.id = f.id
 WHERE {LIVE} ORDER BY f.n
"""

# Labels and how many monitors carry them. One value and one key more than are shown tell that there are more.
_LABELS = f"""
WITH counted AS (
  SELECT l.key, l.value, count(*) AS monitors FROM monitors m, jsonb_each_text(m.labels) AS l(key, value)
   WHERE {LIVE} AND (%(key)s::text IS NULL OR l.key = %(key)s)
     AND (%(prefix)s::text IS NULL OR starts_with(lower(l.value), lower(%(prefix)s)))
   GROUP BY l.key, l.value
), ranked AS (
  SELECT key, value, monitors, row_number() OVER (PARTITION BY key ORDER BY monitors DESC, value COLLATE "C") AS place,
         dense_rank() OVER (ORDER BY key COLLATE "C") AS key_place
    FROM counted
)
SELECT key, value, monitors FROM ranked WHERE place <= %(values)s + 1 AND key_place <= %(keys)s + 1
 ORDER BY key COLLATE "C", place
"""

#: So many keys and values of each are shown.
MAX_KEYS = 200
MAX_VALUES = 100

#: As monitor_words in the database.
_NO_WORDS = str.maketrans(dict.fromkeys(string.punctuation + "\t\n\r", " "))


@dataclass(frozen=True, slots=True)
class MonitorFilter:
    """Which monitors: all that pass every filter; None does not filter.

    `said`: each of its words begins a word of key, name or target. `label_keys`: they carry these labels, of any value.
    """

    said: str | None = None
    labels: Mapping[str, str] | None = None
    label_keys: Sequence[str] | None = None
    types: Sequence[str] | None = None
    states: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """After which row a page goes on: its id and what the list is sorted by."""

    id: str
    created_at: datetime | None = None
    name: str | None = None
    state: str | None = None


@dataclass(frozen=True, slots=True)
class LabelCount:
    """How many monitors carry a label."""

    key: str
    value: str
    monitors: int


def list_page(  # noqa: PLR0913 - which, in what order, from where, how many
    connection: Connection, *, org_id: str, limit: int, wanted: MonitorFilter, order: str, after: Place | None = None
) -> list[dict[str, Any]]:
    """Monitors with their states; `order` is created_at, -created_at, name, -name or state."""
    rows = connection.exec_driver_sql(_LIST, {**_parameters(wanted, order, after, limit), "org_id": org_id})
    return [dict(row) for row in rows.mappings()]


def next_ids(
    connection: Connection, *, org_id: str, limit: int, wanted: MonitorFilter, after: Place | None = None
) -> list[Place]:
    """The newest of these monitors after a place, as places."""
    rows = connection.exec_driver_sql(_IDS, {**_parameters(wanted, "-created_at", after, limit), "org_id": org_id})
    return [Place(row[1], row[0]) for row in rows]


def word_count(said: str) -> int:
    """How many words there are to search for in it."""
    return sum(word != "" for word in said.translate(_NO_WORDS).split(" "))


def labels(connection: Connection, *, org_id: str, key: str | None, prefix: str | None) -> list[LabelCount]:
    """Labels by key, the commonest values first: of at most MAX_KEYS + 1 keys at most MAX_VALUES + 1 values each."""
    rows = connection.exec_driver_sql(
        _LABELS, {"org_id": org_id, "key": key, "prefix": prefix, "keys": MAX_KEYS, "values": MAX_VALUES}
    )
    return [LabelCount(*row) for row in rows]


def _parameters(wanted: MonitorFilter, order: str, after: Place | None, limit: int) -> dict[str, Any]:
    return {
        "said": wanted.said,
        "labels": None if wanted.labels is None else Jsonb(dict(wanted.labels)),
        "label_keys": _list(wanted.label_keys),
        "types": _list(wanted.types),
        "states": _list(wanted.states),
        "order": order,
        "after_state": None if after is None else after.state,
        "after_at": None if after is None else after.created_at,
        "after_name": None if after is None else after.name,
        "after_id": None if after is None else after.id,
        "limit": limit,
    }


def _list(values: Sequence[str] | None) -> list[str] | None:
    return None if values is None else list(values)
