"""What may be said of an error in a run's record: one line, without secrets and without tricks for terminals."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote, urlsplit

from gradtrace.service.log import blotted, hide

_SECRET_VARIABLE = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN|CREDENTIAL|API_?KEY", re.IGNORECASE)
# Control characters, and those that turn the direction of writing.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")


def hide_environment() -> None:
    """Blot out, wherever it may be printed, the value of every environment variable whose name says that it is secret."""
    for name, value in os.environ.items():
        if _SECRET_VARIABLE.search(name):
            hide(value)


def hide_url(url: str) -> None:
    """Blot out the password of an address."""
    hide(unquote(urlsplit(url).password or ""))


def one_line(error: BaseException, most: int = 500) -> str:
    """An error as one line that is safe to store and to show.

    >>> one_line(ValueError("a\\n b"))
    'ValueError: a b'
    """
    text = blotted(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
    text = _CONTROL.sub("?", " ".join(text.split()))
    return text if len(text) <= most else text[: most - 3] + "..."
