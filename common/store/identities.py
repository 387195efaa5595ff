"""Who a provider's users are here, by its name for itself (issuer) and for them (subject)."""

from __future__ import annotations

from dataclasses import dataclass

from common.store.engine import Connection

_FIND = "SELECT user_id::text, disabled FROM auth_identity(%(issuer)s, %(subject)s)"
_BY_EMAIL = "SELECT user_id::text, disabled FROM auth_user(%(email)s)"
_LINK = "SELECT auth_link_identity(%(issuer)s, %(subject)s, %(user_id)s::uuid)"
_FIRST_ORGANIZATION = "SELECT auth_first_organization()::text"

# As tocsin_owner.
_UNLINK = "DELETE FROM identities WHERE user_id = (SELECT id FROM users WHERE email = lower(%(email)s))"


@dataclass(frozen=True, slots=True)
class KnownUser:
    """A user who was found."""

    user_id: str
    disabled: bool


def find(connection: Connection, issuer: str, subject: str) -> KnownUser | None:
    """The user behind a provider's subject, noted as a login."""
    row = connection.exec_driver_sql(_FIND, {"issuer": issuer, "subject": subject}).first()
    return None if row is None else KnownUser(*row)


def by_email(connection: Connection, email: str) -> KnownUser | None:
    """The user with an address that a provider vouches for."""
    row = connection.exec_driver_sql(_BY_EMAIL, {"email": email}).first()
    return None if row is None else KnownUser(*row)


def link(connection: Connection, issuer: str, subject: str, user_id: str) -> bool:
    """Know a user by a provider's subject from now on; False when they are known by another one of it."""
    values = {"issuer": issuer, "subject": subject, "user_id": user_id}
    return connection.exec_driver_sql(_LINK, values).scalar() is True


def unlink(connection: Connection, email: str) -> int:
    """Forget by whom a user logs in; how many identities that were. As tocsin_owner."""
    return connection.exec_driver_sql(_UNLINK, {"email": email}).rowcount


def first_organization(connection: Connection) -> str | None:
    """Where new users of the provider go."""
    org_id: str | None = connection.exec_driver_sql(_FIRST_ORGANIZATION).scalar()
    return org_id
