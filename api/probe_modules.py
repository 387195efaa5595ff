"""blackbox_exporter's modules as our probes: what is probed by which name, and what is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any, cast

from api import asked_probes, parsing
from api.schemas_probes import ProbeBase, ProbeIn
from common.domain.errors import FieldError, ValidationFailed
from common.domain.sources import SOURCES
from common.probe_requests import Detail, ProbeRequest

#: As blackbox.yml has them when it is installed; every type of ours is a module as well, without options.
MODULES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "http_2xx": ("http", {}),
    "http_post_2xx": ("http", {"method": "POST"}),
    "tcp_connect": ("tcp", {}),
    "pop3s_banner": ("tcp", {"tls": True, "expect": r"^\+OK"}),
    "ssh_banner": ("tcp", {"expect": "^SSH-2.0-"}),
    "icmp": ("icmp", {}),
    **{type_: (type_, {}) for type_ in SOURCES if type_ != "icmp"},
}

#: Prometheus gives up when its own timeout is over; the answer needs a moment to get there.
_MARGIN_S = 0.5
_TIMEOUT_S, _SHORTEST_S, _LONGEST_S = 10.0, 0.1, 30.0


def read(module: str, target: str, scrape_timeout: str | None) -> ProbeRequest:
    """What a module and a target mean. Raises ValidationFailed."""
    if module not in MODULES:
        raise _wrong("module", f"unknown; there are: {', '.join(MODULES)}")
    type_, options = MODULES[module]
    if type_ == "http" and "://" not in target:
        target = f"http://{target}"
    sent = {"type": type_, "target": target, "timeout_seconds": _timeout_s(scrape_timeout), type_: dict(options)}
    return asked_probes.ask(cast("ProbeBase", parsing.validate(ProbeIn, sent)), Detail.FACTS)


def _timeout_s(scrape_timeout: str | None) -> float:
    """As long as Prometheus waits, and a moment less."""
    try:
        given = float(scrape_timeout or "nan")
    except ValueError:
        given = float("nan")
    wanted = given - _MARGIN_S if isfinite(given) else _TIMEOUT_S
    return min(_LONGEST_S, max(_SHORTEST_S, wanted))


def _wrong(field: str, message: str) -> ValidationFailed:
    return ValidationFailed("Some parameters are wrong.", details=[FieldError(field, message)])
