"""Who uses a server: the watchdog stops it only when no lease is held and the last use is long ago.

A lease names its holder's process, so that the lease of a client killed without warning counts no more; nothing has to
be refreshed while a client works, however long it takes.
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path

from gradtrace.service.local.home import Home, write_private
from gradtrace.service.local.process import Identity, identify


def touch(home: Home) -> None:
    """Note that the server is used now."""
    with home.writing():
        home.last_use.touch(mode=0o600)
        os.utime(home.last_use)


def last_use(home: Home) -> int:
    """A number that changes with every `touch`."""
    try:
        return home.last_use.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def take(home: Home) -> Path:
    """Take a lease for this process; returns its file, for `give_back`."""
    me = identify(os.getpid())
    assert me is not None, "this process runs"
    path = home.leases / f"{me.pid}-{secrets.token_hex(4)}.json"
    with home.writing():
        write_private(path, json.dumps({"pid": me.pid, "birth": me.birth}))
    return path


def give_back(home: Home, lease: Path) -> None:
    """End a lease, and note the use."""
    lease.unlink(missing_ok=True)
    if home.path.is_dir():  # the data folder may have been removed meanwhile
        touch(home)


def holders(home: Home) -> list[Identity]:
    """Processes that hold a lease; leases of processes that have ended are removed."""
    found = []
    for path in home.leases.glob("*.json"):
        try:
            entry = json.loads(path.read_text("utf-8"))
            holder = Identity(int(entry["pid"]), str(entry["birth"]))
        except FileNotFoundError:
            continue
        except (ValueError, KeyError, TypeError):
            path.unlink(missing_ok=True)
            continue
        if holder.alive():
            found.append(holder)
        else:
            path.unlink(missing_ok=True)
    return found
