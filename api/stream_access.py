"""Who holds a stream, and whether they still may: a stream outlives the request that was let in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from flask import request
from flask_jwt_extended import get_jwt

from api.context import caller
from api.permissions import permissions_of
from api.streams import Access
from common.store import accounts, api_keys
from common.store.engine import Connection

#: What a stream needs at least, and what its other part needs.
INCIDENTS, MONITORS = "incidents:read", "monitors:read"


@dataclass(frozen=True, slots=True)
class Session:
    """A user's access token."""

    org_id: str
    user_id: str
    family_id: str
    issued_s: float


@dataclass(frozen=True, slots=True)
class Key:
    """An API key; a new one with the same prefix is another one."""

    org_id: str
    key_id: str
    prefix: str


def of_request(permissions: list[str]) -> Access:
    """The access of whoever makes this request, which has been let in with these permissions."""
    me, monitors = caller(), MONITORS in permissions
    if me.user_id is None:
        prefix, _ = api_keys.split(request.headers["Authorization"].partition(" ")[2].strip())
        return Access(me.org_id, Key(me.org_id, str(me.key_id), prefix), monitors, None)
    claims = get_jwt()
    session = Session(me.org_id, me.user_id, str(me.family_id), float(claims["iat"]))
    return Access(me.org_id, session, monitors, float(claims["exp"]))


def still_allowed(connection: Connection, credential: object) -> list[str]:
    """What a credential allows now; nothing when it was revoked, has expired, or belongs to nobody any more."""
    if isinstance(credential, Key):
        key = api_keys.find(connection, credential.prefix)
        if key is None or key.expired or key.id != credential.key_id:
            return []
        return permissions_of(key.role, key.scopes, key=True)
    assert isinstance(credential, Session)
    found = accounts.session(
        connection, user_id=credential.user_id, org_id=credential.org_id, family_id=credential.family_id
    )
    if found is None or datetime.fromtimestamp(credential.issued_s, UTC) < found.tokens_valid_after:
        return []
    return permissions_of(found.role)
