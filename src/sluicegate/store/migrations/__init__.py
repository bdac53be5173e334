"""Alembic's scripts. `versions/` has one file a version; `store.schema.VERSIONS` lists them all."""
