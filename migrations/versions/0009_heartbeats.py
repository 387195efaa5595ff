"""Heartbeats: monitors that wait to be pinged, what they are told, and when nobody was there to hear it."""

from __future__ import annotations

from migrations.sql import run_sql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add to the schema; the version before goes on working with it."""
    run_sql("0009_heartbeats.sql")


def downgrade() -> None:
    """Nothing has to go: the version before does not mind what was added."""
