"""A monitor's configuration as the worker sees it: immutable values, validated at the API's edge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from common.domain.health import Policy
from common.domain.options import Options


@dataclass(frozen=True, slots=True)
class Assertion:
    """One expectation about an observation.

    `source` is one of those that `common.domain.sources` lists for the monitor's type, `op` one of those that
    `common.domain.operators` lists for its kind, `name` the header's name, `path` the place in a body of JSON.
    `on_fail` is "down" or "degraded".
    """

    source: str
    op: str
    value: Any
    name: str = ""
    on_fail: str = "down"
    path: str = ""


@dataclass(frozen=True, slots=True)
class MonitorConfig:
    """Everything a worker needs to probe and judge one monitor, at one `config_version`.

    `options` are of the type's class in `common.domain.options`; `secrets` are what must never be shown of them.
    """

    monitor_no: int
    monitor_id: str
    org_id: str
    config_version: int
    type: str
    name: str
    target: str
    interval_s: int
    timeout_s: float
    policy: Policy
    locations: tuple[int, ...] = ()
    assertions: tuple[Assertion, ...] = ()
    options: Options | None = None
    secrets: tuple[str, ...] = ()
