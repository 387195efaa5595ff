"""/v1/memberships: who belongs to the organization, and as what. A change counts at the member's next request."""

from __future__ import annotations

from typing import Any

from flask import Response

from api import audit, auth, pagination, parsing
from api.context import caller, services
from api.permissions import ROLES, allows, covers
from api.routing import Routes
from api.schemas import PageQuery
from api.schemas_identity import Membership, MembershipIn
from common import log
from common.domain.errors import Forbidden
from common.store import invites, members
from common.store.engine import Connection

routes = Routes("memberships")


@routes.get("/v1/memberships", permission="memberships:read", query=PageQuery, answer=Membership, paged=True)
def list_memberships(query: PageQuery) -> Response:
    """Who belongs to your organization, the newest first."""
    before = pagination.before_id(query.cursor)
    with services().database.begin(caller().org_id) as connection:
        rows = members.list_page(connection, org_id=caller().org_id, limit=query.limit + 1, before=before)
    shown, last = pagination.cut(rows, query.limit)
    cursor = None if last is None else pagination.encode(last["created_at"], last["user_id"])
    return pagination.page([_document(row) for row in shown], cursor)


@routes.get("/v1/memberships/<user_id>", permission="memberships:read", answer=Membership)
def get_membership(user_id: str) -> dict[str, Any]:
    """One membership."""
    with services().database.begin(caller().org_id) as connection:
        return _document(members.get(connection, org_id=caller().org_id, user_id=user_id))


@routes.patch(
    "/v1/memberships/<user_id>",
    permission="memberships:write",
    body=MembershipIn,
    merge=True,
    answer=Membership,
    statuses=(409,),
)
def change_membership(user_id: str, body: dict[str, Any]) -> dict[str, Any]:
    """Give a member another role, at most your own. The last owner stays one."""
    org_id = caller().org_id
    with services().database.begin(org_id) as connection:
        held = _hold(connection, user_id)
        now = held.role_of(user_id)
        wanted = parsing.validate(MembershipIn, parsing.merge({"role": now}, body)).role
        auth.must_cover(caller(), now)
        auth.must_cover(caller(), wanted)
        if now == "owner" and wanted != "owner":
            held.must_keep_an_owner(user_id)
        before = _document(members.get(connection, org_id=org_id, user_id=user_id))
        if wanted != now:
            members.set_role(connection, org_id=org_id, user_id=user_id, role=wanted)
            _take_back_invitations(connection, user_id, wanted)
            log.get_logger().info("role_changed", user_id=user_id, role=wanted)
        after = {**before, "role": wanted}
        audit.changed(connection, "membership", user_id, before, after)
        return after


@routes.delete("/v1/memberships/<user_id>", permission="memberships:write", statuses=(409,))
def delete_membership(user_id: str) -> None:
    """Remove a member: their sessions here end at once. The last owner stays. Keys they made stay, look at those."""
    org_id = caller().org_id
    with services().database.begin(org_id) as connection:
        held = _hold(connection, user_id)
        now = held.role_of(user_id)
        auth.must_cover(caller(), now)
        if now == "owner":
            held.must_keep_an_owner(user_id)
        before = _document(members.get(connection, org_id=org_id, user_id=user_id))
        audit.changed(connection, "membership", user_id, before, None)
        members.remove(connection, org_id=org_id, user_id=user_id)
        _take_back_invitations(connection, user_id, None)
    log.get_logger().info("member_removed", user_id=user_id)


def _hold(connection: Connection, user_id: str) -> members.Held:
    """Lock the members concerned. Raises Forbidden when the caller was demoted while we waited for that."""
    me = caller()
    concerned = [one for one in (me.user_id, user_id) if one is not None]
    held = members.hold(connection, org_id=me.org_id, user_ids=concerned)
    if me.user_id is not None and held.roles.get(me.user_id) != me.role:
        raise Forbidden("Your own role was changed this very moment.")
    return held


def _take_back_invitations(connection: Connection, user_id: str, role: str | None) -> None:
    """What a member has offered but could not offer any more as `role` (None: as a stranger)."""
    beyond = [one for one in ROLES if role is None or not allows(role, "invites:write") or not covers(role, one)]
    invites.revoke_of(connection, org_id=caller().org_id, actor=f"user:{user_id}", roles=beyond)


def _document(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("user_id", "email", "name", "role", "created_at")}
