"""Incidents of long ago are forgotten: the indexes that find them and what refers to them, and the rights to do so."""

from __future__ import annotations

from migrations.sql import build_indexes, run_sql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add to the schema; the version before goes on working with it."""
    build_indexes("0013_event_indexes.sql")
    run_sql("0013_event_retention.sql")


def downgrade() -> None:
    """Nothing has to go: the version before does not mind what was added."""
