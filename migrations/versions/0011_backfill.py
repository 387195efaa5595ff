"""Rollups of the time before there were any, and of results that are added to the past."""

from __future__ import annotations

from migrations.sql import run_sql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add to the schema; the version before goes on working with it."""
    run_sql("0011_backfill.sql")


def downgrade() -> None:
    """Nothing has to go: the version before does not mind what was added."""
