"""Who holds a run: a process, told apart for certain. On its own machine a dead holder can be told without waiting."""

from __future__ import annotations

import json
import os
import socket
from functools import lru_cache

from gradtrace.service.local.process import Identity, identify


def me() -> str:
    """This process, as written with the runs that it takes."""
    return _named(os.getpid())


@lru_cache(maxsize=2)
def _named(pid: int) -> str:
    found = identify(pid)
    assert found is not None, "this process runs"
    return json.dumps({"host": socket.gethostname(), "pid": pid, "birth": found.birth})


def gone(holder: str | None) -> bool:
    """Whether a holder is known to have ended. One on another machine is not known of: its lease has to run out."""
    if holder is None:
        return False
    try:
        named = json.loads(holder)
        if named["host"] != socket.gethostname():
            return False
        return not Identity(int(named["pid"]), str(named["birth"])).alive()
    except (ValueError, KeyError, TypeError):
        return False
