"""Alembic migrations: safe under concurrent start and beside the previous version of the code."""
