"""What a platform's API needs: identity, incidents by hand, repeated requests, the audit log."""

from __future__ import annotations

from migrations.sql import run_sql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add to the schema; the version before goes on working with it."""
    for part in ("identity", "incidents", "requests"):
        run_sql(f"0003_{part}.sql")


def downgrade() -> None:
    """Nothing has to go: the version before does not mind what was added."""
