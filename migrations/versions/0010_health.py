"""Where checks run from and whether they see anything; monitors that flap."""

from __future__ import annotations

from migrations.sql import run_sql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add to the schema; the version before goes on working with it."""
    run_sql("0010_health.sql")


def downgrade() -> None:
    """Nothing has to go: the version before does not mind what was added."""
