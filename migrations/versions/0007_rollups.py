"""What uptime is made of: changes of health and of watching, and rollups of five minutes, hours and days."""

from __future__ import annotations

from migrations.sql import run_sql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add to the schema; the version before goes on working with it."""
    run_sql("0007_rollups.sql")


def downgrade() -> None:
    """Nothing has to go: the version before does not mind what was added."""
