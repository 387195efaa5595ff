"""Monitors by the thousand: found by state, label, type and words, sorted, and managed as a desired set."""

from __future__ import annotations

from migrations.sql import run_sql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add to the schema; the version before goes on working with it."""
    run_sql("0004_monitors.sql")


def downgrade() -> None:
    """Nothing has to go: the version before does not mind what was added."""
