"""A monitor's configuration as the worker sees it: immutable values, validated at the API's edge."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from common.domain.health import Policy


@dataclass(frozen=True, slots=True)
class Assertion:
    """One expectation about an observation.

    `source` is status | body | header | latency_ms, `op` one of those that `common.domain.assertions` lists for it,
    `name` the header's name. `on_fail` is "down" or "degraded".
    """

    source: str
    op: str
    value: Any
    name: str = ""
    on_fail: str = "down"


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """Request of an http monitor; secret header values arrive here already decrypted."""

    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    body: str | None = None
    follow_redirects: bool = True
    verify_tls: bool = True


@dataclass(frozen=True, slots=True)
class MonitorConfig:
    """Everything a worker needs to probe and judge one monitor, at one `config_version`."""

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
    http: HttpOptions = field(default_factory=HttpOptions)
