"""Votes know when the probe behind them began."""

from __future__ import annotations

from migrations.sql import run_sql

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add to the schema; the version before goes on working with it."""
    run_sql("0015_observed.sql")


def downgrade() -> None:
    """Nothing has to go: the version before does not mind what was added."""
