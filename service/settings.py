"""Settings of the service: environment variables beat the settings file, which beats the defaults.

Every setting `x` may be given as the environment variable `GRADTRACE_X` or as `x = ...` in a TOML file, by default
`gradtrace/settings.toml` in the user's configuration folder, or the file that `GRADTRACE_SETTINGS` names.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from gradtrace.service.suggest import choices
from gradtrace.tracer.errors import SpecError

PREFIX = "GRADTRACE_"
FILE_VARIABLE = "GRADTRACE_SETTINGS"
_MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_REDIS = re.compile(
    r"rediss?://(?:[^\s@/]*@)?(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?(?:/[0-9]*)?(?:\?\S*)?"
)


class Settings(BaseModel):
    """All settings, checked. Secrets show as `**********` wherever this is printed.

    Example:
        >>> load_settings({"GRADTRACE_NEO4J_PASSWORD": "s3cret"}).neo4j_password
        SecretStr('**********')
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    neo4j_uri: str | None = Field(
        default=None,
        pattern=r"^(bolt|neo4j)(\+s|\+ssc)?://[^\s@]+$",
        description="address of a Neo4j server of your own; the embedded one if not set",
    )
    neo4j_user: str = Field(default="neo4j", min_length=1, description="user at that server")
    neo4j_password: SecretStr | None = Field(default=None, description="password at that server")
    neo4j_database: str | None = Field(
        default=None, min_length=1, description="database there; the user's own if unset"
    )
    redis_uri: SecretStr | None = Field(
        default=None,
        description="address of a Redis or Valkey server of your own, redis://[user:password@]host:port/number (rediss:// "
        "with TLS); the embedded Valkey if not set",
    )
    redis_password: SecretStr | None = Field(default=None, description="password at that server, if not in its address")
    data: Path | None = Field(default=None, description="data folder of the embedded Neo4j and Valkey")
    cache: Path | None = Field(default=None, description="folder for downloaded files")
    idle: float | None = Field(default=None, ge=0, description="seconds after which an unused embedded Neo4j stops")
    neo4j_heap: str | None = Field(default=None, pattern=r"^[0-9]+[kmgKMG]$", description="heap of the embedded Neo4j")
    checkpoints: Path | None = Field(
        default=None, description="folder of checkpoints, which all workers must share; in the data folder if not set"
    )
    segment_seconds: float = Field(
        default=60.0,
        gt=0,
        le=86_400,
        description="seconds after which a segment of a run ends and others have their turn",
    )
    segment_steps: int | None = Field(default=None, ge=1, description="the same in optimizer steps")
    checkpoint_seconds: float = Field(
        default=20.0, gt=0, le=86_400, description="seconds between two checkpoints of a segment"
    )
    checkpoint_steps: int | None = Field(default=None, ge=1, description="the same in optimizer steps")
    lease_seconds: float = Field(
        default=30.0,
        gt=0,
        le=86_400,
        description="seconds without a sign of life after which a worker has lost its run",
    )
    time_limit: float = Field(
        default=900.0, gt=0, le=86_400, description="seconds after which a segment counts as hung and is ended"
    )
    max_attempts: int = Field(default=3, ge=1, le=100, description="tries without progress before a run is FAILED")
    reap_seconds: float = Field(
        default=15.0, gt=0, le=86_400, description="seconds between two comparisons of the queue with the store"
    )
    store_patience: float = Field(
        default=60.0, ge=0, le=86_400, description="seconds that a segment waits for a store that went away"
    )
    worker_memory: int | None = Field(
        default=None, ge=64, description="MiB of memory that a worker's process may take; no limit if not set"
    )
    query_timeout: float = Field(
        default=30.0, gt=0, le=86_400, description="seconds after which a question is given up"
    )
    query_rows: int = Field(default=10_000, ge=1, le=10_000_000, description="rows of an ad hoc query at most")
    workload_modules: tuple[str, ...] = Field(
        default=(),
        description="modules with workloads of your own that may be imported, separated by commas: my_package.workloads",
    )
    log_format: Literal["text", "json"] = Field(default="text", description="how to log: lines for people, or JSON")
    metrics_port: int | None = Field(
        default=None,
        ge=0,
        le=65_535,
        description="port at which metrics are served in Prometheus' format; off if unset",
    )
    metrics_host: str = Field(default="127.0.0.1", min_length=1, description="address of that port; this machine's own")
    metrics_file: Path | None = Field(
        default=None, description="file to which metrics are written every 15 seconds (*.prom); off if unset"
    )

    @field_validator("workload_modules", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        """A list, as in the file; or a text with commas, as in an environment variable."""
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("workload_modules")
    @classmethod
    def _modules(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not _MODULE.fullmatch(name):
                raise ValueError("expected names of modules, such as my_package.workloads")
        return value

    @field_validator("redis_uri")
    @classmethod
    def _redis_address(cls, value: SecretStr | None) -> SecretStr | None:
        # Not by `pattern`: its message would show the address, and with it the password.
        if value is not None and not _REDIS.fullmatch(value.get_secret_value()):
            raise ValueError("expected redis://[user:password@]host[:port][/number], or rediss:// with TLS")
        return value


def settings_file(environment: Mapping[str, str] | None = None) -> Path:
    """Where the settings file is looked for."""
    environment = os.environ if environment is None else environment
    named = environment.get(FILE_VARIABLE)
    return Path(named) if named else Path(platformdirs.user_config_path("gradtrace")) / "settings.toml"


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Read and check all settings.

    Args:
        environment: environment variables; the process's own if None.

    Raises:
        SpecError: the file is unreadable, names an unknown setting, or a value is wrong. Values are not repeated in the
            message: they may be secret.
    """
    environment = os.environ if environment is None else environment
    path = settings_file(environment)
    values = _read(path, required=FILE_VARIABLE in environment and bool(environment[FILE_VARIABLE]))
    origin = dict.fromkeys(values, str(path))
    for name in Settings.model_fields:
        variable = PREFIX + name.upper()
        if environment.get(variable):  # an empty variable counts as not set, as in `X= command`
            values[name] = environment[variable]
            origin[name] = f"the environment variable {variable}"
    try:
        return Settings(**values)
    except ValidationError as error:
        detail = error.errors()[0]
        name = str(detail["loc"][0])
        if detail["type"] == "extra_forbidden":
            raise SpecError(
                f"{path}: there is no setting {name!r}. {choices(name, Settings.model_fields, 'Settings')}"
            ) from None
        about = Settings.model_fields[name].description
        raise SpecError(f"{name}, from {origin[name]}: {detail['msg']}. It is the {about}.") from None


def _read(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        if required:
            raise SpecError(f"{FILE_VARIABLE} names {path}, but there is no such file.") from None
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SpecError(f"The settings file {path} cannot be read: {error}") from None
