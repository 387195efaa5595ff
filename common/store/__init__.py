"""The only SQL: one module per aggregate, one comment per query, functions take a connection."""
