"""/v1/notifications: the ledger, one row per event and channel, with every attempt to deliver it.

What is sent again needs no hint: the notifiers look at the ledger once a second, with or without Redis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from flask import Response

from api import audit, pagination
from api.context import caller, services
from api.routing import Routes
from api.schemas_notifications import Notification, NotificationDetail, NotificationQuery, Redelivery, RedeliveryIn
from common import log
from common.domain.errors import Conflict
from common.store import notifications_read, redeliveries
from common.store.engine import Connection
from common.store.redeliveries import Obstacle

routes = Routes("notifications")

#: Why one is not sent again: for people, and the code for programs.
_REFUSALS: Mapping[Obstacle, tuple[str, str]] = MappingProxyType(
    {
        Obstacle.NOT_DEAD: ("NOT_DEAD", "Only a dead notification can be sent again; this one is {status}."),
        Obstacle.CHANNEL_DELETED: ("CHANNEL_DELETED", "Its channel was deleted."),
        Obstacle.CHANNEL_DISABLED: ("CHANNEL_DISABLED", "Its channel is disabled: enable it first."),
        Obstacle.OVERTAKEN: (
            "OVERTAKEN",
            "A newer event of this incident was delivered to this channel: sent now, this one would tell what is past.",
        ),
        Obstacle.UNDER_WAY: (
            "UNDER_WAY",
            "A newer event of this incident is being delivered to this channel: try again in a moment.",
        ),
        Obstacle.NOT_ANNOUNCED: (
            "NOT_ANNOUNCED",
            "This channel has not heard of the incident's beginning: redeliver that one, the end follows it.",
        ),
    }
)


@routes.get(
    "/v1/notifications", permission="notifications:read", query=NotificationQuery, answer=Notification, paged=True
)
def list_notifications(query: NotificationQuery) -> Response:
    """Notifications, newest first."""
    filters = notifications_read.Filters(
        status=query.status,
        incident_id=None if query.incident_id is None else str(query.incident_id),
        channel_id=None if query.channel_id is None else str(query.channel_id),
        event_type=query.event_type,
        reason=query.reason,
    )
    before = pagination.before_id(query.cursor)
    org_id = caller().org_id
    with services().database.begin(org_id) as connection:
        rows = notifications_read.list_page(
            connection, org_id=org_id, limit=query.limit + 1, before=before, filters=filters
        )
    shown, last = pagination.cut(rows, query.limit)
    cursor = None if last is None else pagination.encode(last["created_at"], last["id"])
    return pagination.page(shown, cursor)


@routes.get("/v1/notifications/<notification_id>", permission="notifications:read", answer=NotificationDetail)
def get_notification(notification_id: str) -> dict[str, Any]:
    """One notification with every attempt."""
    with services().database.begin(caller().org_id) as connection:
        return notifications_read.get(connection, org_id=caller().org_id, notification_id=notification_id)


@routes.post(
    "/v1/notifications/<notification_id>/redeliver",
    permission="notifications:write",
    answer=NotificationDetail,
    status=202,
    statuses=(409,),
)
def redeliver_notification(notification_id: str) -> dict[str, Any]:
    """Send a dead notification again, within a second, with another 24 hours to arrive.

    It keeps its id, so a receiver that got it after all knows it. What would break the order of the incident's events
    at the channel is refused (409). The beginning of an incident that is over brings its end along: both are sent.
    """
    org_id = caller().org_id
    with services().database.begin(org_id) as connection:
        row = notifications_read.get(connection, org_id=org_id, notification_id=notification_id)
        obstacle = _redeliver(connection, [notification_id]).get(notification_id)
        if obstacle is not None:
            code, message = _REFUSALS[obstacle]
            status = row["status"] if row["status"] != "dead" else "pending"  # somebody else was faster
            raise Conflict(message.format(status=status), code=code)
        return notifications_read.get(connection, org_id=org_id, notification_id=notification_id)


@routes.post(
    "/v1/notifications/redeliver",
    permission="notifications:write",
    body=RedeliveryIn,
    answer=Redelivery,
    status=202,
)
def redeliver_notifications(body: RedeliveryIn) -> dict[str, Any]:
    """Send dead notifications again, the oldest first, at most 1,000 a call.

    Those that could only be refused one by one are passed over and not counted in `remaining`.
    """
    org_id = caller().org_id
    wanted = redeliveries.Wanted(
        channel_id=None if body.channel_id is None else str(body.channel_id),
        incident_id=None if body.incident_id is None else str(body.incident_id),
        reason=body.reason,
        since=body.since,
    )
    database = services().database
    # Looked for and counted outside the transaction that holds the channels and the organization: relay and settlements
    # wait for that one. What is found is judged again under its locks.
    with database.begin(org_id) as connection:
        ids = redeliveries.find(connection, org_id=org_id, wanted=wanted)
    with database.begin(org_id) as connection:
        found = _redeliver(connection, ids)
    with database.begin(org_id) as connection:
        remaining = redeliveries.count(connection, org_id=org_id, wanted=wanted)
    return {"redelivered": sum(obstacle is None for obstacle in found.values()), "remaining": remaining}


def _redeliver(connection: Connection, ids: Sequence[str]) -> dict[str, Obstacle | None]:
    org_id = caller().org_id
    before = notifications_read.get_many(connection, org_id=org_id, ids=ids)
    found = redeliveries.redeliver(connection, org_id=org_id, ids=ids)
    sent_again = [id_ for id_, obstacle in found.items() if obstacle is None]
    after = notifications_read.get_many(connection, org_id=org_id, ids=sent_again)
    audit.all_changed(connection, "notification", [(id_, before[id_], after[id_]) for id_ in sent_again])
    log.get_logger().info("notifications_redelivered", count=len(sent_again))
    return found
