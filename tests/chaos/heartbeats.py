"""Something out there that pings: heartbeats that beat and fall silent as the seed decides, some of them maintained.

A client that never tries again: a ping without an answer is gone, the next comes when it is due. Half of the heartbeats
are of a team that works in maintenance windows; those are asked for, and ended, until that is answered.
"""

from __future__ import annotations

import random
import threading
import time
from typing import Any, Self
from urllib.parse import urlsplit

import requests

from tests.chaos.events import Heartbeats, HeartbeatSpec, History, Ping, Pulse, Window
from tests.chaos.plan import ChaosError, Plan
from tests.chaos.routing import UPKEEP

_COUNT = 6
#: Every so manieth is of the team that works in windows.
_MAINTAINED = 2
_INTERVAL_S, _PERIOD_S, _GRACE_S, _EVERY_S = 1, 2, 1, 0.5
#: A silence has to be long enough to have to be told of.
_LEAST_SILENT_S = (10.0, 14.0)
_PATIENCE_S, _PING_PATIENCE_S = 6.0, 1.0
_AGAIN_AFTER_S = 0.3
#: When all is over the last window is ended within so long, or never.
_LAST_WITHIN_S = 45.0
#: None ends by itself; how long one lasts, in silences of the plan, and how long there is none.
_WINDOW_S, _LASTS, _RESTS = 1_800, (1.5, 5.0), (1.0, 2.0)
_FOR_NOW = (None, 429, 503)
#: A window whose end is asked for again is not on any more.
_NOT_ON = 409


class Script:
    """When one beats and when it is silent, decided by the seed; spans are seconds."""

    def __init__(self, seed: str, beating_s: tuple[float, float], silent_s: tuple[float, float]) -> None:
        self._chance = random.Random(seed)
        self._beating_s, self._silent_s = beating_s, silent_s
        self._beats = True
        self._until_s = self._chance.uniform(0, beating_s[0] / 2)  # soon: some runs are short

    def beats(self, played_s: float) -> bool:
        """Whether it beats so long after the beginning; asked for later and later moments."""
        while played_s >= self._until_s:
            self._beats = not self._beats
            self._until_s += self._chance.uniform(*(self._beating_s if self._beats else self._silent_s))
        return self._beats


class Pulses:
    """Threads that ping and one that maintains, with `with`; `play` begins the scripts, `settle` ends them.

    `url` is where monitors are made, `client_url` where pings and windows go.
    """

    def __init__(self, url: str, client_url: str, api_key: str, history: History, plan: Plan) -> None:
        self._url = url
        self._client_url = client_url
        self._headers = {"Authorization": f"Bearer {api_key}"}
        self._history = history
        self._plan = plan
        self._played_at = float("inf")
        self._settled, self._stop = threading.Event(), threading.Event()
        self._give_up_at = float("inf")
        self._specs: list[HeartbeatSpec] = []
        self._threads: list[threading.Thread] = []
        self._maintainer = threading.Thread(target=self._maintain, name="maintainer", daemon=True)

    def __enter__(self) -> Self:
        self._specs = [self._make(number) for number in range(_COUNT)]
        self._history.add(Heartbeats(time.time(), tuple(self._specs)))
        self._threads = [
            threading.Thread(target=self._beat, args=(number, spec), name=f"pulse-{number}", daemon=True)
            for number, spec in enumerate(self._specs)
        ]
        for thread in (*self._threads, self._maintainer):
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.settle()
        self._give_up_at = 0.0
        self._stop.set()
        for thread in (*self._threads, self._maintainer):
            thread.join(_PATIENCE_S + 5)

    def play(self) -> None:
        """Let silences and windows begin."""
        self._played_at = time.monotonic()

    def settle(self) -> None:
        """All beat from here on, and no window is on."""
        self._give_up_at = min(self._give_up_at, time.monotonic() + _LAST_WITHIN_S)
        self._settled.set()

    @property
    def over(self) -> bool:
        """Whether the last window's end was answered, or given up."""
        return not self._maintainer.is_alive()

    def _make(self, number: int) -> HeartbeatSpec:
        team = UPKEEP if number % _MAINTAINED else ""
        body = {
            "type": "heartbeat",
            "name": f"heartbeat {number}",
            "interval_seconds": _INTERVAL_S,
            "heartbeat": {"period_seconds": _PERIOD_S, "grace_seconds": _GRACE_S},
            "labels": {"team": team} if team else {},
        }
        made = self._certainly("POST", "/v1/monitors", body)
        shown = self._certainly("GET", f"/v1/monitors/{made['id']}/heartbeat", None)
        path = urlsplit(shown["ping_url"]).path
        return HeartbeatSpec(made["id"], path, _INTERVAL_S, _PERIOD_S, _GRACE_S, _EVERY_S, team)

    def _beat(self, number: int, spec: HeartbeatSpec) -> None:
        least, most = _LEAST_SILENT_S
        silent_s = max(least, self._plan.outage_s[0]), max(most, self._plan.outage_s[1])
        script = Script(f"heartbeat {self._plan.seed} {number}", self._plan.outage_s, silent_s)
        beats = False
        while not self._stop.is_set():
            began = time.monotonic()
            scripted = began >= self._played_at and not self._settled.is_set()
            if beats is not (beats := not scripted or script.beats(began - self._played_at)):
                self._history.add(Pulse(time.time(), spec.id, beats))
            if beats:
                self._ping(spec)
            self._stop.wait(max(0.0, began + spec.every_s - time.monotonic()))

    def _ping(self, spec: HeartbeatSpec) -> None:
        at = time.time()
        status, _ = _ask("GET", f"{self._client_url}{spec.path}", None, {}, _PING_PATIENCE_S)
        self._history.add(Ping(at, time.time(), spec.id, status))

    def _maintain(self) -> None:
        """One window after the other."""
        chance, number = random.Random(f"windows {self._plan.seed}"), 0
        while time.monotonic() < self._played_at and not self._settled.wait(_AGAIN_AFTER_S):
            pass
        while not self._settled.is_set():
            number += 1
            self._window(number, chance.uniform(*_LASTS) * self._plan.silence_s)
            self._settled.wait(chance.uniform(*_RESTS) * self._plan.silence_s)

    def _window(self, number: int, seconds: float) -> None:
        body = {
            "name": f"upkeep {number}", "type": "once", "duration_seconds": _WINDOW_S,
            "matchers": [{"label": "team", "op": "=", "value": UPKEEP}],
        }  # fmt: skip
        at, id_ = time.time(), ""
        status, made = self._until_answered("/v1/maintenance", body, {"Idempotency-Key": f"upkeep-{number}"})
        if status not in (200, 201):
            refused = None if status in _FOR_NOW else status
            self._history.add(Window(at, None, None, None, id_, refused))
            return
        answered_at, id_ = time.time(), str(made["id"])
        self._settled.wait(seconds)
        end_at = time.time()
        status, _ = self._until_answered(f"/v1/maintenance/{id_}/end", None, {})
        ended_at = time.time() if status in (200, _NOT_ON) else None
        refused = None if ended_at or status in _FOR_NOW else status
        self._history.add(Window(at, answered_at, end_at, ended_at, id_, refused))

    def _until_answered(self, path: str, body: Any, headers: dict[str, str]) -> tuple[int | None, Any]:
        """The last answer, 409 only where an answer before it was lost."""
        tries = 0
        while True:
            tries += 1
            status, said = _ask("POST", f"{self._client_url}{path}", body, {**self._headers, **headers}, _PATIENCE_S)
            if status not in _FOR_NOW or time.monotonic() > self._give_up_at:
                return (-_NOT_ON, said) if status == _NOT_ON and tries == 1 else (status, said)
            time.sleep(_AGAIN_AFTER_S)

    def _certainly(self, method: str, path: str, body: Any) -> Any:
        status, said = _ask(method, f"{self._url}{path}", body, self._headers, _PATIENCE_S)
        if status is None or status >= requests.codes.bad_request:
            raise ChaosError(f"{method} {path}: {status} {said}")
        return said


def _ask(method: str, url: str, body: Any, headers: dict[str, str], patience_s: float) -> tuple[int | None, Any]:
    """Status and document of the answer, None when there was none. Each on a connection of its own."""
    try:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.request(method, url, json=body, headers=headers, timeout=patience_s)
        is_json = answer.headers.get("Content-Type", "").endswith("json")
        return answer.status_code, answer.json() if is_json else None
    except (requests.RequestException, ValueError):
        return None, None
