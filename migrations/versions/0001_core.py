"""The core: tenants, monitors, hot tables, incidents, outbox, ledger, roles and row-level security."""

from __future__ import annotations

from importlib.resources import files

from alembic import op

revision = "0001"
down_revision: str | None = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the whole first schema; the SQL stands beside this file, where it reads and highlights as SQL."""
    sql = files("migrations").joinpath("versions/0001_core.sql").read_text(encoding="utf-8")
    # Straight to the driver: many statements in one go, and % is not a placeholder there without parameters.
    driver = op.get_bind().connection.driver_connection
    assert driver is not None
    driver.execute(sql)


def downgrade() -> None:
    """The first migration has nothing to go back to: drop the database instead."""
    raise RuntimeError("0001 is the first schema; drop the database to go back.")
