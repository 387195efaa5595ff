"""Organizations' rules as the relay keeps them: read again when their routing_version has moved.

Whoever changes routes, silences or channels moves the version in the same transaction, and a caller reads while it
holds the organization's row: so the rules of a version are always whole, and never older or newer than it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from sys import intern
from typing import Any

from common import log
from common.domain.labels import Matcher, check_matcher
from common.domain.routing import Grouping, Route, conditions
from common.domain.rules import Channels, Rules, Silence
from common.store.arrays import words
from common.store.engine import Connection

#: Routes and silences that are kept, 1 to 2 kB each; organizations unseen for longest go first.
MOST_KEPT = 500_000

# Enabled routes in the order in which they are tried.
_ROUTES = """
SELECT org_id::text, id::text, name, match, matchers, channel_ids::text[], continues, cooldown_s, group_by,
       group_wait_s, group_interval_s, repeat_interval_s
  FROM routes
 WHERE org_id = ANY(%(orgs)s::uuid[]) AND enabled AND deleted_at IS NULL
 ORDER BY org_id, position, id
"""

# Silences that are not settled: one that is has no effect any more, whatever a clock says.
_SILENCES = """
SELECT org_id::text, id::text, matchers, starts_at, ends_at FROM silences
 WHERE org_id = ANY(%(orgs)s::uuid[]) AND settled_at IS NULL
"""

# Channels in the order in which they were made.
_CHANNELS = """
SELECT org_id::text, id::text, enabled, is_default FROM channels
 WHERE org_id = ANY(%(orgs)s::uuid[]) AND deleted_at IS NULL
 ORDER BY org_id, created_at, id
"""


@dataclass(frozen=True, slots=True)
class _Kept:
    version: int
    rules: Rules


class RouteBooks:
    """Keeps organizations' rules between transactions, for all threads of a process."""

    def __init__(self, *, most_kept: int = MOST_KEPT) -> None:
        self._lock = threading.Lock()
        self._most_kept = most_kept
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._size = 0

    def of(self, connection: Connection, versions: Mapping[str, int]) -> dict[str, Rules]:
        """The rules of these organizations, {id: routing_version}, whose rows are held."""
        # Also while reading: it only reads, so it waits for nobody who could wait for us.
        with self._lock:
            return self._of(connection, versions)

    def _of(self, connection: Connection, versions: Mapping[str, int]) -> dict[str, Rules]:
        changed = [org for org, version in versions.items() if not self._has(org, version)]
        if changed:
            for org, rules in _read(connection, changed).items():
                self._keep(org, _Kept(versions[org], rules))
        found = {}
        for org in versions:
            self._kept.move_to_end(org)
            found[org] = self._kept[org].rules
        while self._size > self._most_kept and len(self._kept) > len(versions):
            self._size -= len(self._kept.popitem(last=False)[1].rules)
        return found

    def _has(self, org: str, version: int) -> bool:
        kept = self._kept.get(org)
        return kept is not None and kept.version == version

    def _keep(self, org: str, kept: _Kept) -> None:
        before = self._kept.get(org)
        self._size += len(kept.rules) - (0 if before is None else len(before.rules))
        self._kept[org] = kept


def _read(connection: Connection, orgs: Sequence[str]) -> dict[str, Rules]:
    parameters = {"orgs": words(orgs)}
    enabled: dict[str, dict[str, bool]] = {}
    defaults: dict[str, list[str]] = {}
    for org, channel, is_enabled, is_default in connection.exec_driver_sql(_CHANNELS, parameters):
        enabled.setdefault(org, {})[intern(channel)] = is_enabled
        if is_default:
            defaults.setdefault(org, []).append(channel)
    routes: dict[str, list[Route]] = {}
    for org, *row in connection.exec_driver_sql(_ROUTES, parameters):
        routes.setdefault(org, []).extend(_route(row))
    silences: dict[str, list[Silence]] = {}
    for org, *row in connection.exec_driver_sql(_SILENCES, parameters):
        silences.setdefault(org, []).extend(_silence(row))
    return {
        org: Rules(
            routes.get(org, ()),
            silences.get(org, ()),
            Channels(enabled.get(org, {}), tuple(defaults.get(org, ()))),
        )
        for org in orgs
    }


def _route(row: Sequence[Any]) -> Iterable[Route]:
    """None when we cannot read it: the organization's other routes go on working."""
    id_, name, match, matchers, channel_ids, continues, cooldown_s, group_by, wait_s, interval_s, repeat_s = row
    parsed = _matchers(match, matchers, route_id=id_)
    if parsed is None:
        return ()
    grouping = None
    if group_by is not None:
        grouping = Grouping(tuple(group_by), timedelta(seconds=wait_s), timedelta(seconds=interval_s))
    repeat = None if repeat_s is None else timedelta(seconds=repeat_s)
    cooldown = timedelta(seconds=cooldown_s)
    # Many routes name the same few channels: one string each, in memory and to compare.
    channels = tuple(map(intern, channel_ids))
    return (Route(id_, name, parsed, channels, continues, cooldown, grouping, repeat),)


def _silence(row: Sequence[Any]) -> Iterable[Silence]:
    """None when we cannot read it: rather announce too much."""
    id_, matchers, starts_at, ends_at = row
    parsed = _matchers({}, matchers, silence_id=id_)
    return () if parsed is None else (Silence(id_, parsed, starts_at, ends_at),)


def _matchers(match: Any, matchers: Any, **whose: str) -> tuple[Matcher, ...] | None:
    """Stored conditions, checked once more: what the API took may be wrong by a newer version's lights."""
    try:
        parsed = conditions(match, matchers)
        wrong = [error.message for matcher in parsed for error in check_matcher(matcher, "matchers")]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        wrong = [repr(error)]
        parsed = ()
    if wrong:
        log.get_logger().error("rule_unreadable", problems=wrong, **whose)
        return None
    return parsed
