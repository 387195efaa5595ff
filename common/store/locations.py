"""Locations: where checks run from. They belong to the operator, so every organization sees them all."""

from __future__ import annotations

from datetime import datetime

from common.store.engine import Connection

_LIST = "SELECT id, name, created_at FROM locations ORDER BY name"

# The look before the insert keeps the smallint identity from running out: a refused insert would use up a number.
_ENSURE = """
INSERT INTO locations (name)
SELECT %(name)s WHERE NOT EXISTS (SELECT 1 FROM locations WHERE name = %(name)s)
    ON CONFLICT (name) DO NOTHING
"""
_NUMBER = "SELECT id FROM locations WHERE name = %(name)s"


def ensure(connection: Connection, name: str) -> int:
    """The number of a location, made if it is not known yet."""
    connection.exec_driver_sql(_ENSURE, {"name": name})
    number: int = connection.exec_driver_sql(_NUMBER, {"name": name}).scalar_one()
    return number


def list_all(connection: Connection) -> list[tuple[int, str, datetime]]:
    """All locations by name: (id, name, created_at)."""
    return [(row[0], row[1], row[2]) for row in connection.exec_driver_sql(_LIST)]


def ids_by_name(connection: Connection) -> dict[str, int]:
    """The numbers that rows and queues use for the names."""
    return {name: number for number, name, _ in list_all(connection)}
