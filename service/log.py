"""Logging of the service: to stderr, one line an event, quiet unless asked; as JSON for machines if the settings say so.

A line of JSON has `time` (UTC), `level`, `logger`, `message`, and where they are known `run`, `step` and `segment`; an
exception comes as `error`. Secrets that the settings hold are blotted out of every line, whoever wrote it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

if TYPE_CHECKING:
    from gradtrace.service.settings import Settings

LOGGER = "gradtrace"
HIDDEN = "**********"
FIELDS = ("run", "step", "segment")
"""What `about` may say of a line."""

_SHORTEST_SECRET = 4
_about: ContextVar[dict[str, Any] | None] = ContextVar("gradtrace-log", default=None)
_secrets: list[str] = []


@contextlib.contextmanager
def about(**fields: Any) -> Iterator[None]:
    """Say of every line logged meanwhile, in this thread, which run, step or segment it is about.

    Example:
        >>> with about(run="char-lstm-1", segment=3):
        ...     logging.getLogger("gradtrace").info("training goes on")
    """
    token = _about.set({**(_about.get() or {}), **_known(fields)})
    try:
        yield
    finally:
        _about.reset(token)


def at_step(step: int) -> None:
    """Say of every line from now on, until the surrounding `about` ends, which step it is about."""
    fields = _about.get()
    if fields is not None:
        fields["step"] = step


def hide(secret: str | None) -> None:
    """From now on blot this text out of every line; also as it stands in an address."""
    if secret and len(secret) >= _SHORTEST_SECRET:
        known = {*_secrets, secret, quote(secret, safe="")}
        _secrets[:] = sorted(known, key=len, reverse=True)  # one may be part of another


def hide_settings(settings: Settings) -> None:
    """Blot out every secret that the settings hold."""
    from pydantic import SecretStr

    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            text = value.get_secret_value()
            # Of an address only the password is secret; without the rest of it, errors would not help anybody.
            hide(unquote(urlsplit(text).password or "") if "://" in text else text)


def set_up(verbosity: int, *, form: str | None = None) -> None:
    """Send gradtrace's log to stderr: warnings (0), information (1) or everything (2 and more).

    Other packages' loggers, and their levels, stay as they are.

    Args:
        verbosity: how much.
        form: "text" or "json"; if None, what the environment variable GRADTRACE_LOG_FORMAT says.
    """
    logger = logging.getLogger(LOGGER)
    logger.setLevel({0: logging.WARNING, 1: logging.INFO}.get(verbosity, logging.DEBUG))
    _replace_handler(logger, form or os.environ.get("GRADTRACE_LOG_FORMAT") or "text")


def use_settings(settings: Settings) -> None:
    """Log in the form that the settings say, and hide their secrets. The level stays."""
    hide_settings(settings)
    logger = logging.getLogger(LOGGER)
    if any(handler.get_name() == LOGGER for handler in logger.handlers):
        _replace_handler(logger, settings.log_format)


def set_up_worker(settings: Settings, level: int = logging.INFO) -> None:
    """Send everything that a worker's process logs, Celery's part as well, to stderr in one form."""
    hide_settings(settings)
    root = logging.getLogger()
    root.setLevel(level)
    _replace_handler(root, settings.log_format)
    logger = logging.getLogger(LOGGER)
    logger.setLevel(level)
    for old in [h for h in logger.handlers if h.get_name() == LOGGER]:
        logger.removeHandler(old)  # the root's handler takes its lines


class TextFormatter(logging.Formatter):
    """A line for people; what it is about stands at its end."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s  %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{name}={value}" for name, value in _fields(record).items())
        return super().formatMessage(record) + (f"  [{fields}]" if fields else "")

    def format(self, record: logging.LogRecord) -> str:
        return blotted(super().format(record))


class JsonFormatter(logging.Formatter):
    """A line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "process": record.process,
            **_fields(record),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        # Before it becomes JSON, which would write a quotation mark in a secret in another way.
        return json.dumps({k: blotted(v) if isinstance(v, str) else v for k, v in line.items()}, ensure_ascii=False)


def blotted(text: str) -> str:
    """The text without the secrets that are known.

    >>> hide("hunter22"); blotted("redis://:hunter22@queue/0")
    'redis://:**********@queue/0'
    """
    for secret in _secrets:
        if secret in text:
            text = text.replace(secret, HIDDEN)
    return text


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """What a line is about: by `extra=` of the call, else by `about`."""
    fields = dict(_about.get() or {})
    fields |= {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}
    return fields


def _known(fields: dict[str, Any]) -> dict[str, Any]:
    if unknown := fields.keys() - set(FIELDS):
        raise TypeError(f"Lines are about {', '.join(FIELDS)}, not {', '.join(sorted(unknown))}.")
    return fields


def _replace_handler(logger: logging.Logger, form: str) -> None:
    for old in [h for h in logger.handlers if h.get_name() == LOGGER]:
        logger.removeHandler(old)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    handler.set_name(LOGGER)
    logger.addHandler(handler)
