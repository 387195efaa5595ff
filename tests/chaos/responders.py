"""Somebody on call: acknowledges now and then an incident that alerts have opened, for a few seconds.

Each incident once. An answer that did not come is asked for again, so that in the end it is known to be acknowledged.
"""

from __future__ import annotations

import random
import threading
import time
from typing import Any, Self

import requests

from tests.chaos.events import Acknowledged, History
from tests.chaos.plan import Plan
from tests.chaos.routing import ACKNOWLEDGED, SOURCE

_PATIENCE_S = 6.0
_PAUSE_S = 1.0
_AGAIN_AFTER_S = 0.3
_TRIES = 10
#: How long an acknowledgement lasts: less than most problems do.
LASTS_S = 2
_FOR_NOW = (None, 429, 503)


class Responders:
    """Threads that acknowledge, from `with` until its end."""

    def __init__(self, url: str, api_key: str, history: History, plan: Plan) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {api_key}"}
        self._history = history
        self._chance = random.Random(f"responders {plan.seed}")
        self._stop = threading.Event()
        self._known: set[str] = set()
        self._thread = threading.Thread(target=self._respond, name="responder", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(_PATIENCE_S + 5)

    def _respond(self) -> None:
        while not self._stop.wait(_PAUSE_S):
            fresh = [id_ for id_ in self._open() if id_ not in self._known]
            if fresh:
                self._acknowledge(self._chance.choice(fresh))

    def _open(self) -> list[str]:
        status, found = self._ask("GET", f"/v1/incidents?status=open&source={SOURCE}&limit=100", None)
        if status != requests.codes.ok:
            return []
        return [one["id"] for one in found["data"] if one["labels"].get("team") in ACKNOWLEDGED]

    def _acknowledge(self, incident: str) -> None:
        self._known.add(incident)
        body = {"status": "acknowledged", "duration_seconds": LASTS_S}
        for _ in range(_TRIES):
            at = time.time()
            status, _ = self._ask("PATCH", f"/v1/incidents/{incident}/status", body)
            now = time.time()
            self._history.add(Acknowledged(at, now, incident, now + LASTS_S, status))
            if status not in _FOR_NOW or self._stop.wait(_AGAIN_AFTER_S):
                return

    def _ask(self, method: str, path: str, body: Any) -> tuple[int | None, Any]:
        """Status and document of the answer, None when there was none."""
        try:
            with requests.Session() as session:
                session.trust_env = False
                answer = session.request(
                    method, f"{self._url}{path}", json=body, headers=self._headers, timeout=_PATIENCE_S
                )
            return answer.status_code, answer.json()
        except (requests.RequestException, ValueError):
            return None, None
