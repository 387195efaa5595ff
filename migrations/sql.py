"""Runs the SQL file of a migration; SQL stands in a file of its own, where it reads and highlights as SQL."""

from __future__ import annotations

from importlib.resources import files

from alembic import op


def run_sql(name: str) -> None:
    """Run all statements of `migrations/versions/<name>` in the migration's transaction."""
    sql = files("migrations").joinpath("versions", name).read_text(encoding="utf-8")
    # Straight to the driver: many statements in one go, and % is not a placeholder there without parameters.
    driver = op.get_bind().connection.driver_connection
    assert driver is not None
    driver.execute(sql)
