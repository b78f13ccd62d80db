"""A process that `gradtrace up` keeps: `python -m gradtrace.service.local.child DATA NAME ARGUMENT...`.

It notes who it is in the data folder, and then is `gradtrace ARGUMENT...`. It notes that itself, and not whoever starts
it, so that it can be found even if that process is killed in between.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from gradtrace.service.local.process import identify
from gradtrace.service.local.upkeep_home import UpkeepHome


def main(arguments: list[str]) -> None:
    """Note this process under its name, and run the command line."""
    data, name, *command = arguments
    me = identify(os.getpid())
    assert me is not None, "this process runs"
    UpkeepHome.of(Path(data)).note(name, me)
    from gradtrace.service.cli import main as gradtrace

    gradtrace(command)


if __name__ == "__main__":
    main(sys.argv[1:])
