"""The operator's side of the API: a pool that sees every organization, and the index of all their routes.

Nothing is read and no thread runs before the first alert of the platform comes.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from common import log, telemetry
from common.clock import monotonic_s
from common.domain.labels import LabelIndex, Labels, Matcher
from common.process import start_loop
from common.store import platform_routes
from common.store.engine import Database

#: How often the organizations' routing versions are looked at.
LOOK_EVERY_S = 0.25


class Platform:
    """Matches alerts against all organizations' routes. A new index replaces the old one whole, matching never waits.

    An organization that is disabled, or whose routes change, is known to all API processes within a second.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self._index: LabelIndex[str] | None = None
        self._versions: Mapping[str, int] = {}
        self._selectors: dict[str, Sequence[tuple[Matcher, ...]]] = {}
        self._starting = threading.Lock()
        self._stop = threading.Event()

    def concerned(self, labels: Labels) -> list[str]:
        """The organizations with an enabled route that matches. Raises Unavailable before the first index is there."""
        index = self._index
        return list(dict.fromkeys((index or self._start()).find(labels)))

    def refresh(self) -> bool:
        """Read what changed and swap the index; whether anything had changed."""
        with self.database.begin() as connection:
            versions = platform_routes.versions(connection)
            if self._index is not None and versions == self._versions:
                return False
            began_s = monotonic_s()
            moved = [org for org, version in versions.items() if self._versions.get(org) != version]
            changed = platform_routes.selectors(connection, moved)
        selectors = {org: changed[org] if org in changed else self._selectors[org] for org in versions}
        index = LabelIndex((org, matchers) for org, routes in selectors.items() for matchers in routes)
        self._selectors, self._versions, self._index = selectors, versions, index
        telemetry.PLATFORM_ROUTES.set(len(index))
        telemetry.PLATFORM_REFRESH.observe(monotonic_s() - began_s)
        log.get_logger().info("platform_routes_read", organizations=len(moved), routes=len(index))
        return True

    def close(self) -> None:
        """Stop looking and give back the pool's connections."""
        self._stop.set()
        self.database.dispose()

    def _start(self) -> LabelIndex[str]:
        with self._starting:
            if self._index is None:
                self.refresh()
                # Looks at the versions even while it has just read some: the next change may be there already.
                start_loop("platform_routes", lambda: self.refresh() and False, self._stop, idle_s=LOOK_EVERY_S)
        assert self._index is not None
        return self._index
