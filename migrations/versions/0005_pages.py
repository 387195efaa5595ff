"""What pages need: the stream's view of changed monitors, counts over all of them, series of results."""

from __future__ import annotations

from migrations.sql import run_sql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add to the schema; the version before goes on working with it."""
    run_sql("0005_pages.sql")


def downgrade() -> None:
    """Nothing has to go: the version before does not mind what was added."""
