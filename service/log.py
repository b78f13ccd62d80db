"""Logging of the service: to stderr, one line an event, quiet unless asked."""

from __future__ import annotations

import logging
import sys

LOGGER = "gradtrace"


def set_up(verbosity: int) -> None:
    """Send gradtrace's log to stderr: warnings (0), information (1) or everything (2 and more).

    Other packages' loggers, and their levels, stay as they are.
    """
    logger = logging.getLogger(LOGGER)
    logger.setLevel({0: logging.WARNING, 1: logging.INFO}.get(verbosity, logging.DEBUG))
    for old in [h for h in logger.handlers if h.get_name() == LOGGER]:
        logger.removeHandler(old)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s  %(message)s", "%H:%M:%S"))
    handler.set_name(LOGGER)
    logger.addHandler(handler)
