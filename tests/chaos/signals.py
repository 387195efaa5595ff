"""Somebody else's monitoring: sends alerts through the API at least once, and silences some of them now and then.

A batch without an answer (or refused for now) is sent again until it is answered. Sometimes a pair of senders sends it
at the same time, and sometimes an old one comes again.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

import requests

from tests.chaos.events import History, Signal, Silenced
from tests.chaos.plan import Plan
from tests.chaos.routing import QUIET, SOURCE, TEAMS

_PATIENCE_S = 6.0
_PAUSE_S = 0.25
_AGAIN_AFTER_S = 0.3
#: When all is over the last batch is answered within so long, or never.
_LAST_WITHIN_S = 45.0
_BATCH = 10
#: How often a batch has two senders, and how often an old one comes again.
_PAIRS, _OLD_ONES = 0.3, 0.2
_REMEMBERED = 30
#: How many of the problems last long.
_LASTING = 3
_TAKEN = (200, 201, 202)
_FOR_NOW = (None, 429, 503)


@dataclass(slots=True)
class _Problem:
    """Something that fires and rests by turns."""

    key: str
    team: str
    changes_at: float
    period: int = 0
    firing: bool = False

    def change(self) -> _Change:
        """What it says next."""
        self.firing = not self.firing
        self.period += self.firing
        return _Change(self.key, self.team, self.period, self.firing)


@dataclass(frozen=True, slots=True)
class _Change:
    key: str
    team: str
    period: int
    firing: bool

    @property
    def alert_id(self) -> str:
        return f"{self.key} {self.period} {'firing' if self.firing else 'resolved'}"

    def document(self) -> dict[str, Any]:
        """As the API takes it."""
        return {
            "alert_id": self.alert_id,
            "name": self.key,
            "source": SOURCE,
            "severity": "critical",
            "status": "firing" if self.firing else "resolved",
            "dedup_key": self.key,
            "summary": f"{self.key} is wrong, for the {self.period}. time",
            "labels": {"team": self.team},
        }


class Signals:
    """One who sends and one who silences, from `with` until `finish`; `over` says that all they sent is answered."""

    def __init__(self, url: str, api_key: str, history: History, plan: Plan) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {api_key}"}
        self._history = history
        self._plan = plan
        self._chance = random.Random(f"signals {plan.seed}")
        self._finish = threading.Event()
        self._give_up_at = float("inf")
        self._sent: deque[list[_Change]] = deque(maxlen=_REMEMBERED)
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._send_all, self._silence_all)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()
        self._give_up_at = 0.0
        for thread in self._threads:
            thread.join(_PATIENCE_S + 5)

    def finish(self) -> None:
        """Say a last word on some of the problems that still fire, and no more."""
        self._give_up_at = min(self._give_up_at, time.monotonic() + _LAST_WITHIN_S)
        self._finish.set()

    @property
    def over(self) -> bool:
        """Whether all has been said, and answered or given up."""
        return not any(thread.is_alive() for thread in self._threads)

    def _send_all(self) -> None:
        problems = [
            _Problem(f"p{n}", TEAMS[n % len(TEAMS)], time.monotonic() + self._chance.uniform(0, self._plan.rests_s[1]))
            for n in range(self._plan.problems)
        ]
        with ThreadPoolExecutor(2) as senders:
            while not self._finish.wait(_PAUSE_S):
                due = [problem for problem in problems if problem.changes_at <= time.monotonic()]
                self._send([self._next(problem, problems.index(problem)) for problem in due[:_BATCH]], senders)
                if self._sent and self._chance.random() < _OLD_ONES * _PAUSE_S:
                    self._deliver(self._chance.choice(self._sent))
            self._send([p.change() for p in problems if p.firing and self._chance.random() < 0.5], senders)

    def _next(self, problem: _Problem, number: int) -> _Change:
        change = problem.change()
        lasts_s = self._plan.lasting_s if number < _LASTING else self._plan.fires_s
        problem.changes_at = time.monotonic() + self._chance.uniform(
            *(lasts_s if problem.firing else self._plan.rests_s)
        )
        return change

    def _send(self, changes: list[_Change], senders: ThreadPoolExecutor) -> None:
        if not changes:
            return
        count = 2 if self._chance.random() < _PAIRS else 1
        for sender in [senders.submit(self._deliver, changes) for _ in range(count)]:
            sender.result()
        self._sent.append(changes)

    def _deliver(self, changes: Sequence[_Change]) -> None:
        """Until it is answered."""
        documents = [change.document() for change in changes]
        while True:
            at = time.time()
            status, _ = self._post("/v1/alerts", documents)
            for c in changes:
                self._history.add(Signal(at, time.time(), c.alert_id, c.key, c.period, c.firing, c.team, status))
            if status not in _FOR_NOW or time.monotonic() > self._give_up_at:
                return
            time.sleep(_AGAIN_AFTER_S)

    def _silence_all(self) -> None:
        """Two that overlap, then nothing for a while."""
        lasts_s, number = self._plan.silence_s, 0
        while not self._finish.wait(lasts_s * 0.5):
            number += 1
            self._silence(number)
            if number % 2 == 0:
                self._finish.wait(lasts_s * 1.5)

    def _silence(self, number: int) -> None:
        body = {
            "matchers": [{"label": "team", "op": "=", "value": QUIET}],
            "duration_seconds": max(1, round(self._plan.silence_s)),
            "comment": f"number {number}",
        }
        while time.monotonic() < self._give_up_at:
            status, made = self._post("/v1/silences", body, {"Idempotency-Key": f"silence-{number}"})
            if status in _TAKEN:
                begins_at, ends_at = (
                    datetime.fromisoformat(made[name]).timestamp() for name in ("starts_at", "ends_at")
                )
                self._history.add(Silenced(time.time(), made["id"], begins_at, ends_at))
            if status not in _FOR_NOW:
                return
            time.sleep(_AGAIN_AFTER_S)

    def _post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> tuple[int | None, Any]:
        """Status and document of the answer, None when there was none. Each on a connection of its own."""
        try:
            with requests.Session() as session:
                session.trust_env = False
                answer = session.post(
                    f"{self._url}{path}", json=body, headers={**self._headers, **(headers or {})}, timeout=_PATIENCE_S
                )
            return answer.status_code, answer.json()
        except (requests.RequestException, ValueError):
            return None, None
