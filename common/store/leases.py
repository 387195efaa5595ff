"""The lease that makes one scheduler the leader: a row, the database's clock, and an epoch that only grows."""

from __future__ import annotations

from dataclasses import dataclass

from common.clock import from_ms, to_ms
from common.store.engine import Connection

# Take the lease: a new row, or one that has expired. The epoch goes up, so that what the old holder still sends can
# be told apart. No row in the answer: somebody else leads.
_ACQUIRE = """
INSERT INTO leases AS l (name, holder, epoch, expires_at, dispatched_to)
VALUES (%(name)s, %(holder)s, 1, clock_timestamp() + %(ttl_s)s * interval '1 second', clock_timestamp())
ON CONFLICT (name) DO UPDATE
   SET holder = excluded.holder, epoch = l.epoch + 1, expires_at = excluded.expires_at
 WHERE l.expires_at < clock_timestamp()
RETURNING epoch, dispatched_to
"""

# Keep it and remember how far slots were dispatched. No row: another epoch has begun, we lead no more.
_RENEW = """
UPDATE leases
   SET expires_at = clock_timestamp() + %(ttl_s)s * interval '1 second',
       dispatched_to = greatest(dispatched_to, %(dispatched_to)s)
 WHERE name = %(name)s AND holder = %(holder)s AND epoch = %(epoch)s
RETURNING epoch
"""

# Give it back, so that a standby leads at once.
_RELEASE = """
UPDATE leases
   SET expires_at = clock_timestamp() - interval '1 second', dispatched_to = greatest(dispatched_to, %(dispatched_to)s)
 WHERE name = %(name)s AND holder = %(holder)s AND epoch = %(epoch)s
"""

_READ = "SELECT holder, epoch, expires_at > clock_timestamp() FROM leases WHERE name = %(name)s"


@dataclass(frozen=True, slots=True)
class Grant:
    """A lease that was just taken; `dispatched_to_ms` is how far the holder before us came."""

    epoch: int
    dispatched_to_ms: int


def acquire(connection: Connection, name: str, holder: str, *, ttl_s: float) -> Grant | None:
    """Take the lease if it is free or expired; None while somebody else holds it."""
    row = connection.exec_driver_sql(_ACQUIRE, {"name": name, "holder": holder, "ttl_s": ttl_s}).first()
    return None if row is None else Grant(row[0], to_ms(row[1]))


def renew(  # noqa: PLR0913 - one column each
    connection: Connection, name: str, holder: str, *, epoch: int, ttl_s: float, dispatched_to_ms: int
) -> bool:
    """Whether the lease is still ours, and now for another `ttl_s`."""
    parameters = {
        "name": name,
        "holder": holder,
        "epoch": epoch,
        "ttl_s": ttl_s,
        "dispatched_to": from_ms(dispatched_to_ms),
    }
    return connection.exec_driver_sql(_RENEW, parameters).first() is not None


def release(connection: Connection, name: str, holder: str, *, epoch: int, dispatched_to_ms: int) -> None:
    """End the lease now; nothing happens if it is not ours any more."""
    parameters = {"name": name, "holder": holder, "epoch": epoch, "dispatched_to": from_ms(dispatched_to_ms)}
    connection.exec_driver_sql(_RELEASE, parameters)


def read(connection: Connection, name: str) -> tuple[str, int, bool] | None:
    """(holder, epoch, whether it is valid now), None before the first leader."""
    row = connection.exec_driver_sql(_READ, {"name": name}).first()
    return None if row is None else (row[0], row[1], row[2])
