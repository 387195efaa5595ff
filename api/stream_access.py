"""Who holds a stream, and whether they still may: a stream outlives the request that was let in."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from flask import request
from flask_jwt_extended import get_jwt

from api.context import caller
from api.permissions import permissions_of
from api.streams import Access
from common.store import api_keys, stream
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
        key = Key(me.org_id, str(me.key_id), prefix)
        return Access(me.org_id, key.key_id, key, monitors, None)
    claims = get_jwt()
    session = Session(me.org_id, me.user_id, str(me.family_id), float(claims["iat"]))
    return Access(me.org_id, session.family_id, session, monitors, float(claims["exp"]))


def allowed_now(connection: Connection, credentials: Collection[Hashable]) -> dict[Hashable, frozenset[str]]:
    """{credential: what it allows}; absent are those that were revoked, have expired, or are of nobody any more."""
    keys = {one.key_id: one for one in credentials if isinstance(one, Key)}
    sessions = [one for one in credentials if isinstance(one, Session)]
    found: dict[Hashable, frozenset[str]] = {}
    for key in stream.keys_now(connection, [one.prefix for one in keys.values()]):
        if key.id in keys:
            found[keys[key.id]] = _permissions(key.role, key.scopes, key=True)
    asked = [(one.user_id, one.org_id, one.family_id) for one in sessions]
    for session, now in zip(sessions, stream.sessions_now(connection, asked), strict=True):
        if now is not None and datetime.fromtimestamp(session.issued_s, UTC) >= now.tokens_valid_after:
            found[session] = _permissions(now.role)
    return found


@lru_cache(maxsize=1024)
def _permissions(role: str, scopes: tuple[str, ...] | None = None, *, key: bool = False) -> frozenset[str]:
    return frozenset(permissions_of(role, scopes, key=key))
