"""An organization's routing version: whoever changes its routes, silences or channels moves it in the same transaction.

Moving it holds the organization's row until the transaction ends. The relay holds the same row while it matches, and
then writes notifications: so take it before anything else, and nobody waits in a circle.
"""

from __future__ import annotations

from common.store.engine import Connection

_MOVE = "UPDATE organizations SET routing_version = routing_version + 1 WHERE id = %(org_id)s"


def move(connection: Connection, org_id: str) -> None:
    """Let everybody who keeps this organization's rules read them again; who else changes them waits for us."""
    connection.exec_driver_sql(_MOVE, {"org_id": org_id})
