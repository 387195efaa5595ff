"""Alerts that end by themselves, and how long a channel has kept its fallback waiting."""

from __future__ import annotations

from migrations.sql import run_sql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add to the schema; the version before goes on working with it."""
    run_sql("0006_alert_ends.sql")


def downgrade() -> None:
    """Nothing has to go: the version before does not mind what was added."""
