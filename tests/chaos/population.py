"""The monitors, channels and routes of a run, made through the API as anybody would make them."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import requests

from tests.chaos.endpoints import TARPIT
from tests.chaos.events import MonitorSpec, Run
from tests.chaos.plan import ChaosError, Plan
from tests.chaos.routing import QUIET, TEAMS, make_channels, make_routes
from tests.chaos.timeline import Script, host_of

SLOW_ONE = "slow one"
_PATIENCE_S = 60.0
_AT_ONCE = 4
#: Every so manieth monitor watches a name instead of an address.
_NAMED = 3


class Api:
    """A client with the first key; a connection for each thread."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self._key = key
        self._local = threading.local()

    def post(self, path: str, body: Any) -> Any:
        """The answer; raises ChaosError when it is not 2xx."""
        answer = self._session().post(f"{self._url}{path}", json=body, timeout=_PATIENCE_S)
        if not answer.ok:
            raise ChaosError(f"POST {path}: {answer.status_code} {answer.text[:300]}")
        return answer.json()

    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            self._local.session.trust_env = False
            self._local.session.headers["Authorization"] = f"Bearer {self._key}"
        session: requests.Session = self._local.session
        return session


class Population:
    """Makes what a run watches and tells; `endpoints` and `sink` are URLs without a path."""

    def __init__(self, api: Api, endpoints: str, sink: str) -> None:
        self._api = api
        self._endpoints = endpoints
        self._sink = sink

    def make(self, plan: Plan, scripts: Sequence[Script], connection: psycopg.Connection[Any]) -> Run:
        """What the API took; the monitors' endpoints are up and begin to count."""
        channels = make_channels(self._api, self._sink)
        make_routes(self._api, channels)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            ids = list(pool.map(self._monitor, scripts))
        self._slow_one()
        numbers = dict(connection.execute("SELECT id::text, monitor_no FROM monitors").fetchall())
        monitors = tuple(_spec(id_, numbers[id_], script) for id_, script in zip(ids, scripts, strict=True))
        order = [{"monitor": id_, "script": script.as_json()} for id_, script in zip(ids, scripts, strict=True)]
        run = Run(time.time(), plan.seed, plan.profile, monitors, channels)
        give_order(self._endpoints, "begin", order)
        return run

    def _monitor(self, script: Script) -> str:
        body = {
            "type": "http",
            "name": script.path,
            "target": self._target(script.path),
            "interval_seconds": script.interval_s,
            "timeout_seconds": script.interval_s,
            "retry_interval_seconds": 1,
            "failure_threshold": script.failure_threshold,
            "recovery_threshold": script.recovery_threshold,
            "labels": {"team": _team(script)},
        }
        return str(self._api.post("/v1/monitors", body)["id"])

    def _target(self, path: str) -> str:
        if sum(path.encode()) % _NAMED:
            return f"{self._endpoints}{path}"
        return f"http://{host_of(path)}:{self._endpoints.rpartition(':')[2]}{path}"

    def _slow_one(self) -> None:
        """It is up, slowly, and never due while the run lasts: the fault `slow-flood` asks for it."""
        body = {"type": "http", "name": SLOW_ONE, "target": f"{self._endpoints}{TARPIT}", "interval_seconds": 86_400,
                "timeout_seconds": 10}  # fmt: skip
        self._api.post("/v1/monitors", body)


def give_order(endpoints: str, order: str, body: Any = None) -> None:
    """Tell the endpoints' process what to do."""
    requests.post(f"{endpoints}/-/{order}", json=body or [], timeout=_PATIENCE_S).raise_for_status()


def _spec(id_: str, number: int, script: Script) -> MonitorSpec:
    return MonitorSpec(
        id=id_,
        no=number,
        path=script.path,
        interval_s=script.interval_s,
        timeout_s=script.interval_s,
        failure_threshold=script.failure_threshold,
        recovery_threshold=script.recovery_threshold,
        retry_interval_s=1,
        team=_team(script),
    )


def _team(script: Script) -> str:
    loud = [team for team in TEAMS if team != QUIET]
    return loud[sum(script.path.encode()) % len(loud)]
