"""Nothing secret leaves in a report."""

from __future__ import annotations

import re
from typing import Any

from gradtrace.service.log import HIDDEN, blotted

_USER_INFO = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^\s/?#]+@")


def without_secrets(value: Any) -> Any:
    """The value with known secrets, and what stands before the @ of an address, blotted out of every text in it.

    >>> without_secrets("read from s3://key:hunter22@bucket/x")
    'read from s3://**********@bucket/x'
    """
    if isinstance(value, str):
        return _USER_INFO.sub(lambda m: f"{m[1]}{HIDDEN}@", blotted(value))
    if isinstance(value, list):
        return [without_secrets(part) for part in value]
    return value
