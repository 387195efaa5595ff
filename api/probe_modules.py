"""blackbox_exporter's modules as our probes: what is probed by which name, and what is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, cast

from api import parsing
from api.context import caller, services
from api.monitor_documents import to_settings
from api.reach import refuse_denied
from api.schemas_probes import ProbeBase, ProbeIn
from common.domain.checks import Observation
from common.domain.errors import FieldError, ValidationFailed
from common.domain.sources import SOURCES
from common.probe_requests import Detail, ProbeRequest
from common.store import locations

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


@dataclass(frozen=True, slots=True)
class Asked:
    """A probe that is to be made."""

    type: str
    request: ProbeRequest


def read(module: str, target: str, scrape_timeout: str | None) -> Asked:
    """What a module and a target mean. Raises ValidationFailed."""
    if module not in MODULES:
        raise _wrong("module", f"unknown; there are: {', '.join(MODULES)}")
    type_, options = MODULES[module]
    if type_ == "http" and "://" not in target:
        target = f"http://{target}"
    sent = {"type": type_, "target": target, "timeout_seconds": _timeout_s(scrape_timeout), type_: dict(options)}
    body = cast("ProbeBase", parsing.validate(ProbeIn, sent))
    refuse_denied("target", body.host)
    settings = to_settings(body.monitor, (), {})
    return Asked(
        type_,
        ProbeRequest(
            caller().org_id,
            settings.type,
            settings.target,
            body.timeout_seconds,
            settings.options,
            settings.secrets,
            settings.assertions,
            detail=Detail.FACTS,
        ),
    )


def look(asked: Asked, location: str | None) -> Observation:
    """What a worker of the location sees. Raises Unavailable."""
    wanted = location or services().settings.location
    with services().database.begin(caller().org_id) as connection:
        if wanted not in locations.ids_by_name(connection):
            raise _wrong("location", "there is no such location")
    return services().probes.probe(wanted, asked.request)


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
