"""/v1/probes: one probe now, of anything, made by a worker as a monitor's check would be, and kept nowhere."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from api import asked_probes
from api.context import services
from api.routing import Routes
from api.schemas_probes import Probe, ProbeBase, ProbeIn
from common.domain.checks import Observation, Reason

routes = Routes("probes")


@routes.post(
    "/v1/probes",
    permission="monitors:write",
    body=ProbeIn,
    answer=Probe,
    statuses=(504,),
    audited=False,  # it changes nothing
)
def probe_target(body: ProbeBase) -> dict[str, Any]:
    """Probe a target once, now, from one location, and say what was seen. Nothing is stored, nobody is told.

    It is made by a worker of the location under its egress policy, within `timeout_seconds` of its beginning. 503 when
    too many are under way, 504 when no worker of the location answers.
    """
    request, location = asked_probes.ask(body), asked_probes.place(body.location)
    return {**probe_document(services().probes.probe(location, request)), "location": location}


def probe_document(seen: Observation) -> dict[str, Any]:
    """What a probe saw, as clients read it: null for what was not reached."""
    phases = {name: round(value, 3) if value >= 0 else None for name, value in asdict(seen.phases).items()}
    return {
        "verdict": seen.verdict.label,
        "reason": None if seen.reason is Reason.NONE else seen.reason.label,
        "message": seen.message or None,
        "latency_ms": phases["total_ms"],
        "phases": phases,
        "status_code": seen.code or None,
        "failed_assertion": None if seen.failed_assertion is None else asdict(seen.failed_assertion),
    }
