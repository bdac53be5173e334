"""`sluicegate migrate`."""

import typer

from sluicegate import bootstrap
from sluicegate.settings import load_settings
from sluicegate.store import SchemaState


def migrate() -> None:
    """Bring the database's schema to this version; SQLite is migrated by `serve` too."""
    found = bootstrap.migrate(load_settings())
    typer.echo(
        "the schema is current" if found is SchemaState.CURRENT else f"the schema was {found}: it is current now"
    )
