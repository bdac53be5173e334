"""`sluicegate config`: every setting, its value without secrets, and where it came from."""

from urllib.parse import urlsplit

import typer
from pydantic import SecretStr

from sluicegate.settings import Settings, load_settings, origin_of, variable

HIDDEN = "(hidden)"
ABSENT = "(absent)"


def config() -> None:
    """List every setting, its value without secrets, where it came from, and what it means."""
    settings = load_settings()
    rows = [("setting", "value", "from", "meaning")]
    for field, known in Settings.model_fields.items():
        value = shown(field, getattr(settings, field))
        rows.append((variable(field), value, origin_of(field), known.description or ""))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        typer.echo("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]))


def shown(field: str, value: object) -> str:
    """The value as it may be printed: of a database URL all but the password, of other secrets nothing."""
    if value is None:
        return ABSENT
    if isinstance(value, SecretStr):
        return _without_password(value.get_secret_value()) if field == "database_url" else HIDDEN
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or ABSENT
    return str(value).lower() if isinstance(value, bool) else str(value)


def _without_password(url: str) -> str:
    """Of a URL that can be read: scheme, user, host, port and path. A query may hold a password too."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return HIDDEN
    if parts.scheme not in ("postgresql", "postgresql+psycopg", "postgres", "sqlite"):
        return HIDDEN
    user = "" if parts.username is None else f"{parts.username}{':***' if parts.password else ''}@"
    return f"{parts.scheme}://{user}{parts.hostname or ''}{port}{parts.path}"
