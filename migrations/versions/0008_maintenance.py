"""Maintenance windows: what they cover and when, what they and parents hold back, and the state that shows it."""

from __future__ import annotations

from migrations.sql import run_sql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add to the schema; the version before goes on working with it."""
    run_sql("0008_maintenance.sql")


def downgrade() -> None:
    """Nothing has to go: the version before does not mind what was added."""
