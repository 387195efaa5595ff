"""Bring the database to this version's schema, once, whoever else starts at the same time.

`python -m migrations.run` is what `tocsin migrate` and `tocsin up` start.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

#: Any number, the same for all versions: whoever holds it migrates, the others wait and then find nothing to do.
_LOCK_ID = 7305061971


def alembic_config(connection: Connection | None = None) -> Config:
    """Alembic's configuration for the migrations beside this file."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    return config


def migrate(database_url: str) -> None:
    """Upgrade to the newest revision, under an advisory lock of the session."""
    engine = create_engine(make_url(database_url).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT pg_advisory_lock(%(id)s)", {"id": _LOCK_ID})
        connection.commit()
        try:
            command.upgrade(alembic_config(connection), "head")
            connection.commit()
            connection.exec_driver_sql("SELECT keep_result_partitions(2, 3650)")
            connection.commit()
        finally:
            connection.rollback()
            connection.exec_driver_sql("SELECT pg_advisory_unlock(%(id)s)", {"id": _LOCK_ID})
            connection.commit()
    engine.dispose()
