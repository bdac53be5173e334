"""Every setting, its default and its meaning. From the environment (`SLUICEGATE_…`) and an optional file.

The file is named by `SLUICEGATE_CONFIG` and has lines `SLUICEGATE_NAME=value`, as `docker --env-file` and systemd's
`EnvironmentFile=` read them; the environment goes before it.

This module only reads and checks single values; what values mean together is checked in `bootstrap`.
"""

import difflib
import os
from pathlib import Path
from typing import Annotated

from msgspec import Struct
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from sluicegate.core.errors import ConfigurationError

PREFIX = "SLUICEGATE_"
CONFIG = "SLUICEGATE_CONFIG"
"""The variable that names the file; only the environment may have it."""
MAX_FILE = 256 * 1024
"""Bytes of a settings file."""

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of one process; field `x_y` is read from `SLUICEGATE_X_Y`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    data_dir: Path = Field(
        default=Path("sluicegate-data"), description="folder of the SQLite database and of generated keys"
    )
    database_url: SecretStr | None = Field(
        default=None, description="`postgresql://…` or `sqlite:///…`; absent: SQLite in the data directory"
    )
    db_pool_size: int = Field(default=4, ge=1, le=1000, description="connections for admin writes")
    db_max_overflow: int = Field(
        default=0, ge=0, le=1000, description="connections beyond the pool size, closed after use"
    )
    database_direct_url: SecretStr | None = Field(
        default=None,
        description="`postgresql://…` past PgBouncer, for `migrate` and for LISTEN, which wakes the feed; optional",
    )
    db_pool_timeout: float = Field(
        default=5.0, ge=0, allow_inf_nan=False, description="seconds a write waits for a free connection; 0 = at once"
    )
    db_deadline: Seconds = Field(
        default=5.0, description="seconds one transaction may take before its caller is answered 503"
    )
    max_entities: int = Field(
        default=3_000_000, ge=1, description="entities that a worker loads at most; above it refuses, and says so"
    )
    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=4444, ge=0, le=65535, description="port to listen on")
    workers: int = Field(default=1, ge=1, le=64, description="worker processes")
    public_url: str | None = Field(
        default=None,
        description="the URL clients use; issuer and audience of our tokens. absent: http://127.0.0.1:4444",
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="further Host names to accept, comma-separated, besides loopback and the public URL's"
    )
    jwt_keys: SecretStr | None = Field(
        default=None,
        description="JWK Set (RFC 7517) as JSON, or the path of one; the first private key signs, all verify",
    )
    encryption_key: SecretStr | None = Field(
        default=None,
        description="32 bytes, base64: seals upstream credentials. absent: generated in the data directory",
    )
    token_max_lifetime: Seconds = Field(
        default=366 * 86400.0, description="longest accepted exp - iat of a token, seconds"
    )
    revocation_bound: Seconds = Field(
        default=2.0, description="L: seconds within which a revocation is effective everywhere"
    )
    outage_bound: float = Field(
        default=300.0,
        ge=0,
        allow_inf_nan=False,
        description="G: seconds that calls go on without the database; 0 = strict",
    )
    allow_private_upstreams: bool = Field(
        default=False, description="accept loopback and private addresses as upstreams"
    )
    upstream_timeout: Seconds = Field(default=60.0, description="deadline of one call to an upstream, seconds")
    upstream_connect_timeout: Seconds = Field(default=5.0, description="deadline of connecting to an upstream, seconds")
    upstream_max_answer: int = Field(
        default=32 * 1024 * 1024, ge=1024, description="largest accepted upstream answer, bytes"
    )
    max_body: int = Field(default=4 * 1024 * 1024, ge=1024, description="largest accepted request body, bytes")
    metrics_token: SecretStr | None = Field(
        default=None, description="bearer token for /metrics when not listening on loopback; absent: closed there"
    )

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - our own file takes its place
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - not used
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment before the file before the defaults."""
        lines = [(_field(line.name), line.value) for line in _file_lines()]
        in_file = {field: value for field, value in lines if field in cls.model_fields}
        return init_settings, env_settings, InitSettingsSource(settings_cls, in_file)


class Line(Struct, frozen=True):
    """One `NAME=value` of the settings file."""

    number: int
    name: str
    value: str


def load_settings() -> Settings:
    """The settings of this process. Raises ConfigurationError with one sentence, on a line of its own, per problem."""
    problems = _odd_names()
    try:
        settings = Settings()
    except ValidationError as error:
        problems += [_sentence(detail) for detail in error.errors()]
    else:
        if not problems:
            return settings
    raise ConfigurationError("\n".join(problems))


def variable(field: str) -> str:
    """The name of the variable that sets a field."""
    return PREFIX + field.upper()


def origin_of(field: str) -> str:
    """Where the value of a field comes from: `environment`, `FILE:LINE`, or `default`."""
    if any(name.upper() == variable(field) for name in os.environ):
        return "environment"
    lines = [line for line in _file_lines() if _field(line.name) == field]
    return f"{os.environ[CONFIG]}:{lines[-1].number}" if lines else "default"


def _field(name: str) -> str:
    """The field that a variable sets, if there is one of that name; as pydantic-settings does, in any case."""
    return name.lower().removeprefix(PREFIX.lower())


def _file_lines() -> list[Line]:
    path = os.environ.get(CONFIG)
    if not path:
        return []
    try:
        with Path(path).open(encoding="utf-8") as file:
            text = file.read(MAX_FILE + 1)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigurationError(f"settings file `{path}` cannot be read: {why}") from None
    if len(text) > MAX_FILE:
        raise ConfigurationError(f"settings file `{path}` is larger than {MAX_FILE} bytes")
    rows = [(number, row.strip()) for number, row in enumerate(text.splitlines(), 1)]
    return [_line(path, number, row) for number, row in rows if row and not row.startswith("#")]


def _line(path: str, number: int, row: str) -> Line:
    name, equals, value = (part.strip() for part in row.partition("="))
    if not equals:
        raise ConfigurationError(f"{path}:{number}: write a setting as `{PREFIX}NAME=value`")
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]
    return Line(number, name, value)


def _odd_names() -> list[str]:
    """Sentences about settings that do not exist, have no value, or are in the file twice."""
    ours = [name for name in os.environ if name.upper().startswith(PREFIX) and name.upper() != CONFIG]
    given = [(name, os.environ[name], "in the environment") for name in ours]
    lines = _file_lines()
    given += [(line.name, line.value, f"in {os.environ[CONFIG]}:{line.number}") for line in lines]
    names = [line.name.upper() for line in lines]
    twice = sorted({name for name in names if names.count(name) > 1})
    return [
        *(_unknown(name, where) for name, _, where in given if name.upper() not in _known()),
        *(f"{name} {where} is empty: give it a value, or remove it" for name, value, where in given if not value),
        *(f"{name} is in {os.environ[CONFIG]} more than once" for name in twice),
    ]


def _known() -> list[str]:
    return [variable(field) for field in Settings.model_fields]


def _unknown(name: str, where: str) -> str:
    near = difflib.get_close_matches(name.upper(), [*_known(), CONFIG], 1)
    return f"unknown setting {name} {where}: " + (
        f"did you mean {near[0]}?" if near else "`sluicegate config` lists all of them"
    )


def _sentence(detail: ErrorDetails) -> str:
    field = str(detail["loc"][0])
    wish = detail["msg"].removeprefix("Value error, ").split(",")[0].replace("Input should be", "must be")
    secret = "SecretStr" in str(Settings.model_fields[field].annotation)
    return f"{variable(field)} {wish}" + ("" if secret else f", not `{str(detail['input'])[:80]}`")
