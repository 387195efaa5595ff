"""Alert routing: routes, silences, alerts from outside, groups, caps, fallback channels, platform keys."""

from __future__ import annotations

from migrations.sql import run_sql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add to the schema; the version before goes on working with it."""
    run_sql("0002_alerting.sql")


def downgrade() -> None:
    """Nothing has to go: the version before does not mind what was added."""
