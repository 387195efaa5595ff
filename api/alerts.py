"""/v1/alerts: alerts from outside, of an organization's own or, with a platform key, for all of them."""

from __future__ import annotations

from typing import Any

from api import intake, limits
from api.alert_documents import AlertIn, Tally
from api.context import caller
from api.routing import Routes
from common.domain.alerts import Outcome

routes = Routes("alerts")


@routes.post(
    "/v1/alerts",
    permission="alerts:write",
    items=AlertIn,
    answer=Tally,
    status=202,
    limit=limits.ALERTS,
    audited=False,  # an incident's timeline tells of them
)
def take_alerts(body: list[AlertIn]) -> dict[str, Any]:
    """Take in up to 1,000 alerts, in their order; if one is wrong, none is taken.

    A firing alert opens an incident, unless one of its dedup_key is open: then it makes that one worse or changes
    nothing. A resolved one resolves it. What was sent before, by its alert_id or else by dedup_key, status and
    starts_at, changes nothing, so a batch without an answer may safely be sent again; without an alert_id, a worse
    severity is no repeat while the incident is open, and a repeat that comes five minutes after somebody resolved its
    incident by hand says that it still fires and opens another. An alert_id is for one message: the worsening or the
    end of what had one needs another, or none. A platform key's alerts are offered to every organization's enabled
    routes and are an incident of each that matches.
    """
    tally = intake.take_in([item.alert() for item in body], "api")
    answer = {
        "accepted": tally[Outcome.OPENED],
        "deduplicated": tally[Outcome.DEDUPLICATED],
        "resolved": tally[Outcome.RESOLVED],
    }
    return answer if caller().org_id else {**answer, "unmatched": tally[Outcome.UNMATCHED]}
