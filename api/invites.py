"""/v1/invites: administrators invite by address; whoever holds the token accepts, once, within seven days."""

from __future__ import annotations

from typing import Any

from flask import Response

from api import audit, auth, letters, pagination
from api.context import caller, services
from api.new_passwords import hash_new
from api.routing import Routes
from api.schemas import PageQuery
from api.schemas_identity import AcceptIn, Invite, InviteIn, NewInvite, Tokens
from common import log
from common.domain.errors import Conflict, FieldError, Forbidden, ValidationFailed
from common.store import accounts, invites, members
from common.store.invites import OpenInvite

routes = Routes("invites")


@routes.post("/v1/invites", permission="invites:write", body=InviteIn, answer=NewInvite, status=201)
def create_invite(body: InviteIn) -> dict[str, Any]:
    """Invite somebody, with at most your own role. `token` is shown this once, and mailed where that is possible.

    An open invitation for the same address is replaced.
    """
    me = caller()
    auth.must_cover(me, body.role)
    invite = invites.NewInvite(me.org_id, body.email, body.role, me.actor)
    with services().database.begin(me.org_id) as connection:
        if members.is_member(connection, org_id=me.org_id, email=body.email):
            raise Conflict("Somebody with this address is a member already.", code="ALREADY_MEMBER")
        row = invites.add(connection, invite)
        audit.changed(connection, "invite", row["id"], None, row)
        organization = accounts.organization(connection, me.org_id)["name"]
    base_url = services().settings.base_url
    letter = letters.invitation(row["email"], invite.token, base_url, organization=organization, role=body.role)
    posting = services().mailer.prepare(letter)
    if posting is not None:
        services().database.after_commit(posting.send, otherwise=posting.drop)
    return {**row, "token": invite.token, "mailed": posting is not None}


@routes.get("/v1/invites", permission="invites:read", query=PageQuery, answer=Invite, paged=True)
def list_invites(query: PageQuery) -> Response:
    """Open invitations, newest first, without their tokens; expired ones too, until they are deleted or replaced."""
    before = pagination.before_id(query.cursor)
    with services().database.begin(caller().org_id) as connection:
        rows = invites.list_page(connection, org_id=caller().org_id, limit=query.limit + 1, before=before)
    shown, last = pagination.cut(rows, query.limit)
    cursor = None if last is None else pagination.encode(last["created_at"], last["id"])
    return pagination.page(shown, cursor)


@routes.delete("/v1/invites/<invite_id>", permission="invites:write")
def delete_invite(invite_id: str) -> None:
    """Take an open invitation back: its token is useless at once."""
    org_id = caller().org_id
    with services().database.begin(org_id) as connection:
        row = invites.get(connection, org_id=org_id, invite_id=invite_id)
        auth.must_cover(caller(), row["role"])
        audit.changed(connection, "invite", invite_id, row, None)
        invites.revoke(connection, org_id=org_id, invite_id=invite_id)


@routes.post("/v1/invites/accept", body=AcceptIn, answer=Tokens, status=201, statuses=(401, 403, 409))
def accept_invite(body: AcceptIn) -> dict[str, Any]:
    """Become a member by an invitation's token, and get a session there.

    A new user says a password. Who has an account sends its access token as Bearer, or its password.
    """
    with services().database.begin() as connection:
        invite = invites.find(connection, body.token)
    if invite is None:
        raise _wrong_token()
    newcomer = _newcomer(invite, body) if invite.user_id is None else None
    if newcomer is None:
        _must_be_them(invite, body)
    with services().database.begin(invite.org_id) as connection:
        user_id = invite.user_id if newcomer is None else accounts.new_user(connection, newcomer)
        if user_id is None:
            raise Conflict("Somebody just registered with this address: log in first.", code="EMAIL_TAKEN")
        if not invites.accept(connection, org_id=invite.org_id, invite_id=invite.id, user_id=user_id):
            raise _wrong_token()
        if not members.add(connection, org_id=invite.org_id, user_id=user_id, role=invite.role):
            raise Conflict("You are a member already.", code="ALREADY_MEMBER")
        joined = {"user_id": user_id, "email": invite.email, "role": invite.role, "invite_id": invite.id}
        actor = f"user:{user_id}"
        audit.changed(connection, "membership", user_id, None, joined, org_id=invite.org_id, actor=actor)
        answer = auth.open_session(connection, user_id=user_id, org_id=invite.org_id, role=invite.role)
    log.get_logger().info("invite_accepted", user_id=user_id, org_id=invite.org_id, role=invite.role)
    return answer


def _newcomer(invite: OpenInvite, body: AcceptIn) -> accounts.NewUser:
    if body.password is None:
        details = [FieldError("password", "is required: there is no account with this address yet")]
        raise ValidationFailed("Some fields are wrong.", details=details)
    password_hash = hash_new(body.password, invite.email, field="password")
    # Whoever invites sees the token too: having it does not prove that the address is theirs.
    return accounts.NewUser(invite.email, body.name, password_hash, verified=False)


def _must_be_them(invite: OpenInvite, body: AcceptIn) -> None:
    """Raise Forbidden unless whoever accepts is the user with the invited address."""
    visitor = auth.visitor()
    proven = visitor is not None and visitor.user_id == invite.user_id
    if not proven and body.password is not None:
        proven = services().passwords.verify(invite.password_hash, body.password)
    if not proven or invite.disabled:
        raise Forbidden(
            "This address has an account: send its access token as Bearer, or its password.", code="INVITE_NOT_YOURS"
        )


def _wrong_token() -> ValidationFailed:
    details = [FieldError("token", "is wrong, was used, was taken back, or has expired")]
    return ValidationFailed("The invitation is not good any more.", code="TOKEN_INVALID", details=details)
