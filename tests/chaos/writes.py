"""People who use the API all the time: what it says it has stored is written down, and has to be there at the end."""

from __future__ import annotations

import random
import threading
import time
from typing import Self

import requests

from tests.chaos.events import History, Write

_PATIENCE_S = 8.0
_PAUSE_S = 0.05
#: So often an existing monitor is changed instead of a new one made.
_CHANGES = 0.3


class Writers:
    """Threads that create and change monitors which are never checked."""

    def __init__(self, url: str, api_key: str, history: History, seed: int, *, count: int = 2) -> None:
        self._url = url
        self._key = api_key
        self._history = history
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._write_all, args=(n, random.Random(f"writer {seed} {n}")), daemon=True)
            for n in range(count)
        ]
        self.answered = 0
        self.unanswered = 0

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """No more writes; returns when the last has been answered or given up."""
        self._stop.set()
        for thread in self._threads:
            thread.join(_PATIENCE_S + 5)

    def _write_all(self, number: int, chance: random.Random) -> None:
        made = 0
        with requests.Session() as session:
            session.trust_env = False
            session.headers["Authorization"] = f"Bearer {self._key}"
            while not self._stop.wait(_PAUSE_S):
                if made and chance.random() < _CHANGES:
                    key = f"w{number}-{chance.randrange(made)}"
                else:
                    key, made = f"w{number}-{made}", made + 1
                self._write(session, key)

    def _write(self, session: requests.Session, key: str) -> None:
        path = f"/v1/monitors/by-key/{key}"
        at = time.time()
        body = {"type": "http", "name": f"{key} {at:.6f}", "target": "http://127.0.0.1:9/", "enabled": False}
        try:
            status: int | None = session.put(f"{self._url}{path}", json=body, timeout=_PATIENCE_S).status_code
            self.answered += 1
        except requests.RequestException:
            status = None  # it may have been stored
            self.unanswered += 1
        self._history.add(Write(at, time.time(), "PUT", path, key, status))
