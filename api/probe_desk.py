"""Where requests wait for a probe that a worker makes: few at once, for each holds one of the API's threads."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from common.domain.checks import Observation
from common.domain.errors import Full, Unanswered
from common.probe_requests import BEGIN_WITHIN_S, ProbeRequest, ProbeRequests

#: Beyond the probe's own timeout: until the answer has travelled back.
_MARGIN_S = 2.0
#: When to try again, where all places are taken.
_RETRY_AFTER_S = 2


class ProbeDesk:
    """Asks and waits. `at_once` may wait, and one organization takes all places but one."""

    def __init__(self, requests: ProbeRequests, *, at_once: int, begin_within_s: float = BEGIN_WITHIN_S) -> None:
        self._requests = requests
        self._at_once = at_once
        self._begin_within_s = begin_within_s
        self._lock = threading.Lock()
        self._waiting: Counter[str] = Counter()

    def probe(self, location: str, request: ProbeRequest) -> Observation:
        """What a worker of the location sees. Raises Unavailable, and Unanswered when there is none."""
        with self._place(request.org_id):
            ticket = self._requests.ask(location, request)
            seen = self._requests.wait(ticket, self._begin_within_s)
            if seen is None and not self._requests.withdraw(ticket):
                seen = self._requests.wait(ticket, request.timeout_s + _MARGIN_S)
        if seen is None:
            raise Unanswered(
                f"No worker of the location {location} answered; start one there, or ask for another location.",
                code="PROBE_UNANSWERED",
            )
        return seen

    @contextmanager
    def _place(self, org_id: str) -> Iterator[None]:
        with self._lock:
            most = max(1, self._at_once - 1)
            if self._waiting.total() >= self._at_once or self._waiting[org_id] >= most:
                raise Full(
                    "As many probes as this server makes at once are under way; try again.",
                    code="PROBES_BUSY",
                    retry_after_s=_RETRY_AFTER_S,
                )
            self._waiting[org_id] += 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting[org_id] -= 1
                self._waiting += Counter()  # forgets who waits for nothing
