"""Password resets: asked for by address, used once within half an hour.

All of it goes through functions of the schema, since nobody is logged in and no organization is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from common.store import tokens
from common.store.engine import Connection

LIFETIME = timedelta(minutes=30)

_ASK = "SELECT user_id::text, email, name FROM auth_ask_reset(%(email)s, %(token_hash)s, %(lifetime_s)s)"
_FIND = "SELECT user_id::text, email, name FROM auth_reset(%(token_hash)s)"
_USE = "SELECT auth_use_reset(%(token_hash)s, %(new)s)::text"

# By the operator, as tocsin_owner, for whom a mail cannot reach.
_GIVE = """
INSERT INTO password_resets (token_hash, user_id, expires_at)
SELECT %(token_hash)s, id, clock_timestamp() + %(lifetime_s)s * interval '1 second'
  FROM users WHERE email = lower(%(email)s) AND disabled_at IS NULL
RETURNING user_id::text
"""


@dataclass(frozen=True, slots=True)
class Forgetful:
    """Whose password it is about."""

    user_id: str
    email: str
    name: str


def ask(connection: Connection, email: str, token: str) -> Forgetful | None:
    """Let this token reset the password of the user with this address; None when there is none, or asked too often.

    Either way the same is written, so that it takes the same time.
    """
    row = connection.exec_driver_sql(_ASK, _values(token, email=email)).first()
    return None if row is None else Forgetful(*row)


def give(connection: Connection, email: str, token: str, *, lifetime: timedelta = LIFETIME) -> str | None:
    """The same by the operator; the user's id, None when there is no such user or they are disabled."""
    values = {**_values(token, email=email), "lifetime_s": int(lifetime.total_seconds())}
    user_id: str | None = connection.exec_driver_sql(_GIVE, values).scalar()
    return user_id


def find(connection: Connection, token: str) -> Forgetful | None:
    """Whose password this token resets; None for a token that is wrong, used or expired."""
    row = connection.exec_driver_sql(_FIND, _values(token)).first()
    return None if row is None else Forgetful(*row)


def use(connection: Connection, token: str, new_hash: str) -> str | None:
    """Set the password, end all sessions; the user's id, None when the token was used meanwhile."""
    user_id: str | None = connection.exec_driver_sql(_USE, _values(token, new=new_hash)).scalar()
    return user_id


def _values(token: str, **more: str) -> dict[str, object]:
    return {"token_hash": tokens.hash_of(token), "lifetime_s": int(LIFETIME.total_seconds()), **more}
