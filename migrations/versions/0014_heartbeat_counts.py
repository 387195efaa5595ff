"""Heartbeats of which so many successes are expected in a time; what deleted heartbeats left behind goes."""

from __future__ import annotations

from migrations.sql import run_sql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add to the schema; the version before goes on working with it."""
    run_sql("0014_heartbeat_counts.sql")


def downgrade() -> None:
    """Nothing has to go: the version before does not mind what was added."""
