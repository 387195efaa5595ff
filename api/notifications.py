"""/v1/notifications: the ledger, one row per event and channel, with every attempt to deliver it."""

from __future__ import annotations

from typing import Any

from flask import Response

from api import pagination
from api.context import caller, services
from api.routing import Routes
from api.schemas import Notification, NotificationDetail, NotificationQuery
from common.store import notifications_read

routes = Routes("notifications")


@routes.get(
    "/v1/notifications", permission="notifications:read", query=NotificationQuery, answer=Notification, paged=True
)
def list_notifications(query: NotificationQuery) -> Response:
    """Notifications, newest first."""
    filters = notifications_read.Filters(
        query.status,
        None if query.incident_id is None else str(query.incident_id),
        None if query.channel_id is None else str(query.channel_id),
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
