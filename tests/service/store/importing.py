"""A process that imports, and hangs once it has sent some steps: for a test that kills it.

    python -m tests.service.store.importing SOURCE STEPS

The address comes from the environment, as for `writing`. It prints a line when STEPS steps are on their way.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from gradtrace.service.exchange.coming import import_runs, open_source
from gradtrace.service.store.connect import open_store


def main() -> None:
    """Import, until it is far enough."""
    source, steps = Path(sys.argv[1]), int(sys.argv[2])

    def tell(_run: str, done: int, _of: int) -> None:
        if done == steps:
            print("sent", flush=True)
            time.sleep(3600)

    with open_store(*(os.environ[k] for k in ("STORE_URI", "STORE_USER", "STORE_PASSWORD"))) as store:
        import_runs(store, open_source(source), tell=tell)


if __name__ == "__main__":
    main()
