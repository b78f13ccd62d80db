"""Starts a worker in this process."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from gradtrace.service import metrics
from gradtrace.service.broker import ping
from gradtrace.service.jobs.limits import CONTROL, QUEUE
from gradtrace.service.jobs.offices import broker_url, open_office
from gradtrace.service.jobs.queue import queue_lengths
from gradtrace.service.settings import load_settings


def serve(concurrency: int, name: str | None, *, beat: bool, log_level: str) -> int:
    """Work until told to stop; returns the exit status.

    Args:
        concurrency: processes, each of which trains one run at a time.
        name: of the worker, before the `@`; None for `gradtrace` with this process' number.
        beat: whether to look for runs that were left behind, at intervals.
        log_level: of Celery's log on stderr.

    Raises:
        StoreUnreachableError, BrokerUnreachableError: a server does not answer at the start. Later on the worker waits.
        OSError: the metrics' port is taken, or their file cannot be written.
    """
    from gradtrace.service.jobs.app import app

    ping(broker_url())
    # The store is only looked at: its connections must not be inherited by the processes that are forked.
    open_office().store.close()
    arguments = [
        "worker",
        f"--concurrency={concurrency}",
        f"--queues={QUEUE},{CONTROL}",
        f"--hostname={name or f'gradtrace-{os.getpid()}'}@%h",
        f"--loglevel={log_level.upper()}",
        "--without-mingle",
        "--without-gossip",
        *(["--beat"] if beat else []),
    ]
    made = app()
    settings = load_settings()
    with contextlib.ExitStack() as held:
        if metrics.wanted(settings):
            folder = held.enter_context(tempfile.TemporaryDirectory(prefix="gradtrace-metrics-"))
            held.callback(metrics.start(settings, folder=Path(folder), queues=lambda: queue_lengths(broker_url())))
        try:
            made.worker_main(arguments)
        except SystemExit as ended:
            return ended.code if isinstance(ended.code, int) else 1
    return 0
