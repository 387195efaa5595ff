"""The core: tenants, monitors, hot tables, incidents, outbox, ledger, roles and row-level security."""

from __future__ import annotations

from migrations.sql import run_sql

revision = "0001"
down_revision: str | None = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the whole first schema."""
    run_sql("0001_core.sql")


def downgrade() -> None:
    """The first migration has nothing to go back to: drop the database instead."""
    raise RuntimeError("0001 is the first schema; drop the database to go back.")
